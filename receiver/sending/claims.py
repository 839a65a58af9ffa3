"""Claims on what is in the outbox: a process takes submissions for the time of a lease, and says when it sends them.

A claim is fenced by its number (`outbox.attempts`): whoever takes one over counts on, and the old one is worth nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from receiver.database.pool import Connection
from receiver.ids import SubmissionId, TenantId
from receiver.messages.lattice import Fact
from receiver.platform.apis import Api
from receiver.platform.wire import Recipient
from receiver.sending.lanes import Family, Lane

# Of every eight claims that a process makes from a lane one is for the lowest priority, whatever else waits.
LOW_EVERY = 8

# By lane and priority, so that each look is a short range of the index. What is locked and not chosen is free again at
# once: the transaction ends here. The lanes take turns, those that have much in this process later. `before` is what
# a lane has to pay until this one's turn.
CLAIM = """
with due as materialized (
  select o.*, w.tenant, w.family, w.room, w.busy, w.gone
    from unnest($1::smallint[], $2::smallint[], $3::int[], $4::int[], $5::int[]) as w(tenant, family, room, busy, gone)
    left join lane l on l.tenant = w.tenant and l.family = w.family
   cross join unnest('{3,2,1}'::smallint[]) as p(priority)
   cross join lateral (
     select d.submission_id, d.priority, d.due_at, d.message_count from outbox d
      where d.tenant = w.tenant and d.family = w.family and d.priority = p.priority
        and d.lease_until is null and d.due_at <= $6
      order by d.due_at, d.submission_id limit least(w.room, $7) for update skip locked) o
   where $10 or l.stopped_at is null and coalesce(l.pauses, 0) = 0
),
numbered as (
  select *, row_number() over (partition by tenant, family, priority = 1
                               order by priority desc, due_at, submission_id) as n from due
),
placed as (
  -- turns 8, 16, 24 … of the lane are for the lowest; `gone` of the present eight are over
  select *, row_number() over (partition by tenant, family order by turn, submission_id) as place
    from (select *, case when priority = 1 then 8 * n - gone else n + (n - 1 + gone) / 7 end as turn from numbered) t
),
ranked as (
  select *, row_number() over ranks as rank,
         sum(message_count) over (ranks rows unbounded preceding) - message_count as before
    from placed where place <= room
  window ranks as (order by place + busy, due_at, submission_id)
)
update outbox o set lease_until = $8, attempts = least(o.attempts + 1, 32767)
  from ranked r
 where o.submission_id = r.submission_id and r.rank <= $7 and r.before < $9::float8
returning o.submission_id, o.tenant, o.family, o.attempts, o.failures, o.expires_at, o.message_count, o.in_line,
          r.rank
"""

# A lease ran out: the process that claimed it is gone or stuck, and its call may have been made.
CLAIM_ABANDONED = """
with dead as (
  select submission_id from outbox where lease_until < $1 order by lease_until limit $2 for update skip locked
)
update outbox o set lease_until = $3, attempts = least(o.attempts + 1, 32767)
  from dead where o.submission_id = dead.submission_id
returning o.submission_id, o.tenant, o.family, o.attempts, o.failures, o.expires_at, o.message_count, o.in_line,
          0 as rank
"""

BORN_CLAIMED = """
select submission_id, tenant, family, attempts, failures, expires_at, message_count, in_line, 0 as rank
  from outbox where submission_id = $1 and in_line and attempts = 1
"""

LOAD = """
select s.id as submission_id, s.api, s.content, s.sent_at, m.id, m.channel, m.destination, m.destination_type,
       m.resend_of is not null as is_resend,
       t.facts & $2 <> 0 as cancelled  -- a receipt may have lifted its state since
  from unnest($1::uuid[]) as w(id)
  join submission s on s.id = w.id
  join message m on m.id between s.first_id and s.last_id and m.submission_id = s.id
  join message_state t on t.id = m.id
 order by s.id, m.id
"""

# Only whose claim it still is may send, and only while the lane lets it. Its lease begins anew.
MARK_SENT = """
with ours as (
  update outbox o set lease_until = $4
    from unnest($1::uuid[], $2::smallint[], $3::boolean[]) as w(id, attempts, tries)
   where o.submission_id = w.id and o.attempts = w.attempts and o.lease_until is not null
     and (w.tries or not exists (
           select from lane l where l.tenant = o.tenant and l.family = o.family
              and (l.stopped_at is not null or l.paused_until > $5)))
  returning o.submission_id
)
update submission s set sent_at = $5 from ours where s.id = ours.submission_id
returning s.id
"""
# What was surely not sent goes back to its place; `not_before` moves it further on.
RELEASE = """
with ours as (
  update outbox o set lease_until = null, due_at = greatest(o.due_at, w.not_before),
                      failures = least(o.failures + w.failed::int, 32767)
    from unnest($1::uuid[], $2::smallint[], $3::timestamptz[], $4::boolean[]) as w(id, attempts, not_before, failed)
   where o.submission_id = w.id and o.attempts = w.attempts
  returning o.submission_id
)
update submission s set sent_at = null from ours where s.id = ours.submission_id
"""


@dataclass(frozen=True)
class Claim:
    """A submission that is ours until its lease runs out. `tries`: its lane is in trouble, and this one finds out."""

    submission_id: SubmissionId
    lane: Lane
    attempts: int
    failures: int
    expires_at: datetime | None
    message_count: int
    in_line: bool = False
    tries: bool = False

    @property
    def tenant(self) -> TenantId:
        """Whose it is."""
        return self.lane.tenant


@dataclass(frozen=True)
class Load:
    """What a submission carries, without the messages that were cancelled; `content` is None once it was erased."""

    api: Api
    content: bytes | None
    sent_at: datetime | None
    channel: int
    recipients: list[Recipient]
    is_resend: bool = False


NOTHING = Load(Api.MESSAGING, None, None, 0, [])


class Share(NamedTuple):
    """What a lane may have of a claim: `room` submissions at most, after lanes that have fewer than `busy` here.

    `turn` counts what this process has claimed from it.
    """

    lane: Lane
    room: int
    busy: int = 0
    turn: int = 0


async def claim(
    connection: Connection,
    shares: Sequence[Share],
    now: datetime,
    limit: int,
    lease: timedelta,
    *,
    tokens: float = float("inf"),
    held: bool = False,
    tries: bool = False,
) -> list[Claim]:
    """Takes up to `limit` due submissions of these lanes for the time of a lease; no other process gets them.

    The lanes take turns. Of each the urgent go first, then what waits longest, and one of the lowest in every eight.
    Lanes in trouble are left out. Of one that the caller has `held`, as many as its `tokens` pay for, the last of them
    on credit.
    """
    rows = await connection.fetch(
        CLAIM,
        [share.lane.tenant for share in shares],
        [share.lane.family for share in shares],
        [share.room for share in shares],
        [share.busy for share in shares],
        [share.turn % LOW_EVERY for share in shares],
        now,
        limit,
        now + lease,
        tokens,
        held,
    )
    return [_claim(row, tries) for row in sorted(rows, key=lambda row: int(row["rank"]))]


async def claim_abandoned(connection: Connection, now: datetime, limit: int, lease: timedelta) -> list[Claim]:
    """Takes over submissions whose lease ran out. They may have been sent: they must not be sent again."""
    return [_claim(row) for row in await connection.fetch(CLAIM_ABANDONED, now, limit, now + lease)]


async def born_claimed(connection: Connection, submission_id: SubmissionId) -> Claim | None:
    """The claim with which an in-line submission was born; None when somebody has taken it over."""
    row = await connection.fetchrow(BORN_CLAIMED, submission_id)
    return None if row is None else _claim(row)


def _claim(row: asyncpg.Record, tries: bool = False) -> Claim:
    return Claim(
        SubmissionId(row["submission_id"]),
        Lane(TenantId(row["tenant"]), Family(row["family"])),
        row["attempts"],
        row["failures"],
        row["expires_at"],
        row["message_count"],
        row["in_line"],
        tries,
    )


async def load(connection: Connection, submissions: Sequence[SubmissionId]) -> list[Load]:
    """What each of the submissions carries, in the order in which it was asked."""
    found: dict[UUID, list[asyncpg.Record]] = {}
    for row in await connection.fetch(LOAD, submissions, int(Fact.CANCELLED)):
        found.setdefault(row["submission_id"], []).append(row)
    return [_load(found[identity]) if identity in found else NOTHING for identity in submissions]


def _load(rows: Sequence[asyncpg.Record]) -> Load:
    first, api = rows[0], Api(rows[0]["api"])
    kept = [index for index, row in enumerate(rows) if not row["cancelled"]]
    content: bytes | None = first["content"]
    if content is not None and api is Api.EVENTS and len(kept) < len(rows):
        content = content_of(content, kept)
    recipients = [Recipient(r["id"], r["destination_type"], r["destination"]) for r in (rows[i] for i in kept)]
    return Load(api, content, first["sent_at"], first["channel"], recipients, first["is_resend"])


def content_of(content: bytes, kept: Sequence[int]) -> bytes:
    """The body of a Custom Event call with these of its events alone, each as it was written."""
    body: dict[str, object] = dict(msgspec.json.decode(content, type=dict[str, msgspec.Raw]))
    events = msgspec.json.decode(msgspec.json.encode(body["events"]), type=list[msgspec.Raw])
    body["events"] = [events[index] for index in kept]
    return msgspec.json.encode(body)


async def mark_sent(
    connection: Connection, claims: Sequence[Claim], now: datetime, lease: timedelta
) -> set[SubmissionId]:
    """Notes that the calls begin now, and which may: what is missing is not ours any more, or its lane is held up."""
    columns = [c.submission_id for c in claims], [c.attempts for c in claims], [c.tries for c in claims]
    return {SubmissionId(row["id"]) for row in await connection.fetch(MARK_SENT, *columns, now + lease, now)}


async def release(connection: Connection, claims: Sequence[tuple[Claim, datetime | None, bool]]) -> None:
    """Gives back claims of what was surely not sent: each with when it may be claimed again, and whether it counts."""
    columns = (
        [claim.submission_id for claim, _, _ in claims],
        [claim.attempts for claim, _, _ in claims],
        [not_before for _, not_before, _ in claims],
        [failed for _, _, failed in claims],
    )
    await connection.execute(RELEASE, *columns)
