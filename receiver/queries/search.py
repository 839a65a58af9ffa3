"""Looking messages up by filters, in keyset pages: the newest first, or what changed last."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import asyncpg

from receiver.database.pool import Connection
from receiver.ids import TenantId
from receiver.queries.cursors import Position
from receiver.queries.filters import Filters, Window
from receiver.queries.finding import Finding

# A message with its state, when it was sent, and the receipt that tells the reason. Each look is
# fenced (`offset 0`), so that it is one look into the primary key, by a plan that is kept.
MANY = """
with found as materialized ({found})
select m.id, m.origin, m.channel, m.created_at, m.batch_id, m.destination, m.destination_type, m.correlationid,
       m.callback_data, m.sender, m.template, m.resend_of, sub.sent_at,
       s.state, s.conflict, s.transid, s.clicks, s.complaints, s.accepted_at, s.submitted_at, s.delivered_at, s.read_at,
       s.failed_at, s.changed_at, s.reason_key, s.reason_class, s.merged_into,
       r.code as reason_code, r.description as reason_description, r.status as reason_status,
       r.channel as reason_channel, r.feed as reason_feed, coalesce(w.overdue_at <= now(), false) as overdue{also}
  from found f
 cross join lateral (select * from message i where i.id = f.id and i.id >= $2 and i.id < $3 offset 0) m
 cross join lateral (select (f.state).*) s
  left join lateral (select i.sent_at from submission i where i.id = m.submission_id offset 0) sub on true
  left join lateral (
    select * from receipt i
     where i.message_id = f.id and i.message_id >= $2 and i.message_id < $3
       and i.fingerprint = substring(s.reason_key from 4) offset 0) r on true
  left join lateral (select i.overdue_at from awaited i where i.message_id = f.id offset 0) w on true
 order by {order}
"""

# The change log is numbered under the lock of the message's row, and its times are those at which transactions began:
# numbers and times run nearly alike. So a time is found by halving the numbers, and what is that far beside it is read.
DISORDER = timedelta(minutes=5)
LAST_SEQ = (1 << 63) - 1
FIRST_SEQ = """
with recursive w(at, least) as (values ($1::timestamptz, $1::timestamptz - interval '8 days')),
h(low, high) as (
  select (select i.seq from change i where i.at >= w.least order by i.seq limit 1),
         (select i.seq from change i where i.at >= w.least order by i.seq desc limit 1) from w
  union all
  select case when a.at < w.at then m.seq + 1 else h.low end, case when a.at < w.at then h.high else m.seq end
    from w cross join h
   cross join lateral (select (h.low + h.high) / 2 as seq) m
   cross join lateral (select i.at from change i where i.seq >= m.seq and i.at >= w.least order by i.seq limit 1) a
   where h.low < h.high)
select max(low) from h
"""
OLDEST = "select first_id from week order by starts_on limit 1"


@dataclass(frozen=True)
class Found:
    """A page: its rows, and behind which place the next one begins; None: there is no next one."""

    rows: Sequence[asyncpg.Record]
    next: Position | None


class ReadsLong(Exception):
    """A page takes longer to read than it was given."""


async def many(connection: Connection, tenant: TenantId, filters: Filters, seconds: float | None = None) -> Found:
    """A page of the messages that `filters` let through: the newest first, or what changed last.

    Raises ReadsLong when reading it takes longer than `seconds`, where they are given.
    """
    finding = Finding(tenant, filters, filters.limit + 1)
    if filters.changed and finding.walks_changes:
        found, order, also = finding.walk_changes(*await _span(connection, filters.changed)), "f.seq desc", ", f.seq"
    else:
        found, order, also = finding.page(), "s.changed_at desc, f.id desc" if filters.changed else "f.id desc", ""
    try:
        text = MANY.format(found=found, also=also, order=order)
        rows = await connection.fetch(text, *finding.values, timeout=seconds)
    except TimeoutError:
        if seconds is None:
            raise
        raise ReadsLong from None
    last = rows[filters.limit - 1] if len(rows) > filters.limit else None
    return Found(rows[: filters.limit], _position_of(last, finding, filters) if last else None)


def _position_of(row: asyncpg.Record, finding: Finding, filters: Filters) -> Position:
    if finding.walks_changes:
        return Position(seq=row["seq"])
    return Position(id=row["id"], changed_at=row["changed_at"] if filters.changed else None)


async def _span(connection: Connection, window: Window) -> tuple[int, int]:
    """The numbers of the change log that surely hold a window: its rows are not quite in the order of time."""
    low = await connection.fetchval(FIRST_SEQ, window.begin - DISORDER)
    high = await connection.fetchval(FIRST_SEQ, window.end + DISORDER) if window.end else None
    return low or 0, LAST_SEQ if high is None else high + 1


async def oldest(connection: Connection) -> UUID | None:
    """The least id that a message can have."""
    least: UUID | None = await connection.fetchval(OLDEST)
    return least
