"""How a receipt finds its message: the order of the rules, and what is never believed."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from receiver.database.partitions import rotate_keys
from receiver.database.pool import Connection, connect
from receiver.ids import MessageId, SubmissionId, TenantId, first_id_at, leg_digest, new_id, transid_root
from receiver.messages.lattice import Channel, State
from receiver.messages.store import connect as file_under
from receiver.messages.told import Feed, transid_digest
from receiver.platform.apis import Api
from receiver.receipts.apply import Applied, apply
from receiver.sending import outbox
from receiver.sending.request import Asked, Request
from tests.receipts.tellings import assert_books_balance, body, told_of
from tests.support import Database, now

ONE, TWO = "447700900001", "447700900002"


def with_connection(database: Database, work: Callable[[Connection], Awaitable[None]]) -> None:
    """Runs `work` on a connection; the books must balance afterwards."""

    async def wrapped() -> None:
        connection = await connect(database.dsn, "tests")
        await work(connection)
        await assert_books_balance(connection)
        await connection.close()

    asyncio.run(wrapped())


async def issue(connection: Connection, tenant: TenantId, *numbers: str) -> tuple[list[MessageId], SubmissionId]:
    """Messages of ours in one submission."""
    asked = tuple(Asked("msisdn", number, number, "order-1") for number in numbers)
    accepted = await outbox.accept(
        connection, tenant, Request(Api.MESSAGING, Channel.SMS, b"{}", asked, None, None, None, 2, None, None), now()
    )
    ids = [identity for identity, _ in accepted.messages]
    return ids, await connection.fetchval("select submission_id from message where id = $1", ids[0])


def delivered(destination: str, **more: Any) -> dict[str, Any]:
    """A deliveryInfo that says delivered."""
    return {"deliveryChannel": "SMS", "deliveryStatus": "Delivered", "destination": destination, "code": "7500", **more}


async def tell(connection: Connection, tenant: TenantId, raw: bytes, submission: SubmissionId | None = None) -> Applied:
    return await apply(connection, new_id(), now(), Feed.PUSH, [told_of(raw, tenant, submission)])


async def state(connection: Connection, message: UUID) -> State:
    return State(await connection.fetchval("select state from message_state where id = $1", message))


def test_our_id_in_the_correlationid_finds_the_message_in_any_spelling(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        for spell in (str, lambda i: str(i).upper(), lambda i: f"urn:uuid:{i}", lambda i: i.hex):
            (message,), _ = await issue(connection, tenant, ONE)
            await tell(connection, tenant, body(delivered(ONE), f"t{message}", spell(message)))
            assert await state(connection, message) is State.DELIVERED
        assert await connection.fetchval("select count(*) from message where origin = 2") == 0

    with_connection(database, work)


def test_the_submission_of_the_url_and_the_recipient_find_the_message(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        (one, two), submission = await issue(connection, tenant, ONE, TWO)
        await tell(connection, tenant, body(delivered(f"+{TWO}"), "unknown"), submission)
        assert (await state(connection, one), await state(connection, two)) == (State.QUEUED, State.DELIVERED)

    with_connection(database, work)


def test_the_only_message_of_the_url_is_found_whatever_recipient_is_told(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        (message,), submission = await issue(connection, tenant, ONE)
        await tell(connection, tenant, body(delivered("device-7"), "unknown"), submission)
        assert await state(connection, message) is State.DELIVERED
        found = await connection.fetchval("select elsewhere from receipt where message_id = $1", message)
        assert found, "the other recipient can be searched for"

    with_connection(database, work)


def test_what_the_answer_named_is_found_by_transid_and_recipient(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        (one, two), _ = await issue(connection, tenant, ONE, TWO)
        keys = [(transid_digest(transid_root("Ab-1")), leg_digest("", n), m) for n, m in ((ONE, one), (TWO, two))]
        async with connection.transaction():
            await file_under(connection, now(), tenant, keys)
        await tell(connection, tenant, body(delivered(ONE, subtid="node"), "AB-1_17_2"))
        assert (await state(connection, one), await state(connection, two)) == (State.DELIVERED, State.QUEUED)

    with_connection(database, work)


def test_a_phone_number_alone_joins_nothing(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        (message,), _ = await issue(connection, tenant, ONE)
        await tell(connection, tenant, body(delivered(ONE), ""))
        await tell(connection, tenant, body(delivered(ONE, code="7501"), ""))
        assert await state(connection, message) is State.QUEUED
        assert await connection.fetchval("select count(*) from message where origin = 2") == 2

    with_connection(database, work)


def test_another_tenants_id_is_only_text(database: Database) -> None:
    tenant, other = database.tenant(), database.tenant("other")

    async def work(connection: Connection) -> None:
        (message,), _ = await issue(connection, tenant, ONE)
        await tell(connection, other, body(delivered(ONE), "t", str(message)))
        assert await state(connection, message) is State.QUEUED
        observed = await connection.fetchrow("select tenant, correlationid from message where origin = 2")
        assert observed is not None
        assert (observed["tenant"], observed["correlationid"]) == (other, str(message))

    with_connection(database, work)


def test_a_claim_under_the_url_of_another_submission_is_kept_and_not_believed(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        (victim,), _ = await issue(connection, tenant, ONE)
        _, submission = await issue(connection, tenant, TWO)
        raw = body(delivered(ONE), "t", str(victim))
        applied = await tell(connection, tenant, raw, submission)
        assert applied.results == ["forged"]
        assert await state(connection, victim) is State.QUEUED
        kept = await connection.fetchrow("select reason, body from quarantine")
        assert kept is not None
        assert (kept["reason"], kept["body"]) == ("forged", raw)
        assert await connection.fetchval("select forged from intake") == 1

    with_connection(database, work)


def test_one_transid_over_two_flow_nodes_is_two_messages(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        for node in ("a", "b", "a"):
            info = delivered(ONE, Description=f"told by {node}", subtid=node)
            await tell(connection, tenant, body(info, "flow-1"))
        assert await connection.fetchval("select count(*) from message") == 2

    with_connection(database, work)


def test_a_transid_that_only_receipts_told_finds_the_message_from_then_on(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        (message,), submission = await issue(connection, tenant, ONE)
        await tell(connection, tenant, body(delivered(ONE, deliveryStatus="Failed"), "T-9"))  # heard of before
        await tell(connection, tenant, body(delivered(ONE, deliveryStatus="Submitted"), "T-9_0"), submission)
        assert await state(connection, message) is State.FAILED, "what was observed under it is ours now"
        await tell(connection, tenant, body(delivered(ONE), "t-9"))
        assert await state(connection, message) is State.DELIVERED
        live = "select count(*) from message_state where origin = 2 and merged_into is null"
        assert await connection.fetchval(live) == 0

    with_connection(database, work)


def test_a_group_that_files_a_transid_finds_its_own_receipts_under_it(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        (message,), submission = await issue(connection, tenant, ONE)
        await tell(connection, tenant, body(delivered(ONE, deliveryStatus="Submitted"), "t-1"))
        alone = told_of(body(delivered(ONE), "t-1"), tenant)
        ours = told_of(body(delivered(ONE, code="7501"), "t-1"), tenant, submission)
        applied = await apply(connection, new_id(), now(), Feed.PUSH, [alone, ours])
        assert applied.results == ["applied", "applied"]
        assert await state(connection, message) is State.DELIVERED

    with_connection(database, work)


def test_receipts_with_and_without_a_node_make_the_same_messages_in_any_order(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        plain, noded = delivered(ONE), delivered(ONE, deliveryStatus="Read", subtid="5")
        for transid, order in (("a", (plain, noded)), ("b", (noded, plain))):
            for info in order:
                await tell(connection, tenant, body(info, transid))
        both = [told_of(body(info, "c"), tenant) for info in (plain, noded)]
        await apply(connection, new_id(), now(), Feed.PUSH, both)
        for transid in "abc":
            states = await connection.fetch("select state from message_state where transid = $1 order by 1", transid)
            assert [row["state"] for row in states] == [State.DELIVERED, State.READ], transid

    with_connection(database, work)


def test_what_a_node_told_before_the_answer_comes_to_our_message_as_after_it(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        for transid, early in (("before", True), ("after", False)):
            (message,), _ = await issue(connection, tenant, ONE)
            raw = body(delivered(ONE, subtid="5"), transid)
            if early:
                await tell(connection, tenant, raw)
            await file_in_transaction(connection, tenant, transid, message)
            if not early:
                await tell(connection, tenant, raw)
            assert await state(connection, message) is State.DELIVERED, transid
        live = "select count(*) from message_state where origin = 2 and merged_into is null"
        assert await connection.fetchval(live) == 0

    with_connection(database, work)


async def file_in_transaction(connection: Connection, tenant: TenantId, transid: str, message: MessageId) -> None:
    async with connection.transaction():
        await file_under(connection, now(), tenant, [(transid_digest(transid), leg_digest("", ONE), message)])


def test_only_ids_that_went_out_are_believed(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        await tell(connection, tenant, body(delivered(ONE, deliveryStatus="Submitted"), "t-1"))
        observed = await connection.fetchval("select id from message")
        await tell(connection, tenant, body(delivered(TWO), "t-2", str(observed)))
        assert await state(connection, observed) is State.SUBMITTED
        assert await connection.fetchval("select count(*) from message") == 2

    with_connection(database, work)


def test_a_key_whose_message_was_dropped_with_its_week_is_given_to_a_new_one(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        await tell(connection, tenant, body(delivered(ONE), "t-1"))
        await connection.execute("update message_key set message_id = '00000000-0000-7000-8000-000000000000'")
        applied = await apply(
            connection,
            new_id(),
            now(),
            Feed.PUSH,
            [told_of(body(delivered(ONE, code=code), "t-1"), tenant) for code in ("7501", "7502")],
        )
        assert applied.results == ["applied", "applied"]
        assert await connection.fetchval("select count(*) from message") == 2

    with_connection(database, work)


def test_an_observed_message_whose_answer_comes_later_becomes_a_tombstone_of_ours(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        (message,), _ = await issue(connection, tenant, ONE)
        await tell(connection, tenant, body(delivered(ONE), "t-9"))
        observed = await connection.fetchval("select id from message where origin = 2")
        for _ in range(2):  # the answer may be merged again
            async with connection.transaction():
                await file_under(connection, now(), tenant, [(transid_digest("t-9"), leg_digest("", ONE), message)])
        assert await state(connection, message) is State.DELIVERED
        assert await connection.fetchval("select merged_into from message_state where id = $1", observed) == message
        assert await connection.fetchval("select count(*) from receipt where message_id = $1", observed) == 1, "kept"
        await tell(connection, tenant, body(delivered(ONE, deliveryStatus="Read", code="7502"), "t-9"))
        assert await state(connection, message) is State.READ

    with_connection(database, work)


def test_a_time_after_a_merge_is_that_of_the_first_hearing(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        (message,), submission = await issue(connection, tenant, ONE)
        first = told_of(body(delivered(ONE), "t-1"), tenant)
        later = first._replace(received_at=first.received_at + timedelta(hours=1), submission_id=submission)
        unfiled = [later._replace(transid=None)]  # as if nothing told us yet that both are one
        for group in ([first], unfiled):
            await apply(connection, new_id(), now(), Feed.PUSH, group)
        await file_in_transaction(connection, tenant, "t-1", message)
        heard = await connection.fetchval("select delivered_at from message_state where id = $1", message)
        assert heard == first.received_at

    with_connection(database, work)


def test_a_receipt_of_a_submission_whose_week_is_gone_is_late_and_kept(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        long_ago = datetime.now(UTC) - timedelta(days=400)
        submission, message = (UUID(int=first_id_at(long_ago).int | (7 << 76) | (2 << 62) | n) for n in (1, 2))
        raw = body(delivered(ONE), "t-old", str(message))
        applied = await tell(connection, tenant, raw, SubmissionId(submission))
        assert applied.results == ["late"]
        observed = await connection.fetchrow("select late_of, destination from message where origin = 2")
        assert observed is not None
        assert (observed["late_of"], observed["destination"]) == (message, ONE)

    with_connection(database, work)


def test_an_imported_receipt_of_a_message_whose_week_is_gone_is_late_and_kept(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        long_ago = datetime.now(UTC) - timedelta(days=400)
        message = UUID(int=first_id_at(long_ago).int | (7 << 76) | (2 << 62))
        group = [told_of(body(delivered(ONE), transid, str(of)), tenant) for transid, of in (("a", message), ("b", ""))]
        applied = await apply(connection, new_id(), now(), Feed.IMPORT, group)
        assert applied.results == ["late", "applied"]
        again = await apply(connection, new_id(), now(), Feed.IMPORT, group)
        assert again.results == ["duplicate", "duplicate"]
        kept = await connection.fetch("select late_of from message where origin = 2 order by late_of nulls last")
        assert [row["late_of"] for row in kept] == [message, None]
        pushed = [
            told_of(body(delivered(ONE), "c", str(message)), tenant)
        ]  # by the tenant's URL: the id may be a client's
        assert (await apply(connection, new_id(), now(), Feed.PUSH, pushed)).results == ["applied"]
        await assert_books_balance(connection)

    with_connection(database, work)


def test_a_key_of_an_older_generation_is_found_and_not_born_again(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        await tell(connection, tenant, body(delivered(ONE), "t-1"))
        assert await rotate_keys(connection, timedelta(0)) == 2
        await tell(connection, tenant, body(delivered(ONE, deliveryStatus="Read"), "t-1"))
        await tell(connection, tenant, body(delivered(ONE), "t-2"))
        rows = await connection.fetch("select generation from message_key order by generation")
        assert [row["generation"] for row in rows] == [1, 2]
        assert await connection.fetchval("select count(*) from message") == 2

    with_connection(database, work)


def test_a_transid_of_another_submission_under_a_url_is_not_believed(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        (message,), _ = await issue(connection, tenant, ONE)
        await file_in_transaction(connection, tenant, "t-1", message)
        _, several = await issue(connection, tenant, TWO, "447700900003")
        (alone,), single = await issue(connection, tenant, TWO)
        for submission in (several, single):
            applied = await tell(connection, tenant, body(delivered(ONE), "t-1"), submission)
            assert applied.results == ["forged"]
        assert (await state(connection, message), await state(connection, alone)) == (State.QUEUED, State.QUEUED)

    with_connection(database, work)


def test_a_group_with_our_id_and_a_node_under_a_transid_that_was_observed_comes_to_our_message(
    database: Database,
) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        (message,), _ = await issue(connection, tenant, ONE)
        await tell(connection, tenant, body(delivered(ONE, deliveryStatus="Submitted"), "t-1"))
        group = [
            told_of(body(delivered(ONE), "t-1", str(message)), tenant),
            told_of(body(delivered(ONE, deliveryStatus="Read", subtid="5"), "t-1"), tenant),
        ]
        assert (await apply(connection, new_id(), now(), Feed.PUSH, group)).results == ["applied", "applied"]
        assert await state(connection, message) is State.READ
        live = "select count(*) from message_state where origin = 2 and merged_into is null"
        assert await connection.fetchval(live) == 0

    with_connection(database, work)


def test_the_last_click_is_that_of_the_first_hearing_in_any_order(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        for transid, order in (("t-1", (0, 5)), ("t-2", (5, 0))):
            told = told_of(body(delivered(ONE, deliveryStatus="Clicked"), transid), tenant)
            for minutes in order:
                heard = told._replace(received_at=told.received_at + timedelta(minutes=minutes))
                await apply(connection, new_id(), now(), Feed.PUSH, [heard])
            row = await connection.fetchrow("select clicked_at, clicks from message_state where transid = $1", transid)
            assert row is not None
            assert (row["clicked_at"], row["clicks"]) == (told.received_at, 1)

    with_connection(database, work)
