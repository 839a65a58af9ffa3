"""The messages without a final word, in SQL: a walk that finds them in the order of their age, and looks at each.

The walk stays behind whoever may still write a message that it would pass: see `Fence`, and
docs/decisions/0016-what-never-came.md. Every step is one short transaction, and harmless to repeat.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import asyncpg

from receiver.database.pool import Connection
from receiver.ids import MessageId, TenantId, first_id_at
from receiver.messages.lattice import Channel, State
from receiver.messages.patience import Decision, Seen, What

NAME = "awaited "  # and the channel's word: the walk's cursor of this channel
BEHIND = timedelta(seconds=2)  # the same in late_births_v1

# Plans are kept, and may be of a time when a week was small: no reading of a whole one.
BY_INDEX = """
select set_config(name, 'off', true) from unnest(array['enable_seqscan', 'enable_bitmapscan', 'enable_hashjoin',
  'enable_mergejoin', 'enable_material', 'enable_memoize']) as n(name)
"""

# When it was sent, as far as clocks that are not ours may say: not before its birth, nor after the last news of it.
SINCE = (
    "greatest(born_at_v1({0}.id),"
    " least(coalesce({0}.accepted_at, {0}.submitted_at, born_at_v1({0}.id)), {0}.changed_at))"
)

BEGIN = """
insert into walk (name, last_id, at) select unnest($1::text[]), '00000000-0000-0000-0000-000000000000', $2
on conflict do nothing
"""
CURSORS = "select name, last_id from walk where name = any($1::text[]) order by name"
LOCK_CURSORS = CURSORS + " for update"
MOVE = "update walk set last_id = greatest(last_id, $2), at = $3 where name = any($1::text[])"

# now() is read before the locks are. A prepared transaction has no process; it shows by its own name.
WRITERS = """
select now() as at, array(
  select l.virtualtransaction from pg_locks l
   where l.locktype = 'relation' and l.relation = 'message_state'::regclass and l.mode = 'RowExclusiveLock'
     and l.granted and l.database = (select d.oid from pg_database d where d.datname = current_database())) as writers
"""

# $1 to $2 the ids, $3 how many, $4 and $5 channels and their cursors, $6 now, $7 the grace of a push. A late birth is
# there already, and is left to the look.
STEP = """
with walked as materialized (
  select s.id, s.tenant, s.channel, s.country, s.state, s.merged_into
    from message_state s where s.id > $1 and s.id < $2 order by s.id limit $3
),
due as materialized (
  select w.id, w.tenant, w.channel, w.country, is_final_v1(w.state, w.channel) as final
    from walked w
    join unnest($4::smallint[], $5::uuid[]) as c(channel, last_id) on c.channel = w.channel and w.id > c.last_id
    left join lateral (select true as there from awaited i where i.message_id = w.id offset 0) a on true
   where w.merged_into is null and w.state <> 30 and a.there is null
),
heard as materialized (
  select d.id, d.tenant, d.channel, d.country, h.at, h.pushed
    from due d
   cross join lateral (
     select min(r.received_at) as at, bool_or(r.feed in (1, 4)) as pushed from receipt r
      where r.message_id = d.id and r.message_id > $1 and r.message_id < $2
        and r.feed <= 4 and is_final_v1(r.rank, d.channel)) h
   where d.final and h.at is not null
),
counted as (
  insert into push_count as p (hour, tenant, channel, pushed)
  select date_trunc('hour', born_at_v1(h.id), 'UTC'), h.tenant, h.channel, count(*)
    from heard h where h.pushed group by 1, 2, 3 order by 1, 2, 3
  on conflict (hour, tenant, channel) do update set pushed = p.pushed + excluded.pushed
),
put as (
  insert into awaited (message_id, tenant, channel, country, look_at)
  select h.id, h.tenant, h.channel, h.country, h.at + $7::interval from heard h where not h.pushed
  union all
  select d.id, d.tenant, d.channel, d.country, $6 from due d where not d.final
   order by 1
  on conflict do nothing
)
select count(*) as walked, (select w.id from walked w order by w.id desc limit 1) as last_id from walked
"""

LOOK = f"""
with due as materialized (
  select * from awaited where look_at <= $1 order by look_at limit $2 for update skip locked)
select d.message_id, d.tenant, d.channel, d.country, s.state, s.merged_into, s.transid, s.since,
       h.at as heard_at, h.pushed
  from due d
  left join lateral (
    select i.state, i.merged_into, i.transid, {SINCE.format("i")} as since
      from message_state i where i.id = d.message_id offset 0) s on true
  left join lateral (
    select min(r.received_at) as at, bool_or(r.feed in (1, 4)) as pushed from receipt r
     where is_final_v1(s.state, d.channel) and r.message_id = d.message_id
       and r.feed <= 4 and is_final_v1(r.rank, d.channel)) h on true
"""
COUNT = """
insert into push_count as p (hour, tenant, channel, pushed, missed)
select date_trunc('hour', born_at_v1(u.id), 'UTC'), u.tenant, u.channel,
       count(*) filter (where u.pushed), count(*) filter (where not u.pushed)
  from unnest($1::uuid[], $2::smallint[], $3::smallint[], $4::boolean[]) as u(id, tenant, channel, pushed)
 group by 1, 2, 3 order by 1, 2, 3
on conflict (hour, tenant, channel) do update
   set pushed = p.pushed + excluded.pushed, missed = p.missed + excluded.missed
"""
LEAVE = "delete from awaited where message_id = any($1::uuid[])"
PUT_OFF = """
update awaited a set look_at = u.look_at from unnest($1::uuid[], $2::timestamptz[]) as u(id, look_at)
 where a.message_id = u.id
"""
# When to ask is the asker's own, from its first question on.
LATER = """
update awaited a
   set look_at = u.look_at, overdue_at = u.overdue_at,
       poll_at = case when a.poll_at is null and a.polls = 0 then u.poll_at else a.poll_at end
  from unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::timestamptz[])
       as u(id, look_at, overdue_at, poll_at)
 where a.message_id = u.id
"""


class Fence:
    """Up to when everybody who may have written messages has ended.

    Who inserts messages holds a lock on their table until he has committed or not. So once all those are gone who held
    it at one moment, everything that was begun before it can be seen.
    """

    def __init__(self) -> None:
        self.passed: datetime | None = None
        self._at: datetime | None = None
        self._writers = frozenset[str]()

    async def look(self, connection: Connection) -> datetime | None:
        """Up to when, by the database's clock; None until the writers of the first look have ended."""
        row = await connection.fetchrow(WRITERS)
        assert row is not None
        writers = frozenset(row["writers"])
        if self._at is not None and writers & self._writers:
            return self.passed
        self.passed = self._at if writers else row["at"]
        self._at, self._writers = row["at"], writers
        return self.passed


async def begin(connection: Connection, channels: Iterable[Channel], now: datetime) -> None:
    """Makes the cursors that are not there yet, before the oldest message. From then on late births are noticed."""
    await connection.execute(BEGIN, [NAME + channel.word for channel in channels], now)


async def cursors(connection: Connection, channels: Iterable[Channel]) -> dict[Channel, UUID]:
    """How far the walk has come, by channel."""
    return _by_channel(channels, await connection.fetch(CURSORS, [NAME + channel.word for channel in channels]))


class Step(NamedTuple):
    """What a step of the walk did: how many messages it read, and up to where everything has been read."""

    walked: int
    last_id: UUID


async def step(
    connection: Connection, channels: Sequence[Channel], until: datetime, limit: int, grace: timedelta, now: datetime
) -> Step:
    """One step over messages born before `until`, oldest first, of channels with one usual time.

    Final ones that were pushed are counted, all others are awaited from now on. Raises asyncpg.PostgresError: then
    nothing was done.
    """
    names, end = [NAME + channel.word for channel in channels], first_id_at(until)
    async with connection.transaction():
        await connection.execute(BY_INDEX)
        passed = _by_channel(channels, await connection.fetch(LOCK_CURSORS, names))
        first = min(passed.values())
        if first >= end:
            return Step(0, first)
        row = await connection.fetchrow(STEP, first, end, limit, list(passed), list(passed.values()), now, grace)
        assert row is not None
        last = row["last_id"] if row["walked"] == limit else end
        await connection.execute(MOVE, names, last, now)
    return Step(row["walked"], last)


@dataclass(frozen=True)
class Awaited:
    """A message that is waited for, and what is known of it."""

    id: MessageId
    tenant: TenantId
    channel: Channel
    country: str
    seen: Seen


async def due(connection: Connection, now: datetime, limit: int, passed: Mapping[Channel, UUID]) -> list[Awaited]:
    """The messages to be looked at, locked for this transaction; what another one looks at is left to it.

    `passed` says how far the walk had come before: what lies beyond may be met by it once more.
    """
    await connection.execute(BY_INDEX)
    return [_awaited(row, passed) for row in await connection.fetch(LOOK, now, limit)]


async def carry_out(connection: Connection, decided: Sequence[tuple[Awaited, Decision]]) -> None:
    """Counts, lets go and puts off, inside the transaction that looked. Who is given up stays as he is."""
    counted = [(one, made.what is What.PUSHED) for one, made in decided if made.what in (What.PUSHED, What.MISSED)]
    if counted:
        await connection.execute(
            COUNT,
            [one.id for one, _ in counted],
            [one.tenant for one, _ in counted],
            [one.channel for one, _ in counted],
            [pushed for _, pushed in counted],
        )
    left = [one.id for one, made in decided if made.what in (What.LEAVE, What.PUSHED, What.MISSED)]
    if left:
        await leave(connection, left)
    later = [(one.id, made) for one, made in decided if made.what is What.LATER]
    if later:
        await connection.execute(
            LATER,
            [identity for identity, _ in later],
            [made.look_at for _, made in later],
            [made.overdue_at for _, made in later],
            [made.poll_at for _, made in later],
        )


async def leave(connection: Connection, ids: Sequence[MessageId]) -> None:
    """These are waited for no longer."""
    await connection.execute(LEAVE, ids)


async def put_off(connection: Connection, until: Mapping[MessageId, datetime]) -> None:
    """These are looked at again at their time."""
    if until:
        await connection.execute(PUT_OFF, list(until), list(until.values()))


def _by_channel(channels: Iterable[Channel], rows: Iterable[asyncpg.Record]) -> dict[Channel, UUID]:
    found = {row["name"]: row["last_id"] for row in rows}
    return {channel: found[NAME + channel.word] for channel in channels}


def _awaited(row: asyncpg.Record, passed: Mapping[Channel, UUID]) -> Awaited:
    identity, channel = MessageId(row["message_id"]), Channel(row["channel"])
    seen = Seen(
        state=None if row["state"] is None else State(row["state"]),
        merged=row["merged_into"] is not None,
        since=row["since"],
        heard_at=row["heard_at"],
        pushed=row["pushed"] is True,
        walked=identity <= passed[channel],
        has_transid=row["transid"] is not None,
    )
    return Awaited(identity, TenantId(row["tenant"]), channel, row["country"] or "", seen)
