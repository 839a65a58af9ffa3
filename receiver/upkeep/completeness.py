"""What is shown of what never came, from the small tables alone: how much was pushed, what waits, what is overdue."""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from receiver import metrics
from receiver.database.pool import Connection
from receiver.ids import TenantId
from receiver.messages.lattice import Channel

PAST = timedelta(hours=24)  # the cohorts of the completeness
MOST_OVERDUE = 50_000  # rows that are looked at

PUSHED = """
select channel, sum(pushed)::float8 as pushed, sum(pushed + missed)::float8 as found
  from push_count where hour > $1 group by channel having sum(pushed + missed) > 0
"""
AWAITED = "select count(*) from (select from awaited limit 1000000) a"
OVERDUE = """
select o.tenant, o.channel, count(*) as messages
  from (select tenant, channel from awaited where overdue_at <= $1 order by overdue_at desc limit $2) o
 group by o.tenant, o.channel
"""
# Those of weeks that were dropped, some thousands at a time.
TRIM = """
delete from push_count p using (
  select c.hour, c.tenant, c.channel from push_count c
   where c.hour < (select born_at_v1(w.first_id) from week w order by w.starts_on limit 1)
   order by c.hour limit 5000) old
 where p.hour = old.hour and p.tenant = old.tenant and p.channel = old.channel
"""


class Figures(NamedTuple):
    """What is shown, by channel where it can be."""

    ratios: Mapping[Channel, float]
    awaited: int
    overdue: Mapping[tuple[TenantId, Channel], int]


async def measure(connection: Connection, now: datetime) -> Figures:
    """Looks at three small tables; of what is overdue at the latest 50,000."""
    pushed = await connection.fetch(PUSHED, now - PAST)
    overdue = await connection.fetch(OVERDUE, now, MOST_OVERDUE)
    return Figures(
        {Channel(row["channel"]): row["pushed"] / row["found"] for row in pushed},
        int(await connection.fetchval(AWAITED)),
        {(TenantId(row["tenant"]), Channel(row["channel"])): row["messages"] for row in overdue},
    )


async def trim(connection: Connection) -> bool:
    """Drops figures of hours that are not kept any more; whether there may be more of them."""
    return not str(await connection.execute(TRIM)).endswith(" 0")


def show(figures: Figures, tenants: Mapping[TenantId, str], behind: timedelta | None) -> None:
    """Sets the gauges. A channel of which nothing is known has no series."""
    metrics.PUSH_COMPLETENESS.clear()
    for channel, ratio in figures.ratios.items():
        metrics.PUSH_COMPLETENESS.labels(channel.word).set(ratio)
    metrics.OVERDUE.clear()
    known = {*figures.overdue, *((tenant, channel) for tenant in tenants for channel in figures.ratios)}
    for tenant, channel in known:
        overdue = figures.overdue.get((tenant, channel), 0)
        metrics.OVERDUE.labels(tenants.get(tenant, "unknown"), channel.word).set(overdue)
    metrics.AWAITED.set(figures.awaited)
    metrics.WALK_BEHIND.set(math.nan if behind is None else behind.total_seconds())


def hide() -> None:
    """Shows nothing of what another process measures."""
    metrics.PUSH_COMPLETENESS.clear()
    metrics.OVERDUE.clear()
    metrics.AWAITED.set(math.nan)
    metrics.WALK_BEHIND.set(math.nan)
