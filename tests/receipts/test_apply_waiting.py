"""Two groups of the same messages at once: the second waits for the first, and sees what it did."""

import asyncio

import pytest

from receiver.database.pool import Connection, Pool, connect, open_pool
from receiver.ids import MessageId, SubmissionId, TenantId, first_id_at, new_id
from receiver.messages.lattice import Channel, State
from receiver.messages.store import apply_known
from receiver.messages.told import Feed, Told
from receiver.platform.apis import Api
from receiver.receipts.apply import apply, apply_once
from receiver.sending import outbox
from receiver.sending.request import Asked, Request
from tests.receipts.tellings import assert_books_balance, body, told_of
from tests.receipts.test_joining import delivered
from tests.receipts.test_joining_races import until_it_waits
from tests.support import Database, now

NUMBERS = ("447700900001", "447700900002", "447700900003")
STATES = "select state, version from message_state order by id"


async def issue(connection: Connection, tenant: TenantId) -> tuple[list[MessageId], SubmissionId]:
    asked = tuple(Asked("msisdn", number, number, None) for number in NUMBERS)
    request = Request(Api.MESSAGING, Channel.SMS, b"{}", asked, None, None, None, 2, None, None)
    accepted = await outbox.accept(connection, tenant, request, now())
    return [identity for identity, _ in accepted.messages], accepted.submissions[0]


def group_of(tenant: TenantId, ids: list[MessageId], status: str, submission: SubmissionId | None = None) -> list[Told]:
    """One receipt of each message, by our id and without a transid."""
    return [
        told_of(body(delivered(number, deliveryStatus=status), "", str(identity)), tenant, submission)
        for number, identity in zip(NUMBERS, ids, strict=True)
    ]


@pytest.mark.parametrize("knowing", [False, True], ids=["receipts", "facts of ours"])
def test_a_group_that_waits_for_another_is_applied_at_its_first_try(database: Database, knowing: bool) -> None:
    tenant = database.tenant()

    async def work(pool: Pool, watcher: Connection) -> None:
        async with pool.acquire() as one, pool.acquire() as two:
            ids, _ = await issue(one, tenant)
            for first, second, state in (("Submitted", "Submitted", 20), ("Submitted", "Delivered", 60)):
                before = group_of(tenant, ids, first)
                after = group_of(tenant, ids, second)
                held = one.transaction()
                await held.start()
                await apply_once(one, new_id(), now(), Feed.PUSH, before)
                if knowing:
                    waiting = asyncio.create_task(known(two, ids, after))
                else:
                    waiting = asyncio.create_task(told(two, after))
                await until_it_waits(watcher)
                await held.commit()
                await waiting
                assert {row["state"] for row in await watcher.fetch(STATES)} == {State(state)}
            assert {row["version"] for row in await watcher.fetch(STATES)} == {2}, "a repetition changes nothing"
            assert await watcher.fetchval("select count(*) from receipt") == 2 * len(ids)
        if not knowing:
            await assert_books_balance(watcher)

    async def known(connection: Connection, ids: list[MessageId], group: list[Told]) -> None:
        async with connection.transaction():
            await apply_known(connection, now(), Feed.ANSWER, ids, group)

    async def told(connection: Connection, group: list[Told]) -> None:
        await apply_once(connection, new_id(), now(), Feed.PUSH, group)

    async def wrapped() -> None:
        pool, watcher = await open_pool(database.dsn, "tests", 2, writer=True), await connect(database.dsn, "tests")
        await work(pool, watcher)
        await watcher.close()
        await pool.close()

    asyncio.run(wrapped())


@pytest.mark.parametrize("again", [False, True], ids=["once", "twice in its group"])
def test_a_receipt_under_the_url_of_a_submission_whose_week_is_gone_is_late_though_its_message_is_there(
    database: Database, again: bool
) -> None:
    tenant = database.tenant()

    async def work() -> None:
        connection = await connect(database.dsn, "tests")
        oldest = (await connection.fetchval("select min(starts_on) from week")).toordinal()
        before = SubmissionId(first_id_at(now().fromordinal(oldest - 1).replace(tzinfo=now().tzinfo)))
        ids, _ = await issue(connection, tenant)
        await connection.execute("update message set submission_id = $1", before)  # it was handed in on a Sunday night
        group = group_of(tenant, ids, "Delivered", before)
        applied = await apply(connection, new_id(), now(), Feed.PUSH, group * (1 + again))
        assert applied.results == ["late"] * 3 + ["duplicate"] * 3 * again
        assert await connection.fetchval("select late from intake") == 3
        await assert_books_balance(connection)
        await connection.close()

    asyncio.run(work())
