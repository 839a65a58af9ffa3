"""The outbox in Postgres: a batch is accepted in one statement, claimed by submissions, settled with the last word.

Nothing is accepted that is not committed, and nothing sent that was not committed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from receiver.database.pool import Connection
from receiver.ids import BatchId, MessageId, SubmissionId, TenantId, destination_digest, digest, new_id
from receiver.platform.wire import Recipient
from receiver.sending.request import Asked, Request

# One statement, one round trip, whatever the number of messages. All rows are fresh: nothing has to see another.
ACCEPT = """
with b as (
  insert into batch (id, tenant, created_at, first_id, last_id, message_count)
  values ($1, $2, $3, $4, $5, $6)
),
s as (
  insert into submission (id, tenant, batch_id, api, created_at, first_id, last_id, message_count, content)
  select u.id, $2, $1, 1, $3, u.first_id, u.last_id, u.message_count, $7
    from unnest($8::uuid[], $9::uuid[], $10::uuid[], $11::int[]) as u(id, first_id, last_id, message_count)
),
o as (
  insert into outbox (submission_id, tenant, priority, message_count, due_at, expires_at)
  select u.id, $2, $12, u.message_count, $3, $13 from unnest($8::uuid[], $11::int[]) as u(id, message_count)
),
m as (
  insert into message (id, tenant, origin, channel, created_at, batch_id, submission_id, destination, destination_type,
                       destination_key, correlationid, correlation_key, callback_data, callback_key, sender, template)
  select u.id, $2, 1, $14, $3, $1, u.submission_id, u.destination, u.destination_type, u.destination_key,
         u.correlationid, u.correlation_key, $15, $16, $17, $18
    from unnest($19::uuid[], $20::uuid[], $21::text[], $22::text[], $23::bytea[], $24::text[], $25::bytea[])
         as u(id, submission_id, destination, destination_type, destination_key, correlationid, correlation_key)
   order by u.id
),
t as (
  insert into message_state (id, tenant, origin, channel, changed_at)
  select u.id, $2, 1, $14, $3 from unnest($19::uuid[]) as u(id) order by u.id
)
insert into change (at, message_id, version, tenant, origin, channel, old_state, new_state, new_conflict)
select $3, u.id, 0, $2, 1, $14, null, 0, false from unnest($19::uuid[]) as u(id) order by u.id
"""

CLAIM = """
with due as (
  select submission_id from outbox
   where tenant = any($1::smallint[]) and lease_until is null and due_at <= $2
   order by priority desc, due_at, submission_id
   limit $3 for update skip locked
)
update outbox o set lease_until = $4, attempts = least(o.attempts + 1, 32767)
  from due where o.submission_id = due.submission_id
returning o.submission_id, o.tenant, o.attempts, o.expires_at
"""

# A lease ran out: the process that claimed it is gone or stuck, and its call may have been made.
CLAIM_ABANDONED = """
with dead as (
  select submission_id from outbox where lease_until < $1 order by lease_until limit $2 for update skip locked
)
update outbox o set lease_until = $3, attempts = least(o.attempts + 1, 32767)
  from dead where o.submission_id = dead.submission_id
returning o.submission_id, o.tenant, o.attempts, o.expires_at
"""

LOAD = """
select s.content, s.sent_at, m.id, m.channel, m.destination, m.destination_type
  from submission s
  join message m on m.id between s.first_id and s.last_id and m.submission_id = s.id
 where s.id = $1
 order by m.id
"""

# Only who still holds the lease may send: a process that was paused for longer finds its claim taken over.
MARK_SENT = """
update submission set sent_at = coalesce(sent_at, $2)
 where id = $1 and exists (select from outbox where submission_id = $1 and attempts = $3 and lease_until > $2)
returning id
"""
SETTLE = """
with o as (delete from outbox where submission_id = $1)
update submission set answered_at = $2, content = case when $3 then content end where id = $1
"""
LATER = """
with s as (update submission set sent_at = null where id = $1)
update outbox set lease_until = null, due_at = $2 where submission_id = $1
"""
ADD_ATTEMPT = """
insert into attempt (submission_id, number, at, outcome, http_status, code, description)
values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing
"""
DEPTH = "select tenant, sum(message_count)::bigint as messages from outbox group by tenant"

MOST_ENTRIES_A_CALL = 1_000


@dataclass(frozen=True)
class Accepted:
    """What was committed: the batch, and each message's id beside what was asked."""

    batch_id: BatchId
    messages: list[tuple[MessageId, Asked]]


@dataclass(frozen=True)
class Claim:
    """A submission that is ours until its lease runs out."""

    submission_id: SubmissionId
    tenant: TenantId
    attempts: int
    expires_at: datetime | None


@dataclass(frozen=True)
class Load:
    """What a submission carries; `content` is None once it was erased."""

    content: bytes | None
    sent_at: datetime | None
    channel: int
    recipients: list[Recipient]


def split(messages: Sequence[Asked], limit: int = MOST_ENTRIES_A_CALL) -> list[list[int]]:
    """The messages by submission, as indices: at most `limit` each, and never two of one recipient in one."""
    submissions: list[list[int]] = []
    seen: list[set[str]] = []
    first_open: dict[str, int] = {}  # the submission in which this recipient may stand next
    oldest_open = 0
    for index, message in enumerate(messages):
        at = max(first_open.get(message.normalised, 0), oldest_open)
        while at < len(submissions) and (len(submissions[at]) >= limit or message.normalised in seen[at]):
            at += 1
        if at == len(submissions):
            submissions.append([])
            seen.append(set())
        submissions[at].append(index)
        seen[at].add(message.normalised)
        first_open[message.normalised] = at + 1
        while oldest_open < len(submissions) and len(submissions[oldest_open]) >= limit:
            oldest_open += 1
    return submissions


async def accept(connection: Connection, tenant: TenantId, request: Request, now: datetime) -> Accepted:
    """Commits the batch, its messages and its submissions; on return they will be sent."""
    batch_id = BatchId(new_id())
    ids = [MessageId(new_id()) for _ in request.messages]
    submission_of: list[UUID] = [batch_id] * len(ids)
    submissions: list[tuple[UUID, UUID, UUID, int]] = []
    for members in split(request.messages):
        submission_id = new_id()
        submissions.append((submission_id, ids[members[0]], ids[members[-1]], len(members)))
        for index in members:
            submission_of[index] = submission_id
    asked = request.messages
    await connection.execute(
        ACCEPT,
        batch_id, tenant, now, ids[0], ids[-1], len(ids), request.content,
        *(list(column) for column in zip(*submissions, strict=True)),
        request.priority, request.expires_at, request.channel,
        request.callback_data, digest(request.callback_data) if request.callback_data else None,
        request.sender, request.template,
        ids, submission_of, [a.value for a in asked], [a.id_type for a in asked],
        [destination_digest(a.value) for a in asked],
        [a.correlationid for a in asked], [digest(a.correlationid) if a.correlationid else None for a in asked],
    )  # fmt: skip
    return Accepted(batch_id, list(zip(ids, asked, strict=True)))


def _claims(rows: Sequence[asyncpg.Record]) -> list[Claim]:
    return [
        Claim(SubmissionId(r["submission_id"]), TenantId(r["tenant"]), r["attempts"], r["expires_at"]) for r in rows
    ]


async def claim(
    connection: Connection, tenants: Sequence[TenantId], now: datetime, limit: int, lease: timedelta
) -> list[Claim]:
    """Takes up to `limit` due submissions of these tenants for the time of a lease; no other process gets them."""
    return _claims(await connection.fetch(CLAIM, tenants, now, limit, now + lease))


async def claim_abandoned(connection: Connection, now: datetime, limit: int, lease: timedelta) -> list[Claim]:
    """Takes over submissions whose lease ran out. They may have been sent: they must not be sent again."""
    return _claims(await connection.fetch(CLAIM_ABANDONED, now, limit, now + lease))


async def load(connection: Connection, submission_id: SubmissionId) -> Load:
    """What the submission carries, in the order in which it was asked."""
    rows = await connection.fetch(LOAD, submission_id)
    if not rows:
        return Load(None, None, 0, [])
    recipients = [Recipient(r["id"], r["destination_type"], r["destination"]) for r in rows]
    return Load(rows[0]["content"], rows[0]["sent_at"], rows[0]["channel"], recipients)


async def mark_sent(connection: Connection, claim: Claim, now: datetime) -> bool:
    """Notes that the call begins now; False if the claim is not ours any more: then nothing may be sent."""
    return await connection.fetchval(MARK_SENT, claim.submission_id, now, claim.attempts) is not None
