"""Erasing one person: what names the person goes, what counts stays. In short transactions, harmless to repeat.

The order of locks is that of every writer: keys by themselves, then messages, and what hangs on them.
"""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from receiver.database.pool import Connection
from receiver.ids import NO_LEG, TenantId, first_id_at, leg_digest
from receiver.upkeep.person import ERASED, Person

MOST_TRIES = 5  # of a deadlock's loser
KEPT_KEYS = timedelta(hours=24)  # so long an Idempotency-Key must be known, or its repetition is sent again

# As asked, or as any receipt told it. Tombstones too. Events have no recipient.
FIND = """
select m.id from message m
 where m.id in (select d.id from message d where d.destination_key = $1 and d.id > $3
                 union
                 select t.message_id from receipt t
                  where t.elsewhere and t.destination_key = $1 and t.message_id > $3)
   and ($2::smallint is null or m.tenant = $2)
 order by m.id limit $4
"""
COUNT = """
select count(*) as messages,
       coalesce(sum((select count(*) from receipt r where r.message_id = f.id)), 0)::bigint as receipts,
       max(f.id::text)::uuid as youngest
  from unnest($1::uuid[]) as f(id)
"""
# What is still to go out can't be sent to nobody.
WAITING = """
select m.id from message m
 where m.id = any($1::uuid[])
   and (exists (select from outbox o where o.submission_id = m.submission_id)
        or exists (select from resend r where r.submission_id = m.submission_id))
"""
SUBTIDS = "select distinct subtid from receipt where message_id = any($1::uuid[]) and subtid is not null"

# The one look through a whole table: no index leads from a message to its keys.
FIND_KEYS = """
select generation, transid_key, leg_key, tenant from message_key
 where (message_id = any($1::uuid[]) or leg_key = any($2::bytea[])) and leg_key <> $3
   and ($4::smallint is null or tenant = $4)
 order by transid_key, leg_key, tenant, generation
"""
ERASE_KEYS = """
update message_key k set leg_key = u.fresh
  from unnest($1::int[], $2::bytea[], $3::bytea[], $4::smallint[], $5::bytea[])
       as u(generation, transid_key, leg_key, tenant, fresh)
 where k.generation = u.generation and k.transid_key = u.transid_key and k.leg_key = u.leg_key and k.tenant = u.tenant
"""

# Lock first, erase in the next statements: a receipt that is being applied is waited for.
LOCK = "select id from message_state where id = any($1::uuid[]) order by id for update"
# Legs stay apart, by a digest with a salt that nobody keeps. `$4`: what may stand in a text of the platform's.
RECEIPTS = """
update receipt r
   set destination = null, subtid = null, device = null, description = null, raw = '', elsewhere = false,
       destination_key = substr(sha256(u.salt || r.destination_key
                                       || convert_to(concat_ws(chr(1), r.subtid, r.device), 'UTF8')), 1, 16),
       status = case when r.status ~* $3 then $4 else r.status end,
       code = case when r.code ~* $3 then $4 else r.code end,
       code_key = case when r.code ~* $3 then null else r.code_key end,
       carrier = case when r.carrier ~* $3 then $4 else r.carrier end,
       transid = case when r.transid ~* $3 then $4 else r.transid end
  from unnest($1::uuid[], $2::bytea[]) as u(id, salt)
 where r.message_id = u.id and octet_length(r.raw) > 0
"""
MESSAGES = """
update message m
   set destination = $4, destination_key = substr(u.salt, 1, 16),
       correlationid = null, correlation_key = null, callback_data = null, callback_key = null,
       sender = case when m.sender ~* $3 then $4 else m.sender end,
       template = case when m.template ~* $3 then $4 else m.template end
  from unnest($1::uuid[], $2::bytea[]) as u(id, salt)
 where m.id = u.id
"""
# Statistics count by sender and template, and would go on naming the person: they are counted anew.
COUNT_ANEW = """
update folded set cluster = 0
 where exists (select from message m where m.id = any($1::uuid[]) and (m.sender ~* $2 or m.template ~* $2))
"""
# One callbackData is of a whole call: where it names the person, it goes from the others of the call too.
CALLBACKS = """
with calls as materialized (
  select distinct b.id, b.first_id, b.last_id
    from message m join batch b on b.id = m.batch_id where m.id = any($1::uuid[]) and m.callback_data ~* $2)
update message m set callback_data = null, callback_key = null
  from calls c where m.id between c.first_id and c.last_id and m.batch_id = c.id and m.callback_data ~* $2
"""
STATES = "update message_state set transid = $3 where id = any($1::uuid[]) and transid ~* $2"
FORWARDS = "delete from forward where message_id = any($1::uuid[])"
# What one recipient alone was sent goes; what all of a call were sent goes where it names the person.
SUBMISSIONS = """
update submission s
   set content = case when s.message_count > 1 and encode(s.content, 'escape') !~* $2 then s.content end,
       notifyurl = case when s.notifyurl ~* $2 then null else s.notifyurl end
 where s.id in (select m.submission_id from message m where m.id = any($1::uuid[]))
   and (s.content is not null or s.notifyurl ~* $2)
"""
ATTEMPTS = """
update attempt a set description = $3
 where a.submission_id in (select m.submission_id from message m where m.id = any($1::uuid[])) and a.description ~* $2
"""
# A key that is still good stays: without it a repetition would be sent again. It is a digest, and ends by itself.
BATCHES = """
update batch b
   set idempotency_key = case when b.id >= $3 then b.idempotency_key end,
       request_digest = case when b.id >= $3 then b.request_digest end,
       answer_status = case when b.id >= $3 and encode(b.answer, 'escape') !~* $2 then b.answer_status end,
       answer = case when b.id >= $3 and encode(b.answer, 'escape') !~* $2 then b.answer end
 where b.id in (select m.batch_id from message m where m.id = any($1::uuid[]))
   and (b.idempotency_key is not null or b.answer is not null)
"""

# What is kept of calls whose messages name nobody, events above all (RECEIVER_KEEP_CONTENT), or waits to be sent.
FIND_CONTENTS = """
select s.id, exists (select from outbox o where o.submission_id = s.id)
          or exists (select from resend r where r.submission_id = s.id) as waits
  from submission s
 where s.content is not null and ($2::smallint is null or s.tenant = $2) and encode(s.content, 'escape') ~* $1
"""
ERASE_CONTENT = "update submission set content = null where id = $1"

FIND_QUARANTINED = """
select week, digest, tenant from quarantine
 where ($2::smallint is null or tenant = $2)
   and (encode(body, 'escape') ~* $1 or headers::text ~* $1 or detail ~* $1 or replay_result ~* $1)
"""
ERASE_QUARANTINED = """
update quarantine
   set body = '', headers = '{}', detail = $4,
       replay_result = case when replay_result ~* $5 then $4 else replay_result end
 where week = $1 and digest = $2 and tenant = $3
"""


async def find(connection: Connection, person: Person, tenant: TenantId | None, after: UUID, limit: int) -> list[UUID]:
    """The person's messages with ids above `after`, in order; all tenants' without one."""
    return [row["id"] for row in await connection.fetch(FIND, person.key, tenant, after, limit)]


async def count(connection: Connection, ids: Sequence[UUID]) -> tuple[int, int, UUID | None]:
    """How many messages and receipts these are, and the youngest message."""
    row = await connection.fetchrow(COUNT, ids)
    assert row is not None
    return row["messages"], row["receipts"], row["youngest"]


async def waiting(connection: Connection, ids: Sequence[UUID]) -> set[UUID]:
    """Those of the messages that are still to be sent."""
    return {row["id"] for row in await connection.fetch(WAITING, ids)}


async def find_keys(
    connection: Connection, person: Person, tenant: TenantId | None, ids: Sequence[UUID]
) -> Sequence[asyncpg.Record]:
    """The keys of these messages, and those that are made of the person without any message."""
    subtids = {row["subtid"] for row in await connection.fetch(SUBTIDS, ids)}
    legs = [leg_digest(subtid, person.destination) for subtid in ("", *subtids)]
    return await connection.fetch(FIND_KEYS, ids, legs, NO_LEG, tenant)


async def erase_keys(connection: Connection, keys: Sequence[asyncpg.Record]) -> None:
    """The transid still finds the message, the recipient does not: what is told later of an observed one is new."""
    columns = [[key[name] for key in keys] for name in ("generation", "transid_key", "leg_key", "tenant")]
    await _again(connection, ERASE_KEYS, *columns, [secrets.token_bytes(16) for _ in keys])


async def erase_messages(connection: Connection, person: Person, ids: Sequence[UUID], now: datetime) -> tuple[int, int]:
    """Erases the person from these messages and from all that hangs on them, in one transaction.

    Leaves out what waits to be sent. Returns how many messages were erased, and how many receipts of them.
    """
    for tries_left in range(MOST_TRIES - 1, -1, -1):
        try:
            async with connection.transaction():
                await connection.execute(LOCK, ids)
                kept = await waiting(connection, ids)
                return await _erase(connection, person, [i for i in ids if i not in kept], now)
        except asyncpg.DeadlockDetectedError:
            if not tries_left:
                raise
    raise AssertionError("the last try returns or raises")


async def _erase(connection: Connection, person: Person, ids: Sequence[UUID], now: datetime) -> tuple[int, int]:
    salts = [secrets.token_bytes(32) for _ in ids]
    receipts = await connection.execute(RECEIPTS, ids, salts, person.pattern, ERASED)
    # before the messages lose their names, for these ask them
    await connection.execute(SUBMISSIONS, ids, person.pattern)
    await connection.execute(ATTEMPTS, ids, person.pattern, ERASED)
    await connection.execute(BATCHES, ids, person.pattern, first_id_at(now - KEPT_KEYS))
    await connection.execute(CALLBACKS, ids, person.pattern)
    await connection.execute(COUNT_ANEW, ids, person.pattern)
    messages = await connection.execute(MESSAGES, ids, salts, person.pattern, ERASED)
    await connection.execute(STATES, ids, person.pattern, ERASED)
    await connection.execute(FORWARDS, ids)
    return _number(messages), _number(receipts)


async def find_contents(
    connection: Connection, person: Person, tenant: TenantId | None
) -> tuple[list[UUID], list[UUID]]:
    """Submissions whose content names the person: those whose content is only kept, and those that wait to be sent."""
    rows = await connection.fetch(FIND_CONTENTS, person.pattern, tenant)
    return [row["id"] for row in rows if not row["waits"]], [row["id"] for row in rows if row["waits"]]


async def find_quarantined(connection: Connection, person: Person, tenant: TenantId | None) -> Sequence[asyncpg.Record]:
    """Bodies in quarantine that name the person."""
    return await connection.fetch(FIND_QUARANTINED, person.pattern, tenant)


async def erase_content(connection: Connection, submission: UUID) -> None:
    """Erases what a call carried."""
    await _again(connection, ERASE_CONTENT, submission)


async def erase_quarantined(connection: Connection, person: Person, row: asyncpg.Record) -> None:
    """Erases one body; its row stays, so that the same body again only counts."""
    await _again(connection, ERASE_QUARANTINED, row["week"], row["digest"], row["tenant"], ERASED, person.pattern)


async def _again(connection: Connection, query: str, *values: object) -> None:
    for tries_left in range(MOST_TRIES - 1, -1, -1):
        try:
            await connection.execute(query, *values)
        except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
            if not tries_left:
                raise
        else:
            return


def _number(status: str) -> int:
    return int(status.rpartition(" ")[2])


LONGEST_PATIENCE = timedelta(days=28)


def receipts_until(youngest: datetime) -> datetime | None:
    """Until when the platform may still tell of the person; None once that is over."""
    until = youngest + LONGEST_PATIENCE
    return until if until > datetime.now(UTC) else None
