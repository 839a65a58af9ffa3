"""One message in SQL: all that is known of it, and a mark by which a reader sees cheaply whether that has changed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from receiver import __version__
from receiver.database.pool import Connection
from receiver.ids import TenantId
from receiver.messages.lattice import Channel, Fact, State

MOST = 1000  # receipts, calls, children that are shown

# `row_version` is the row's xmin: another one after each update. A receipt that changes no state has no version of the
# message, and a re-read, a resend or an erasure may change what is shown alone.
ONE = """
select m.id, m.origin, m.channel, m.created_at, m.batch_id, m.submission_id, m.destination, m.destination_type,
       m.correlationid, m.callback_data, m.sender, m.template, m.resend_of, m.row_version as born_version, sub.sent_at,
       s.state, s.facts, s.conflict, s.transid, s.clicks, s.complaints, s.clicked_at, s.complained_at, s.accepted_at,
       s.submitted_at, s.delivered_at, s.read_at, s.failed_at, s.changed_at, s.reason_key, s.reason_class,
       s.merged_into, s.version, s.country, s.carrier, s.row_version,
       r.code as reason_code, r.description as reason_description, r.status as reason_status,
       r.channel as reason_channel, r.feed as reason_feed,
       w.overdue_at, w.poll_at, w.polls, coalesce(w.overdue_at <= now(), false) as overdue
  from (select i.*, i.xmin::text as row_version from message i where i.id = $1 offset 0) m
 cross join lateral (select i.*, i.xmin::text as row_version from message_state i where i.id = $1 offset 0) s
  left join lateral (select i.sent_at from submission i where i.id = m.submission_id offset 0) sub on true
  left join lateral (
    select * from receipt i
     where i.message_id = $1 and i.fingerprint = substring(s.reason_key from 4) offset 0) r on true
  left join lateral (select * from awaited i where i.message_id = $1 offset 0) w on true
 where m.tenant = $2
"""

TOLD = """
select told_at, received_at, feed, copied, elsewhere, joined, fingerprint, status, fact, reason_key, reason_class, code,
       description, channel, destination, destination_key, subtid, device, carrier, message_count, transid,
       xmin::text as row_version
  from receipt where message_id = $1
"""
BY_TIME = "coalesce(told_at, received_at), rank, received_at, fingerprint limit 1001"
BY_ARRIVAL = "received_at, rank, fingerprint limit 1001"
TIMELINE = f"{TOLD} order by {BY_TIME}"
ARRIVALS = f"{TOLD} order by {BY_ARRIVAL}"

ATTEMPTS = """
select a.at, a.number, a.outcome, a.http_status, a.code, a.description, a.xmin::text as row_version
  from attempt a where a.submission_id = $1 order by a.number limit 1000
"""

# A resend has the same recipient, by which it is found.
RESENT_AS = """
select r.id
  from (select i.id, i.destination_key from message i where i.id = $1 offset 0) m
 cross join lateral (
   select i.id from message i
    where i.destination_key = m.destination_key and i.id > m.id and i.resend_of = m.id offset 0) r
"""

# The children of an event, by the keys that are filed beside its id. A child is of one flow node: all receipts of it
# bear one subtid.
CHILDREN = """
select m.id, m.channel, m.destination, s.state, s.row_version,
       (select r.subtid from receipt r where r.message_id = m.id and r.subtid is not null limit 1) as subtid
  from (select distinct k.message_id as id from message_key k
         where k.transid_key = uuid_send($1) and k.tenant = $2 order by 1 limit 1000) k
 cross join lateral (select * from message i where i.id = k.id and i.parent_id = $1 offset 0) m
 cross join lateral (
   select i.*, i.xmin::text as row_version from message_state i where i.id = k.id and i.merged_into is null offset 0) s
 order by m.id
"""

MARK = f"""
select s.state, s.channel, s.facts, s.merged_into, s.version, s.row_version, m.row_version as born_version, sub.sent_at,
       coalesce((select w.overdue_at <= now() from awaited w where w.message_id = $1), false) as overdue,
       (select string_agg(r.row_version, ',' order by {BY_TIME.removesuffix(" limit 1001")})
          from (select i.*, i.xmin::text as row_version from receipt i
                 where i.message_id = $1 order by {BY_TIME}) r) as receipts,
       (select string_agg(a.row_version, ',' order by a.number)
          from (select i.number, i.xmin::text as row_version from attempt i
                 where i.submission_id = m.submission_id order by i.number limit 1000) a) as attempts,
       case when s.facts & $3 <> 0 then ({RESENT_AS}) end as resent_as,
       case when s.channel = 14 then (select string_agg(c.row_version, ',' order by c.id) from ({CHILDREN}) c) end
         as children
  from (select i.*, i.xmin::text as row_version from message i where i.id = $1 and i.tenant = $2 offset 0) m
 cross join lateral (select i.*, i.xmin::text as row_version from message_state i where i.id = $1 offset 0) s
  left join lateral (select i.sent_at from submission i where i.id = m.submission_id offset 0) sub on true
"""

# What holds a message up, and what was learned of others like it: $2 its channel, $3 its country.
HELD = """
select o.due_at, o.lease_until, l.paused_until, l.stopped_at, r.due_at as resend_at,
       (select u.seconds from usual_time u
         where u.channel = $2 and u.country in ($3, '') order by u.country desc limit 1) as usual_seconds
  from (select $1::uuid as id) f
  left join lateral (select * from outbox i where i.submission_id = f.id offset 0) o on true
  left join lateral (select * from lane i where i.tenant = o.tenant and i.family = o.family offset 0) l on true
  left join lateral (select * from resend i where i.submission_id = f.id offset 0) r on true
"""


@dataclass(frozen=True)
class Mark:
    """What a message has come to, and the ETag of what is shown of it."""

    state: State
    channel: Channel
    facts: Fact
    merged_into: UUID | None
    tag: str


@dataclass(frozen=True)
class Whole:
    """A message and everything told of it, as it stands in the tables. `cut`: there is more than is shown."""

    row: asyncpg.Record
    told: Sequence[asyncpg.Record]
    cut: bool
    attempts: Sequence[asyncpg.Record]
    resent_as: UUID | None
    children: Sequence[asyncpg.Record]
    mark: Mark


async def mark(connection: Connection, tenant: TenantId, identity: UUID, asked: UUID) -> Mark | None:
    """The mark of a message within the tenant, in one round trip; `asked` is the id that the reader named."""
    row = await connection.fetchrow(MARK, identity, tenant, int(Fact.UNCERTAIN))
    if row is None:
        return None
    return _mark(row, asked, row["receipts"], row["attempts"], row["resent_as"], row["children"])


async def whole(connection: Connection, tenant: TenantId, asked: UUID) -> Whole | None:
    """The message within the tenant, or the one that it was merged into; None where there is none."""
    row = await one(connection, tenant, asked)
    if row is None:
        return None
    identity = row["id"]
    told = await connection.fetch(TIMELINE, identity)
    attempts = await connection.fetch(ATTEMPTS, row["submission_id"]) if row["submission_id"] else []
    resent_as = await connection.fetchval(RESENT_AS, identity) if row["facts"] & Fact.UNCERTAIN else None
    is_event = row["channel"] == Channel.EVENT
    children = await connection.fetch(CHILDREN, identity, tenant) if is_event else []
    seen = _mark(row, asked, _versions(told), _versions(attempts), resent_as, _versions(children))
    return Whole(row, told[:MOST], len(told) > MOST, attempts, resent_as, children, seen)


async def one(connection: Connection, tenant: TenantId, asked: UUID) -> asyncpg.Record | None:
    """The row of the message within the tenant, or of the one that it was merged into."""
    row = await connection.fetchrow(ONE, asked, tenant)
    if row is not None and row["merged_into"] is not None:
        row = await connection.fetchrow(ONE, row["merged_into"], tenant)
    return row


async def arrivals(connection: Connection, identity: UUID) -> tuple[Sequence[asyncpg.Record], bool]:
    """Everything told of a message, in the order in which it was heard; whether there is more than that."""
    rows = await connection.fetch(ARRIVALS, identity)
    return rows[:MOST], len(rows) > MOST


async def held(connection: Connection, row: asyncpg.Record) -> asyncpg.Record:
    """What holds up the message of that row, and what was learned of others like it."""
    found = await connection.fetchrow(HELD, row["submission_id"], row["channel"], row["country"] or "")
    assert found is not None  # a row of its own, whatever there is
    return found


def _versions(rows: Sequence[asyncpg.Record]) -> str | None:
    return ",".join(row["row_version"] for row in rows) or None


def _mark(
    row: asyncpg.Record,
    asked: UUID,
    receipts: str | None,
    attempts: str | None,
    resent_as: UUID | None,
    children: str | None,
) -> Mark:
    """The mark of what was read. Our own version is in it: it decides how things are said."""
    parts = (__version__, asked, row["version"], row["row_version"], row["born_version"], row["sent_at"])
    told = repr((*map(str, parts), row["overdue"], receipts, attempts, str(resent_as), children))
    tag = hashlib.blake2b(told.encode(), digest_size=12).hexdigest()
    return Mark(State(row["state"]), Channel(row["channel"]), Fact(row["facts"]), row["merged_into"], f'"{tag}"')
