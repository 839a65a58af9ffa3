"""The rows of a re-read: what is stored of some messages, what is stored instead, and how far the walk has come."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from receiver.database.pool import Connection
from receiver.upkeep.reread_meaning import Meant

_STATE = """id, tenant, channel, state, facts, reason_key, reason_class, conflict, clicks, complaints, clicked_at,
       complained_at, accepted_at, submitted_at, delivered_at, read_at, failed_at, merged_into"""
NEXT_STATES = f"select {_STATE} from message_state where id > $1 and id < $2 order by id limit $3"
STATES = f"select {_STATE} from message_state where id = any($1::uuid[]) order by id"
# The api that an answer came from is looked up for negative ones alone: it says what their code means.
RECEIPTS = """
select r.message_id, r.fingerprint, r.feed, r.received_at, r.destination_key, r.subtid, r.channel, r.fact, r.rank,
       r.clash, r.reason_key, r.reason_class, r.told_at, r.status, r.code, r.code_key, r.description, r.device,
       r.carrier, r.message_count, r.raw, i.tenant, a.api
  from unnest($1::uuid[], $2::smallint[]) as i(id, tenant)
 cross join lateral (
   select * from receipt x where x.message_id = i.id and x.message_id between $3 and $4 offset 0) r
  left join lateral (
    select s.api
      from (select m.submission_id from message m
             where r.feed = 5 and r.reason_key is not null and m.id = r.message_id offset 0) m
     cross join lateral (select b.api from submission b where b.id = m.submission_id offset 0) s offset 0) a on true
"""
CHANGE = """
select message_id, channel, old_state, new_state, old_class, new_class, old_conflict, new_conflict
  from unnest(reread_v1($1, $2, $3::read_v1[]))
"""

ONE_AT_A_TIME = "select pg_try_advisory_lock(hashtext('receiver.reread'))"
WALK = "select last_id, figures from walk where name = $1"
ADVANCE = """
insert into walk (name, last_id, at, figures) values ($1, $2, $3, $4::text::jsonb)
on conflict (name) do update set last_id = excluded.last_id, at = excluded.at, figures = excluded.figures
"""
END_WALK = "delete from walk where name = $1"
# One that was interrupted, and never taken up again.
END_OLD_WALKS = "delete from walk where starts_with(name, $1) and at < now() - interval '30 days'"


async def next_states(connection: Connection, after: UUID, end: UUID, limit: int) -> list[asyncpg.Record]:
    """The next messages by id between the two, tombstones included."""
    return await connection.fetch(NEXT_STATES, after, end, limit)


async def states(connection: Connection, ids: Sequence[UUID]) -> list[asyncpg.Record]:
    """These messages, as far as they are there."""
    return await connection.fetch(STATES, ids)


async def receipts(connection: Connection, of: Sequence[asyncpg.Record]) -> list[asyncpg.Record]:
    """All receipts of these messages."""
    if not of:
        return []
    ids = [row["id"] for row in of]
    return await connection.fetch(RECEIPTS, ids, [row["tenant"] for row in of], min(ids), max(ids))


async def change(
    connection: Connection, at: datetime, ids: Sequence[UUID], new: Sequence[Meant]
) -> list[asyncpg.Record]:
    """Stores what receipts mean now and folds their messages anew; returns which messages changed, and how."""
    return await connection.fetch(CHANGE, at, ids, [receipt.as_row for receipt in new])


async def is_alone(connection: Connection) -> bool:
    """Whether no other re-read runs on this database: for as long as the connection lives, none will."""
    return bool(await connection.fetchval(ONE_AT_A_TIME))


async def walk(connection: Connection, name: str) -> asyncpg.Record | None:
    """How far the walk of this name has come; None for one that is not under way."""
    return await connection.fetchrow(WALK, name)


async def advance(connection: Connection, name: str, last: UUID, at: datetime, figures: str) -> None:
    """Remembers how far the walk has come, and what it has counted, as JSON."""
    await connection.execute(ADVANCE, name, last, at, figures)


async def end_walk(connection: Connection, name: str) -> None:
    """Forgets the walk: it is done, or begins anew."""
    await connection.execute(END_WALK, name)


async def end_old_walks(connection: Connection, prefix: str) -> None:
    """Forgets walks that nobody took up again for 30 days."""
    await connection.execute(END_OLD_WALKS, prefix)
