"""The embedded Postgres is killed under a receiver that serves: it comes back, and nothing acknowledged is missing."""

import asyncio
import itertools
import os
import random
import signal
import socket
import threading
import time
from pathlib import Path

import asyncpg
import httpx2
import pytest

from receiver.database.embedded import visiting
from receiver.database.migrate import migrate
from receiver.stopping import HURRY_SECONDS
from tests.database.processes import alive, children, end_postmasters, postmasters
from tests.receipts.tellings import assert_books_balance, body
from tests.support import Database, eventually, receiver_process, run

ROUNDS = int(os.environ.get("RECEIVER_TEST_KILLS", "3"))
AT_ONCE = 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with our schema in it, its server stopped."""
    tmp_path.chmod(0o755)
    with visiting(tmp_path / "data") as cluster:
        run(migrate(cluster.dsn))
    return tmp_path / "data"


def environment(folder: Path) -> dict[str, str]:
    return {"RECEIVER_DATABASE_URL": "", "RECEIVER_DATA_DIR": str(folder)}


def kill_postmaster(folder: Path) -> None:
    (postmaster,) = postmasters(folder)
    os.kill(postmaster, signal.SIGKILL)
    eventually(lambda: not alive(postmaster))


class Pouring:
    """Tells receipts, each until it is acknowledged once or the pouring ends."""

    def __init__(self, url: str, first: int = 0) -> None:
        self.url, self.acknowledged, self.others = url, set[int](), set[int]()
        self._first = first
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._pour()))

    def __enter__(self) -> "Pouring":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join(60)

    def more(self, number: int) -> bool:
        """Waits until so many more have been acknowledged."""
        enough = len(self.acknowledged) + number
        return bool(eventually(lambda: len(self.acknowledged) >= enough, seconds=60))

    async def _pour(self) -> None:
        numbers = itertools.count(self._first)

        async def tell(http: httpx2.AsyncClient) -> None:
            while not self._over.is_set():
                number = next(numbers)
                info = {"deliveryChannel": "SMS", "deliveryStatus": "Delivered", "destination": "447700900001"}
                try:
                    answer = await http.post(self.url, content=body(info, f"poured-{number}"))
                except httpx2.HTTPError:
                    await asyncio.sleep(0.05)
                    continue
                if answer.status_code == 200:
                    self.acknowledged.add(number)
                else:
                    self.others.add(answer.status_code)
                    await asyncio.sleep(0.05)

        async with httpx2.AsyncClient(trust_env=False, timeout=20) as http:
            await asyncio.gather(*(tell(http) for _ in range(AT_ONCE)))


def missing(folder: Path, acknowledged: set[int]) -> int:
    """How many of the acknowledged are not in the database."""

    async def count(dsn: str) -> int:
        connection = await asyncpg.connect(dsn)
        try:
            rows = await connection.fetch("select transid, count(*) as n from receipt group by transid")
            await assert_books_balance(connection)
        finally:
            await connection.close()
        assert {row["n"] for row in rows} == {1}
        return len({f"poured-{number}" for number in acknowledged} - {row["transid"] for row in rows})

    with visiting(folder) as cluster:
        return asyncio.run(count(cluster.dsn))


def test_kill_9_of_the_embedded_postgres_under_load_costs_no_acknowledged_receipt(folder: Path, tmp_path: Path) -> None:
    chance = random.Random(7)
    with receiver_process(Database("", ""), tmp_path, **environment(folder)) as receiver:
        with Pouring(receiver.notify_url()) as pouring:
            for _ in range(ROUNDS):
                assert pouring.more(chance.randrange(200, 1_000))
                kill_postmaster(folder)
                eventually(lambda: postmasters(folder), seconds=60)
                assert pouring.more(200)
                assert receiver.process.poll() is None
        # What came in meanwhile waits in the spool, and drains.
        eventually(lambda: missing(folder, pouring.acknowledged) == 0, seconds=60, every=0.5)
    assert pouring.others <= {503}
    assert receiver.process.returncode == 0
    assert postmasters(folder) == []
    log = receiver.log.read_text()
    assert (log.count("postgres_died"), log.count("postgres_started")) == (ROUNDS, ROUNDS)
    assert "worker_died" not in log


def test_kill_9_of_receiver_and_postgres_at_once_costs_no_acknowledged_receipt(folder: Path, tmp_path: Path) -> None:
    acknowledged: set[int] = set()
    for n in range(ROUNDS):
        with receiver_process(Database("", ""), tmp_path, **environment(folder)) as receiver:
            with Pouring(receiver.notify_url(), first=n * 1_000_000) as pouring:
                pouring.more(300)
                for pid in (receiver.process.pid, *postmasters(folder)):
                    os.kill(pid, signal.SIGKILL)
            receiver.process.wait()
            acknowledged |= pouring.acknowledged
    with receiver_process(Database("", ""), tmp_path, **environment(folder)):
        eventually(lambda: missing(folder, acknowledged) == 0, seconds=60, every=0.5)


def test_sigterm_while_postgres_is_started_again_ends_both(folder: Path, tmp_path: Path) -> None:
    with receiver_process(Database("", ""), tmp_path, **environment(folder)) as receiver:
        (before,) = postmasters(folder)
        os.kill(before, signal.SIGKILL)

        def another() -> int | None:
            return next((pid for pid in postmasters(folder) if pid != before), None)

        os.kill(eventually(another, every=0.001), signal.SIGSTOP)  # it never answers
        began = time.monotonic()
        receiver.process.send_signal(signal.SIGTERM)
        assert receiver.process.wait(25) == 0
        assert time.monotonic() - began < 20
    assert postmasters(folder) == []


def test_a_postgres_that_hangs_does_not_hold_up_the_end(folder: Path, tmp_path: Path) -> None:
    with receiver_process(Database("", ""), tmp_path, **environment(folder)) as receiver:
        (postmaster,) = postmasters(folder)
        hung = [postmaster, *children(postmaster)]
        for pid in hung:
            os.kill(pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            receiver.process.send_signal(signal.SIGTERM)
            eventually(lambda: not _listens(receiver.url))
            receiver.process.send_signal(signal.SIGTERM)
            assert receiver.process.wait(25) == 0
            assert time.monotonic() - began < HURRY_SECONDS + 10, "not the minute that Postgres has for its own end"
        finally:
            for pid in filter(alive, hung):
                os.kill(pid, signal.SIGCONT)
    end_postmasters(folder)


def _listens(url: str) -> bool:
    host, _, port = url.removeprefix("http://").partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError:
        return False
    return True
