"""The receipts door when a fault of ours meets a receipt: told again, counted, and nothing of it in the log."""

import asyncio
import logging
from datetime import UTC
from typing import Any

import pytest
from starlette.types import Message

from receiver import metrics
from receiver.access.signatures import NO_PROTECTION
from receiver.access.tenants import AtTheDoor
from receiver.access.tokens import NotifyTokens
from receiver.ids import TenantId
from receiver.platform.retries import tells_again
from receiver.receipts.answers import NOT_NOW, READY, REFUSED, STORED, TOO_LARGE
from receiver.receipts.arrival import Arrival
from receiver.receipts.intake import Intake
from receiver.receipts.receipt import Reading
from receiver.receipts.routes import NotifyDoor
from tests.support import SECRET


class Broken(Intake):
    """An intake with a fault, whose words hold what nobody may read in a log."""

    is_spooling = is_full = False

    def __init__(self) -> None:
        pass

    async def take(self, arrival: Arrival, reading: Reading | None, since: float | None = None) -> None:
        raise RuntimeError("447700900001 wrote")


def answers(code: str, retried: str) -> float:
    labels = {"code": code, "retried": retried}
    return metrics.REGISTRY.get_sample_value("receiver_notify_responses_total", labels) or 0.0


def test_a_fault_of_ours_is_answered_503_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    tokens, sent = NotifyTokens(SECRET), list[Message]()
    door = NotifyDoor(tokens, lambda _: AtTheDoor(TenantId(1), UTC, NO_PROTECTION), Broken(), 1_000_000)
    token = tokens.sign("default")
    scope: dict[str, Any] = {"type": "http", "method": "POST", "headers": [], "path_params": {"token": token}}

    async def receive() -> Message:
        return {"type": "http.request", "body": b"{}"}

    async def send(message: Message) -> None:
        sent.append(message)

    before = answers("503", "yes")
    with caplog.at_level(logging.DEBUG):
        asyncio.run(door(scope, receive, send))
    assert sent[0]["status"] == 503
    assert (b"retry-after", b"10") in sent[0]["headers"]
    assert answers("503", "yes") == before + 1
    (record,) = [record for record in caplog.records if record.name == "receiver.notify"]
    assert (record.getMessage(), vars(record)["reason"]) == ("notify_failed", "RuntimeError")
    assert vars(record)["where"].startswith("test_door_faults.py:")
    assert "447700900001" not in str(vars(record))
    assert token not in str(vars(record))


def test_every_answer_of_the_door_but_200_makes_the_platform_tell_again() -> None:
    for answer in (STORED, READY, TOO_LARGE, NOT_NOW, *REFUSED.values()):
        status = answer[0]["status"]
        assert tells_again(status) is (status != 200)


@pytest.mark.parametrize(
    "status", [200, 201, *range(202, 209), 226, 301, 302, 307, 308, 400, 402, *range(404, 412), 414, 415, 416, 418, 505]
)
def test_the_platform_does_not_tell_again_after(status: int) -> None:
    assert not tells_again(status)


@pytest.mark.parametrize("status", [401, 403, 412, 413, 417, *range(421, 430), 431, 451, *range(500, 505)])
def test_the_platform_tells_again_after(status: int) -> None:
    assert tells_again(status)
