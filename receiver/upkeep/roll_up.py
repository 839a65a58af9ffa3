"""What is shown of the roll-ups, in SQL: who is busiest, how many messages there are, what became of an hour's."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import asyncpg

from receiver.database.pool import Connection
from receiver.ids import TenantId
from receiver.messages.cells import COLUMNS, NAMES
from receiver.messages.lattice import Channel, State

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PAST = 7 * DAY
EVER = datetime.fromisoformat("2000-01-01T00:00:00+00:00")
BY_COUNTRY, BY_SENDER = 0, 1  # the sides of the roll-up

# Plans are kept, and may be of a time when the roll-up was small.
BY_INDEX = """
select set_config(name, 'off', true) from unnest(array['enable_seqscan', 'enable_bitmapscan', 'enable_hashjoin',
  'enable_mergejoin', 'enable_memoize']) as n(name)
"""
# Summed up before there is a row for each state: a cell has some sixty columns, and there are many cells.
_STATES = {int(state): " + ".join(f"i.{c.name}" for c in COLUMNS if c.state is state) for state in State}
_OF_CELL = ", ".join(f"{columns} as n{state}" for state, columns in _STATES.items())
_SUMS = ", ".join(f"sum(c.n{state})::bigint as n{state}" for state in _STATES)
_EACH = f"""
 cross join lateral (values {", ".join(f"({state}, f.n{state})" for state in _STATES)}) n(state, messages)
 where n.messages > 0
"""
BUSIEST = f"""
select f.name from (
  select case $1::smallint when 0 then c.country else c.value end as name, sum(c.messages) as messages
    from tenant t
   cross join lateral (
     select i.country, i.value, {" + ".join(f"i.{name}" for name in NAMES)} as messages from cohort_state i
      where i.tenant = t.id and i.hours = 24 and i.side = $1 and i.at >= $2 and i.origin = 1 offset 0) c
   group by 1) f
 where f.name <> '' order by f.messages desc, f.name limit $3
"""
STATES = f"""
select f.tenant, f.channel, n.state::smallint, f.age, n.messages from (
  select t.id as tenant, c.channel, w.age, {_SUMS}
    from tenant t
   cross join unnest($1::text[], $2::smallint[], $3::timestamptz[], $4::timestamptz[]) w(age, hours, begin, until)
   cross join lateral (
     select i.channel, {_OF_CELL} from cohort_state i
      where i.tenant = t.id and i.hours = w.hours and i.side = 4 and i.value = '' and i.at >= w.begin
        and i.at < w.until offset 0) c
   group by 1, 2, 3) f
{_EACH}
"""
BORN = f"""
select f.tenant, f.channel, f.country, n.state::smallint, n.messages from (
  select t.id as tenant, w.channel, c.country, {_SUMS}
    from tenant t
   cross join unnest($1::smallint[], $2::timestamptz[]) w(channel, at)
   cross join lateral (
     select i.country, {_OF_CELL} from cohort_state i
      where i.tenant = t.id and i.hours = 1 and i.side = 0 and i.value = '' and i.at = w.at and i.channel = w.channel
        and i.origin = 1 offset 0) c
   group by 1, 2, 3) f
{_EACH}
"""


class Kept(NamedTuple):
    """So many messages in a state, of an age."""

    tenant: TenantId
    channel: int
    state: int
    age: str
    messages: int


class Born(NamedTuple):
    """So many messages of ours of one hour in a state."""

    tenant: TenantId
    channel: int
    country: str
    state: int
    messages: int


async def busiest(connection: Connection, side: int, now: datetime, most: int) -> list[str]:
    """The countries or senders of most messages of ours, the busiest first: of the last week, or where these are too
    many to add up in time, of the last day. Raises asyncpg.QueryCanceledError when a day's are, too.
    """
    try:
        return await _busiest_since(connection, side, now - PAST, most)
    except asyncpg.QueryCanceledError:
        return await _busiest_since(connection, side, now - DAY, most)


async def _busiest_since(connection: Connection, side: int, since: datetime, most: int) -> list[str]:
    async with connection.transaction():
        await connection.execute(BY_INDEX)
        return [row["name"] for row in await connection.fetch(BUSIEST, side, since, most)]


async def kept(connection: Connection, now: datetime) -> list[Kept]:
    """All messages that are kept, by state and age: some rows a tenant, channel and day are read."""
    spans = list(zip(*ages(now), strict=True))
    async with connection.transaction():
        await connection.execute(BY_INDEX)
        return [Kept(*row) for row in await connection.fetch(STATES, *map(list, spans))]


async def born(connection: Connection, hours: Mapping[Channel, datetime]) -> list[Born]:
    """What became of the messages of ours that were born in one hour, each channel's own."""
    async with connection.transaction():
        await connection.execute(BY_INDEX)
        return [Born(*row) for row in await connection.fetch(BORN, list(hours), list(hours.values()))]


def ages(now: datetime) -> Sequence[tuple[str, int, datetime, datetime]]:
    """The bands of age, each as cohorts of hours or of days from one time to another; together they are all."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    day, yesterday = hour.replace(hour=0), hour - 23 * HOUR
    first = yesterday.replace(hour=0)
    return (
        ("hour", 1, hour - HOUR, hour + DAY),
        ("day", 1, yesterday, hour - HOUR),
        ("week", 1, first, yesterday),
        ("week", 24, day - 6 * DAY, first),
        ("older", 24, EVER, day - 6 * DAY),
    )
