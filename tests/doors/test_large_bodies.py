"""Large bodies, many at once: each is answered while the platform still waits, and none of their receipts is lost."""

import asyncio
import json
import time
from datetime import UTC
from pathlib import Path

import httpx2
from starlette.types import Message

from receiver.access.signatures import NO_PROTECTION
from receiver.access.tenants import AtTheDoor
from receiver.access.tokens import NotifyTokens
from receiver.ids import TenantId
from receiver.receipts.arrival import Arrival
from receiver.receipts.intake import Intake
from receiver.receipts.receipt import Reading
from receiver.receipts.routes import MOST_ASIDE, READ_ASIDE, NotifyDoor
from tests.doors.telling import NUMBER, delivered
from tests.support import SECRET, Database, Receiver, eventually, receiver_process

PATIENCE = 10.0  # of the platform, in seconds
BODIES, EACH = 12, 500


def of_many(number: int) -> bytes:
    """Receipts of as many messages, in one body."""
    told = [json.loads(delivered(f"large {number} {n} {NUMBER}")) for n in range(EACH)]
    return json.dumps(told).encode()


async def tell_all(receiver: Receiver) -> list[tuple[int, float]]:
    """The status of each and its seconds; meanwhile a small one, again and again, which is not held up."""
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:

        async def tell(raw: bytes) -> tuple[int, float]:
            began = time.monotonic()
            answer = await client.post(receiver.notify_url(), content=raw)
            return answer.status_code, time.monotonic() - began

        return await asyncio.gather(*(tell(of_many(number)) for number in range(BODIES)), tell(delivered("small")))


class Listening(Intake):
    """An intake that keeps what it is handed, and says at once that it is durable."""

    is_spooling = is_full = False

    def __init__(self) -> None:
        self.taken: list[Reading | None] = []

    async def take(self, arrival: Arrival, reading: Reading | None, since: float | None = None) -> None:
        self.taken.append(reading)


def test_a_few_are_read_at_a_time_and_the_others_wait_unread_in_the_spool() -> None:
    tokens, intake, raw = NotifyTokens(SECRET), Listening(), of_many(1)
    assert len(raw) > READ_ASIDE
    door = NotifyDoor(tokens, lambda _: AtTheDoor(TenantId(1), UTC, NO_PROTECTION), intake, 4 * len(raw))

    async def tell() -> None:
        scope = {"type": "http", "method": "POST", "headers": [], "path_params": {"token": tokens.sign("default")}}
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": raw}

        async def send(message: Message) -> None:
            sent.append(message)

        await door(scope, receive, send)
        assert sent[0]["status"] == 200

    async def main() -> None:
        await asyncio.gather(*(tell() for _ in range(10)))
        assert [reading is None for reading in intake.taken].count(True) == 10 - MOST_ASIDE
        await tell()
        assert intake.taken[-1] is not None, "and then there is room again"

    asyncio.run(main())


def test_they_are_answered_in_time_and_all_of_it_is_kept(database: Database, tmp_path: Path) -> None:
    with receiver_process(database, tmp_path) as receiver:
        answers = asyncio.run(tell_all(receiver))
        assert {status for status, _ in answers} == {200}
        assert max(seconds for _, seconds in answers) < PATIENCE
        expected = BODIES * EACH + 1
        assert eventually(lambda: database.value("select count(*) from receipt") == expected, seconds=90)
        assert "Traceback" not in receiver.log.read_text()


def test_without_a_spool_what_can_not_be_read_in_time_is_to_be_told_again(database: Database, tmp_path: Path) -> None:
    with receiver_process(database, tmp_path, RECEIVER_SPOOL="off") as receiver:
        answers = asyncio.run(tell_all(receiver))
        assert {status for status, _ in answers} <= {200, 503}
        assert max(seconds for _, seconds in answers) < PATIENCE
        stored = sum(status == 200 for status, _ in answers[:-1])
        assert stored
        assert database.value("select count(*) from receipt") >= stored * EACH, "200 is durable"
