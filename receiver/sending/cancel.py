"""Taking a message back before it is claimed: what waits in the outbox can be cancelled, what was claimed can't."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from receiver.database.pool import Connection, Pool
from receiver.ids import MessageId, SubmissionId, TenantId
from receiver.messages.changes import Change
from receiver.messages.lattice import Channel, Fact, State
from receiver.messages.store import MOST_TRIES, apply_known, may_try_again
from receiver.messages.told import Feed, Told, told_by_us
from receiver.web import Problem

LOOK = """
select m.id, m.tenant, m.origin, m.channel, m.submission_id, m.destination, s.state, s.merged_into
  from message m join message_state s on s.id = m.id
 where m.id = $1 and m.tenant = $2
"""
# Waits for a claim or another cancel that is being written, and then looks at what came of it.
# The outbox row first, and then the message, where the settler goes the other way round: it settles claimed rows alone.
HOLD = "select submission_id from outbox where submission_id = $1 and lease_until is null for update"
TAKE_OUT = "update outbox set message_count = message_count - 1 where submission_id = $1 returning message_count"
CLOSE = """
with o as (delete from outbox where submission_id = $1)
update submission set answered_at = $2, content = case when $3 then content end where id = $1
"""

ISSUED = 1


@dataclass(frozen=True)
class Cancelled:
    """A message that will not be sent, and what changed: nothing, if it was cancelled already."""

    message_id: MessageId
    changes: list[Change]


async def cancel(pool: Pool, tenant: TenantId, identity: UUID, now: datetime, *, keep_content: bool) -> Cancelled:
    """Cancels a message of this tenant; it is never sent then. A merged id means the message it was merged into.

    Raises Problem 404 for no message of the tenant, 409 for one that was not sent from here or is claimed already.
    """
    async with pool.acquire() as connection:
        for tries_left in range(MOST_TRIES - 1, -1, -1):
            try:
                async with connection.transaction():
                    return await _cancel(connection, tenant, identity, now, keep_content=keep_content)
            except asyncpg.PostgresError as error:
                if not tries_left or not may_try_again(error):
                    raise
    raise AssertionError("the last try returns or raises")


async def _cancel(
    connection: Connection, tenant: TenantId, identity: UUID, now: datetime, *, keep_content: bool
) -> Cancelled:
    row = await _look(connection, tenant, identity)
    if row["origin"] != ISSUED:
        raise Problem(409, "not_issued", "This message was not sent from here: there is nothing to cancel.")
    held = await connection.fetchval(HOLD, row["submission_id"])
    row = await _look(connection, tenant, row["id"])  # as it is under the lock
    state = State(row["state"])
    if state is State.CANCELLED:
        return Cancelled(MessageId(row["id"]), [])
    if held is None or state is not State.QUEUED:
        title = "It is too late: the message is being sent, or was."
        raise Problem(409, "too_late", title, more={"id": str(row["id"]), "state": state.word})
    changes = await apply_known(connection, now, Feed.OWN, [MessageId(row["id"])], [_told(row, now)])
    if await connection.fetchval(TAKE_OUT, row["submission_id"]) <= 0:
        await connection.execute(CLOSE, row["submission_id"], now, keep_content)
    return Cancelled(MessageId(row["id"]), changes)


async def _look(connection: Connection, tenant: TenantId, identity: UUID) -> asyncpg.Record:
    row = await connection.fetchrow(LOOK, identity, tenant)
    if row is not None and row["merged_into"] is not None:
        row = await connection.fetchrow(LOOK, row["merged_into"], tenant)
    if row is None:
        raise Problem(404, "message_not_found", "There is no message with this id.")
    return row


def _told(row: asyncpg.Record, now: datetime) -> Told:
    raw = b'{"cancelled":true}'
    identity = b"\0".join((b"\x01own", row["submission_id"].bytes, b"CANCELLED", raw))
    return told_by_us(
        tenant=TenantId(row["tenant"]),
        submission_id=SubmissionId(row["submission_id"]),
        message_id=MessageId(row["id"]),
        channel=Channel(row["channel"]),
        destination=row["destination"],
        fact=Fact.CANCELLED,
        fingerprint=hashlib.sha256(identity).digest()[:16],
        at=now,
        status="cancelled",
        code=None,
        code_class=0,
        description="Cancelled before it was sent.",
        transid=None,
        raw=raw,
    )
