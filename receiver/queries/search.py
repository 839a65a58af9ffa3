"""Looking messages up: one by its id, many by filters, newest first, in keyset pages."""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from receiver.database.pool import Connection
from receiver.ids import TenantId
from receiver.messages.lattice import Fact
from receiver.queries.filters import Filters
from receiver.queries.finding import Finding

# A message with its state, when it was sent, and the receipt that tells the reason. Each look is
# fenced (`offset 0`), so that it is one look into the primary key, by a plan that is kept.
ROW = """
select m.id, m.origin, m.channel, m.created_at, m.batch_id, m.destination, m.destination_type, m.correlationid,
       m.callback_data, m.sender, m.template, m.resend_of, sub.sent_at,
       s.state, s.conflict, s.transid, s.clicks, s.complaints, s.accepted_at, s.submitted_at, s.delivered_at, s.read_at,
       s.failed_at, s.changed_at, s.reason_key, s.reason_class, s.merged_into,
       r.code as reason_code, r.description as reason_description, r.status as reason_status,
       r.channel as reason_channel, r.feed as reason_feed, coalesce(w.overdue_at <= now(), false) as overdue
  from {found}
 cross join lateral (select * from message i where i.id = f.id{bounds} offset 0) m
 cross join lateral {state} s
  left join lateral (select i.sent_at from submission i where i.id = m.submission_id offset 0) sub on true
  left join lateral (
    select * from receipt i
     where i.message_id = f.id{receipt_bounds} and i.fingerprint = substring(s.reason_key from 4) offset 0) r on true
  left join lateral (select i.overdue_at from awaited i where i.message_id = f.id offset 0) w on true
"""

STATE = "(select * from message_state i where i.id = f.id offset 0)"
ONE = ROW.format(found="(select $1::uuid as id) f", state=STATE, bounds="", receipt_bounds="") + " where m.tenant = $2"

BOUNDS = " and {0} >= $2 and {0} < $3"
FOUND = ROW.format(
    found="found f",
    state="(select (f.state).*)",
    bounds=BOUNDS.format("i.id"),
    receipt_bounds=BOUNDS.format("i.message_id"),
)
MANY = f"with found as materialized ({{}}) {FOUND} order by f.id desc"

TIMELINE = """
select told_at, received_at, feed, status, fact, reason_key, code, description, channel, destination, subtid, device,
       carrier, message_count, transid
  from receipt where message_id = $1
 order by coalesce(told_at, received_at), rank, received_at, fingerprint limit 1000
"""

ATTEMPTS = """
select a.at, a.number, a.outcome, a.http_status, a.code, a.description
  from (select i.submission_id from message i where i.id = $1 offset 0) m
 cross join lateral (select * from attempt i where i.submission_id = m.submission_id offset 0) a
 order by a.number limit 1000
"""

# A resend has the same recipient, by which it is found.
RESENT_AS = """
select r.id
  from (select i.id, i.destination_key from message i where i.id = $1 offset 0) m
 cross join lateral (select i.facts from message_state i where i.id = $1 offset 0) s
 cross join lateral (
   select i.id from message i
    where s.facts & $2 <> 0 and i.destination_key = m.destination_key and i.id > m.id and i.resend_of = m.id offset 0) r
"""

# The children of an event, by the keys that are filed beside its id. A child is of one flow node: all receipts of it
# bear one subtid.
CHILDREN = """
select m.id, m.channel, m.destination, s.state,
       (select r.subtid from receipt r where r.message_id = m.id and r.subtid is not null limit 1) as subtid
  from (select distinct k.message_id as id from message_key k
         where k.transid_key = uuid_send($1) and k.tenant = $2 order by 1 limit 1000) k
 cross join lateral (select * from message i where i.id = k.id and i.parent_id = $1 offset 0) m
 cross join lateral (select * from message_state i where i.id = k.id and i.merged_into is null offset 0) s
 order by m.id
"""


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
    finding = Finding(tenant, filters)
    rows = await connection.fetch(MANY.format(finding.text), *finding.values)
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
