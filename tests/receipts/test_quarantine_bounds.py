"""The bounds of the quarantine: by age a week goes as a whole, by size the oldest go first; what went is counted."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import date, timedelta

import pytest

from receiver import metrics
from receiver.database.partitions import ensure_weeks, week_of
from receiver.database.pool import Connection, Pool, connect, open_pool
from receiver.ids import TenantId, new_id
from receiver.messages.told import Feed
from receiver.receipts import quarantine_bounds as bounds
from receiver.receipts.apply import apply
from receiver.receipts.receipt import Source, read
from receiver.upkeep import quarantine as keeping
from receiver.upkeep.quarantine import QuarantineKeeper
from tests.receipts.quarantining import minutes_ago, put
from tests.support import Database, eventually, now

MIB = 1024 * 1024


def with_pool(database: Database, work: Callable[[Pool, Connection], Awaitable[None]]) -> None:
    """Runs `work` with a pool for the keeper and a connection to look with."""

    async def wrapped() -> None:
        pool = await open_pool(database.dsn, "keeper", 3, writer=True)
        connection = await connect(database.dsn, "tests")
        try:
            await work(pool, connection)
        finally:
            connection.terminate()
            pool.terminate()

    asyncio.run(wrapped())


def trimmed(bound: str) -> float:
    return metrics.REGISTRY.get_sample_value("receiver_quarantine_trimmed_total", {"bound": bound}) or 0.0


def figure(name: str, reason: str) -> float | None:
    return metrics.REGISTRY.get_sample_value(f"receiver_quarantine_{name}", {"reason": reason})


async def tell(connection: Connection, tenant: TenantId, body: bytes) -> None:
    """One body at the door that holds no receipt."""
    reading = read(body, Source(tenant, None, now()))
    assert reading.rejects
    await apply(connection, new_id(), now(), Feed.PUSH, (), reading.rejects)


async def weeks(connection: Connection) -> list[str]:
    rows = await connection.fetch("select relname from pg_class where relname ~ '^quarantine_[0-9]{8}$' order by 1")
    return [row["relname"] for row in rows]


def test_over_the_bound_of_size_the_oldest_go_first_and_are_counted(database: Database) -> None:
    one, two = database.tenant(), database.tenant("other")

    async def work(pool: Pool, connection: Connection) -> None:
        for n in range(50):
            await put(connection, one if n % 2 else two, b"%07d" % n * 1000, at=minutes_ago(100 - n))
        before = trimmed("size")
        await QuarantineKeeper(pool, 30, 200_000).once()
        left = [row["body"][:7] for row in await connection.fetch("select body from quarantine order by last_at")]
        assert left == [b"%07d" % n for n in range(50 - len(left), 50)], "the newest are left, whosever they are"
        size = sum(7000 + bounds.ROW_BYTES for _ in left)
        assert 150_000 < size <= 200_000
        assert trimmed("size") - before == 50 - len(left)
        assert figure("bodies", "reader_failed") == len(left)
        assert figure("bytes", "reader_failed") == size

    with_pool(database, work)


def test_within_its_bounds_nothing_goes(database: Database) -> None:
    tenant = database.tenant()

    async def work(pool: Pool, connection: Connection) -> None:
        for n in range(20):
            await put(connection, tenant, b"%d" % n, reason="xml")
        before = trimmed("size"), trimmed("age")
        have = await weeks(connection)
        await QuarantineKeeper(pool, 30, 20 * (bounds.ROW_BYTES + 2)).once()
        assert await connection.fetchval("select count(*) from quarantine") == 20
        assert (trimmed("size"), trimmed("age")) == before
        assert await weeks(connection) == have
        assert (figure("bodies", "xml"), figure("bodies", "reader_failed")) == (20, None)

    with_pool(database, work)


def test_many_small_bodies_count_for_their_rows(database: Database) -> None:
    tenant = database.tenant()

    async def work(pool: Pool, connection: Connection) -> None:
        await connection.execute(
            "insert into quarantine (week, digest, tenant, reason, body, headers, first_at, last_at)"
            " select $1, substring(sha256(n::text::bytea) from 1 for 16), $2, 'empty', '', '{}', now(),"
            " now() - n * interval '1 second' from generate_series(1, 3000) n",
            week_of(now()),
            tenant,
        )
        await QuarantineKeeper(pool, 30, MIB).once()
        left = await connection.fetchval("select count(*) from quarantine")
        assert 0.85 * 1024 < left <= 1024

    with_pool(database, work)


def test_a_body_that_is_told_again_while_the_oldest_are_chosen_stays(database: Database) -> None:
    tenant = database.tenant()

    async def work(pool: Pool, connection: Connection) -> None:
        for n in range(10):
            await put(connection, tenant, b"%d" % n * 1000, at=minutes_ago(100 - n))
        doomed = await connection.fetch(bounds.TOO_MANY, 3 * (1000 + bounds.ROW_BYTES))
        assert len(doomed) == 7
        oldest = doomed[0]["digest"]
        await connection.execute("update quarantine set told = 2, last_at = now() where digest = $1", oldest)
        columns = [[row[name] for row in doomed] for name in ("week", "digest", "tenant", "last_at")]
        assert await connection.execute(bounds.TRIM, *columns) == "DELETE 6"
        assert await connection.fetchval("select count(*) from quarantine where digest = $1", oldest) == 1

    with_pool(database, work)


def test_a_row_that_is_being_told_right_now_is_left_alone_and_nobody_waits(database: Database) -> None:
    tenant = database.tenant()

    async def work(pool: Pool, connection: Connection) -> None:
        for n in range(10):
            await put(connection, tenant, b"%d" % n * 1000, at=minutes_ago(100 - n))
        teller = await connect(database.dsn, "tests")
        transaction = teller.transaction()
        await transaction.start()
        await teller.execute("update quarantine set told = told + 1 where body = $1", b"0" * 1000)
        async with asyncio.timeout(5):
            await QuarantineKeeper(pool, 30, 1).once()
        await transaction.commit()
        await teller.close()
        assert [row["told"] for row in await connection.fetch("select told from quarantine")] == [2]

    with_pool(database, work)


def test_a_week_that_is_wholly_too_old_is_dropped_and_the_others_stay(database: Database) -> None:
    tenant = database.tenant()

    async def work(pool: Pool, connection: Connection) -> None:
        for n in range(3):
            await put(connection, tenant, b"%d" % n)
        monday = week_of(now())
        have = await weeks(connection)
        before = trimmed("age")
        for day, gone in ((monday + timedelta(days=36), 0), (monday + timedelta(days=37), 3)):
            await QuarantineKeeper(pool, 30, MIB, lambda day=day: day).once()  # type: ignore[misc]
            assert trimmed("age") - before == gone
        assert await weeks(connection) == [name for name in have if name > f"quarantine_{monday:%Y%m%d}"]
        # the quarantine goes on, and nothing that is gone comes back
        await ensure_weeks(connection, now())
        assert f"quarantine_{monday:%Y%m%d}" not in await weeks(connection)

    with_pool(database, work)


@pytest.mark.parametrize(
    ("week", "today", "days", "old"),
    [
        ("quarantine_20261109", date(2026, 11, 17), 1, True),
        ("quarantine_20261109", date(2026, 11, 16), 1, False),
        ("quarantine_20261109", date(2026, 12, 16), 30, True),
        ("quarantine_20261109", date(2026, 12, 15), 30, False),
    ],
)
def test_a_week_is_old_when_its_last_day_is(week: str, today: date, days: int, old: bool) -> None:
    assert bounds.is_old(week, today, days) is old


def test_a_long_reader_delays_the_drop_and_holds_up_no_writer(database: Database) -> None:
    tenant = database.tenant()

    async def work(pool: Pool, connection: Connection) -> None:
        monday = week_of(now())
        await put(connection, tenant, b"old")
        old = f"quarantine_{monday - timedelta(weeks=1):%Y%m%d}"
        assert old in await weeks(connection)
        keeper = QuarantineKeeper(pool, 1, MIB, lambda: monday + timedelta(days=1))
        reader = await connect(database.dsn, "tests")
        transaction = reader.transaction(isolation="repeatable_read")
        await transaction.start()
        await reader.fetch("select count(*) from quarantine")
        stop = asyncio.Event()
        slowest = 0.0

        async def write() -> None:
            nonlocal slowest
            loop = asyncio.get_running_loop()
            n = 0
            while not stop.is_set():
                began = loop.time()
                await tell(connection, tenant, b"<x%d/>" % n)
                slowest = max(slowest, loop.time() - began)
                n += 1

        writing = asyncio.create_task(write())
        for _ in range(3):
            await keeper.once()
        connection_two = await connect(database.dsn, "tests")
        assert old in await weeks(connection_two)
        await transaction.commit()
        await reader.close()
        stop.set()
        await writing
        assert slowest < 1.0
        await keeper.once()  # goes on where it was cut off: the week was half way out
        assert old not in await weeks(connection_two)
        await tell(connection_two, tenant, b"<after/>")
        await connection_two.close()

    with_pool(database, work)


def test_a_week_that_was_detached_and_not_dropped_is_dropped_later(database: Database) -> None:
    async def work(pool: Pool, connection: Connection) -> None:
        monday = week_of(now())
        old = f"quarantine_{monday - timedelta(weeks=1):%Y%m%d}"
        await connection.execute(bounds.DETACH.format(old))
        await connection.execute("create table quarantine_20200101_mine (x int)")
        await QuarantineKeeper(pool, 1, MIB, lambda: monday + timedelta(days=1)).once()
        assert old not in await weeks(connection)
        assert await connection.fetchval("select to_regclass('quarantine_20200101_mine') is not null")

    with_pool(database, work)


def test_several_keepers_at_once_trim_once(database: Database) -> None:
    tenant = database.tenant()

    async def work(pool: Pool, connection: Connection) -> None:
        for n in range(60):
            await put(connection, tenant, b"%05d" % n * 1000, at=minutes_ago(100 - n))
        before = trimmed("size")
        keepers = [QuarantineKeeper(pool, 30, 100_000) for _ in range(3)]
        await asyncio.gather(*(keeper.once() for keeper in keepers))
        left = await connection.fetchval("select count(*) from quarantine")
        assert 0 < left < 60
        assert trimmed("size") - before == 60 - left

    with_pool(database, work)


def test_a_flood_is_trimmed_before_the_minute_is_over(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The round of the minute is far away: only the growth can have called."""
    tenant = database.tenant()
    monkeypatch.setattr(keeping, "EVERY_SECONDS", 3600.0)
    monkeypatch.setattr(keeping, "LOOK_SECONDS", 0.02)

    async def work(pool: Pool, connection: Connection) -> None:
        keeper = QuarantineKeeper(pool, 30, 2 * MIB)
        running = asyncio.create_task(keeper.run())
        before = trimmed("size")
        noise = random.Random(7)
        await asyncio.to_thread(
            eventually, lambda: figure("bodies", "reader_failed") is None
        )  # the first round is over
        for _ in range(60):
            await put(connection, tenant, noise.randbytes(64 * 1024))
        await asyncio.to_thread(eventually, lambda: trimmed("size") > before)
        await keeper.close()
        await running
        assert sum(size for _, size in (await bounds.measure(connection)).values()) <= 2.6 * MIB

    with_pool(database, work)


def test_a_keeper_outlives_a_database_that_is_away(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "EVERY_SECONDS", 0.05)
    kill = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'receiver keeper'"
    tenant = database.tenant()

    async def work(pool: Pool, connection: Connection) -> None:
        keeper = QuarantineKeeper(pool, 30, MIB)
        running = asyncio.create_task(keeper.run())
        for _ in range(5):
            await connection.fetch(kill)
            await asyncio.sleep(0.02)
        await put(connection, tenant, b"x", reason="too_many")
        await asyncio.to_thread(eventually, lambda: figure("bodies", "too_many") == 1 or running.done())
        assert not running.done()
        await keeper.close()
        await running

    with_pool(database, work)
