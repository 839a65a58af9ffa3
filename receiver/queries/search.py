"""Looking messages up: one by its id, many by filters, newest first, in keyset pages."""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from receiver.database.pool import Connection
from receiver.ids import TenantId, destination_digest, digest, parse_id, transid_root
from receiver.messages.lattice import Fact
from receiver.messages.told import transid_digest
from receiver.queries.filters import Filters

COLUMNS = """
select m.id, m.origin, m.channel, m.created_at, m.batch_id, m.destination, m.destination_type, m.correlationid,
       m.callback_data, m.sender, m.template, m.resend_of, sub.sent_at,
       s.state, s.conflict, s.transid, s.clicks, s.complaints, s.accepted_at, s.submitted_at, s.delivered_at, s.read_at,
       s.failed_at, s.changed_at, s.reason_key, s.reason_class, s.merged_into,
       r.code as reason_code, r.description as reason_description, r.status as reason_status,
       r.channel as reason_channel, r.feed as reason_feed
  from message m
  join message_state s on s.id = m.id
  left join submission sub on sub.id = m.submission_id
  left join receipt r on r.message_id = s.id and r.fingerprint = substring(s.reason_key from 4)
"""

ONE = COLUMNS + " where m.id = $1 and m.tenant = $2"

TIMELINE = """
select told_at, received_at, feed, status, fact, reason_key, code, description, channel, destination, subtid, device,
       carrier, message_count, transid
  from receipt where message_id = $1
 order by coalesce(told_at, received_at), rank, received_at, fingerprint limit 1000
"""

ATTEMPTS = """
select a.at, a.number, a.outcome, a.http_status, a.code, a.description
  from message m join attempt a on a.submission_id = m.submission_id
 where m.id = $1 order by a.number limit 1000
"""

# A resend has the same recipient, by which it is found.
RESENT_AS = """
select r.id
  from message m
  join message_state s on s.id = m.id and s.facts & $2 <> 0
  join message r on r.destination_key = m.destination_key and r.id > m.id and r.resend_of = m.id
 where m.id = $1
"""

# The children of an event, by the keys that are filed beside its id. A child is of one flow node: all receipts of it
# bear one subtid.
CHILDREN = """
select m.id, m.channel, m.destination, s.state,
       (select r.subtid from receipt r where r.message_id = m.id and r.subtid is not null limit 1) as subtid
  from message m join message_state s on s.id = m.id
 where m.id in (select k.message_id from message_key k where k.transid_key = uuid_send($1) and k.tenant = $2 limit 1000)
   and m.parent_id = $1 and s.merged_into is null
 order by m.id
"""

# Each filter is a condition of its own, with the number of its parameter filled in.
BY_TRANSID = (
    "m.id in (select k.message_id from message_key k where k.tenant = $1 and k.transid_key = any({0}::bytea[]))"
)
BY_CORRELATIONID = (
    "m.id in (select c.id from message c where c.correlation_key = any({0}::bytea[]) union select unnest({1}::uuid[]))"
)
BY_CALLBACK = "m.callback_key = any({0}::bytea[])"
BY_DESTINATION = (
    "m.id in (select d.id from message d where d.destination_key = any({0}::bytea[]) union"
    " select t.message_id from receipt t where t.elsewhere and t.destination_key = any({0}::bytea[]))"
)
BY_CODE = (
    "m.id in (select t.message_id from receipt t where t.code_key = any({0}::bytea[]) and t.reason_key is not null)"
    " and r.code_key = any({0}::bytea[]) and s.state not in (60, 70)"  # delivered after all: it has no reason
)
BY_CHANNEL = "m.channel = any({0}::smallint[])"
BY_STATE = "s.state = any({0}::smallint[])"
ATTENTION = "s.attention"
BY_ORIGIN = "m.origin = any({0}::smallint[])"
BY_BATCH = (
    "m.batch_id = any({0}::uuid[]) and m.id >= (select b.first_id from batch b where b.id = any({0}::uuid[])"
    " order by b.first_id limit 1) and m.id <= (select b.last_id from batch b where b.id = any({0}::uuid[])"
    " order by b.last_id desc limit 1)"
)
BY_CONFLICT = "s.conflict = {0}"
FROM_ID = "m.id >= {0} and s.id >= {0}"
BEFORE_ID = "m.id < {0} and s.id < {0}"


async def one(connection: Connection, tenant: TenantId, identity: UUID) -> asyncpg.Record | None:
    """The message of that id within the tenant; the row of a merged one says into which."""
    return await connection.fetchrow(ONE, identity, tenant)


async def timeline(connection: Connection, identity: UUID) -> tuple[Sequence[asyncpg.Record], Sequence[asyncpg.Record]]:
    """Everything told of a message, and the calls that were made for it."""
    return await connection.fetch(TIMELINE, identity), await connection.fetch(ATTEMPTS, identity)


async def resent_as(connection: Connection, identity: UUID) -> UUID | None:
    """The message in whose shape this one was sent again."""
    found: UUID | None = await connection.fetchval(RESENT_AS, identity, int(Fact.UNCERTAIN))
    return found


async def children(connection: Connection, tenant: TenantId, event: UUID) -> Sequence[asyncpg.Record]:
    """What the flow of an event has sent, as far as receipts told of it: in order of time, 1,000 at most."""
    return await connection.fetch(CHILDREN, event, tenant)


@dataclass(frozen=True)
class Found:
    """A page: its rows, and the id below which the next one begins."""

    rows: Sequence[asyncpg.Record]
    next_before: UUID | None


async def many(connection: Connection, tenant: TenantId, filters: Filters) -> Found:
    """A page of the messages that `filters` let through, newest first."""
    values: list[object] = [tenant]
    conditions = ["m.tenant = $1", "s.merged_into is null"]

    def where(condition: str, *parameters: object) -> None:
        values.extend(parameters)
        numbers = range(len(values) - len(parameters) + 1, len(values) + 1)
        conditions.append(condition.format(*(f"${n}" for n in numbers)))

    if filters.transid:
        where(BY_TRANSID, [transid_digest(transid_root(text)) for text in filters.transid])
    if filters.correlationid:
        ours = [identity for text in filters.correlationid if (identity := parse_id(text))]
        where(BY_CORRELATIONID, [digest(text) for text in filters.correlationid], ours)
    if filters.callback_data:
        where(BY_CALLBACK, [digest(text) for text in filters.callback_data])
    if filters.destination:
        where(BY_DESTINATION, [destination_digest(text) for text in filters.destination])
    if filters.code:
        where(BY_CODE, [digest(text) for text in filters.code])
    if filters.channel:
        where(BY_CHANNEL, filters.channel)
    if filters.state:
        where(BY_STATE, filters.state)
        if filters.only_attention:
            conditions.append(ATTENTION)
    if filters.origin:
        where(BY_ORIGIN, filters.origin)
    if filters.batch_id:
        where(BY_BATCH, filters.batch_id)
    if filters.conflict is not None:
        where(BY_CONFLICT, filters.conflict)
        if filters.conflict:
            conditions.append(ATTENTION)
    if filters.from_id:
        where(FROM_ID, filters.from_id)
    if filters.before_id:
        where(BEFORE_ID, filters.before_id)
    query = f"{COLUMNS} where {' and '.join(conditions)} order by m.id desc limit {filters.limit + 1}"
    rows = await connection.fetch(query, *values)
    more = len(rows) > filters.limit
    return Found(rows[: filters.limit], rows[filters.limit - 1]["id"] if more else None)


def cursor_of(before: UUID, query: str) -> str:
    """A cursor: opaque, and good only for the query that gave it."""
    return base64.urlsafe_b64encode(before.bytes + _mark(query)).rstrip(b"=").decode()


def read_cursor(cursor: str, query: str) -> UUID | None:
    """The id below which the page begins; None for what is no cursor of this query."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return UUID(bytes=raw[:16]) if len(raw) == 24 and raw[16:] == _mark(query) else None


def _mark(query: str) -> bytes:
    return hashlib.blake2b(query.encode(), digest_size=8).digest()
