"""What the reconciler reads and writes: which messages to ask about, and when again. All of it in short statements.

A question is claimed by putting off its messages before the call, so a crash in between only delays. Two processes
can't both claim one: whoever looks at a transid holds an advisory lock on it, and looks in the next statement.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, TypeAlias

import asyncpg

from receiver.database.pool import Connection, Pool
from receiver.ids import Digest, MessageId, SubmissionId, TenantId, transid_root
from receiver.messages.lattice import Channel, State, is_final
from receiver.messages.told import transid_digest
from receiver.receipts.polled import Known

# Plans are kept, and may be of a time when a week was empty: no reading of a whole one. For as long as one is borrowed.
BY_INDEX = """
select set_config(name, 'off', false) from unnest(array['enable_seqscan', 'enable_bitmapscan', 'enable_hashjoin',
  'enable_mergejoin', 'enable_material', 'enable_memoize']) as n(name)
"""
DUE_TENANTS = """
select t.id from unnest($1::smallint[]) with ordinality as t(id, n)
 where exists (select from awaited a where a.tenant = t.id and a.poll_at <= $2) order by t.n
"""
DUE = """
select a.message_id, a.channel, s.state, s.transid, s.merged_into, m.parent_id
  from (select * from awaited where tenant = $1 and poll_at <= $2 order by poll_at limit $3) a
  left join lateral (select * from message_state i where i.id = a.message_id offset 0) s on true
  left join lateral (select i.parent_id from message i where i.id = a.message_id offset 0) m on true
 order by a.poll_at
"""
LOCK_TRANSID = "select pg_try_advisory_xact_lock(hashtextextended(format('receiver.poll %s %s', $1::int, $2::text), 0))"
# All that go by a transid, whether they are waited for or not: what is not known of here can't be told apart.
KNOWN = """
select m.id, m.origin, m.submission_id, m.channel, m.destination, m.destination_key, s.transid,
       m.parent_id is not null as is_child, s.state, a.polls, a.poll_at,
       array(select i.destination_key from receipt i where i.message_id = w.id and i.elsewhere and i.feed <= 4) as told
  from (select $1::uuid as id
        union
        (select k.message_id from message_key k where k.tenant = $2 and k.transid_key = any($3::bytea[]) limit $4)) w
 cross join lateral (select * from message i where i.id = w.id offset 0) m
 cross join lateral (select * from message_state i where i.id = w.id offset 0) s
  left join lateral (select * from awaited i where i.message_id = w.id offset 0) a on true
 where s.merged_into is null and s.transid is not null and m.channel not in (14, 15)
 order by m.id
"""
THERE = """
select w.id from unnest($1::uuid[]) as w(id)
 cross join lateral (select i.merged_into from message_state i where i.id = w.id offset 0) s
 where s.merged_into is null
"""
CLAIM = """
with mine as materialized (
  select a.message_id, a.poll_at from awaited a
   where a.message_id = any($1) and a.poll_at is not null order by a.message_id for update skip locked)
update awaited a set poll_at = $2, polls = least(a.polls + 1, 32767)
  from mine where a.message_id = mine.message_id
returning a.message_id, a.polls, mine.poll_at as was
"""
# What is final by now is looked at at once, and asked no more.
SETTLE = """
with mine as materialized (
  select a.message_id, u.next from awaited a
    join unnest($1::uuid[], $2::smallint[], $3::timestamptz[]) as u(message_id, polls, next)
      on u.message_id = a.message_id and u.polls = a.polls
   order by a.message_id for update of a)
update awaited a
   set poll_at = case when over.is_over then null else mine.next end,
       look_at = case when over.is_over then least(a.look_at, $4) else a.look_at end
  from mine
  left join lateral (
    select s.merged_into is not null or is_final_v1(s.state, s.channel) as is_final
      from message_state s where s.id = mine.message_id offset 0) s on true
 cross join lateral (select coalesce(s.is_final, true) as is_over) over
 where a.message_id = mine.message_id
"""
PUT_BACK = """
with mine as materialized (
  select a.message_id, u.was from awaited a
    join unnest($1::uuid[], $2::smallint[], $3::timestamptz[]) as u(message_id, polls, was)
      on u.message_id = a.message_id and u.polls = a.polls
   order by a.message_id for update of a)
update awaited a set poll_at = mine.was, polls = a.polls - 1 from mine where a.message_id = mine.message_id
"""
LEAVE = """
update awaited set poll_at = null where message_id in (
  select message_id from awaited where message_id = any($1) for update skip locked)
"""

AT_A_LOOK = 64  # messages that are due; what of them needs no question costs none
MOST_KNOWN = 5_000  # messages that go by one transid: a submission has 1,000
LEASE = timedelta(minutes=5)  # a call and the storing of its answer take a quarter of a minute at most

Gap: TypeAlias = Callable[[Channel, int], timedelta | None]
"""How long after so many calls a message is asked about again; None: no more."""


class Claimed(NamedTuple):
    """A message whose turn it is: the number of its calls with this one, and when it had been due."""

    channel: Channel
    polls: int
    was: datetime


class Question(NamedTuple):
    """A transid to ask about, all messages that go by it, and those of them whose turn it is."""

    tenant: TenantId
    transid: str
    known: list[Known]
    claimed: dict[MessageId, Claimed]


@contextlib.asynccontextmanager
async def borrowed(pool: Pool) -> AsyncIterator[Connection]:
    """A connection on which the statements of this file go by indexes. Each must run on such a one."""
    async with pool.acquire() as connection:
        await connection.execute(BY_INDEX)
        yield connection


async def due_tenants(connection: Connection, tenants: Sequence[TenantId], now: datetime) -> list[TenantId]:
    """Those of `tenants` that have a message to ask about, in their order."""
    return [TenantId(row["id"]) for row in await connection.fetch(DUE_TENANTS, tenants, now)]


async def claim(connection: Connection, tenant: TenantId, now: datetime, most: int) -> list[Question]:
    """Up to `most` questions of a tenant, those that have been due longest first. They are ours for five minutes."""
    rows = await connection.fetch(DUE, tenant, now, AT_A_LOOK)
    # what has no transid yet is given its turn again by whoever looks at it, once it has one
    if needless := [row["message_id"] for row in rows if not _can_be_asked(row)]:
        await connection.execute(LEAVE, needless)
    questions: list[Question] = []
    seen: set[str] = set()
    for row in rows:
        if len(questions) == most:
            break
        if _can_be_asked(row) and row["transid"].casefold() not in seen:
            seen.add(row["transid"].casefold())
            question = await _claim_one(connection, tenant, row, now)
            questions += [question] if question else []
    return questions


async def still_there(connection: Connection, question: Question) -> set[MessageId]:
    """Those of its messages that are neither merged nor gone."""
    return {MessageId(row["id"]) for row in await connection.fetch(THERE, list(question.claimed))}


async def settle(connection: Connection, question: Question, now: datetime, gap: Gap) -> None:
    """Says when its messages are asked about again; those that are final now are looked at at once, and not asked."""
    claimed = question.claimed
    later = [_after(now, gap(one.channel, one.polls)) for one in claimed.values()]
    await connection.execute(SETTLE, list(claimed), [one.polls for one in claimed.values()], later, now)


async def put_back(connection: Connection, question: Question) -> None:
    """Undoes the claim: the platform did not look at the question."""
    claimed = question.claimed
    polls, was = [one.polls for one in claimed.values()], [one.was for one in claimed.values()]
    await connection.execute(PUT_BACK, list(claimed), polls, was)


async def _claim_one(connection: Connection, tenant: TenantId, row: asyncpg.Record, now: datetime) -> Question | None:
    """The question about the message of `row`; None where another process is at it, or has been meanwhile."""
    transid = row["transid"]
    async with connection.transaction():
        if not await connection.fetchval(LOCK_TRANSID, tenant, transid.casefold()):
            return None
        # the children of an event have keys under the event alone
        keys = [transid_digest(transid_root(transid)), *([row["parent_id"].bytes] if row["parent_id"] else [])]
        found = await connection.fetch(KNOWN, row["message_id"], tenant, keys, MOST_KNOWN)
        base = next((one for one in found if one["id"] == row["message_id"]), None)
        if base is None:  # merged or gone meanwhile: it must not stand before the others for ever
            await connection.execute(LEAVE, [row["message_id"]])
            return None
        if base["poll_at"] is None or base["poll_at"] > now:
            return None
        mine = {
            one["id"]: Channel(one["channel"])
            for one in found
            if one["poll_at"] is not None
            and one["transid"].casefold() == transid.casefold()
            and not is_final(State(one["state"]), Channel(one["channel"]))
        }
        rows = await connection.fetch(CLAIM, list(mine), now + LEASE)
    claimed = {MessageId(one["message_id"]): Claimed(mine[one["message_id"]], one["polls"], one["was"]) for one in rows}
    return Question(tenant, transid, [_known(one) for one in found], claimed) if claimed else None


def _is_over(row: asyncpg.Record) -> bool:
    channel = Channel(row["channel"])
    if row["state"] is None or row["merged_into"] is not None or channel in (Channel.EVENT, Channel.CAMPAIGN):
        return True
    return is_final(State(row["state"]), channel)


def _can_be_asked(row: asyncpg.Record) -> bool:
    return bool(row["transid"]) and not _is_over(row)


def _after(now: datetime, gap: timedelta | None) -> datetime | None:
    return None if gap is None else now + gap


def _known(row: asyncpg.Record) -> Known:
    return Known(
        MessageId(row["id"]),
        row["origin"],
        SubmissionId(row["submission_id"]) if row["submission_id"] else None,
        Channel(row["channel"]),
        row["destination"],
        Digest(row["destination_key"]),
        row["transid"],
        frozenset(row["told"]),
        row["is_child"],
    )
