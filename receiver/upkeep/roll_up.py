"""What is shown of the roll-ups, in SQL: who is busiest, how many messages there are, what became of an hour's."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from receiver.database.pool import Connection
from receiver.ids import TenantId
from receiver.messages.lattice import Channel

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PAST = 7 * DAY
EVER = datetime.fromisoformat("2000-01-01T00:00:00+00:00")
BY_COUNTRY, BY_SENDER = 0, 1  # the sides of the roll-up

# Plans are kept, and may be of a time when the roll-up was small.
BY_INDEX = """
select set_config(name, 'off', true) from unnest(array['enable_seqscan', 'enable_bitmapscan', 'enable_hashjoin',
  'enable_mergejoin', 'enable_memoize']) as n(name)
"""
BUSIEST = """
select f.name from (
  select case $1::smallint when 0 then c.country else c.value end as name, sum(c.messages) as messages
    from tenant t
   cross join lateral (
     select i.country, i.value, i.messages from cohort i
      where i.tenant = t.id and i.hours = 24 and i.side = $1 and i.at >= $2 and i.origin = 1 offset 0) c
   group by 1) f
 where f.name <> '' order by f.messages desc, f.name limit $3
"""
STATES = """
select c.tenant, c.channel, c.state, w.age, sum(c.messages)::bigint as messages
  from tenant t
 cross join unnest($1::text[], $2::smallint[], $3::timestamptz[], $4::timestamptz[]) w(age, hours, begin, until)
 cross join lateral (
   select i.tenant, i.channel, i.state, i.messages from cohort i
    where i.tenant = t.id and i.hours = w.hours and i.side = 4 and i.value = '' and i.at >= w.begin and i.at < w.until
    offset 0) c
 group by 1, 2, 3, 4 having sum(c.messages) > 0
"""
BORN = """
select c.tenant, c.channel, c.country, c.state, sum(c.messages)::bigint as messages
  from tenant t
 cross join unnest($1::smallint[], $2::timestamptz[]) w(channel, at)
 cross join lateral (
   select i.tenant, i.channel, i.country, i.state, i.messages from cohort i
    where i.tenant = t.id and i.hours = 1 and i.side = 0 and i.value = '' and i.at = w.at and i.channel = w.channel
      and i.origin = 1 offset 0) c
 group by 1, 2, 3, 4 having sum(c.messages) > 0
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
    """The countries or senders of most messages of ours in the last week, the busiest first."""
    async with connection.transaction():
        await connection.execute(BY_INDEX)
        return [row["name"] for row in await connection.fetch(BUSIEST, side, now - PAST, most)]


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
