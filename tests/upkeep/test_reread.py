"""`receiver reread` as a walk: what it changes, what it leaves alone, and who may come between."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

from receiver.database.pool import connect
from receiver.ids import MessageId, TenantId, leg_digest, new_id
from receiver.messages.lattice import Fact, State
from receiver.messages.store import connect as file_under
from receiver.messages.told import Feed, transid_digest
from receiver.receipts.apply import apply
from receiver.upkeep import forgetting
from receiver.upkeep.person import person_of
from receiver.upkeep.reread import begin, carry_out
from receiver.upkeep.reread_figures import Line
from tests.receipts.tellings import NUMBER, assert_books_balance, belief, truth
from tests.receipts.test_apply_properties import issue
from tests.receipts.test_polled import entry
from tests.receipts.test_polled import told as polled
from tests.support import Database, now, run
from tests.upkeep.rereading import OlderTables, course, reread, scope, tell, telling, would, written

KNEW_NOTHING = OlderTables(facts=dict.fromkeys(("Delivered", "Failed", "Undelivered", "Submitted"), Fact.UNKNOWN))
LAST_CHANGE = "select * from change where message_id = $1 order by seq desc limit 1"


def on(database: Database, work: Callable[[Any, TenantId], Coroutine[Any, Any, None]]) -> None:
    """Runs `work` with a connection and a tenant."""
    tenant = database.tenant()

    async def connected() -> None:
        connection = await connect(database.dsn, "tests")
        try:
            await work(connection, tenant)
        finally:
            await connection.close()

    run(connected())


def lines(found: list[Line]) -> set[tuple[str, str, str, int]]:
    return {(line.what, line.before, line.after, line.number) for line in found}


def test_a_status_that_was_unknown_then_is_believed_now_and_logged_as_any_change(database: Database) -> None:
    async def work(connection: Any, tenant: TenantId) -> None:
        told = [telling(tenant, f"t{n}", "Failed", "7207") for n in range(5)]
        ids = await tell(connection, *map(KNEW_NOTHING.read, told))
        await tell(connection, telling(tenant, "other", "Delivered"))
        report = await would(connection, scope(tenant))
        assert lines(report.figures.lines) == {
            ("state", "queued", "failed", 5),
            ("reason", "none", "temporary", 5),
            ("receipt", "unknown", "failed", 5),
        }
        [state] = [line for line in report.figures.lines if line.what == "state"]
        assert len(state.examples) == 3
        assert set(state.examples) <= set(ids)
        assert (report.done, report.figures.messages, report.figures.receipts) == (False, 6, 6)

        done = await reread(connection, scope(tenant))
        assert done.figures == report.figures
        for identity, receipt in zip(ids, told, strict=True):
            assert await belief(connection, identity) == truth([receipt])
            change = await connection.fetchrow(LAST_CHANGE, identity)
            kept = (change["version"], change["feed"], change["old_state"], change["new_state"], change["new_class"])
            assert kept == (2, 6, State.QUEUED, State.FAILED, 5)
        await assert_books_balance(connection)

    on(database, work)


def test_a_state_is_lowered_and_its_message_is_awaited_again(database: Database) -> None:
    async def work(connection: Any, tenant: TenantId) -> None:
        told = telling(tenant, "t", "Submitted")
        [identity] = await tell(connection, OlderTables(facts={"Submitted": Fact.DELIVERED}).read(told))
        report = await reread(connection, scope(tenant))
        assert report.figures.lowered == 1
        assert await belief(connection, identity) == truth([told])
        assert await connection.fetchval("select array_agg(message_id) from awaited") == [identity]
        change = await connection.fetchrow(LAST_CHANGE, identity)
        assert (change["old_state"], change["new_state"]) == (State.DELIVERED, State.SUBMITTED)
        await assert_books_balance(connection)

    on(database, work)


def test_a_conflict_that_was_none_is_taken_back_and_one_that_was_missed_is_set(database: Database) -> None:
    async def work(connection: Any, tenant: TenantId) -> None:
        both = [telling(tenant, "a", "Delivered"), telling(tenant, "a", "Failed")]
        missed = [receipt._replace(clash=Fact.NONE) for receipt in both]
        normal = [telling(tenant, "b", "Delivered"), telling(tenant, "b", "Undelivered")]
        imagined = [r._replace(clash=Fact.DELIVERED) if r.fact is Fact.UNDELIVERED else r for r in normal]
        a, _ = await tell(connection, *missed)
        b, _ = await tell(connection, *imagined)
        report = await reread(connection, scope(tenant))
        assert lines(report.figures.lines) == {("conflict", "no", "yes", 1), ("conflict", "yes", "no", 1)}
        assert await belief(connection, a) == truth(both)
        assert await belief(connection, b) == truth(normal)
        flags = await connection.fetch(
            "select conflict, attention from message_state where id = any($1) order by id", [a, b]
        )
        assert [tuple(row) for row in flags] == [(True, True), (False, False)]

    on(database, work)


def test_where_the_tables_are_the_same_nothing_is_written_and_no_lock_is_taken(database: Database) -> None:
    async def work(connection: Any, tenant: TenantId) -> None:
        ids = await tell(connection, *(telling(tenant, f"t{n}", "Failed", "7207") for n in range(450)))
        still = await written(connection)
        other = await connect(database.dsn, "tests")
        async with other.transaction():
            await other.execute("select from message_state for update")
            report = await asyncio.wait_for(reread(connection, scope(tenant)), 20)
        await other.close()
        assert (report.figures.messages, report.figures.changed) == (len(ids), 0)
        assert await written(connection) == still

    on(database, work)


def test_nothing_is_told_on_again_and_nothing_is_received_again(database: Database) -> None:
    async def work(connection: Any, tenant: TenantId) -> None:
        await connection.execute("update tenant set forwards = true, forward_to = 'https://client.example/'")
        await tell(connection, KNEW_NOTHING.read(telling(tenant, "t", "Delivered")))
        await connection.execute("delete from forward")
        intake = await connection.fetchval("select count(*) from intake")
        received = await connection.fetchval("select received_at from receipt")
        assert (await reread(connection, scope(tenant))).figures.changed == 1
        assert await connection.fetchval("select count(*) from forward") == 0
        assert await connection.fetchval("select count(*) from intake") == intake
        assert await connection.fetchval("select received_at from receipt") == received

    on(database, work)


def test_what_can_not_be_read_again_stays_as_it_is_stored(database: Database) -> None:
    async def work(connection: Any, tenant: TenantId) -> None:
        erased, broken, another = (telling(tenant, f"t{n}", "Delivered") for n in range(3))
        older = OlderTables(facts={"Delivered": Fact.SUBMITTED})
        ids = await tell(connection, *map(older.read, (erased, broken, another)))
        raws = [b"", b"{no json", telling(tenant, "t4", "Read").raw]
        for identity, raw in zip(ids, raws, strict=True):
            await connection.execute("update receipt set raw = $2 where message_id = $1", identity, raw)
        still = await written(connection)
        report = await reread(connection, scope(tenant))
        assert (report.figures.kept, report.figures.changed) == (3, 0)
        assert await written(connection) == still

    on(database, work)


def test_what_was_polled_is_read_as_an_answer_of_the_status_api(database: Database) -> None:
    async def work(connection: Any, tenant: TenantId) -> None:
        told = polled(entry(status="failed", error_code="7207"))._replace(tenant=tenant, submission_id=None)
        then = OlderTables(facts={"failed": Fact.UNKNOWN}).read(told)
        [identity] = (await apply(connection, new_id(), now(), Feed.POLL, [then])).messages
        assert identity is not None
        report = await reread(connection, scope(tenant))
        assert (report.figures.kept, report.figures.changed) == (0, 1)
        assert await belief(connection, identity) == truth([told])

    on(database, work)


def test_without_its_body_a_receipt_is_weighed_by_the_present_lattice(database: Database) -> None:
    async def work(connection: Any, tenant: TenantId) -> None:
        told = telling(tenant, "t", "Undelivered", "7207")
        [identity] = await tell(connection, told._replace(rank=State.NO_RECEIPT))
        await connection.execute("update receipt set raw = ''")
        report = await reread(connection, scope(tenant))
        assert (report.figures.kept, report.figures.changed) == (1, 1)
        assert await belief(connection, identity) == truth([told])

    on(database, work)


def test_only_what_was_born_in_the_time_and_is_of_the_tenant_is_changed(database: Database) -> None:
    other, unset = database.tenant("other"), database.tenant("not in the settings")

    async def work(connection: Any, tenant: TenantId) -> None:
        await tell(connection, KNEW_NOTHING.read(telling(tenant, "before", "Delivered")))
        since = await connection.fetchval("select clock_timestamp() from pg_sleep(0.01)")
        await tell(connection, KNEW_NOTHING.read(telling(tenant, "mine", "Delivered")))
        await tell(connection, KNEW_NOTHING.read(telling(other, "other", "Delivered")))
        await tell(connection, KNEW_NOTHING.read(telling(unset, "unset", "Delivered")))
        report = await reread(connection, scope(tenant, other, since=since, only=tenant))
        assert (report.figures.messages, report.figures.changed, report.figures.left) == (1, 1, 0)
        report = await reread(connection, scope(tenant, other, since=since))
        assert (report.figures.messages, report.figures.changed, report.figures.left) == (2, 1, 1)
        delivered = await connection.fetch("select transid from message_state where state = 60")
        assert {row["transid"] for row in delivered} == {"mine", "other"}

    on(database, work)


def test_what_a_newer_version_told_of_is_left_alone(database: Database) -> None:
    async def work(connection: Any, tenant: TenantId) -> None:
        [identity] = await tell(connection, telling(tenant, "t", "Delivered"))
        await connection.execute("update receipt set fact = 1 << 25, rank = 61, raw = ''")
        await connection.execute("update message_state set state = 61, facts = 1 << 25 where id = $1", identity)
        still = await written(connection)
        report = await reread(connection, scope(tenant))
        assert (report.figures.left, report.figures.changed) == (1, 0)
        assert await written(connection) == still

    on(database, work)


def test_a_class_of_a_newer_version_is_told_by_its_number(database: Database) -> None:
    async def work(connection: Any, tenant: TenantId) -> None:
        [identity] = await tell(connection, telling(tenant, "t", "Failed", "7207"))
        await connection.execute("update receipt set reason_class = 99")
        await connection.execute("update message_state set reason_class = 99 where id = $1", identity)
        report = await reread(connection, scope(tenant))
        assert lines(report.figures.lines) == {("reason", "99", "temporary", 1)}

    on(database, work)


async def merge(connection: Any, tenant: TenantId, transid: str, ours: UUID) -> None:
    """The answer comes: what was observed under the transid is ours."""
    key = (transid_digest(transid), leg_digest("", NUMBER), MessageId(ours))
    async with connection.transaction():
        await file_under(connection, now(), tenant, [key])


def test_what_is_merged_into_a_message_that_was_read_already_is_read_there_too(database: Database) -> None:
    async def work(connection: Any, tenant: TenantId) -> None:
        ours, _ = await issue(connection, tenant)
        told = telling(tenant, "t", "Delivered")
        await tell(connection, KNEW_NOTHING.read(told))
        walk = course(scope(tenant))
        walk.after = ours  # it has come so far when the answer comes
        await merge(connection, tenant, "t", ours)
        assert (await belief(connection, ours))[0].state is State.QUEUED
        report = await carry_out(connection, walk)
        assert report.figures.changed == 1
        assert await belief(connection, ours) == truth([told])
        await assert_books_balance(connection)

    on(database, work)


def held_up(database: Database, between: Callable[[Any, TenantId, UUID, UUID], Coroutine[Any, Any, None]],
            after: Callable[[Any, UUID, UUID, Any], Coroutine[Any, Any, None]]) -> None:  # fmt: skip
    """A re-read of one message that waits for its lock, while somebody else does something to it."""

    async def work(connection: Any, tenant: TenantId) -> None:
        ours, _ = await issue(connection, tenant)
        [observed] = await tell(connection, KNEW_NOTHING.read(telling(tenant, "t", "Delivered")))
        other, third = await connect(database.dsn, "tests"), await connect(database.dsn, "tests")
        waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        transaction = other.transaction()
        await transaction.start()
        await other.execute("select from message_state order by id for update")
        reading = asyncio.create_task(reread(connection, scope(tenant)))
        while not await third.fetchval(waits):
            assert not reading.done()
            await asyncio.sleep(0.01)
        await between(other, tenant, ours, observed)
        await transaction.commit()
        report = await asyncio.wait_for(reading, 20)
        await after(third, ours, observed, report)
        await other.close()
        await third.close()

    on(database, work)


def test_a_message_that_is_merged_while_its_lock_is_waited_for_is_looked_at_again(database: Database) -> None:
    async def after(connection: Any, ours: UUID, observed: UUID, report: Any) -> None:
        told = await connection.fetchval("select merged_into from message_state where id = $1", observed)
        assert told == ours
        assert (await belief(connection, ours))[0].state is State.DELIVERED
        await assert_books_balance(connection)

    async def between(connection: Any, tenant: TenantId, ours: UUID, observed: UUID) -> None:
        await merge(connection, tenant, "t", ours)

    held_up(database, between, after)


def test_a_person_who_is_forgotten_while_the_lock_is_waited_for_stays_forgotten(database: Database) -> None:
    async def between(connection: Any, tenant: TenantId, ours: UUID, observed: UUID) -> None:
        person = person_of(NUMBER)
        assert person is not None
        await forgetting.erase_messages(connection, person, [observed], now())

    async def after(connection: Any, ours: UUID, observed: UUID, report: Any) -> None:
        assert (report.figures.kept, report.figures.changed) == (1, 0)
        assert await connection.fetchval("select octet_length(raw) from receipt where message_id = $1", observed) == 0
        assert (await belief(connection, observed))[0].facts is Fact.UNKNOWN

    held_up(database, between, after)


def test_where_some_message_is_always_merged_just_now_it_goes_on_with_fewer_at_once(database: Database) -> None:
    async def work(connection: Any, tenant: TenantId) -> None:
        told = [telling(tenant, f"t{n}", "Delivered") for n in range(200)]
        ids = await tell(connection, *map(KNEW_NOTHING.read, told))
        await issue(connection, tenant)
        # Whenever more than a few are changed at once, one of them turns out to be a tombstone.
        await connection.execute("""
            alter function lock_states_v1(uuid[]) rename to really_lock_states_v1;
            create function lock_states_v1(p_ids uuid[], out p_merged uuid[], out p_low uuid, out p_high uuid)
            language plpgsql as $f$ begin
              select * into p_merged, p_low, p_high from really_lock_states_v1(p_ids);
              if cardinality(p_ids) > 5 then p_merged := p_ids[1:1]; end if;
            end $f$""")
        report = await reread(connection, scope(tenant))
        assert (report.figures.changed, report.figures.messages) == (200, 201)
        assert (
            await connection.fetchval("select count(*) from message_state where id = any($1) and state = 60", ids)
            == 200
        )
        await assert_books_balance(connection)

    on(database, work)


def test_a_week_that_is_dropped_meanwhile_is_passed_over(database: Database) -> None:
    async def between(connection: Any, tenant: TenantId, ours: UUID, observed: UUID) -> None:
        for table, key in (("message_state", "id"), ("message", "id"), ("receipt", "message_id")):
            await connection.execute(f"delete from {table} where {key} = $1", observed)

    async def after(connection: Any, ours: UUID, observed: UUID, report: Any) -> None:
        assert (report.figures.messages, report.figures.changed) == (1, 0)

    held_up(database, between, after)


def test_an_interrupted_walk_goes_on_and_counts_all_of_it(database: Database) -> None:
    async def work(connection: Any, tenant: TenantId) -> None:
        told = [telling(tenant, f"t{n}", "Delivered") for n in range(500)]
        await tell(connection, *map(KNEW_NOTHING.read, told))
        of = scope(tenant)
        first = await begin(connection, of, restart=False)
        assert not first.is_resumed

        def interrupt(*_: object) -> None:
            walking.cancel()

        walking = asyncio.create_task(carry_out(connection, first, interrupt))
        await asyncio.wait({walking})
        assert walking.cancelled()
        changed = await connection.fetchval("select count(*) from message_state where state = 60")
        assert 0 < changed < 500

        again = await begin(connection, of, restart=False)
        assert again.is_resumed
        assert again.figures.changed == changed
        report = await carry_out(connection, again)
        assert (report.figures.changed, report.figures.messages) == (500, 500)
        assert await connection.fetchval("select count(*) from message_state where state = 60 and version = 2") == 500
        assert await connection.fetchval("select count(*) from walk") == 0
        await assert_books_balance(connection)

    on(database, work)
