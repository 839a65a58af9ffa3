"""Messages of weeks that are long past: partitions made for them, and ids that were born in them."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from receiver.database.partitions import make_week, week_of
from receiver.database.pool import Connection, Pool, connect, open_pool
from receiver.ids import MessageId, SubmissionId, TenantId, destination_digest, digest, first_id_at, new_id
from receiver.messages.told import Feed, Told
from receiver.receipts.apply import Applied, apply
from tests.receipts.tellings import NUMBER, body, told_of
from tests.support import Database, now

DAYS = 90
LONG_AGO = week_of(now()) - timedelta(weeks=15)
_numbers = itertools.count(1)

SENT = """
with b as (
  insert into batch (id, tenant, created_at, first_id, last_id, message_count) values ($2, $1, $5, $4, $4, 1)),
s as (
  insert into submission (id, tenant, batch_id, api, created_at, first_id, last_id, message_count, sent_at, answered_at)
  values ($3, $1, $2, 1, $5, $4, $4, 1, $5, $5)),
m as (
  insert into message (id, tenant, origin, channel, created_at, batch_id, submission_id, destination, destination_type,
                       destination_key, correlationid, correlation_key)
  values ($4, $1, 1, 1, $5, $2, $3, $6, 'msisdn', $7, $8, $9)),
t as (insert into message_state (id, tenant, origin, channel, changed_at) values ($4, $1, 1, 1, $5))
insert into change (at, message_id, version, tenant, origin, channel, old_state, new_state, new_conflict)
values ($5, $4, 0, $1, 1, 1, null, 0, false)
"""


def id_in(week: date) -> UUID:
    """An id that was born in `week`, greater than every earlier one of it."""
    start = first_id_at(datetime(week.year, week.month, week.day, 12, tzinfo=UTC))
    return UUID(int=start.int + (next(_numbers) << 80) + new_id().int % (1 << 76) | 7 << 76 | 2 << 62)


async def add_week(connection: Connection, week: date) -> None:
    """Partitions for a week of the past."""
    async with connection.transaction():
        await make_week(connection, week)


async def sent(connection: Connection, tenant: TenantId, week: date) -> tuple[MessageId, SubmissionId]:
    """A message that we sent in that week."""
    message, submission = MessageId(id_in(week)), SubmissionId(id_in(week))
    at = datetime(week.year, week.month, week.day, 12, tzinfo=UTC)
    await connection.execute(
        SENT,
        tenant,
        id_in(week),
        submission,
        message,
        at,
        NUMBER,
        destination_digest(NUMBER),
        "theirs",
        digest("theirs"),
    )
    return message, submission


def telling(
    tenant: TenantId,
    transid: str,
    status: str = "Delivered",
    *,
    week: date | None = None,
    correlationid: str = "",
    submission: SubmissionId | None = None,
) -> Told:
    """A receipt; with `week` the message that it may bear is of that week."""
    info = {"deliveryChannel": "SMS", "deliveryStatus": status, "destination": NUMBER, "code": ""}
    told = told_of(body(info, transid, correlationid), tenant, submission)
    return told if week is None else told._replace(fresh=MessageId(id_in(week)))


async def tell(connection: Connection, *group: Told, intake: UUID | None = None) -> Applied:
    """Applies a group."""
    return await apply(connection, intake or new_id(), now(), Feed.PUSH, group)


def with_pool(database: Database, work: Callable[[Pool, Connection], Awaitable[None]]) -> None:
    """Runs `work` with a pool for the keeper and a connection to look with."""

    async def wrapped() -> None:
        pool = await open_pool(database.dsn, "keeper", 3, writer=True)
        connection = await connect(database.dsn, "tests")
        try:
            await work(pool, connection)
        finally:
            await connection.close()
            await pool.close()

    asyncio.run(wrapped())
