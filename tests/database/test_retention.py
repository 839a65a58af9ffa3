"""Retention: old weeks go whole, at once for everybody, counted once, while receipts come in and readers read."""

import asyncio
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest

from receiver import metrics
from receiver.database import retention
from receiver.database.partitions import days_ahead, ensure_weeks, week_of
from receiver.database.pool import Connection, Pool, connect
from receiver.database.retention import InUse
from receiver.ids import MessageId, SubmissionId, first_id_at
from receiver.queries import one_message
from receiver.upkeep.retention import RetentionKeeper
from tests.database.past import DAYS, LONG_AGO, add_week, id_in, sent, tell, telling, with_pool
from tests.support import Database, now

LEDGER = """
select (select coalesce(sum(applied + late), 0) from intake) + (select coalesce(sum(counted), 0) from dropped_week)
     - (select count(*) from receipt where feed <= 4 and not copied)
     - (select coalesce(sum(receipts - copied), 0) from dropped_week)
"""


async def tables_of(connection: Connection, week: date) -> list[str]:
    rows = await connection.fetch(
        "select relname from pg_class where relkind = 'r' and relname ~ $1", f"_{week:%Y%m%d}$"
    )
    return sorted(row["relname"] for row in rows)


async def weeks(connection: Connection) -> list[date]:
    return [row["starts_on"] for row in await connection.fetch("select starts_on from week order by 1")]


async def dropped(connection: Connection) -> list[tuple[object, ...]]:
    rows = await connection.fetch(
        "select starts_on, messages, receipts, copied, counted from dropped_week"
        " where dropped_at is not null order by 1"
    )
    return [tuple(row) for row in rows]


def figure(name: str) -> float:
    return metrics.REGISTRY.get_sample_value(name) or 0.0


def test_a_week_whose_youngest_message_is_too_old_goes_whole_and_is_counted(database: Database) -> None:
    tenant = database.tenant()
    next_week = LONG_AGO + timedelta(weeks=1)

    async def work(pool: Pool, connection: Connection) -> None:
        await add_week(connection, LONG_AGO)
        await add_week(connection, next_week)
        ours, _ = await sent(connection, tenant, LONG_AGO)
        await tell(connection, telling(tenant, "t-0", correlationid=str(ours)), intake=id_in(LONG_AGO))
        old = await tell(connection, *(telling(tenant, f"t-{n}", week=LONG_AGO) for n in range(1, 4)))
        kept = await tell(connection, telling(tenant, "t-4", week=next_week), intake=id_in(next_week))
        end = datetime.combine(next_week, datetime.min.time(), UTC) + timedelta(days=DAYS)
        before = figure("receiver_retention_weeks_dropped_total")

        early, late = end - timedelta(seconds=1), end
        await RetentionKeeper(pool, DAYS, lambda: early).once()
        assert await weeks(connection) == sorted({LONG_AGO, *await weeks(connection)}), "not a second too early"
        await RetentionKeeper(pool, DAYS, lambda: late).once()

        assert (await weeks(connection))[0] == next_week
        assert await tables_of(connection, LONG_AGO) == [f"quarantine_{LONG_AGO:%Y%m%d}"], "it has its own bound"
        assert await dropped(connection) == [(LONG_AGO, 4, 4, 0, 1)]
        assert await connection.fetchval(LEDGER) == 0
        assert [row["id"] for row in await connection.fetch("select id from message")] == kept.messages
        for identity in (ours, *old.messages):
            assert identity is not None
            assert await one_message.one(connection, tenant, identity) is None
            assert await one_message.arrivals(connection, identity) == ([], False)
        assert figure("receiver_retention_weeks_dropped_total") == before + 1
        assert figure("receiver_oldest_week_timestamp_seconds") == (end - timedelta(days=DAYS)).timestamp()

    with_pool(database, work)


def test_what_was_dropped_is_never_made_again(database: Database) -> None:
    async def work(pool: Pool, connection: Connection) -> None:
        await add_week(connection, LONG_AGO)
        await RetentionKeeper(pool, DAYS).once()
        await RetentionKeeper(pool, DAYS).once()
        have = await weeks(connection)
        long_ago = datetime.combine(LONG_AGO, datetime.min.time(), UTC)
        assert min(await ensure_weeks(connection, long_ago)) == LONG_AGO + timedelta(weeks=1), "a gap is no such week"
        # not even when no week is left
        await connection.execute("update dropped_week set starts_on = $1", max(have))
        await connection.execute("delete from week")
        assert await ensure_weeks(connection, now()) == []

    with_pool(database, work)


def test_a_clock_that_jumped_ahead_drops_nothing(database: Database) -> None:
    async def work(pool: Pool, connection: Connection) -> None:
        have = await weeks(connection)
        await RetentionKeeper(pool, 35, lambda: now() + timedelta(days=3650)).once()
        assert await weeks(connection) == have

    with_pool(database, work)


def test_weeks_are_made_on_after_a_clock_had_jumped_ahead_and_back(database: Database) -> None:
    async def work(pool: Pool, connection: Connection) -> None:
        far = await ensure_weeks(connection, now() + timedelta(days=400))
        assert len(far) == 5
        assert 0 < await days_ahead(connection) <= 28, "up to the gap"
        later = now() + timedelta(weeks=4)
        assert await ensure_weeks(connection, later) == [week_of(now()) + timedelta(weeks=n) for n in range(4, 8)]
        await connection.execute("delete from week where starts_on = $1", week_of(now()))
        assert await days_ahead(connection) == 0

    with_pool(database, work)


def test_a_process_whose_clock_is_slow_makes_the_weeks_that_others_need(database: Database) -> None:
    async def work(pool: Pool, connection: Connection) -> None:
        newest = (await weeks(connection))[-1]
        for table in await tables_of(connection, newest):
            await connection.execute(f"drop table {table}")
        await connection.execute("delete from week where starts_on = $1", newest)
        assert newest in await ensure_weeks(connection, now() - timedelta(weeks=10))
        assert (await weeks(connection))[-1] == newest

    with_pool(database, work)


def test_a_vacuum_of_an_old_table_is_not_waited_for(database: Database) -> None:
    async def work(pool: Pool, connection: Connection) -> None:
        await add_week(connection, LONG_AGO)
        vacuum = await connect(database.dsn, "vacuum")
        async with vacuum.transaction():
            await vacuum.execute(f"lock table receipt_{LONG_AGO:%Y%m%d} in share update exclusive mode")
            await vacuum.execute("select pg_sleep(0.6)")
            with pytest.raises(InUse) as refused:
                await retention.detach_week(connection, LONG_AGO)
            assert not refused.value.waited, "nobody stood behind us meanwhile"
        await vacuum.close()
        await retention.detach_week(connection, LONG_AGO)

    with_pool(database, work)


def test_a_reader_who_is_another_user_of_the_database_is_not_waited_for_either(database: Database) -> None:
    """A dump runs as the superuser, the receiver does not: it sees that he is there, and not since when."""

    async def work(pool: Pool, connection: Connection) -> None:
        await add_week(connection, LONG_AGO)
        role = f"plain_{database.name}"
        await connection.execute(f"create role {role}")
        dump = await connect(database.dsn, "dump")
        try:
            await connection.execute(f"set role {role}")
            async with dump.transaction(readonly=True):
                await dump.fetch("select from receipt limit 1")
                await dump.execute("select pg_sleep(0.6)")
                with pytest.raises(InUse) as refused:
                    await retention.detach_week(connection, LONG_AGO)
                assert not refused.value.waited
        finally:
            await dump.close()
            await connection.execute("reset role")
            await connection.execute(f"drop role {role}")

    with_pool(database, work)


def test_a_round_of_another_process_is_looked_at_again_soon(database: Database) -> None:
    """It may be dead, and its session still counting: what it left behind must not wait for an hour."""

    async def work(pool: Pool, connection: Connection) -> None:
        await add_week(connection, LONG_AGO)
        assert await retention.try_lock(connection)
        keeper = RetentionKeeper(pool, DAYS)
        assert await keeper.once() is False
        await retention.unlock(connection)
        assert await keeper.once() is True
        assert LONG_AGO not in await weeks(connection)

    with_pool(database, work)


def test_a_receipt_of_a_dropped_message_is_late_and_kept(database: Database) -> None:
    tenant = database.tenant()

    async def work(pool: Pool, connection: Connection) -> None:
        await add_week(connection, LONG_AGO)
        ours, submission = await sent(connection, tenant, LONG_AGO)
        await tell(connection, telling(tenant, "t-1", week=LONG_AGO))  # files a key that will point nowhere
        await RetentionKeeper(pool, DAYS).once()
        receipt = telling(tenant, "t-0", correlationid=str(ours), submission=submission)
        assert (await tell(connection, receipt)).results == ["late"]
        assert (await tell(connection, receipt)).results == ["duplicate"]
        assert (await tell(connection, telling(tenant, "t-1", "Read"))).results == ["applied"]
        rows = await connection.fetch("select origin, late_of from message order by id")
        assert [tuple(row) for row in rows] == [(2, ours), (2, None)]
        assert await connection.fetchval(LEDGER) == 0

    with_pool(database, work)


@pytest.mark.parametrize("observed_first", [True, False])
def test_the_books_balance_although_copies_and_ledger_rows_leave_with_other_weeks(
    database: Database, observed_first: bool
) -> None:
    """An observed message of one week became one of ours of another; the ledger's rows lie in a third and a fourth."""
    tenant = database.tenant()
    four = [LONG_AGO + timedelta(weeks=n) for n in (0, 0 if observed_first else 1, 1 if observed_first else 0, 2)]

    async def work(pool: Pool, connection: Connection) -> None:
        for n in range(3):
            await add_week(connection, LONG_AGO + timedelta(weeks=n))
        tellings = [telling(tenant, "t-1", status, week=four[1]) for status in ("Submitted", "Delivered", "Read")]
        await tell(connection, *tellings, intake=id_in(four[0]))
        ours, _ = await sent(connection, tenant, four[2])
        await tell(connection, telling(tenant, "t-1", "Clicked", correlationid=str(ours)), intake=id_in(four[3]))
        await tell(connection, *tellings, telling(tenant, "t-1", "Failed"))  # three are known, by their copies
        assert await connection.fetchval("select count(*) from receipt where copied") == 3
        assert await connection.fetchval(LEDGER) == 0
        for gone in range(5, 11):
            await RetentionKeeper(pool, 35, lambda gone=gone: now() - timedelta(weeks=10 - gone)).once()  # type: ignore[misc]
            assert await connection.fetchval(LEDGER) == 0
        assert [row[3] for row in await dropped(connection)] == ([0, 3, 0] if observed_first else [3, 0, 0])
        assert await connection.fetchval("select count(*) from receipt") == 0

    with_pool(database, work)


@pytest.mark.parametrize("again", [1, 2])
def test_a_round_that_was_cut_off_between_detaching_and_dropping_is_finished(database: Database, again: int) -> None:
    tenant = database.tenant()

    async def work(pool: Pool, connection: Connection) -> None:
        await add_week(connection, LONG_AGO)
        await tell(connection, *(telling(tenant, f"t-{n}", week=LONG_AGO) for n in range(3)))
        await retention.detach_week(connection, LONG_AGO)
        assert await tables_of(connection, LONG_AGO)
        await connection.execute("create table message_20200106 (x int)")  # an archive of the operator's own
        for _ in range(again):
            await RetentionKeeper(pool, DAYS).once()
        assert await dropped(connection) == [(LONG_AGO, 3, 3, 0, 0)]
        assert len(await tables_of(connection, LONG_AGO)) == 1
        assert await connection.fetchval("select to_regclass('message_20200106') is not null")

    with_pool(database, work)


def test_a_week_that_somebody_began_to_detach_by_hand_goes_too(database: Database) -> None:
    tenant = database.tenant()

    async def work(pool: Pool, connection: Connection) -> None:
        await add_week(connection, LONG_AGO)
        await tell(connection, telling(tenant, "t", week=LONG_AGO))
        await connection.execute(f"alter table attempt detach partition attempt_{LONG_AGO:%Y%m%d}")
        reader = await connect(database.dsn, "reader")
        async with reader.transaction():
            await reader.fetch("select from batch")
            await connection.execute("set lock_timeout = '50ms'")
            with pytest.raises(Exception, match="lock timeout"):
                await connection.execute(f"alter table batch detach partition batch_{LONG_AGO:%Y%m%d} concurrently")
        await reader.close()
        await RetentionKeeper(pool, DAYS).once()
        assert await dropped(connection) == [(LONG_AGO, 1, 1, 0, 0)]
        assert len(await tables_of(connection, LONG_AGO)) == 1

    with_pool(database, work)


def test_several_keepers_at_once_drop_once(database: Database) -> None:
    tenant = database.tenant()

    async def work(pool: Pool, connection: Connection) -> None:
        for n in range(2):
            await add_week(connection, LONG_AGO + timedelta(weeks=n))
        await tell(connection, telling(tenant, "t", week=LONG_AGO))
        before = figure("receiver_retention_weeks_dropped_total")
        await asyncio.gather(*(RetentionKeeper(pool, DAYS).once() for _ in range(3)))
        assert figure("receiver_retention_weeks_dropped_total") == before + 2
        assert [row[1] for row in await dropped(connection)] == [1, 0]

    with_pool(database, work)


def test_what_was_never_sent_leaves_the_outbox_with_its_week(database: Database) -> None:
    tenant = database.tenant()

    async def work(pool: Pool, connection: Connection) -> None:
        await add_week(connection, LONG_AGO)
        _, old = await sent(connection, tenant, LONG_AGO)
        _, young = await sent(connection, tenant, week_of(now()))
        await connection.executemany(
            "insert into outbox (submission_id, tenant, family, priority, message_count, due_at)"
            " values ($1, $2, 1, 2, 1, now())",
            [(old, tenant), (young, tenant)],
        )
        await RetentionKeeper(pool, DAYS).once()
        assert [row["submission_id"] for row in await connection.fetch("select submission_id from outbox")] == [young]

    with_pool(database, work)


WRITERS = 3


async def slow_down(connection: Connection) -> None:
    """A group takes 20 ms longer between finding its messages and inserting its receipts: there a week must not go."""
    source = await connection.fetchval("select pg_get_functiondef('lock_states_v1'::regproc)")
    assert source.count("begin\n") == 1
    await connection.execute(source.replace("begin\n", "begin\n  perform pg_sleep(0.02);\n"))


def test_receipts_never_wait_and_none_is_lost_while_a_week_goes_beside_an_open_reader(database: Database) -> None:
    """The reader is a dump, or an export in one transaction. Nothing goes while it is open, and nobody waits for it."""
    tenant = database.tenant()
    results: Counter[str] = Counter()
    slowest = 0.0
    stop = asyncio.Event()

    async def write(writer: int) -> None:
        """Tells of old messages, ours and observed, and of new ones, again and again."""
        nonlocal slowest
        connection = await connect(database.dsn, "writer", plan_cache_mode="force_generic_plan")
        loop = asyncio.get_running_loop()
        n = 0
        while not stop.is_set():
            n += 1
            ours, submission = olds[writer][n % len(olds[writer])]
            group = [
                telling(tenant, f"new-{writer}-{n}"),
                telling(tenant, f"old-{writer}-{n % 20}", f"Failed {n}"),  # observed in the old week
                telling(tenant, f"ours-{writer}-{n}", f"Clicked {n}", correlationid=str(ours)),
                telling(tenant, f"sub-{writer}-{n}", f"Clicked {n}", submission=submission),
            ]
            began = loop.time()
            applied = await tell(connection, *group)
            slowest = max(slowest, loop.time() - began)
            results.update(applied.results)
        await connection.close()

    olds: list[list[tuple[MessageId, SubmissionId]]] = []

    async def work(pool: Pool, connection: Connection) -> None:
        await add_week(connection, LONG_AGO)
        await slow_down(connection)
        for writer in range(WRITERS):
            olds.append([await sent(connection, tenant, LONG_AGO) for _ in range(10)])
            births = [telling(tenant, f"old-{writer}-{n}", week=LONG_AGO) for n in range(20)]
            results.update((await tell(connection, *births)).results)
        reader = await connect(database.dsn, "reader")
        keeper = RetentionKeeper(pool, DAYS)
        writers = [asyncio.create_task(write(n)) for n in range(WRITERS)]
        async with reader.transaction(readonly=True):
            await reader.execute(
                "declare export cursor for select * from message m join receipt r on r.message_id = m.id"
            )
            await reader.fetch("fetch 1 from export")
            await asyncio.sleep(0.6)  # by now it is a long one
            for _ in range(5):
                with pytest.raises(InUse):
                    await keeper.once()
            await reader.fetch("fetch 1 from export")
        await reader.close()
        for _ in range(600):
            try:
                await keeper.once()
                break
            except InUse:
                await asyncio.sleep(0.05)
        assert (await weeks(connection))[0] > LONG_AGO
        seen = sum(results.values())
        async with asyncio.timeout(60):
            while sum(results.values()) < seen + 100:  # noqa: ASYNC110 (the writers count)
                await asyncio.sleep(0.01)
        stop.set()
        await asyncio.gather(*writers)

        assert set(results) <= {"applied", "late"}, results
        assert results["late"], "the last ones came after their week had gone"
        [(_, messages, receipts, copied, counted)] = await dropped(connection)
        assert (messages, copied, counted) == (WRITERS * 30, 0, 0)
        kept = await connection.fetchval("select count(*) from receipt")
        assert kept + receipts == sum(results.values()), "each receipt lies in exactly one place"
        assert await connection.fetchval(LEDGER) == 0
        assert slowest < 1.0, "0.3 s behind us at most, and a busy machine"

    with_pool(database, work)


def test_a_keeper_that_is_closed_gives_up_a_long_count_and_the_next_one_goes_on(database: Database) -> None:
    tenant = database.tenant()

    async def work(pool: Pool, connection: Connection) -> None:
        await add_week(connection, LONG_AGO)
        await tell(connection, telling(tenant, "t", week=LONG_AGO))
        await retention.detach_week(connection, LONG_AGO)
        holder = await connect(database.dsn, "holder")
        async with holder.transaction():
            await holder.execute(f"lock table receipt_{LONG_AGO:%Y%m%d} in access exclusive mode")
            keeper = RetentionKeeper(pool, DAYS)
            running = asyncio.create_task(keeper.run())
            waiting = "select count(*) from pg_locks where not granted"
            async with asyncio.timeout(10):
                while not await connection.fetchval(waiting):  # noqa: ASYNC110 (the server's doing)
                    await asyncio.sleep(0.01)
            await keeper.close()
            async with asyncio.timeout(2):
                await running
        await holder.close()
        assert await dropped(connection) == []
        await RetentionKeeper(pool, DAYS).once()
        assert await dropped(connection) == [(LONG_AGO, 1, 1, 0, 0)]

    with_pool(database, work)


def test_a_keeper_without_the_duty_drops_nothing(database: Database) -> None:
    async def work(pool: Pool, connection: Connection) -> None:
        await add_week(connection, LONG_AGO)
        duty, asked = False, 0

        def held() -> bool:
            nonlocal asked
            asked += 1
            return duty

        keeper = RetentionKeeper(pool, DAYS, held=held)
        running = asyncio.create_task(keeper.run())
        async with asyncio.timeout(10):
            while asked < 3:  # noqa: ASYNC110 (looked twice, and did nothing)
                await asyncio.sleep(0.01)
        assert LONG_AGO in await weeks(connection)
        duty = True
        async with asyncio.timeout(10):
            while LONG_AGO in await weeks(connection):  # noqa: ASYNC110 (the keeper's doing)
                await asyncio.sleep(0.01)
        await keeper.close()
        await running

    with_pool(database, work)


def test_ids_of_the_past_lie_in_their_week() -> None:
    first = first_id_at(datetime.combine(LONG_AGO, datetime.min.time(), UTC))
    assert (
        first < id_in(LONG_AGO) < first_id_at(datetime.combine(LONG_AGO, datetime.min.time(), UTC) + timedelta(weeks=1))
    )
