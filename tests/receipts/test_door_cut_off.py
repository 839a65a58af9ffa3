"""The receipts door when a request does not come to its end: the platform must be told to try again, never 500."""

import asyncio
from datetime import UTC
from typing import Any

import pytest
from starlette.types import Message

from receiver.access.signatures import NO_PROTECTION
from receiver.access.tenants import AtTheDoor
from receiver.access.tokens import NotifyTokens
from receiver.ids import TenantId
from receiver.receipts import routes
from receiver.receipts.arrival import Arrival
from receiver.receipts.intake import Intake
from receiver.receipts.receipt import Reading
from receiver.receipts.routes import NotifyDoor
from tests.support import SECRET


class Stuck(Intake):
    """An intake that never says that it is done."""

    is_spooling = is_full = False

    def __init__(self) -> None:
        self.began = asyncio.Event()

    async def take(self, arrival: Arrival, reading: Reading | None, since: float | None = None) -> None:
        self.began.set()
        await asyncio.Event().wait()


def door(intake: Intake) -> tuple[NotifyDoor, dict[str, Any]]:
    tokens = NotifyTokens(SECRET)
    scope = {"type": "http", "method": "POST", "headers": [], "path_params": {"token": tokens.sign("default")}}
    return NotifyDoor(tokens, lambda _: AtTheDoor(TenantId(1), UTC, NO_PROTECTION), intake, 1_000_000), scope


async def answer_after_cancelling(parts: list[Message]) -> list[int]:
    """The status that is sent when the server cancels a request that stands still."""
    intake, sent = Stuck(), []
    stands_still = asyncio.Event()

    async def receive() -> Message:
        if parts:
            return parts.pop(0)
        stands_still.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message.get("status"))

    notify, scope = door(intake)
    handling = asyncio.create_task(notify(scope, receive, send))
    async with asyncio.timeout(10):  # whatever else it did
        await asyncio.wait(
            [handling, asyncio.create_task(stands_still.wait()), asyncio.create_task(intake.began.wait())],
            return_when=asyncio.FIRST_COMPLETED,
        )
    assert not handling.done()
    handling.cancel()
    await handling
    return [status for status in sent if status is not None]


def test_half_a_body_at_the_end_of_the_server_is_answered_503() -> None:
    parts: list[Message] = [{"type": "http.request", "body": b'{"deli', "more_body": True}]
    assert asyncio.run(answer_after_cancelling(parts)) == [503]


def test_a_body_that_waits_for_its_commit_at_the_end_of_the_server_is_answered_503() -> None:
    parts: list[Message] = [{"type": "http.request", "body": b"{}", "more_body": False}]
    assert asyncio.run(answer_after_cancelling(parts)) == [503]


def test_a_body_that_never_ends_is_answered_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "BODY_SECONDS", 0.05)

    async def work() -> list[int]:
        sent: list[int] = []

        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Message) -> None:
            if "status" in message:
                sent.append(message["status"])

        notify, scope = door(Stuck())
        await notify(scope, receive, send)
        return sent

    assert asyncio.run(work()) == [503]
