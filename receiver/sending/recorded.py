"""Sends that somebody else made: recorded with the platform's answer, so that their receipts join and silence is known.

Nothing is put into the outbox. The platform knows such a message by the client's own correlationid.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from receiver.database.pool import Connection, Pool
from receiver.ids import BatchId, Digest, MessageId, SubmissionId, TenantId, destination_digest, digest, new_id
from receiver.messages.changes import Change
from receiver.messages.country import country_of
from receiver.messages.lattice import RANK, Fact, State
from receiver.messages.store import MOST_TRIES, apply_known, connect, may_try_again
from receiver.messages.told import Feed, Told, told_by_us
from receiver.platform.apis import Api
from receiver.platform.calls import answer_of, is_queued
from receiver.platform.codes import answer_meaning
from receiver.platform.wire import Answer, AnswerItem, Outcome, Recipient
from receiver.sending.idempotency import Earlier, IdempotencyKey, earlier
from receiver.sending.request import Request, check
from receiver.sending.settle import items_of, keys_of
from receiver.web import FieldError, Problem

MISSING, WRONG = "7003", "7004"
# Facts in one statement: a call may hold 10,000 messages, and each statement has its few seconds.
MOST_TOLD = 500

RECORD = """
with b as (
  insert into batch (id, tenant, created_at, first_id, last_id, message_count, idempotency_key, request_digest)
  values ($1, $3, $4, $5, $6, $7, $8, $9)
),
s as (
  insert into submission (id, tenant, batch_id, api, created_at, first_id, last_id, message_count, sent_at, answered_at)
  values ($2, $3, $1, $10, $4, $5, $6, $7, $11, $4)
),
a as (
  insert into attempt (submission_id, number, at, outcome, code, description) values ($2, 1, $11, $12, $13, $14)
),
m as (
  insert into message (id, tenant, origin, channel, created_at, batch_id, submission_id, destination, destination_type,
                       destination_key, correlationid, correlation_key, callback_data, callback_key, sender, template)
  select u.id, $3, 3, $15, $4, $1, $2, u.destination, u.destination_type, u.destination_key,
         u.correlationid, u.correlation_key, $16, $17, $18, $19
    from unnest($20::uuid[], $21::text[], $22::text[], $23::bytea[], $24::text[], $25::bytea[])
         as u(id, destination, destination_type, destination_key, correlationid, correlation_key)
   order by u.id
),
t as (
  insert into message_state (id, tenant, origin, channel, country, changed_at)
  select u.id, $3, 3, $15, u.country, $4 from unnest($20::uuid[], $26::text[]) as u(id, country) order by u.id
)
insert into change (at, message_id, version, tenant, origin, channel, country, old_state, new_state, new_conflict)
select $4, u.id, 0, $3, 3, $15, u.country, null, 0, false
  from unnest($20::uuid[], $26::text[]) as u(id, country) order by u.id
"""
# Under a key of this answer there is a message already that we know to have been sent: not one that was only observed.
SOMEBODY_ELSE = """
select true
  from unnest($2::bytea[], $3::bytea[]) as c(transid_key, leg_key)
  join message_key k on k.transid_key = c.transid_key and k.leg_key = c.leg_key and k.tenant = $1
  join message m on m.id = k.message_id and m.origin <> 2
 where m.submission_id <> $4
 limit 1
"""

STATUSES = {Fact.ACCEPTED: "queued", Fact.REFUSED: "refused", Fact.UNCERTAIN: "uncertain"}


@dataclass(frozen=True)
class Send:
    """What is told of a send: the request as it went out, what the platform answered to each message, and when."""

    request: Request
    answer: Answer
    items: tuple[AnswerItem, ...]
    sent_at: datetime

    @property
    def states(self) -> list[State]:
        """What the answer says of each message, in the order of the request."""
        return [RANK[self.fact(item)] for item in self.items]

    def fact(self, item: AnswerItem) -> Fact:
        """What an item proves of its message."""
        if is_queued(Api.MESSAGING, item):
            return Fact.ACCEPTED
        return Fact.REFUSED if item.code and self.answer.outcome is not Outcome.UNCERTAIN else Fact.UNCERTAIN


@dataclass(frozen=True)
class Recorded:
    """What was committed: the batch, its messages' ids in the order of the request, and what changed."""

    batch_id: BatchId
    ids: list[MessageId]
    changes: list[Change]
    codes: dict[bytes, str]


def check_sent(body: Any, now: datetime) -> Send | list[FieldError]:
    """The send that `body` tells of (a decoded JSON value), or everything that is wrong with it."""
    if not isinstance(body, dict):
        return [FieldError("", WRONG, "the body must be a JSON object with request and answer")]
    errors: list[FieldError] = []
    checked = check(body.get("request"))
    if isinstance(checked, list):
        errors += [error._replace(pointer=f"/request{error.pointer}") for error in checked]
    answer = _answer(body.get("answer"), errors)
    sent_at = _sent_at(body.get("sent_at"), now, errors)
    if errors or answer is None or isinstance(checked, list):
        return errors
    answer = _by_value(answer, body["request"]["destination"], len(checked.messages))
    recipients = _recipients([MessageId(UUID(int=0))] * len(checked.messages), checked)
    return Send(checked, answer, tuple(item for _, item in items_of(recipients, answer)), sent_at)


def _answer(value: Any, errors: list[FieldError]) -> Answer | None:
    if value in (None, "", {}, []):
        errors.append(FieldError("/answer", MISSING, "answer is mandatory: what the platform replied to the request"))
        return None
    try:
        answer = answer_of(Api.MESSAGING, 200, msgspec.json.encode(value))
    except (ValueError, RecursionError):  # it is nested deeper than the stack that is left here
        answer = Answer(Outcome.UNCERTAIN)
    if not answer.items:
        errors.append(FieldError("/answer", WRONG, "the answer must be the platform's: a response with a code"))
        return None
    # An answer that we would try again was the last word here: nobody tries it again for us.
    return replace(answer, outcome=Outcome.REFUSED) if answer.outcome is Outcome.LATER else answer


def _sent_at(value: Any, now: datetime, errors: list[FieldError]) -> datetime:
    if value is None:
        return now
    try:
        when = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        when = None
    if when is None or when.tzinfo is None or not 1970 < when.year < 9999:
        errors.append(FieldError("/sent_at", WRONG, "it takes a time with a zone, such as 2026-01-31T18:00:00Z"))
        return now
    return min(when, now)  # clocks differ: nobody tells of a send before it was made


def _by_value(answer: Answer, destination: list[dict[str, Any]], number: int) -> Answer:
    """An answer with one item an entry becomes one with an item a value, as it would be for a call of ours."""
    values = [len(v) for entry in destination for key, v in entry.items() if key != "correlationid"]
    if len(answer.items) != len(values) or len(values) == number or len(values) == 1:
        return answer
    items = tuple(item for item, times in zip(answer.items, values, strict=True) for _ in range(times))
    return replace(answer, items=items)


def _recipients(ids: Sequence[MessageId], request: Request) -> list[Recipient]:
    return [Recipient(identity, a.id_type, a.value) for identity, a in zip(ids, request.messages, strict=True)]


async def record(
    pool: Pool, tenant: TenantId, send: Send, now: datetime, idempotency: IdempotencyKey | None
) -> Recorded | Earlier:
    """Commits the messages of a send, connected under the answer's transids; receipts that came before are theirs.

    Raises Problem 409 where the idempotency key came with another request, or the transids are recorded already.
    """
    async with pool.acquire() as connection:
        for tries_left in range(MOST_TRIES - 1, -1, -1):
            try:
                async with connection.transaction():
                    found = await earlier(connection, idempotency, now) if idempotency else None
                    return found or await _record(connection, tenant, send, now, idempotency)
            except asyncpg.PostgresError as error:
                if not tries_left or not may_try_again(error):
                    raise
    raise AssertionError("the last try returns or raises")


async def _record(
    connection: Connection, tenant: TenantId, send: Send, now: datetime, idempotency: IdempotencyKey | None
) -> Recorded:
    request, asked = send.request, send.request.messages
    batch_id, submission_id = BatchId(new_id()), SubmissionId(new_id())
    ids = [MessageId(new_id()) for _ in asked]
    said = next((item for item in send.answer.items if item.code), None)
    await connection.execute(
        RECORD,
        batch_id, submission_id, tenant, now, ids[0], ids[-1], len(ids),
        *(idempotency.pair if idempotency else (None, None)),
        int(request.api), send.sent_at, send.answer.outcome.value,
        said.code if said else None, said.description if said else None,
        int(request.channel), request.callback_data,
        digest(request.callback_data) if request.callback_data else None, request.sender, request.template,
        ids, [a.value for a in asked], [a.id_type for a in asked], [destination_digest(a.value) for a in asked],
        [a.correlationid for a in asked], [digest(a.correlationid) if a.correlationid else None for a in asked],
        [country_of(a.normalised, a.id_type) for a in asked],
    )  # fmt: skip
    keys = keys_of(request.channel, _recipients(ids, request), send.answer)
    changes = await connect(connection, now, tenant, keys)
    await _refuse_what_is_known(connection, tenant, submission_id, keys)
    told = [_told(tenant, submission_id, identity, index, send, now) for index, identity in enumerate(ids)]
    for first in range(0, len(told), MOST_TOLD):
        part = slice(first, first + MOST_TOLD)
        changes += await apply_known(connection, now, Feed.ANSWER, ids[part], told[part])
    codes = {t.reason_key: t.code or "none" for t in told if t.reason_key is not None}
    return Recorded(batch_id, ids, changes, codes)


async def _refuse_what_is_known(
    connection: Connection,
    tenant: TenantId,
    submission_id: SubmissionId,
    keys: Sequence[tuple[Digest, Digest, MessageId]],
) -> None:
    """A send that is told of twice is no second send: it would wait for receipts that never come."""
    transids, legs = [key[0] for key in keys], [key[1] for key in keys]
    if keys and await connection.fetchval(SOMEBODY_ELSE, tenant, transids, legs, submission_id):
        errors = [FieldError("/answer", "already_recorded", "a transid of it is that of a message we know to be sent")]
        raise Problem(409, "already_recorded", "This send is known already.", errors)


def _told(
    tenant: TenantId, submission_id: SubmissionId, identity: MessageId, index: int, send: Send, now: datetime
) -> Told:
    item, asked = send.items[index], send.request.messages[index]
    fact, items = send.fact(item), send.answer.items
    meaning = answer_meaning(send.request.api.word, item.code)
    shared = len(items) != len(send.items) and len(items) > 1
    raw = msgspec.json.encode({"code": item.code, "transid": item.transid, "description": item.description})
    told = told_by_us(
        tenant=tenant,
        submission_id=submission_id,
        message_id=identity,
        channel=send.request.channel,
        destination=asked.value,
        fact=fact,
        fingerprint=hashlib.sha256(b"\0".join((b"\x01own", submission_id.bytes, raw))).digest()[:16],
        at=now,
        status=STATUSES[fact],
        code=item.code or None,
        code_class=int(meaning.failure_class) if meaning else 0,
        description=item.description,
        transid=None if shared else item.transid,
        raw=raw,
    )
    return told._replace(told_at=send.sent_at)
