"""The figures of one batch in SQL: how far its messages have come, which are slowest, why others failed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import asyncpg

from receiver.database.pool import Connection
from receiver.ids import TenantId, born_at, first_id_at
from receiver.messages.lattice import NEGATIVE_STATES, POSITIVE_STATES, Channel, Fact, State, is_final

LONGEST_CALL = timedelta(seconds=60)  # in which the ids of one call are minted: far longer than it takes
SECONDS = 5  # a batch that takes longer is told so
MOST_FAILURES = 100  # different ones that are listed

BATCH = "select id, created_at, first_id, last_id, message_count from batch where id = $1 and tenant = $2"
BOUND = "select set_config('statement_timeout', $1, true), set_config('plan_cache_mode', 'force_custom_plan', true)"

# $1 the batch, $2 to $3 the ids that one call can have minted; those of other calls lie between. How long a message
# took that somebody else sent is not known here: when it was told of says nothing.
# Every statement names all of its values, whichever parts it is made of.
PLACES = "with v as (select $1::uuid, $2::uuid, $3::uuid, $4::integer, $5::uuid)"
HANDED = """
select m.id, case when m.origin = 1 then m.created_at end as created_at, m.resend_of, s.state, s.channel, s.conflict,
       s.reason_key, s.reason_class, s.delivered_at, s.changed_at
  from message m join message_state s on s.id = m.id
 where m.id between $2 and $3 and s.id between $2 and $3 and m.batch_id = $1{only}
"""
# What was sent again is born later, far from the others, and found by what it stands for. $4 the bit of uncertain, $5
# the batch's last id.
AGAIN = """
select r.id, r.created_at, r.resend_of, s.state, s.channel, s.conflict, s.reason_key, s.reason_class, s.delivered_at,
       s.changed_at
  from message m join message_state o on o.id = m.id
 cross join lateral (
   select i.id, i.created_at, i.resend_of from message i
    where i.destination_key = m.destination_key and i.id > $3 and i.id <= $5 and i.resend_of = m.id offset 0) r
 cross join lateral (select * from message_state i where i.id = r.id offset 0) s
 where m.id between $2 and $3 and o.id between $2 and $3 and m.batch_id = $1 and o.facts & $4 <> 0
"""

STATES = """
select state, channel, count(*) as messages, count(resend_of) as resent,
       count(*) filter (where conflict) as conflicts, min(changed_at) as first_change_at,
       max(changed_at) as last_change_at
  from ({mine}) m group by state, channel order by state, channel
"""
SLOWEST = """
select m.id, m.state, extract(epoch from m.delivered_at - m.created_at)::float8 as seconds
  from ({mine}) m where m.state = any($6::smallint[]) and m.delivered_at is not null and m.created_at is not null
 order by m.delivered_at - m.created_at desc limit 1
"""
OLDEST = """
select m.id, m.state, m.created_at
  from ({mine}) m where not is_final_v1(m.state, m.channel) and m.created_at is not null order by m.id limit 1
"""

# The negative states are in the index on `attention`. One example tells the words: those of one code may differ.
NEGATIVE = f" and s.attention and s.state in ({', '.join(str(int(state)) for state in sorted(NEGATIVE_STATES))})"
FAILURES = """
select f.state, f.failures, f.example, f.reason_class, f.reason_key, f.code as reason_code,
       r.status as reason_status, r.description as reason_description, r.channel as reason_channel,
       r.feed as reason_feed
  from (select m.state, m.reason_class, r.code, count(*) as failures, (array_agg(m.id))[1] as example,
               (array_agg(m.reason_key))[1] as reason_key
          from ({mine}) m
          left join lateral (
            select i.code from receipt i
             where i.message_id = m.id and i.message_id between $2 and $5
               and i.fingerprint = substring(m.reason_key from 4) offset 0) r on true
         where m.state = any($6::smallint[])
         group by m.state, m.reason_class, r.code
         order by count(*) desc, m.state, r.code limit $7) f
  left join lateral (
    select * from receipt i
     where i.message_id = f.example and i.fingerprint = substring(f.reason_key from 4) offset 0) r on true
 order by f.failures desc, f.state, f.code
"""


@dataclass(frozen=True)
class Figures:
    """A batch, and its messages by state and channel, and by failure; the slowest that arrived and the oldest open.

    There is one failure more than are shown where there are more.
    """

    batch: asyncpg.Record
    states: Sequence[asyncpg.Record]
    failures: Sequence[asyncpg.Record]
    slowest: asyncpg.Record | None
    oldest: asyncpg.Record | None


async def one(connection: Connection, tenant: TenantId, identity: UUID) -> asyncpg.Record | None:
    """The batch of that id within the tenant."""
    return await connection.fetchrow(BATCH, identity, tenant)


async def figures(connection: Connection, batch: asyncpg.Record) -> Figures:
    """The figures of a batch. Raises asyncpg.QueryCanceledError after five seconds."""
    last = batch["last_id"]
    end = min(last, first_id_at(born_at(batch["first_id"]) + LONGEST_CALL))
    mine, bad = HANDED.format(only=""), HANDED.format(only=NEGATIVE)
    if end < last:
        mine, bad = f"{mine} union all {AGAIN}", f"{bad} union all {AGAIN}"
    values = (batch["id"], batch["first_id"], end, int(Fact.UNCERTAIN), last)
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.fetchrow(BOUND, str(SECONDS * 1000))

        async def fetch(text: str, *more: object, of: str = mine) -> list[asyncpg.Record]:
            return await connection.fetch(PLACES + text.format(mine=of), *values, *more)

        states = await fetch(STATES)
        there = {State(row["state"]) for row in states}
        is_open = any(not is_final(State(row["state"]), Channel(row["channel"])) for row in states)
        failures = (
            await fetch(FAILURES, list(NEGATIVE_STATES), MOST_FAILURES + 1, of=bad) if there & NEGATIVE_STATES else []
        )
        slowest = await fetch(SLOWEST, list(POSITIVE_STATES)) if there & POSITIVE_STATES else []
        oldest = await fetch(OLDEST) if is_open else []
    return Figures(batch, states, failures, next(iter(slowest), None), next(iter(oldest), None))
