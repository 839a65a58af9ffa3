"""The ledger balances at any moment, and a count of the receipts that knows nothing of it agrees."""

import asyncio
import logging
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from receiver import metrics
from receiver.database import retention
from receiver.database.pool import Connection, Pool, connect
from receiver.ids import new_id
from receiver.messages.told import Feed
from receiver.receipts import ledger
from receiver.receipts.apply import apply
from receiver.receipts.ledger import Count, WeekGone
from receiver.upkeep.ledger import AGAIN, FIRST, LedgerKeeper
from receiver.upkeep.retention import RetentionKeeper
from tests.database.past import DAYS, LONG_AGO, add_week, id_in, sent, tell, telling, with_pool
from tests.receipts.tellings import LEDGER, assert_books_balance
from tests.support import Database, Receiver, now, receiver_process, run

DAY = timedelta(days=1)
WAITS = "select count(*) from pg_locks where not granted"


class Clock:
    """A time that stands until it is moved."""

    def __init__(self) -> None:
        self.time = now()

    def __call__(self) -> datetime:
        return self.time


def figure(name: str) -> float:
    value = metrics.REGISTRY.get_sample_value(name)
    assert value is not None
    return value


def error_texts(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def test_it_balances_inside_one_snapshot_while_groups_are_applied(database: Database) -> None:
    tenant = database.tenant()
    stop = asyncio.Event()

    async def write(writer: int) -> None:
        connection = await connect(database.dsn, "writer")
        n = 0
        while not stop.is_set():
            n += 1
            again = [telling(tenant, f"t-{writer}-{n - back}") for back in range(3)]
            feed = Feed(n % 4 + 1)
            await apply(connection, new_id(), now(), feed, again)
        await connection.close()

    async def work(pool: Pool, connection: Connection) -> None:
        writers = [asyncio.create_task(write(n)) for n in range(3)]
        seen: list[int] = []
        found: dict[Feed, dict[str, int]] = {}

        def all_wrote() -> bool:
            return len(set(seen)) > 5 and len(found) == 4 and all(figures["duplicate"] for figures in found.values())

        while len(seen) < 25 or (not all_wrote() and len(seen) < 1000):
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                found = await ledger.sums(connection, now() - DAY, now() + DAY)
                assert ledger.balances(found)
                kept = await connection.fetchval("select count(*) from receipt where not copied")
                assert sum(f["applied"] + f["late"] for f in found.values()) == kept
            counted = await ledger.count(connection, 60)
            assert counted.difference == 0
            seen.append(counted.receipts)
        stop.set()
        await asyncio.gather(*writers)
        assert all_wrote(), "meanwhile"
        await assert_books_balance(connection)

    with_pool(database, work)


def test_a_window_holds_what_was_committed_in_it_whatever_its_key_is(database: Database) -> None:
    """A unit of the spool is drained with the key that it was given when it came in."""
    tenant = database.tenant()
    at = now() - timedelta(hours=5)

    async def work(pool: Pool, connection: Connection) -> None:
        await add_week(connection, LONG_AGO)
        for n, (key, when) in enumerate(
            [
                (id_in(LONG_AGO), at),
                (new_id(), at - timedelta(microseconds=1)),
                (new_id(), at + timedelta(hours=1) - timedelta(microseconds=1)),
                (new_id(), at + timedelta(hours=1)),
            ]
        ):
            await apply(connection, key, when, Feed.PUSH, [telling(tenant, f"t-{n}")])
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            found = await ledger.sums(connection, at, at + timedelta(hours=1))
        assert found[Feed.PUSH] == dict.fromkeys(ledger.RESULTS, 0) | {"groups": 2, "received": 2, "applied": 2}
        assert set(found) == {Feed.PUSH, Feed.IMPORT, Feed.POLL, Feed.REPLAY}

    with_pool(database, work)


def test_the_count_agrees_after_merges_late_receipts_and_dropped_weeks(database: Database) -> None:
    tenant = database.tenant()

    async def work(pool: Pool, connection: Connection) -> None:
        await add_week(connection, LONG_AGO)
        ours, submission = await sent(connection, tenant, LONG_AGO)
        tellings = [telling(tenant, "t-1", status) for status in ("Submitted", "Delivered", "Read")]
        await tell(connection, *tellings, intake=id_in(LONG_AGO))
        await tell(connection, telling(tenant, "t-1", "Clicked", correlationid=str(ours)))
        assert await connection.fetchval("select count(*) from receipt where copied") == 3
        assert await ledger.count(connection, 60) == _like(4)

        # between the two steps in which a week leaves it is in nobody's sums, and counted all the same
        await retention.detach_week(connection, LONG_AGO)
        assert await ledger.count(connection, 60) == _like(4)
        await RetentionKeeper(pool, DAYS).once()
        assert await ledger.count(connection, 60) == _like(4)
        late = telling(tenant, "t-9", correlationid=str(ours), submission=submission)
        assert (await tell(connection, late)).results == ["late"]
        assert await ledger.count(connection, 60) == _like(5)
        assert await connection.fetchval(LEDGER) == 0

    with_pool(database, work)


def _like(receipts: int) -> Any:
    class Like:
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Count) and (other.receipts, other.counted) == (receipts, receipts)

        def __repr__(self) -> str:
            return f"a count of {receipts} on both sides"

    return Like()


def test_a_week_whose_tables_went_after_the_count_began_makes_it_count_again(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(pool: Pool, connection: Connection) -> None:
        await add_week(connection, LONG_AGO)
        await connection.execute(f"drop table receipt_{LONG_AGO:%Y%m%d}")
        with pytest.raises(WeekGone):
            await ledger.count(connection, 60)
        assert await connection.fetchval("select 1") == 1, "no transaction is left open"

        clock = Clock()
        keeper = LedgerKeeper(pool, 24, clock)
        await keeper.look()
        for told in ([], ["ledger_not_checked"], ["ledger_not_checked"]):
            clock.time += AGAIN
            assert not await keeper.look()
            assert error_texts(caplog) == told, "once that is no fault; a table that is gone for good is"

    with_pool(database, work)


@pytest.mark.parametrize(
    ("broken", "difference"),
    [
        ("delete from receipt where fingerprint = (select min(fingerprint) from receipt)", 1),
        ("delete from intake where id = (select id from intake order by id limit 1)", -1),
    ],
    ids=["a receipt is gone", "a row of the ledger is gone"],
)
def test_what_was_taken_away_behind_its_back_is_told_with_figures(
    database: Database, caplog: pytest.LogCaptureFixture, broken: str, difference: int
) -> None:
    tenant = database.tenant()

    async def work(pool: Pool, connection: Connection) -> None:
        for n in range(3):
            await tell(connection, telling(tenant, f"t-{n}"))
        keeper = LedgerKeeper(pool, 24)
        with caplog.at_level(logging.INFO):
            assert (await keeper.once()).difference == 0
        assert error_texts(caplog) == []
        assert figure("receiver_ledger_difference") == 0
        await connection.execute(broken)
        assert (await keeper.once()).difference == difference
        [record] = [record for record in caplog.records if record.getMessage() == "ledger_differs"]
        assert record.__dict__["difference"] == difference
        assert record.__dict__["counted"] - record.__dict__["receipts"] == difference
        assert figure("receiver_ledger_difference") == difference
        rows = await connection.fetch("select difference from ledger_check order by at")
        assert [row["difference"] for row in rows] == [0, difference]

    with_pool(database, work)


def test_it_counts_some_minutes_after_it_took_the_duty_and_then_once_a_day(database: Database) -> None:
    async def work(pool: Pool, connection: Connection) -> None:
        clock, held = Clock(), True
        keeper = LedgerKeeper(pool, 24, clock, lambda: held)
        assert not await keeper.look()
        assert math.isnan(figure("receiver_ledger_difference")), "nobody knows yet"
        clock.time += FIRST - timedelta(seconds=1)
        assert not await keeper.look()
        clock.time += timedelta(seconds=1)
        assert await keeper.look()
        assert figure("receiver_ledger_checked_timestamp_seconds") == clock.time.timestamp()
        clock.time += DAY - timedelta(seconds=1)
        assert not await keeper.look()

        another = LedgerKeeper(pool, 24, clock)  # this process restarted: the result is in the database
        assert not await another.look()
        clock.time += timedelta(seconds=1)
        assert not await another.look(), "it has just begun"
        clock.time += FIRST
        assert await another.look()

        held = False
        assert not await keeper.look()
        assert math.isnan(figure("receiver_ledger_difference")), "whoever has the duty tells it"
        assert await connection.fetchval("select count(*) from ledger_check") == 2

    with_pool(database, work)


def test_a_result_of_a_clock_that_was_put_back_keeps_nobody_from_counting(database: Database) -> None:
    async def work(pool: Pool, connection: Connection) -> None:
        clock = Clock()
        await ledger.keep(connection, Count(clock.time + 1000 * DAY, 0, 0, 0.0))
        keeper = LedgerKeeper(pool, 24, clock)
        assert not await keeper.look()
        clock.time += FIRST
        assert await keeper.look()

    with_pool(database, work)


def test_it_can_be_switched_off(database: Database) -> None:
    async def work(pool: Pool, connection: Connection) -> None:
        clock = Clock()
        keeper = LedgerKeeper(pool, 0, clock)
        for _ in range(3):
            assert not await keeper.look()
            clock.time += 100 * DAY
        assert await connection.fetchval("select count(*) from ledger_check") == 0

    with_pool(database, work)


def test_a_count_that_fails_is_told_once_and_tried_again(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    async def work(pool: Pool, connection: Connection) -> None:
        clock = Clock()
        keeper = LedgerKeeper(pool, 24, clock)
        await keeper.look()
        await connection.execute("alter table dropped_week rename to lost_week")
        clock.time += FIRST
        assert not await keeper.look()
        clock.time += AGAIN
        assert not await keeper.look()
        assert error_texts(caplog) == ["ledger_not_checked"]
        await connection.execute("alter table lost_week rename to dropped_week")
        assert not await keeper.look(), "not at once"
        clock.time += AGAIN
        assert await keeper.look()

    with_pool(database, work)


def test_a_long_count_is_abandoned_when_the_process_ends(database: Database) -> None:
    async def work(pool: Pool, connection: Connection) -> None:
        clock = Clock()
        keeper = LedgerKeeper(pool, 24, clock)
        await keeper.look()
        clock.time += FIRST
        other = await connect(database.dsn, "tests")
        async with other.transaction():
            week = await other.fetchval("select min(starts_on) from week")
            await other.execute(f"lock table receipt_{week:%Y%m%d} in access exclusive mode")
            running = asyncio.create_task(keeper.run())
            async with asyncio.timeout(10):
                while not await connection.fetchval(WAITS):  # noqa: ASYNC110 (the other is a server)
                    await asyncio.sleep(0.01)
            await keeper.close()
            async with asyncio.timeout(2):
                await running
        await other.close()
        assert await connection.fetchval("select count(*) from ledger_check") == 0

    with_pool(database, work)


def test_the_window_is_found_by_time_and_not_by_reading_the_whole_ledger(database: Database) -> None:
    async def work(pool: Pool, connection: Connection) -> None:
        async with connection.transaction():
            await connection.execute("set local enable_seqscan = off")
            await connection.execute(ledger.BY_TIME)
            await connection.execute("set local plan_cache_mode = force_generic_plan")
            await connection.execute(f"prepare sums (timestamptz, timestamptz) as {ledger.SUMS}")
            rows = await connection.fetch("explain (costs off) execute sums (now(), now())")
        text = "\n".join(row[0] for row in rows)
        weeks = await connection.fetchval("select count(*) from week")
        assert text.count("Bitmap Index Scan on intake_") == weeks, text
        assert text.count("_at_idx") == weeks, text

    with_pool(database, work)


def ask(receiver: Receiver, key: str, query: str = "") -> httpx2.Response:
    with receiver.client(key) as client:
        return client.get(f"/v1/ledger{query}")


def test_the_door_tells_the_figures_and_what_is_beside_them(database: Database, tmp_path: Any) -> None:
    tenant, admin, reader = database.tenant(), database.key("admin"), database.key("read")

    async def prepare() -> None:
        connection = await connect(database.dsn, "tests")
        await tell(connection, telling(tenant, "t-1"), telling(tenant, "t-2"))
        await tell(connection, telling(tenant, "t-1"))
        await ledger.keep(connection, Count(datetime(2026, 3, 1, tzinfo=UTC), 7, 8, 0.25))
        await connection.close()

    run(prepare())
    with receiver_process(database, tmp_path) as receiver:
        refused = httpx2.post(f"{receiver.url}/notify/nonsense", content=b"{}", trust_env=False)
        assert refused.status_code == 401
        assert httpx2.post(receiver.notify_url(), content=b"<x/>", trust_env=False).status_code == 200

        answer = ask(receiver, admin).json()
        assert [feed["feed"] for feed in answer["feeds"]] == ["push", "import", "poll", "replay"]
        assert answer["feeds"][0] == {
            "feed": "push",
            "groups": 3,
            "received": 4,
            "applied": 2,
            "duplicate": 1,
            "quarantined": 1,
            "forged": 0,
            "late": 0,
        }
        assert answer["balanced"] is True
        assert answer["beside"]["spool"] == {"bodies": 0, "bytes": 0, "oldest_seconds": 0.0}
        assert answer["beside"]["refused_at_the_door"]["by_code"] == {"401": 1}
        assert answer["check"] == {
            "at": "2026-03-01T00:00:00Z",
            "difference": 1,
            "receipts": 7,
            "counted": 8,
            "seconds": 0.25,
        }
        span = datetime.fromisoformat(answer["to"]) - datetime.fromisoformat(answer["from"])
        assert span == DAY

        old = ask(receiver, admin, "?from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00%2B01:00").json()
        assert old["to"] == "2026-01-01T23:00:00Z"
        assert not any(feed["received"] for feed in old["feeds"])

        assert ask(receiver, reader).status_code == 403
        for query, pointer in (
            ("?from=yesterday", "from"),
            ("?to=2026-01-01T00:00:00", "to"),
            ("?from=2026-01-01T00:00:00Z&to=2026-02-02T00:00:00Z", "from"),
            ("?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "to"),
            ("?since=2026-01-02T00:00:00Z", "since"),
        ):
            answer = ask(receiver, admin, query)
            assert (answer.status_code, answer.json()["code"]) == (400, "bad_parameter"), query
            assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
