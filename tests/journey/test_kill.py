"""What was answered 200 is there after a kill -9."""

import asyncio
import os
import signal
from pathlib import Path

import httpx2

from tests.receipts.tellings import body
from tests.support import Database, receiver_process

ENOUGH = 2_000  # acknowledged before the kill
MOST = 20_000
AT_ONCE = 48


def delivered(number: int) -> bytes:
    """The receipt of a message of its own."""
    return body(
        {"deliveryChannel": "SMS", "deliveryStatus": "Delivered", "destination": "447700900001"}, f"kill-{number}"
    )


async def pour(url: str, process_id: int) -> list[int]:
    """Tells receipts until the process has acknowledged enough, kills it in mid-stream; the numbers answered 200."""
    acknowledged: list[int] = []
    numbers = iter(range(MOST))
    killed = False

    async def tell(http: httpx2.AsyncClient) -> None:
        nonlocal killed
        for number in numbers:
            try:
                answer = await http.post(url, content=delivered(number))
            except httpx2.HTTPError:
                return  # the process is dead
            if answer.status_code == 200:
                acknowledged.append(number)
            if len(acknowledged) >= ENOUGH and not killed:
                killed = True
                os.kill(process_id, signal.SIGKILL)

    async with httpx2.AsyncClient(trust_env=False, timeout=20) as http:
        await asyncio.gather(*(tell(http) for _ in range(AT_ONCE)))
    return acknowledged


def test_every_receipt_that_was_answered_200_is_there_after_a_kill(database: Database, tmp_path: Path) -> None:
    with receiver_process(database, tmp_path) as receiver:
        acknowledged = asyncio.run(pour(receiver.notify_url(), receiver.process.pid))
        assert receiver.process.wait(10) == -signal.SIGKILL
    assert len(acknowledged) >= ENOUGH

    with receiver_process(database, tmp_path) as receiver:
        again = delivered(acknowledged[0])
        assert httpx2.post(receiver.notify_url(), content=again, trust_env=False).status_code == 200
    rows = database.fetch("select transid, count(*) as n from receipt group by transid")
    kept = {row["transid"]: row["n"] for row in rows}
    assert [n for n in acknowledged if f"kill-{n}" not in kept] == []
    assert set(kept.values()) == {1}
    assert database.value("select count(*) from message_state where state <> 60") == 0
    assert database.value("select sum(applied) from intake") == len(kept)
