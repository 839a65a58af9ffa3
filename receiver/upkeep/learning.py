"""How long the final word usually takes, learned from what the platform told by itself: by channel and country."""

import math
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from receiver.database.pool import Connection
from receiver.ids import first_id_at
from receiver.messages.lattice import Channel
from receiver.upkeep.awaiting import BY_INDEX, SINCE
from receiver.waits import Waits

PAST_HOURS = 7 * 24
A_PER_HOUR = 500  # messages: 84,000 in all, of whose times 100 to 84,000 make a figure
LEAST_MESSAGES = 100
NEARLY_ALL = 0.99
EVERYWHERE = ""  # in place of a country: all of the channel

# What was asked for is left out: it says when we asked, not when we were told.
SAMPLE = f"""
select s.channel, s.country, born_at_v1(s.id) as born,
       greatest(extract(epoch from h.at - {SINCE.format("s")}), 0)::float8 as seconds
  from (select * from message_state i where i.id >= $1 and i.id < $2 order by i.id limit $3) s
 cross join lateral (
   select min(r.received_at) as at from receipt r
    where r.message_id = s.id and r.message_id >= $1 and r.message_id < $2
      and r.feed in (1, 4) and is_final_v1(r.rank, s.channel)) h
 where s.merged_into is null and h.at is not null
"""
STORED = "select channel, country, seconds, messages from usual_time"
FORGET = "delete from usual_time"
LEARN = """
insert into usual_time (channel, country, seconds, messages, learned_at)
select u.channel, u.country, u.seconds, u.messages, $5
  from unnest($1::smallint[], $2::text[], $3::float8[], $4::int[]) as u(channel, country, seconds, messages)
on conflict (channel, country) do update
   set seconds = excluded.seconds, messages = excluded.messages, learned_at = excluded.learned_at
"""


class Heard(NamedTuple):
    """How long one message took."""

    channel: Channel
    country: str
    born: datetime
    seconds: float


class Usual(NamedTuple):
    """By then 99 in 100 have their final word; of how many messages that was learned."""

    time: timedelta
    messages: int


Learned = Mapping[tuple[Channel, str], Usual]


def hours_before(now: datetime) -> list[datetime]:
    """The beginnings of the whole hours of the past seven days, oldest first."""
    last = now.replace(minute=0, second=0, microsecond=0)
    return [last - timedelta(hours=back) for back in range(PAST_HOURS, 0, -1)]


async def sample(connection: Connection, hours: Iterable[datetime]) -> AsyncIterator[list[Heard]]:
    """The first messages of each hour that were told of by push, an hour at a time; no transaction is longer."""
    for hour in hours:
        bounds = first_id_at(hour), first_id_at(hour + timedelta(hours=1))
        async with connection.transaction():
            await connection.execute(BY_INDEX)
            rows = await connection.fetch(SAMPLE, *bounds, A_PER_HOUR)
        yield [Heard(Channel(r["channel"]), r["country"] or EVERYWHERE, r["born"], r["seconds"]) for r in rows]


def learn(heard: Iterable[Heard], waits: Mapping[Channel, Waits], now: datetime) -> dict[tuple[Channel, str], Usual]:
    """The figures, of 100 messages or more each, and none above the patience.

    What is younger than its channel's usual time is left out: of those only the quick ones have been heard of.
    """
    times: defaultdict[tuple[Channel, str], list[float]] = defaultdict(list)
    for one in heard:
        if one.born < now - waits[one.channel].usual:
            for country in {EVERYWHERE, one.country}:
                times[one.channel, country].append(one.seconds)
    return {
        key: Usual(min(timedelta(seconds=percentile(seconds)), waits[key[0]].patience), len(seconds))
        for key, seconds in times.items()
        if len(seconds) >= LEAST_MESSAGES
    }


def percentile(values: list[float]) -> float:
    """The least of the values that 99 in 100 do not exceed."""
    return sorted(values)[math.ceil(len(values) * NEARLY_ALL) - 1]


def expected(learned: Learned, channel: Channel, country: str, waits: Waits) -> timedelta:
    """By when nearly all messages like this one have their final word: of its country, its channel, or as set."""
    for key in ((channel, country), (channel, EVERYWHERE)):
        if key in learned:
            return min(learned[key].time, waits.patience)
    return waits.usual


async def stored(connection: Connection) -> dict[tuple[Channel, str], Usual]:
    """What was learned before, perhaps by another process."""
    return {
        (Channel(row["channel"]), row["country"]): Usual(timedelta(seconds=row["seconds"]), row["messages"])
        for row in await connection.fetch(STORED)
    }


async def store(connection: Connection, learned: Learned, now: datetime) -> None:
    """Puts these figures in the place of the earlier ones, for people and for other processes."""
    async with connection.transaction():
        await connection.execute(FORGET)
        await connection.execute(
            LEARN,
            [channel for channel, _ in learned],
            [country for _, country in learned],
            [usual.time.total_seconds() for usual in learned.values()],
            [usual.messages for usual in learned.values()],
            now,
        )
