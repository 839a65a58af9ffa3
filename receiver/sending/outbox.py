"""The outbox in Postgres: a batch is accepted in one statement, and leaves with the last word on its submissions.

Nothing is accepted that is not committed, and nothing sent that was not committed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from receiver.database.pool import Connection
from receiver.ids import BatchId, MessageId, SubmissionId, TenantId, destination_digest, digest, new_id
from receiver.messages.country import country_of
from receiver.platform.apis import Api
from receiver.platform.wire import Answer
from receiver.sending.claims import Claim
from receiver.sending.lanes import lane_of
from receiver.sending.request import Asked, Request

# One statement, one round trip, whatever the number of messages. All rows are fresh: nothing has to see another.
ACCEPT = """
with b as (
  insert into batch (id, tenant, created_at, first_id, last_id, message_count, idempotency_key, request_digest)
  values ($1, $2, $3, $4, $5, $6, $26, $27)
),
s as (
  insert into submission (id, tenant, batch_id, api, notifyurl, created_at, first_id, last_id, message_count, content)
  select u.id, $2, $1, $28, $29, $3, u.first_id, u.last_id, u.message_count, coalesce(u.content, $7)
    from unnest($8::uuid[], $9::uuid[], $10::uuid[], $11::int[], $30::bytea[])
         as u(id, first_id, last_id, message_count, content)
),
o as (
  insert into outbox (submission_id, tenant, family, priority, message_count, due_at, expires_at,
                      in_line, lease_until, attempts)
  select u.id, $2, $31, $12, u.message_count, $3, $13, $32::timestamptz is not null, $32, ($32 is not null)::int
    from unnest($8::uuid[], $11::int[]) as u(id, message_count)
),
f as (
  update tenant set forwards = true where id = $2 and not forwards and $29 is not null
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
  insert into message_state (id, tenant, origin, channel, country, changed_at)
  select u.id, $2, 1, $14, u.country, $3 from unnest($19::uuid[], $33::text[]) as u(id, country) order by u.id
)
insert into change (at, message_id, version, tenant, origin, channel, country, old_state, new_state, new_conflict)
select $3, u.id, 0, $2, 1, $14, u.country, null, 0, false
  from unnest($19::uuid[], $33::text[]) as u(id, country) order by u.id
"""

# The last word on submissions, and a row of the timeline for each call.
FINISH = """
with a as (
  insert into attempt (submission_id, number, at, outcome, http_status, code, description)
  select * from unnest($1::uuid[], $2::smallint[], $3::timestamptz[], $4::text[], $5::smallint[], $6::text[],
                       $7::text[])
  on conflict do nothing
),
o as (delete from outbox o using unnest($1::uuid[]) as w(id) where o.submission_id = w.id)
update submission s set answered_at = w.at, content = case when $8 or s.id = any($9::uuid[]) then s.content end
  from unnest($1::uuid[], $3::timestamptz[]) as w(id, at) where s.id = w.id
"""
ADD_ATTEMPTS = """
insert into attempt (submission_id, number, at, outcome, http_status, code, description)
select * from unnest($1::uuid[], $2::smallint[], $3::timestamptz[], $4::text[], $5::smallint[], $6::text[], $7::text[])
on conflict do nothing
"""
# An id's text sorts by the time of its birth; before Postgres 18 there is no least of uuids.
DEPTH = """
select tenant, sum(message_count)::bigint as messages, min(submission_id::text collate "C")::uuid as oldest
  from outbox group by tenant
"""

MOST_ENTRIES_A_CALL = 1_000


@dataclass(frozen=True)
class Accepted:
    """What was committed: the batch, its submissions, and each message's id beside what was asked."""

    batch_id: BatchId
    messages: list[tuple[MessageId, Asked]]
    submissions: list[SubmissionId]


@dataclass(frozen=True)
class Attempt:
    """A call that was made, or not made for a reason, and what came of it."""

    claim: Claim
    answer: Answer
    at: datetime


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


async def accept(
    connection: Connection,
    tenant: TenantId,
    request: Request,
    now: datetime,
    *,
    entries: int = MOST_ENTRIES_A_CALL,
    idempotency: tuple[bytes, bytes] | None = None,
    in_line_lease: timedelta | None = None,
) -> Accepted:
    """Commits the batch, its messages and its submissions, of at most `entries` messages each; they will be sent.

    `idempotency` are the digests of the client's key and body. With `in_line_lease` the submissions are born claimed
    by the caller, who sends them itself with `Dispatcher.send_now` and tells its client: they are never sent later.
    """
    batch_id = BatchId(new_id())
    ids = [MessageId(new_id()) for _ in request.messages]
    submission_of: list[UUID] = [batch_id] * len(ids)
    submissions: list[tuple[UUID, UUID, UUID, int, bytes | None]] = []
    parts = split(request.messages, entries)
    for members, content in zip(parts, _contents(request, parts), strict=True):
        submission_id = new_id()
        submissions.append((submission_id, ids[members[0]], ids[members[-1]], len(members), content))
        for index in members:
            submission_of[index] = submission_id
    asked = request.messages
    own = [list(column) for column in zip(*submissions, strict=True)]
    await connection.execute(
        ACCEPT,
        batch_id, tenant, now, ids[0], ids[-1], len(ids), request.content, *own[:4],
        request.priority, request.expires_at, request.channel,
        request.callback_data, digest(request.callback_data) if request.callback_data else None,
        request.sender, request.template,
        ids, submission_of, [a.value for a in asked], [a.id_type for a in asked],
        [destination_digest(a.value) for a in asked],
        [a.correlationid for a in asked], [digest(a.correlationid) if a.correlationid else None for a in asked],
        *(idempotency or (None, None)), request.api, request.notifyurl, own[4],
        lane_of(tenant, request.api).family, None if in_line_lease is None else now + in_line_lease,
        [country_of(a.normalised, a.id_type) for a in asked],
    )  # fmt: skip
    return Accepted(batch_id, list(zip(ids, asked, strict=True)), [SubmissionId(s[0]) for s in submissions])


def _contents(request: Request, parts: Sequence[Sequence[int]]) -> list[bytes | None]:
    """What each submission carries of its own; None: what they share."""
    if request.api is not Api.EVENTS or len(parts) == 1:
        return [None] * len(parts)
    body: dict[str, object] = dict(msgspec.json.decode(request.content, type=dict[str, msgspec.Raw]))
    events = msgspec.json.decode(msgspec.json.encode(body["events"]), type=list[msgspec.Raw])
    return [msgspec.json.encode(body | {"events": [events[index] for index in members]}) for members in parts]


async def finish(
    connection: Connection, attempts: Sequence[Attempt], *, keep_content: bool, held: Sequence[SubmissionId] = ()
) -> None:
    """Takes submissions out of the outbox for good, and erases what they carried unless it is to be kept.

    What was `held` keeps its content for now.
    """
    await connection.execute(FINISH, *_columns(attempts), keep_content, held)


async def add_attempts(connection: Connection, attempts: Sequence[Attempt]) -> None:
    """Rows of the timeline: what came of calls that will be made again."""
    await connection.execute(ADD_ATTEMPTS, *_columns(attempts))


def _columns(attempts: Sequence[Attempt]) -> list[list[object]]:
    rows = [
        (
            a.claim.submission_id,
            a.claim.attempts,
            a.at,
            a.answer.outcome.value,
            a.answer.http_status,
            a.answer.code,
            a.answer.description,
        )
        for a in attempts
    ]
    return [list(column) for column in zip(*rows, strict=True)]
