"""The figures of deliveries in SQL: from `cohort_state` and `cohort_lag`, by whole days where no hour is asked for."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import asyncpg

from receiver.database.pool import Connection
from receiver.ids import TenantId
from receiver.messages.cells import CLASSES, COLUMNS, NAMES
from receiver.messages.lattice import CEILING, FAMILIES, Channel, Fact, State, is_final
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

SPAN = """
  (select {bucket} as bucket, i.channel, i.country, i.origin, i.value, {columns},
          i.at + interval '{hours} hours' as ended
     from {table}
    where i.tenant = {tenant} and i.hours = {hours} and i.side = {side} and i.at >= {first} and i.at < {last}{only})"""
_ENDED_BADLY = (State.REFUSED, State.INVALID, State.NOT_VERIFIED, State.UNDELIVERED, State.FAILED, State.BOUNCED)
_OPEN = (State.ACCEPTED, State.SUBMITTED, State.ENDED)


def _all_of(*states: State, classes: Sequence[int] = CLASSES) -> str:
    """How many messages of a row are in one of these states."""
    columns = (c for c in COLUMNS if c.state in states and c.code_class in classes)
    return " + ".join(f"c.{column.name}" for column in columns)


_AT_CEILING = " ".join(
    f"when {int(channel)} then {_all_of(*(one for one in _OPEN if is_final(one, channel)))}" for channel in CEILING
)
# What is counted of each row, and what of that. No row for each state: twelve times fewer are read and grouped.
COUNTED = {
    "queued": _all_of(State.QUEUED),
    "not_sent": _all_of(State.CANCELLED, State.EXPIRED),
    "uncertain": _all_of(State.UNCERTAIN),
    "open": _all_of(*_OPEN),
    "at_ceiling": f"case c.channel {_AT_CEILING} else 0 end",
    "no_receipt": _all_of(State.NO_RECEIPT),
    "delivered": _all_of(State.DELIVERED, State.READ),
    "read": _all_of(State.READ),
    "refused": _all_of(State.REFUSED),
    **{f"class_{n}": _all_of(*_ENDED_BADLY, classes=(n,)) for n in CLASSES},
}
_FAILED = " + ".join(f"class_{n}" for n in CLASSES)
REFUSED = {f"refused_{n}": _all_of(State.REFUSED, classes=(n,)) for n in CLASSES}
# Of each class of which there are any, and of all that did not fail: after the columns of a row have been added up.
_UNFAILED = [name for name in COUNTED if name not in ("refused", *(f"class_{n}" for n in CLASSES))]
_SPLIT = [f"case when k.code_class is null then {name} else 0 end as {name}" for name in _UNFAILED]
_SPLIT += ["k.refused", *(f"case when k.code_class = {n} then k.failed else 0 end as class_{n}" for n in CLASSES)]
BY_CLASS = f"""
split as (
  select {{names}}k.code_class, conflict, there, readable, given_up, usual_over, {", ".join(_SPLIT)}
    from counted cross join lateral (
      values (null::smallint, 0, 0), {", ".join(f"({n}, refused_{n}, class_{n})" for n in CLASSES)})
         k(code_class, refused, failed)
   where k.code_class is null or k.failed <> 0 or k.refused <> 0),
"""
ADDED = {
    **{name: name for name in COUNTED if name != "open"},
    "messages": "messages",
    "pending": "open - at_ceiling",
    "failed": "failed",
    "conflict": "case when conflict then messages else 0 end",
    "settled": "case when given_up then messages else messages - queued - uncertain - open + at_ceiling end",
    "young": "case when usual_over then 0 else messages end",
    "accepted_there": "case when there then accepted else 0 end",
    "delivered_there": "case when there then delivered else 0 end",
    "failed_there": "case when there then failed else 0 end",
    "delivered_readable": "case when readable then delivered else 0 end",
    "read_readable": "case when readable then read else 0 end",
}
COHORTS = f"""
with c as ({{spans}}),
counted as (
  select {{keys}}, c.conflict, c.channel not in ({", ".join(map(str, UNDELIVERABLE))}) as there,
         c.channel in ({", ".join(map(str, READABLE))}) as readable,
         coalesce(c.ended <= ({{patience}}::timestamptz[])[c.channel + 1], false) as given_up,
         coalesce(c.ended <= {{usual}}, false) as usual_over,
         {", ".join(f"{text} as {name}" for name, text in COUNTED.items())}{{refused}}
    from c {{join}} offset 0),
{{split}}failing as (select *, {_FAILED} as failed from {{parts}} offset 0),
whole as (
  select *, open + no_receipt + delivered + failed - refused as accepted,
         queued + not_sent + uncertain + open + no_receipt + delivered + failed as messages from failing offset 0)
select {{names}}{", ".join(f"sum({text}) as {name}" for name, text in ADDED.items())}
  from whole {{group_by}} having sum(messages) <> 0 {{order_by}} limit {{limit}}
"""
LAGS = """
with c as ({spans})
select {names}kind, numeric_send(sum(counts)) as counts from (select {keys}, c.kind, c.counts from c) k
 group by {names}kind
"""


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
    spans = _spans(statement, "cohort_state i", ["i.conflict", *(f"i.{name}" for name in NAMES)], tenant, asked)
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
    names, by_class = _names(asked), "code_class" in asked.by
    keys = [name for name in names if name != "code_class"]
    statement.text = COHORTS.format(
        spans=spans,
        keys=_keys(keys),
        refused="".join(f", {text} as {name}" for name, text in REFUSED.items()) if by_class else "",
        split=BY_CLASS.format(names="".join(f"{name}, " for name in keys)) if by_class else "",
        parts="split" if by_class else "counted",
        patience=statement.mark([as_of - waits[one].patience for one in order]),
        usual=usual,
        join=join,
        names="".join(f"{name}, " for name in names),
        group_by=f"group by {', '.join(names)}" if names else "",
        order_by=f"order by {', '.join(names)}" if names else "",
        limit=MOST_GROUPS + 1,
    )
    return statement


def lags(tenant: TenantId, asked: Asked) -> Statement:
    """The statement that adds up how many messages have each class of lag_v1, by kind."""
    statement, names = Statement(), _names(asked)
    statement.text = LAGS.format(
        spans=_spans(statement, "cohort_lag i", ["i.kind", "i.counts"], tenant, asked),
        keys=_keys(names),
        names="".join(f"{name}, " for name in names),
    )
    return statement


def _names(asked: Asked) -> list[str]:
    """The columns by which is grouped; the tenant is always the caller's."""
    return [name for name in asked.by if name != "tenant"]


def _keys(names: Sequence[str]) -> str:
    return ", ".join(["1 as everything", *(f"{KEYS[name]} as {name}" for name in names)])


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
                    columns=", ".join(columns),
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
