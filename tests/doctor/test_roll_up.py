"""What the doctor says of the statistics: that they come to the messages at any moment, and where they do not."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from receiver.database import retention
from receiver.doctor import roll_up
from receiver.doctor.check import Installation, Result, Verdict
from receiver.upkeep import folding
from receiver.upkeep.forgetting import COUNT_ANEW
from tests.database.past import LONG_AGO, add_week
from tests.doctor.examining import assert_says, broken, installation, verdict
from tests.queries.test_hours import HOUR, LAST_WEEK, World, born, day, looking, tell, writing
from tests.support import Database
from tests.upkeep.cohorts import folded

LATEST = day(LAST_WEEK, 6)
OTHER_CLUSTER, TO_BE_COUNTED = "update folded set cluster = cluster + 1", "update folded set cluster = 0"
ONE_CELL = "(at, hours, side, value) = (timestamptz '{at:%Y-%m-%d %H:%M}Z', {hours}, 4, '')"


@pytest.fixture
def one(database: Database, tmp_path: Path) -> Installation:
    """An installation whose database is the test's own."""
    return installation(database.dsn, tmp_path)


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine that tests may be busy."""
    monkeypatch.setattr(roll_up, "SECONDS", 7.5)


def said(one: Installation) -> Verdict:
    return verdict(one, "statistics")


def told(database: Database, hours: int = 5, *, begin: int = 0, status: str = "Delivered") -> None:
    """Two messages in each of the last hours of last week, all folded."""
    tenant = database.tenant()

    async def work() -> None:
        async with writing(database) as connection:
            times = [LATEST - HOUR * (begin + n) + timedelta(minutes=m) for n in range(hours) for m in (1, 59)]
            group = [born(tenant, f"t{begin}-{n}", status, at) for n, at in enumerate(times)]
            await tell(connection, *group)
            await folded(database)

    asyncio.run(work())


def test_where_there_is_nothing_nothing_is_wrong(one: Installation) -> None:
    assert_says(said(one), Result.OK, "no messages")


def test_at_any_moment_the_statistics_come_to_the_messages(database: Database, one: Installation) -> None:
    """Births, moves, merges, re-reads, and transactions that are open for long, while one folds in small steps."""
    world = World(database, (database.tenant(), database.tenant("other")))
    found: list[Verdict] = []

    async def told() -> None:
        tellers = [world.tells(f"t{n}", 25) for n in range(2)] + [world.tells_long(f"l{n}", 8) for n in range(2)]
        await asyncio.gather(*tellers)
        world.busy = False

    async def looks() -> None:
        while world.busy:
            found.extend(await roll_up.statistics(one))
            await asyncio.sleep(0.02)

    async def work() -> None:
        async with looking(database) as connection:
            await add_week(connection, LONG_AGO)
            await asyncio.gather(told(), world.folds(), world.rereads(), looks())
            found.extend(await roll_up.statistics(one))
            for what in ("merged_into is not null", "state = 70"):
                assert await connection.fetchval(f"select count(*) from message_state where {what}") > 3, what

    asyncio.run(work())
    assert len(found) > 10
    assert {verdict.result for verdict in found} == {Result.OK}, found
    assert "hours come to their messages" in found[-1].found


def test_what_is_not_folded_or_in_flight_is_added(database: Database, one: Installation) -> None:
    tenant = database.tenant()

    async def work() -> None:
        async with writing(database) as slow, writing(database) as quick:
            transaction = slow.transaction()
            await transaction.start()
            await tell(slow, born(tenant, "in flight", "Delivered", LATEST))
            await tell(quick, born(tenant, "at once", "Submitted", LATEST))
            assert [step.changes for step in await folded(database)] == [1]
            await tell(quick, born(tenant, "at once", "Delivered", LATEST), born(tenant, "later", "Failed", LATEST))
            await assert_ok(one, "1 hours")
            assert await quick.fetchval("select n60 from cohort_state where hours = 1 and side = 4") == 0, "not yet"
            await transaction.commit()
            await assert_ok(one, "1 hours")
            await folded(database)
            await assert_ok(one, "1 hours", "1 days")

    asyncio.run(work())


async def assert_ok(one: Installation, *words: str) -> None:
    [said] = await roll_up.statistics(one)
    assert_says(said, Result.OK, *words)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("update cohort_state set n60 = n60 + 1 where {cell}", ("have 3 delivered", "there are 2")),
        ("update cohort_state set n60 = 1 where {cell}", ("have 1 delivered", "there are 2")),
        ("update cohort_state set n60 = 0, n20 = 2 where {cell}", ("have 2 submitted", "there are 0")),
        ("delete from cohort_state where {cell}", ("have 0 delivered", "there are 2")),
    ],
    ids=["one more", "one less", "another state", "gone"],
)
def test_a_cell_of_an_hour_that_is_wrong_is_named(
    database: Database, one: Installation, statement: str, words: Sequence[str]
) -> None:
    told(database)
    assert_says(said(one), Result.OK, "5 hours come to their messages, 2 days")
    at = LATEST - 2 * HOUR
    broken(database, statement.format(cell=ONE_CELL.format(at=at, hours=1)))
    found = said(one)
    assert_says(found, Result.FAILURE, "1 of 5 hours are wrong", f"{at:%Y-%m-%d %H}:00 UTC", "tenant default", *words)
    assert "update folded set cluster = 0" in found.cure
    broken(database, TO_BE_COUNTED)
    assert_says(said(one), Result.WARNING, "counted anew")
    asyncio.run(counted_anew(database))
    assert_says(said(one), Result.OK, "5 hours")


async def counted_anew(database: Database) -> None:
    """As who has the role does it."""
    steps = await folded(database)
    assert len(steps) > 1, "everything, and what came meanwhile"


@pytest.mark.parametrize("statement", ["update cohort_state set n60 = n60 + 1", "delete from cohort_state"])
def test_a_cell_of_a_day_that_is_wrong_is_named(database: Database, one: Installation, statement: str) -> None:
    told(database)
    broken(database, f"{statement} where {ONE_CELL.format(at=LATEST - 24 * HOUR, hours=24)}")
    assert_says(said(one), Result.FAILURE, "1 of 2 days are wrong", f"{LATEST - 24 * HOUR:%Y-%m-%d}", "there are 8")


def test_a_change_that_the_log_lost_is_missed(database: Database, one: Installation) -> None:
    told(database, 3)
    broken(database, "update message_state set state = 20 where id = (select id from message_state limit 1)")
    assert_says(said(one), Result.FAILURE, "0 submitted", "there are 1")


def test_old_hours_come_too(database: Database, one: Installation) -> None:
    """Twelve are the latest; of those before, some. Here all of them are wrong."""
    told(database, 12)
    tenant = database.tenant()

    async def work() -> None:
        async with writing(database) as connection:
            await add_week(connection, LONG_AGO)
            await tell(connection, *(born(tenant, f"o{n}", "Read", day(LONG_AGO) + HOUR * n) for n in range(40)))
            await folded(database)

    asyncio.run(work())
    assert_says(said(one), Result.OK, "hours come to their messages")
    broken(database, f"delete from cohort_state where hours = 1 and at < '{LAST_WEEK}'")
    assert_says(said(one), Result.FAILURE, "hours are wrong", "have 0 read", "there are 1")


@pytest.mark.parametrize("statement", [OTHER_CLUSTER, TO_BE_COUNTED], ids=["another cluster", "0"])
def test_what_is_to_be_counted_anew_is_not_compared(database: Database, one: Installation, statement: str) -> None:
    told(database)
    broken(database, "delete from cohort_state")
    broken(database, statement)
    assert_says(said(one), Result.WARNING, "counted anew")
    broken(database, "delete from folded")
    assert_says(said(one), Result.FAILURE, "`folded` is gone")


def test_after_somebody_was_forgotten_it_waits_for_the_count(database: Database, one: Installation) -> None:
    told(database)
    broken(database, "update message set sender = '447700900001', submission_id = id")
    ids = [row["id"] for row in database.fetch("select id from message")]
    database.fetch(COUNT_ANEW, ids, "447700900001")
    assert_says(said(one), Result.WARNING, "counted anew")
    asyncio.run(counted_anew(database))
    assert_says(said(one), Result.OK, "5 hours")


def test_after_a_week_was_dropped_the_others_are_compared(database: Database, one: Installation) -> None:
    """Changes of messages that have gone are still in the log, and not folded."""
    told(database)
    tenant = database.tenant()

    async def work() -> None:
        async with writing(database) as connection:
            await add_week(connection, LONG_AGO)
            await tell(connection, born(tenant, "old", "Submitted", day(LONG_AGO)))
            await folded(database)
            await tell(connection, born(tenant, "old", "Delivered", day(LONG_AGO)))
            await assert_ok(one, "6 hours")
            await retention.detach_week(connection, LONG_AGO)
            await assert_ok(one, "5 hours")
            await folded(database)
            await assert_ok(one, "5 hours")

    asyncio.run(work())


def test_an_hour_of_very_many_is_left_out_and_told(
    database: Database, one: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(database)
    told(database, 1, begin=1, status="Failed")  # four in that hour
    few = 3
    monkeypatch.setattr(roll_up, "MESSAGES", roll_up.MESSAGES.replace(f"limit {roll_up.MOST_MESSAGES}", f"limit {few}"))
    monkeypatch.setattr(roll_up, "MOST_MESSAGES", few)
    assert_says(said(one), Result.OK, "4 hours", "1 with more than 3 messages were left out")
    monkeypatch.setattr(roll_up, "MOST_MESSAGES", 0)
    assert_says(said(one), Result.SKIPPED, "no hour was compared", "5 with more than 0")


def test_where_folding_is_far_behind_nothing_is_compared(
    database: Database, one: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(database)
    broken(database, "delete from cohort_state")
    monkeypatch.setattr(roll_up, "MOST_UNFOLDED", 1)
    assert_says(said(one), Result.FAILURE, "hours are wrong")
    tenant = database.tenant()

    async def work() -> None:
        async with writing(database) as connection:
            await tell(connection, *(born(tenant, f"n{n}", "Read", LATEST) for n in range(2)))

    asyncio.run(work())
    assert_says(said(one), Result.SKIPPED, "more than 1 changes")


def test_what_is_slow_is_cut_off(database: Database, one: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    told(database)
    monkeypatch.setattr(roll_up, "SECONDS", 2.0)
    monkeypatch.setattr(roll_up, "MESSAGES", f"select *, pg_sleep(0.8) from ({roll_up.MESSAGES}) slow")
    found = said(one)
    assert_says(found, Result.OK, "no more within")
    assert found.found.split()[0] in ("1", "2")
    monkeypatch.setattr(roll_up, "SECONDS", 0.5)
    monkeypatch.setattr(roll_up, "MESSAGES", "select pg_sleep(60), $1::uuid, $2::uuid")
    assert_says(said(one), Result.SKIPPED, "no hour was compared", "no more within")


def test_it_changes_nothing(database: Database, one: Installation) -> None:
    """A server on which a check may only read."""
    told(database)
    broken(database, f"alter database {database.name} set default_transaction_read_only = on")
    assert_says(said(one), Result.OK, "5 hours")


def test_what_stood_in_the_log_of_another_cluster_is_passed_by(database: Database, one: Installation) -> None:
    """What is numbered up to `floor_seq` is counted, even where its transactions bear numbers of present ones."""
    told(database)

    async def work() -> None:
        async with writing(database) as connection:
            await connection.execute("update change set xid = (pg_current_xact_id()::text::bigint + 9)::text::xid8")
            await folding.recount(connection)
            for _ in range(20):
                await connection.execute("select pg_current_xact_id()")

    asyncio.run(work())
    assert_says(said(one), Result.OK, "5 hours")
    told(database, 2, begin=3)
    assert_says(said(one), Result.OK, "5 hours")
