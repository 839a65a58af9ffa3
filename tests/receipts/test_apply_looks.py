"""How many rows a group reads: a few for each receipt, whatever lies beside them and whenever the plans were made."""

import asyncio

import pytest

from receiver.database.pool import Connection, Pool, open_pool
from receiver.ids import TenantId, new_id
from receiver.messages.lattice import Channel
from receiver.messages.told import Feed, Told
from receiver.platform.apis import Api
from receiver.receipts.apply import apply
from receiver.sending import outbox
from receiver.sending.request import Asked, Request
from tests.receipts.tellings import assert_books_balance, body, told_of
from tests.support import Database, now

ISSUED = 2_000  # in two submissions
GROUP = 50
MOST_ROWS = 20  # a receipt: its message, its state thrice, its keys, itself; a scan would read hundreds

MESSAGES = "select id, submission_id, destination from message where origin = 1 order by id"
ROWS_READ = """
select coalesce(sum(seq_tup_read + idx_tup_fetch), 0)::bigint from pg_stat_user_tables
 where relname ~ '^(message|message_state|message_key|receipt|submission)_g?[0-9]+$'
"""


async def issue(connection: Connection, tenant: TenantId) -> None:
    """Commits ISSUED messages, each to a number of its own."""
    asked = tuple(Asked("msisdn", f"4477{n:08}", f"4477{n:08}", None) for n in range(ISSUED))
    await outbox.accept(
        connection, tenant, Request(Api.MESSAGING, Channel.SMS, b"{}", asked, None, None, None, 2, None, None), now()
    )


async def group_of(connection: Connection, tenant: TenantId, way: str, status: str) -> list[Told]:
    """GROUP receipts of messages from all over, found in one way."""
    info = {"deliveryChannel": "SMS", "deliveryStatus": status, "timeStamp": "2026-03-01T12:00:00Z"}
    group = []
    for n, row in enumerate((await connection.fetch(MESSAGES))[:: ISSUED // GROUP]):
        raw = body(
            info | {"destination": row["destination"]},
            f"t-{n}" if way == "our id" else f"{way}-{n}",
            str(row["id"]) if way == "our id" else "",
        )
        group.append(told_of(raw, tenant, row["submission_id"] if way == "our url" else None))
    return group


@pytest.mark.parametrize("way", ["our id", "our url", "observed"])
def test_a_group_reads_a_few_rows_for_each_receipt_under_plans_made_when_all_was_empty(
    database: Database, way: str
) -> None:
    tenant = database.tenant()

    async def rows_read(connection: Connection) -> int:
        await connection.execute("select pg_stat_force_next_flush()")
        return int(await connection.fetchval(ROWS_READ))

    async def work(pool: Pool) -> None:
        async with pool.acquire() as connection:
            lonely = told_of(body({"deliveryStatus": "Delivered", "destination": "1"}, "lonely"), tenant)
            await apply(connection, new_id(), now(), Feed.PUSH, [lonely])  # the plans are made
            await issue(connection, tenant)
            for status in ("Submitted", "Delivered"):  # the first one is told before its answer, and files keys
                group = await group_of(connection, tenant, way, status)
                before = await rows_read(connection)
                applied = await apply(connection, new_id(), now(), Feed.PUSH, group)
                assert applied.results == ["applied"] * GROUP
                assert 0 < await rows_read(connection) - before <= GROUP * MOST_ROWS
            await assert_books_balance(connection)

    with asyncio.Runner() as runner:
        pool = runner.run(open_pool(database.dsn, "tests", 1, writer=True))
        runner.run(work(pool))
        runner.run(pool.close())
