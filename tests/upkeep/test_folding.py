"""Folding: each change counts once, whoever tells, folds or dies meanwhile, and however large the steps are."""

import asyncio
import random
import time
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from receiver.database import retention
from receiver.database.embedded import visiting
from receiver.database.pool import Connection, connect, open_pool
from receiver.ids import TenantId, new_id
from receiver.messages.lattice import Channel
from receiver.messages.log_steps import cut
from receiver.messages.told import Feed
from receiver.platform.apis import Api
from receiver.receipts.apply import apply
from receiver.sending import outbox
from receiver.sending.request import Asked, Request
from receiver.upkeep import folding, forgetting
from receiver.upkeep.folder import Folder
from receiver.upkeep.folding import Step, Unsettled, fold
from receiver.upkeep.person import person_of
from tests.database.past import LONG_AGO, add_week, sent, telling
from tests.database.restoring import call, program
from tests.receipts.answerer import NUMBERS
from tests.receipts.racer import lives
from tests.receipts.test_apply_processes import race
from tests.support import Database, now
from tests.upkeep.cohorts import assert_adds_up, assert_folded, folded, kept, rolled_up
from tests.upkeep.rereading import reread, scope

SUBMISSIONS = 20
BACKEND = "select pid from pg_stat_activity where application_name = 'receiver victim' and datname = current_database()"


async def issue(dsn: str, tenant: TenantId) -> None:
    """Messages of ours, of three senders and two templates."""
    connection = await connect(dsn, "tests")
    asked = tuple(Asked("msisdn", number, number, None) for number in NUMBERS)
    for n in range(SUBMISSIONS):
        sender, template = (None, "PARCEL", "SHOP")[n % 3], (None, "t-1", "x" * 3000)[n % 3]
        request = Request(Api.MESSAGING, Channel.SMS, b"{}", asked, None, sender, template, 2, None, None)
        await outbox.accept(connection, tenant, request, now())
    await connection.close()


async def tell(connection: Connection, tenant: TenantId, prefix: str = "") -> None:
    """Some lives, in three transactions each."""
    for told in lives(tenant).values():
        named = [one._replace(fingerprint=(prefix.encode() + one.fingerprint)[:16]) for one in told]
        await apply(connection, new_id(), now(), Feed.PUSH, named)


def test_at_any_moment_what_is_folded_and_what_is_not_come_to_the_messages_that_are_kept(database: Database) -> None:
    """Two processes tell of the same messages (births, merges, carriers), one re-reads, two fold, all at random."""
    tenant, rnd = database.tenant(), random.Random(7)
    asyncio.run(issue(database.dsn, tenant))
    tellers = race(database, "tests.upkeep.teller_process", tenant)

    def told() -> bool:
        return all(teller.poll() is not None for teller in tellers)

    async def folds() -> int:
        connection, done = await connect(database.dsn, "folder", timezone="UTC"), 0
        while not told():
            try:
                done += await fold(connection, rnd.choice((1, 5, 60, folding.MOST))) is not None
            except asyncpg.PostgresError as error:  # it must never meet the other one in a way that hurts
                raise AssertionError(error) from error
            await asyncio.sleep(rnd.random() / 50)
        await connection.close()
        return done

    async def rereads() -> int:
        connection, lowered = await connect(database.dsn, "reread"), 0
        while not told():
            await reread(connection, scope(tenant))
            lowered = await connection.fetchval("select count(*) from change where feed = 6")
        await connection.close()
        return int(lowered)

    async def looks() -> int:
        connection, done = await connect(database.dsn, "tests"), 0
        while not told():
            await assert_adds_up(connection)
            done += 1
        await reread(connection, scope(tenant))
        await assert_adds_up(connection)
        await connection.close()
        return done

    async def work() -> None:
        first, second, looked, lowered = await asyncio.gather(folds(), folds(), looks(), rereads())
        assert min(first, second) > 0, "both had something to do"
        assert looked > 3
        assert lowered > 0, "what is re-read meanwhile"
        assert [teller.wait(90) for teller in tellers] == [0, 0]
        await folded(database)
        connection = await connect(database.dsn, "tests")
        await assert_folded(connection)
        sides = await connection.fetch("select distinct side from cohort_state order by 1")
        assert [row["side"] for row in sides] == [0, 1, 2, 3, 4]
        kinds = await connection.fetch("select distinct kind from cohort_lag order by 1")
        assert [row["kind"] for row in kinds] == [2, 3, 4]
        assert await connection.fetchval("select count(*) from change where feed = 6") > 0, "a re-read changed some"
        assert await connection.fetchval("select count(*) from message_state where merged_into is not null") > 0
        await connection.close()

    asyncio.run(work())


def test_what_was_in_flight_when_others_were_folded_is_folded_later(database: Database) -> None:
    tenant = database.tenant()

    async def work() -> None:
        slow, quick = await connect(database.dsn, "slow"), await connect(database.dsn, "tests")
        transaction = slow.transaction()
        await transaction.start()
        await apply(slow, new_id(), now(), Feed.PUSH, [telling(tenant, "in flight")])
        await apply(quick, new_id(), now(), Feed.PUSH, [telling(tenant, "at once")])
        assert [step.changes for step in await folded(database)] == [1]
        assert await assert_adds_up(quick) == 1
        await apply(quick, new_id(), now(), Feed.PUSH, [telling(tenant, "later")])
        assert [step.changes for step in await folded(database)] == [1]
        await transaction.commit()
        assert await assert_adds_up(quick) == 3
        assert [step.changes for step in await folded(database)] == [1]
        await assert_folded(quick)
        await slow.close()
        await quick.close()

    asyncio.run(work())


def test_bounded_steps_come_to_the_same_as_one_step(database: Database) -> None:
    tenant = database.tenant()

    async def work() -> None:
        connection = await connect(database.dsn, "tests")
        await tell(connection, tenant)
        await apply(connection, new_id(), now(), Feed.PUSH, [telling(tenant, f"one of many {n}") for n in range(50)])
        steps: list[Step] = []
        while not steps or steps[-1].more:
            step = await fold(connection, 20)
            assert step is not None
            await assert_adds_up(connection)
            steps.append(step)
        assert len(steps) > 10
        assert max(step.changes for step in steps) == 50, "what one transaction wrote is never parted"
        assert [step.at for step in steps] == sorted(step.at for step in steps)
        await assert_folded(connection)
        by_steps = await rolled_up(connection)
        assert (await folding.recount(connection)).changes == 300
        assert await rolled_up(connection) == by_steps
        await connection.close()

    asyncio.run(work())


@pytest.mark.parametrize(
    ("snapshot", "xid", "cut_off"),
    [
        ("10:20:10,15", 18, "10:18:10,15"),
        ("10:20:10,15", 15, "10:15:10"),
        ("10:20:", 12, "12:12:"),
        ("9:20:9", 9, "9:9:"),
    ],
)
def test_a_snapshot_is_cut_where_a_step_ends(snapshot: str, xid: int, cut_off: str) -> None:
    assert cut(snapshot, xid) == cut_off


def test_of_two_that_fold_at_once_one_leaves_it_to_the_other(database: Database) -> None:
    tenant = database.tenant()

    async def work() -> None:
        one, other = await connect(database.dsn, "one"), await connect(database.dsn, "other")
        await tell(one, tenant)
        async with one.transaction():
            assert await fold(one) is not None
            assert await fold(other) is None
        step = await fold(other)
        assert step is not None
        assert step.changes == 0, "it sees what the other one has folded"
        await assert_folded(one)
        await one.close()
        await other.close()

    asyncio.run(work())


def test_one_that_is_killed_has_folded_all_of_a_step_or_nothing(database: Database) -> None:
    tenant, rnd = database.tenant(), random.Random(3)

    async def work() -> None:
        connection = await connect(database.dsn, "tests")
        killed = 0
        for n in range(12):
            victim = await connect(database.dsn, "victim")
            await tell(connection, tenant, f"{n}") if n % 4 == 0 else None
            folds = asyncio.create_task(fold(victim, 100))
            await asyncio.sleep(rnd.random() / 40)
            await connection.execute(f"select pg_terminate_backend(pid) from ({BACKEND}) a")
            try:
                await folds
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                killed += 1
            await assert_adds_up(connection)
            victim.terminate()
        assert killed
        await folded(database)
        await assert_folded(connection)
        await connection.close()

    asyncio.run(work())


def test_what_is_told_of_a_week_that_was_dropped_is_passed_over(database: Database) -> None:
    tenant = database.tenant()

    async def work() -> None:
        connection = await connect(database.dsn, "tests")
        await add_week(connection, LONG_AGO)
        message, submission = await sent(connection, tenant, LONG_AGO)
        await apply(
            connection, new_id(), now(), Feed.PUSH,
            [telling(tenant, "old", correlationid=str(message), submission=submission), telling(tenant, "young")],
        )  # fmt: skip
        assert [step.changes for step in await folded(database)] == [3]
        await assert_folded(connection)
        await apply(
            connection, new_id(), now(), Feed.PUSH,
            [telling(tenant, "old", "Submitted", correlationid=str(message), submission=submission)],
        )  # fmt: skip
        await retention.detach_week(connection, LONG_AGO)
        assert [step.changes for step in await folded(database)] == [1], "the log of this week still has it"
        await assert_folded(connection)
        assert sum((await kept(connection))[0].values()) == 4, "the young one: hour and day, by country and all"
        await connection.close()

    asyncio.run(work())


def test_restored_into_another_cluster_all_is_counted_anew_while_others_write(
    database: Database, tmp_path: Path
) -> None:
    tenant = database.tenant()
    asyncio.run(issue(database.dsn, tenant))

    async def before() -> None:
        connection = await connect(database.dsn, "tests")
        await tell(connection, tenant)
        await fold(connection, 100)
        await connection.close()

    asyncio.run(before())
    dump = tmp_path / "receiver.dump"
    call(program("pg_dump"), "--format=custom", f"--file={dump}", dsn=database.dsn)
    tmp_path.chmod(0o755)
    with visiting(tmp_path / "data") as cluster:
        restored = Database(cluster.dsn, "receiver")
        call(program("pg_restore"), "--exit-on-error", "--dbname=receiver", dump, dsn=restored.dsn)

        async def after() -> None:
            connection = await connect(restored.dsn, "tests")
            with pytest.raises(Unsettled):
                await fold(connection)
            tellers = race(restored, "tests.upkeep.teller_process", tenant)
            while not await connection.fetchval("select count(*) from change where feed = 5 or old_class is not null"):  # noqa: ASYNC110 (another process writes it)
                await asyncio.sleep(0.01)
            pool = await open_pool(restored.dsn, "statistics", 1, writer=True)
            folder = Folder(pool)
            counted = None
            while counted is None:
                try:
                    counted = await folder.once()
                except (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError):  # a writer was too slow
                    continue
            assert counted.changes >= SUBMISSIONS * len(NUMBERS) + len(lives(tenant))
            await assert_adds_up(connection)
            assert [teller.wait(90) for teller in tellers] == [0, 0]
            assert await folder.once() is not None
            await assert_folded(connection)
            await pool.close()
            await connection.close()

        asyncio.run(after())


def test_who_is_forgotten_as_a_sender_is_counted_under_no_name(database: Database) -> None:
    tenant, number = database.tenant(), "447700900001"

    async def work() -> None:
        connection = await connect(database.dsn, "tests")
        asked = tuple(Asked("msisdn", one, one, None) for one in (number, "447700900002"))
        request = Request(Api.MESSAGING, Channel.SMS, b"{}", asked, None, number, None, 2, None, None)
        accepted = await outbox.accept(connection, tenant, request, now())
        await connection.execute("delete from outbox")
        await folded(database)
        ids = [identity for identity, _ in accepted.messages]
        person, stranger = person_of(number), person_of("447700900003")
        assert person is not None
        assert stranger is not None
        await forgetting.erase_messages(connection, person, ids, now())
        pool = await open_pool(database.dsn, "statistics", 1, writer=True)
        step = await Folder(pool).once()
        assert step is not None
        assert step.changes == 2, "all is counted anew"
        await assert_folded(connection)
        assert await connection.fetch("select from cohort where value = $1", number) == []
        await forgetting.erase_messages(connection, stranger, ids, now())
        assert await fold(connection) is not None, "nothing is counted anew for others"
        await pool.close()
        await connection.close()

    asyncio.run(work())


def test_who_is_stopped_while_he_holds_the_writers_is_cut_off(database: Database) -> None:
    """The lock of a count of everything keeps all receipts waiting: for half a second at most."""

    async def work() -> None:
        stopped, writer = await connect(database.dsn, "stopped"), await connect(database.dsn, "tests")
        await stopped.execute("begin isolation level repeatable read")
        await stopped.execute(folding.HOLD_WRITERS.format(folding.HELD_MILLISECONDS))
        await stopped.fetchrow(folding.STAND)
        began = time.monotonic()
        await apply(writer, new_id(), now(), Feed.PUSH, [telling(database_tenant, "waits")])
        assert 0.2 < time.monotonic() - began < 3
        stopped.terminate()
        assert (await folding.recount(writer)).changes == 1
        async with writer.transaction(isolation="repeatable_read"):
            await writer.execute(folding.HOLD_WRITERS.format(folding.HELD_MILLISECONDS))
            await writer.fetchrow(folding.STAND)
            await writer.execute(folding.LET_WRITERS.format(60))
            assert await writer.fetchval("show idle_in_transaction_session_timeout") == "0", "as the session has it"
        await writer.close()

    database_tenant = database.tenant()
    asyncio.run(work())


def test_the_folder_says_how_far_it_is_behind(database: Database) -> None:
    async def work() -> None:
        pool = await open_pool(database.dsn, "statistics", 1, writer=True)
        at = now() + timedelta(seconds=30)
        folder = Folder(pool, now=lambda: at)
        assert folder.behind() != folder.behind(), "not a number before it has looked"
        await folder.once()
        assert 29 < folder.behind() <= 30
        await pool.close()

    asyncio.run(work())
