"""Whose a key is, how soon it ends, when it was used last: in this process, and in two real ones."""

import asyncio
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from receiver import metrics
from receiver.access.keys import Caller, Failure, Keys, prefix_of
from receiver.access.last_use import LastUse
from receiver.database.pool import Pool, lazy_pool, open_pool
from tests.support import (
    PLATFORM_KEY,
    Database,
    Receiver,
    cloned,
    environment_of,
    eventually,
    free_port,
    receiver_command,
    receiver_process,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def with_pool(database: Database, work: Callable[[Pool], Awaitable[None]]) -> None:
    async def main() -> None:
        pool = await open_pool(database.dsn, "tests", 2, writer=True)
        try:
            await work(pool)
        finally:
            await pool.close()

    asyncio.run(main())


def refusals(reason: str) -> float:
    return metrics.REGISTRY.get_sample_value("receiver_auth_failures_total", {"reason": reason}) or 0.0


def test_a_key_ends_to_the_second_though_it_is_remembered(database: Database) -> None:
    key, clock = database.key(), Clock()
    database.fetch("update api_key set expires_at = $1", NOW + timedelta(seconds=2))

    async def work(pool: Pool) -> None:
        keys = Keys(pool, now=clock)
        caller = await keys.caller_of(key)
        assert isinstance(caller, Caller)
        clock.now = NOW + timedelta(seconds=1.9)
        assert await keys.is_good(caller)
        clock.now = NOW + timedelta(seconds=2)
        assert await keys.caller_of(key) is Failure.EXPIRED
        assert not await keys.is_good(caller)

    with_pool(database, work)


def test_every_way_to_be_no_good_key_is_counted_apart(database: Database) -> None:
    good, revoked = database.key(), database.key()
    database.fetch("update api_key set revoked_at = now() where prefix = $1", prefix_of(revoked))
    wrong = good[:-1] + ("A" if good[-1] != "A" else "B")
    shown = {
        wrong: Failure.UNKNOWN,
        f"rk_{'0' * 12}_{'x' * 43}": Failure.UNKNOWN,
        "something else": Failure.UNKNOWN,
        f"{good}\0": Failure.UNKNOWN,
        revoked: Failure.REVOKED,
        revoked + "x": Failure.UNKNOWN,  # who has not the key learns nothing of it
    }

    async def work(pool: Pool) -> None:
        keys = Keys(pool)
        for key, why in shown.items():
            before = refusals(why)
            assert await keys.caller_of(key) is why
            assert refusals(why) == before + 1
        assert isinstance(await keys.caller_of(good), Caller)

    with_pool(database, work)


def test_a_thousand_who_come_at_once_make_one_look_into_the_database(database: Database) -> None:
    key = database.key()

    async def work(pool: Pool) -> None:
        keys = Keys(pool)
        async with pool.acquire(), pool.acquire():  # nobody else gets a connection now
            asked = [asyncio.create_task(keys.caller_of(key)) for _ in range(1_000)]
            await asyncio.sleep(0)
            looking = [task for task in asyncio.all_tasks() if "_look_up" in repr(task.get_coro())]
            assert len(looking) == 1
        assert {caller.prefix for caller in await asyncio.gather(*asked) if isinstance(caller, Caller)} == {key[:15]}

    with_pool(database, work)


def last_use(database: Database, key: str) -> datetime | None:
    found: datetime | None = database.value("select last_used_at from api_key where prefix = $1", prefix_of(key))
    return found


def test_the_last_use_is_written_once_for_many_calls_and_never_goes_back(database: Database) -> None:
    key, idle, clock = database.key(), database.key(), Clock()

    async def work(pool: Pool) -> None:
        keys = Keys(pool, now=clock)
        worker = LastUse(pool, keys)
        for _ in range(100):
            clock.now += timedelta(seconds=0.1)
            await keys.caller_of(key)
        assert len(keys._uses) == 1
        assert await pool.fetchval("select count(last_used_at) from api_key") == 0  # no call writes
        await worker.write()
        written = await pool.fetchval("select xmin::text from api_key where last_used_at = $1", clock.now)
        assert written is not None
        await worker.write()  # nothing to write: nothing is written
        assert await pool.fetchval("select xmin::text from api_key where last_used_at is not null") == written
        clock.now = NOW - timedelta(days=1)  # a process whose clock is behind
        await keys.caller_of(key)
        await worker.write()

    with_pool(database, work)
    assert last_use(database, key) == NOW + timedelta(seconds=10)
    assert last_use(database, idle) is None


def test_without_a_database_no_call_fails_and_the_use_is_written_later(database: Database) -> None:
    key, clock = database.key(), Clock()

    async def work(pool: Pool) -> None:
        keys = Keys(pool, now=clock)
        nowhere = await lazy_pool(f"postgresql://127.0.0.1:{free_port()}/gone", "tests", 1, writer=True)
        away = LastUse(nowhere, keys)
        await keys.caller_of(key)
        await away.write()
        clock.now += timedelta(minutes=2)
        await keys.caller_of(key)
        await away.write()
        assert list(keys._uses.values()) == [clock.now]
        await LastUse(pool, keys).write()
        await nowhere.close()

    with_pool(database, work)
    assert last_use(database, key) == NOW + timedelta(minutes=2)


def test_a_use_in_the_moment_in_which_the_worker_is_closed_is_written_too(database: Database) -> None:
    early, late = database.key(), database.key()

    async def work(pool: Pool) -> None:
        keys = Keys(pool)
        worker = LastUse(pool, keys, every=0.01)
        await keys.caller_of(late)
        keys.take_uses()
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("select from api_key for update")
            await keys.caller_of(early)
            running = asyncio.create_task(worker.run())
            while keys._uses:  # noqa: ASYNC110 (until it writes, and is held up)
                await asyncio.sleep(0.01)
            await worker.close()
            await keys.caller_of(late)
        await asyncio.wait_for(running, 10)

    with_pool(database, work)
    assert last_use(database, early) is not None
    assert last_use(database, late) is not None


@pytest.fixture(scope="module")
def two(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Receiver]]:
    folder = tmp_path_factory.mktemp("two")
    with cloned(postgres, template, "two_keys") as database, ExitStack() as stack:
        yield [stack.enter_context(receiver_process(database, folder)) for _ in range(2)]


def statuses(receivers: list[Receiver], headers: dict[str, str]) -> list[int]:
    found = []
    for receiver in receivers:
        with receiver.client() as client:
            found.append(client.get("/v1/messages", headers=headers).status_code)
    return found


def test_a_revoked_key_ends_within_seconds_in_every_process(two: list[Receiver]) -> None:
    database = two[0].database
    key = database.key("read")
    headers = {"authorization": f"Bearer {key}"}
    assert statuses(two, headers) == [200, 200]
    environment = environment_of(RECEIVER_DATABASE_URL=database.dsn)
    began = time.monotonic()
    subprocess.run([*receiver_command(), "keys", "revoke", key[:15]], env=environment, check=True, timeout=60)
    revoked = time.monotonic()
    eventually(lambda: statuses(two, headers) == [401, 401], seconds=20)
    assert time.monotonic() - revoked < 8, (began, revoked)


def test_a_key_in_use_at_any_door_leaves_its_mark_when_a_process_ends(database: Database, tmp_path: Path) -> None:
    asks, drops_in = database.key("read"), database.key("read")
    before = datetime.now(UTC)
    with receiver_process(database, tmp_path) as receiver, receiver.client() as client:
        assert client.get("/v1/messages", headers={"authorization": f"Bearer {asks}"}).status_code == 200
        assert client.get("/resources/v1/messaging/status/1", headers={"key": drops_in}).json() == []
        assert client.get("/resources/v1/messaging/status/1", headers={"key": PLATFORM_KEY}).json() == []
    for key in (asks, drops_in):
        used = last_use(database, key)
        assert used is not None
        assert before <= used <= datetime.now(UTC)
