"""A tenant's way out, as all processes share it: its rate, and what holds it up. One lane for each set of credentials.

A lane has a row once it has a rate or was ever held up. The row is locked while a claim is made from such a lane; the
others are claimed from without looking at more than that they are well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import NamedTuple

import asyncpg

from receiver.database.pool import Connection
from receiver.ids import TenantId
from receiver.platform.apis import Api

PROBE_SECONDS = 60.0  # how often a stopped lane lets one submission try
LONGEST_PAUSE = 60.0  # of our own accord; the platform may ask for longer
LONGEST_ASKED = 3600.0
BURST_SECONDS = 1.0
# Tokens are looked for twenty times a second: at 1,000 messages a second each claim then takes 50 of them.
LEAST_WAIT = timedelta(milliseconds=50)

# Locks the row, and fills the bucket up to the burst by the time that has passed. A lane that is new has a full one.
HOLD = """
insert into lane as l (tenant, family, tokens, refilled_at) values ($1, $2, coalesce($3::float8, 0) * $5::float8, $4)
on conflict (tenant, family) do update
   set tokens = case when $3::float8 is null then 0
                     else least($3::float8 * $5::float8,
                                l.tokens + $3::float8 * greatest(extract(epoch from $4 - l.refilled_at), 0)) end,
       refilled_at = greatest(l.refilled_at, $4)
returning tokens, pauses, paused_until, stopped_at, stopped_code, probe_at
"""
# What was taken out, and until when the others wait for the one that tries.
TAKE = """
update lane set tokens = tokens - $3, paused_until = coalesce($4, paused_until), probe_at = coalesce($5, probe_at)
 where tenant = $1 and family = $2
"""
GIVE_BACK = "update lane set tokens = tokens + $3 where tenant = $1 and family = $2"
# The calls that were under way together are told to wait together: that is one pause, not one for each of them.
PAUSE = """
insert into lane as l (tenant, family, pauses, paused_until)
values ($1, $2, 1, $3::timestamptz + make_interval(secs => coalesce($4::float8, 2 * $5::float8)))
on conflict (tenant, family) do update
   set pauses = least(l.pauses + 1, 100),
       paused_until = $3::timestamptz + make_interval(
         secs => coalesce($4::float8, least(power(2, l.pauses + 1), $7::float8) * $5::float8))
 where $8 or l.paused_until is null or l.paused_until <= $6
returning pauses, paused_until
"""
STOP = """
insert into lane as l (tenant, family, stopped_at, stopped_code, probe_at) values ($1, $2, $3, $4, $5)
on conflict (tenant, family) do update
   set stopped_at = coalesce(l.stopped_at, $3), stopped_code = $4, probe_at = $5, pauses = 0, paused_until = null
"""
REOPEN = """
update lane set stopped_at = null, stopped_code = null, probe_at = null, pauses = 0, paused_until = null
 where tenant = $1 and family = $2 and (stopped_at is not null or pauses > 0)
"""
# Who tried has learnt nothing: the next one may.
NEXT_MAY_TRY = "update lane set paused_until = $3 where tenant = $1 and family = $2 and pauses > 0"
IN_TROUBLE = """
select tenant, family, pauses, paused_until, stopped_at, stopped_code, probe_at, tokens
  from lane where stopped_at is not null or pauses > 0 order by tenant, family
"""
# Of the lanes that have a rate or are held up: when the next submission of those that wait may go.
WAITING = """
select w.tenant, w.family, w.rate,
       greatest(l.paused_until, case when l.stopped_at is not null then l.probe_at end,
                case when w.rate is not null and l.tenant is not null
                     then l.refilled_at + greatest(make_interval(secs => greatest(-l.tokens, 0) / w.rate), $5) end
       ) as ready_at
  from unnest($1::smallint[], $2::smallint[], $3::float8[]) as w(tenant, family, rate)
  left join lane l on l.tenant = w.tenant and l.family = w.family
 where (w.rate is not null or l.stopped_at is not null or l.pauses > 0)
   and exists (select from unnest('{1,2,3}'::smallint[]) as p(priority)
                 join outbox o on o.tenant = w.tenant and o.family = w.family and o.priority = p.priority
                where o.lease_until is null and o.due_at <= $4)
"""


class Family(IntEnum):
    """What has credentials of its own. The numbers are stored."""

    PLATFORM = 1
    CAMPAIGN = 2


class Lane(NamedTuple):
    """The way out of a tenant to one family of the platform's doors."""

    tenant: TenantId
    family: Family


def lane_of(tenant: TenantId, api: Api) -> Lane:
    """The lane in which a submission to `api` goes."""
    return Lane(tenant, Family.CAMPAIGN if api is Api.CAMPAIGN else Family.PLATFORM)


@dataclass(frozen=True)
class Held:
    """A lane while its row is locked, with its bucket filled up. `rate` is in messages a second; None: no limit."""

    lane: Lane
    rate: float | None
    tokens: float
    pauses: int
    paused_until: datetime | None
    stopped_at: datetime | None
    stopped_code: str | None
    probe_at: datetime | None

    @property
    def in_trouble(self) -> bool:
        """Whether only one submission at a time may try."""
        return self.stopped_at is not None or self.pauses > 0

    def closed(self, now: datetime) -> bool:
        """Whether nobody may go now, whatever the tokens."""
        until = self.probe_at if self.stopped_at else self.paused_until
        return until is not None and until > now


class Waiting(NamedTuple):
    """A lane with a rate or in trouble in which submissions wait; `ready_at` None: one may go at once."""

    lane: Lane
    rate: float | None
    ready_at: datetime | None


async def hold(connection: Connection, lane: Lane, rate: float | None, now: datetime) -> Held:
    """Locks a lane for the rest of the caller's transaction."""
    row = await connection.fetchrow(HOLD, *lane, rate, now, BURST_SECONDS)
    assert row is not None
    return _held(lane, rate, row)


async def take(connection: Connection, held: Held, messages: int, now: datetime, answered_by: datetime) -> None:
    """Pays for `messages` out of a held lane. Of a lane in trouble one tries: the others wait until it is answered."""
    paused_until = answered_by if held.pauses and not held.stopped_at else None
    probe_at = now + timedelta(seconds=PROBE_SECONDS) if held.stopped_at else None
    await connection.execute(TAKE, *held.lane, messages if held.rate else 0, paused_until, probe_at)


async def give_back(connection: Connection, lane: Lane, messages: int) -> None:
    """Returns what was paid for messages that did not go."""
    await connection.execute(GIVE_BACK, *lane, messages)


async def pause(
    connection: Connection,
    lane: Lane,
    now: datetime,
    began: datetime,
    asked: float | None,
    jitter: float,
    *,
    tried: bool,
) -> timedelta | None:
    """Holds a lane up that the platform calls too fast, for as long as it `asked` (seconds) or twice as long as before.

    Returns for how long, or None if it was held up already when that call `began`.
    """
    asked = None if asked is None else min(max(asked, 0.0), LONGEST_ASKED)
    row = await connection.fetchrow(PAUSE, *lane, now, asked, jitter, began, LONGEST_PAUSE, tried)
    return None if row is None else row["paused_until"] - now


async def stop(connection: Connection, lane: Lane, now: datetime, code: str | None) -> None:
    """Stops a lane whose credentials the platform refuses, until one that tries gets through."""
    await connection.execute(STOP, *lane, now, code, now + timedelta(seconds=PROBE_SECONDS))


async def reopen(connection: Connection, lane: Lane) -> None:
    """Lets all go again."""
    await connection.execute(REOPEN, *lane)


async def let_next_try(connection: Connection, lane: Lane, now: datetime) -> None:
    """The one that tried was not answered: another may try at once. A stopped lane keeps its time."""
    await connection.execute(NEXT_MAY_TRY, *lane, now)


async def in_trouble(connection: Connection) -> list[Held]:
    """The lanes that are stopped or held up."""
    rows = await connection.fetch(IN_TROUBLE)
    return [_held(Lane(TenantId(row["tenant"]), Family(row["family"])), None, row) for row in rows]


async def waiting(connection: Connection, rates: Sequence[tuple[Lane, float | None]], now: datetime) -> list[Waiting]:
    """Of these lanes those that must be held to be claimed from, and have something to send."""
    columns = [lane.tenant for lane, _ in rates], [lane.family for lane, _ in rates], [rate for _, rate in rates]
    rows = await connection.fetch(WAITING, *columns, now, LEAST_WAIT)
    return [Waiting(Lane(TenantId(r["tenant"]), Family(r["family"])), r["rate"], r["ready_at"]) for r in rows]


def _held(lane: Lane, rate: float | None, row: asyncpg.Record) -> Held:
    return Held(
        lane,
        rate,
        row["tokens"],
        row["pauses"],
        row["paused_until"],
        row["stopped_at"],
        row["stopped_code"],
        row["probe_at"],
    )
