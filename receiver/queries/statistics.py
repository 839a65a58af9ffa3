"""The figures of deliveries in SQL: read from `cohort` and `cohort_lag`, by whole days where no hour is asked for."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import asyncpg

from receiver.database.pool import Connection
from receiver.ids import TenantId
from receiver.messages.lattice import CEILING, FAMILIES, Channel, Fact
from receiver.queries.statistics_asked import ALL, ALL_COUNTRIES, MOST_GROUPS, Asked
from receiver.waits import Waits

FOLDED = """
select f.at, (select min(w.starts_on)::timestamp at time zone 'UTC' from week w) as kept_from from folded f
"""
USUAL = "select channel, country, seconds from usual_time"
# Groups are few beside the rows: sorting these costs more than all the rest. A plan that does not know the span takes
# twice as long, planning 3 ms.
BY_HASH = """
set local enable_sort = off; set local work_mem = '32MB'; set local plan_cache_mode = force_custom_plan
"""  # for one or two at once

UNDELIVERABLE = sorted(int(channel) for channel in CEILING)  # of which no delivery is ever told
# Of which both are told. Instagram tells of the reading alone: who has read would be all that are delivered.
READABLE = sorted(int(one) for one, family in FAMILIES.items() if {Fact.DELIVERED, Fact.READ} <= {*family.line})

KEYS = {"hour": "c.bucket", "day": "c.bucket", "channel": "c.channel", "country": "c.country", "origin": "c.origin"}
KEYS |= {"sender": "c.value", "template": "c.value", "carrier": "c.value"}
KEYS |= {"code_class": "case when c.state between 40 and 46 or c.state = 65 then c.class end"}

CLASSES = range(7)  # platform/codes.py Class
COLUMNS = ("state", "class", "conflict", "messages")
LAG_COLUMNS = [f"c{n}" for n in range(16)]

SPAN = """
  (select {bucket} as bucket, i.channel, i.country, i.origin, i.value, {columns},
          i.at + interval '{hours} hours' as ended
     from {table} i
    where i.tenant = {tenant} and i.hours = {hours} and i.side = {side} and i.at >= {first} and i.at < {last}{only})"""
# Whole groups are counted by what the figures are made of: few rows. Then the figures are made. Sums of float8 are
# exact to 2^53, and take half the time of those of bigint, which are numeric.
COHORTS = """
with c as ({spans}),
counted as materialized (
  select {keys}, c.state, c.class, c.conflict, is_final_v1(c.state, c.channel) as final,
         {there} as there, {readable} as readable,
         coalesce(c.ended <= ({patience}::timestamptz[])[c.channel + 1], false) as given_up,
         coalesce(c.ended <= {usual}, false) as usual_over, sum(c.messages::float8) as n
    from c {join}
   group by {numbers}
)
select {names}{figures} from counted {group_by} having sum(n) <> 0 {order_by} limit {limit}
"""
_ACCEPTED, _DELIVERED = "state not in (0, 5, 40, 41, 42)", "state in (60, 70)"
_FAILED, _OPEN = "(state between 42 and 46 or state = 65)", "state in (10, 20, 25)"
_THERE = f"c.channel not in ({', '.join(map(str, UNDELIVERABLE))})"
_READABLE = f"c.channel in ({', '.join(map(str, READABLE))})"
FIGURES = {
    "messages": "true",
    "queued": "state = 0",
    "not_sent": "state in (40, 41)",
    "uncertain": "state = 5",
    "accepted": _ACCEPTED,
    "pending": f"{_OPEN} and not final",
    "at_ceiling": f"{_OPEN} and final",
    "no_receipt": "state = 30",
    "delivered": _DELIVERED,
    "read": "state = 70",
    "failed": _FAILED,
    "refused": "state = 42",
    "conflict": "conflict",
    "accepted_there": f"{_ACCEPTED} and there",
    "delivered_there": f"{_DELIVERED} and there",
    "failed_there": f"{_FAILED} and there",
    "delivered_readable": f"{_DELIVERED} and readable",
    "read_readable": "state = 70 and readable",
    "settled": "final or state = 30 or given_up",
    "young": "not usual_over",
    **{f"class_{n}": f"{_FAILED} and class = {n}" for n in CLASSES},
}
_FIGURE = "coalesce(sum(n) filter (where {0}), 0)::bigint as {1}"
PERCENTILES = (50, 90, 95, 99)
# No row for each class: in the one block where a percentile lies, its class is found by counting along the columns.
LAGS = """
with c as ({spans}),
counted as materialized (select {keys}, c.kind, c.block, {sums} from c group by {numbers}),
filled as (select *, ({whole})::float8 as here from counted),
ranked as (
  select *, sum(here) over (partition by {partition} order by block) - here as below,
         sum(here) over (partition by {partition}) as total
    from filled)
select {names}kind, max(total)::bigint as messages, {percentiles}
  from ranked where total > 0 group by {partition}
"""
_WANTED = "ceil(total * {0} / 100)"
_UP_TO = ["+".join(LAG_COLUMNS[: n + 1]) for n in range(16)]
_PERCENTILE = f"""
  min(block * 16 + {" + ".join(f"({up_to} < {_WANTED} - below)::integer" for up_to in _UP_TO[:-1])})
    filter (where below < {_WANTED} and {_WANTED} <= below + here) as p{{0}}"""


class Found(NamedTuple):
    """The groups, how long they took, up to when all is counted, and the first time of which anything is kept."""

    groups: Sequence[asyncpg.Record]
    lags: Sequence[asyncpg.Record]
    as_of: datetime
    kept_from: datetime | None


class Statement:
    """A statement in the making: its text, and the values that stand in it as $1, $2, …"""

    def __init__(self) -> None:
        self.text, self.values = "", list[object]()

    def mark(self, value: object) -> str:
        """How the value stands in the text."""
        self.values.append(value)
        return f"${len(self.values)}"


async def deliveries(connection: Connection, tenant: TenantId, asked: Asked, waits: Mapping[Channel, Waits]) -> Found:
    """The figures of one snapshot; one group more than MOST_GROUPS where there are too many."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(BY_HASH)
        folded = await connection.fetchrow(FOLDED)
        assert folded is not None
        learned = {
            (Channel(row["channel"]), row["country"]): timedelta(seconds=row["seconds"])
            for row in await connection.fetch(USUAL)
        }
        counting = cohorts(tenant, asked, waits, folded["at"], learned)
        groups = await connection.fetch(counting.text, *counting.values)
        rows: Sequence[asyncpg.Record] = ()
        if asked.latency and len(groups) <= MOST_GROUPS:
            timing = lags(tenant, asked)
            rows = await connection.fetch(timing.text, *timing.values)
    return Found(groups, rows, folded["at"], folded["kept_from"])


def cohorts(
    tenant: TenantId,
    asked: Asked,
    waits: Mapping[Channel, Waits],
    as_of: datetime,
    learned: Mapping[tuple[Channel, str], timedelta],
) -> Statement:
    """The statement that counts. `learned`: how long the final word usually takes, by channel and country ('': all)."""
    statement, order = Statement(), sorted(waits)  # the channels, whose numbers begin with 0
    spans = _spans(statement, "cohort", COLUMNS, tenant, asked)
    by_channel = [as_of - min(learned.get((one, ""), waits[one].usual), waits[one].patience) for one in order]
    usual, join = f"({statement.mark(by_channel)}::timestamptz[])[c.channel + 1]", ""
    known = [(one, country) for one, country in learned if country]
    if asked.side != ALL_COUNTRIES and known:
        channels, countries = (
            statement.mark([one for one, _ in known]),
            statement.mark([country for _, country in known]),
        )
        times = statement.mark([as_of - min(learned[one], waits[one[0]].patience) for one in known])
        join = f"left join unnest({channels}::smallint[], {countries}::text[], {times}::timestamptz[])"
        join += " u(channel, country, at) on u.channel = c.channel and u.country = c.country"
        usual = f"coalesce(u.at, {usual})"
    names = _names(asked)
    statement.text = COHORTS.format(
        spans=spans,
        keys=_keys(names),
        patience=statement.mark([as_of - waits[one].patience for one in order]),
        usual=usual,
        join=join,
        there=_THERE,
        readable=_READABLE,
        numbers=_numbers(len(names) + 9),
        names="".join(f"{name}, " for name in names),
        figures=", ".join(_FIGURE.format(condition, name) for name, condition in FIGURES.items()),
        group_by=f"group by {', '.join(names)}" if names else "",
        order_by=f"order by {', '.join(names)}" if names else "",
        limit=MOST_GROUPS + 1,
    )
    return statement


def lags(tenant: TenantId, asked: Asked) -> Statement:
    """The statement that finds the percentiles, as classes of lag_v1."""
    statement, names = Statement(), _names(asked)
    statement.text = LAGS.format(
        spans=_spans(statement, "cohort_lag", ["kind", "block", *LAG_COLUMNS], tenant, asked),
        keys=_keys(names),
        sums=", ".join(f"sum(c.{column}) as {column}" for column in LAG_COLUMNS),
        whole=_UP_TO[-1],
        numbers=_numbers(len(names) + 3),
        partition=", ".join([*names, "kind"]),
        names="".join(f"{name}, " for name in names),
        percentiles=", ".join(_PERCENTILE.format(p) for p in PERCENTILES),
    )
    return statement


def _names(asked: Asked) -> list[str]:
    """The columns by which is grouped; the tenant is always the caller's."""
    return [name for name in asked.by if name != "tenant"]


def _keys(names: Sequence[str]) -> str:
    return ", ".join(["1 as everything", *(f"{KEYS[name]} as {name}" for name in names)])


def _numbers(most: int) -> str:
    return ", ".join(str(n) for n in range(1, most + 1))


def _spans(statement: Statement, table: str, columns: Sequence[str], tenant: TenantId, asked: Asked) -> str:
    """The rows of all spans: by the hour at ragged ends, by the day between them."""
    only = "" if asked.side not in (ALL, ALL_COUNTRIES) else " and i.value = ''"
    for column, kind, chosen in (
        ("value", "text", asked.values),
        ("channel", "smallint", asked.channels),
        ("country", "text", asked.countries),
        ("origin", "smallint", asked.origins),
    ):
        if chosen:
            only += f" and i.{column} = any({statement.mark(chosen)}::{kind}[])"
    of_tenant, of_side = statement.mark(tenant), statement.mark(asked.side)
    before, days, after = asked.spans()
    spans = []
    for hours, (first, last) in ((1, before), (24, days), (1, after)):
        if first < last:
            spans.append(
                SPAN.format(
                    bucket="date_trunc('day', i.at, 'UTC')" if hours == 1 and not asked.hourly else "i.at",
                    columns=", ".join(f"i.{column}" for column in columns),
                    hours=hours,
                    table=table,
                    tenant=of_tenant,
                    side=of_side,
                    first=statement.mark(first),
                    last=statement.mark(last),
                    only=only,
                )
            )
    return "\n  union all".join(spans)
