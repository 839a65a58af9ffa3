"""How many messages a search lets through: exactly where that is cheap, else as good as a few milliseconds allow."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from receiver.database.pool import Connection
from receiver.ids import TenantId, born_at
from receiver.messages.cells import COLUMNS, NAMES
from receiver.messages.lattice import NEGATIVE_STATES
from receiver.queries.filters import Filters
from receiver.queries.finding import Finding
from receiver.queries.search import Found

LOOKED = 2_000  # messages of each value that a count looks at: some 3 µs each
MOST_COHORTS = 5_000  # cells of the roll-up that are added: some 4 µs each
BEHIND = timedelta(minutes=5)  # a roll-up that is farther behind is not asked
MILLISECOND, HOUR, DAY = timedelta(milliseconds=1), timedelta(hours=1), timedelta(days=1)
FIRST, LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
ALL_COUNTRIES = 4  # the side of the roll-up that has them together

# Of hours and of days; what a filter is null for is not asked. Added up before there is a row for each state and class:
# a cell has some sixty. A class is that of a reason: none of what arrived.
COHORTS = f"""
with k as (
  select count(*) as cohorts, {", ".join(f"sum(k.{name}) as {name}" for name in NAMES)} from (
    select c.*
      from unnest($2::smallint[], $3::timestamptz[], $4::timestamptz[]) w(hours, begin, until)
     cross join lateral (
       select {", ".join(f"i.{name}" for name in NAMES)} from cohort_state i
        where i.tenant = $1 and i.hours = w.hours and i.side = $5 and i.value = '' and i.at >= w.begin
          and i.at < w.until and ($6::text[] is null or i.country = any($6))
          and ($7::smallint[] is null or i.channel = any($7)) and ($9::smallint[] is null or i.origin = any($9))
          and ($10::boolean is null or i.conflict = $10) offset 0) c
     limit $12 + 1) k
   where exists (select from folded f where f.at > now() - $13::interval))
select coalesce(sum(n.messages) filter (
         where ($8::smallint[] is null or n.state = any($8))
           and ($11::smallint[] is null or n.class = any($11) and n.has_class)), 0)::bigint as messages,
       min(k.cohorts) as cohorts
  from k cross join lateral (
    values {", ".join(f"({int(c.state)}, {c.code_class}, {c.state in NEGATIVE_STATES}, k.{c.name})" for c in COLUMNS)})
       n(state, class, has_class, messages)
"""


class Total(msgspec.Struct):
    """How many messages there are, and how good the figure is.

    `accuracy`: `exact`; `at_least` so many; `estimate`: from the roll-up of statistics, some seconds behind.
    """

    value: int
    accuracy: Literal["exact", "at_least", "estimate"]


async def total(connection: Connection, tenant: TenantId, filters: Filters, found: Found) -> Total:
    """How many messages `filters` let through, where `found` is a page of them."""
    if filters.position is None and found.next is None:
        return Total(len(found.rows), "exact")
    least = len(found.rows) + (found.next is not None)
    if _in_cohorts(filters):
        counted = await connection.fetchrow(COHORTS, tenant, *_asked_of_cohorts(filters), MOST_COHORTS, BEHIND)
        assert counted is not None
        if counted["messages"] >= least:
            return Total(counted["messages"], "estimate" if counted["cohorts"] <= MOST_COHORTS else "at_least")
    finding = Finding(tenant, replace(filters, position=None), LOOKED)
    if finding.walks_changes:
        return Total(least, "at_least")
    looked = await connection.fetchrow(finding.count(), *finding.values)
    assert looked is not None
    if looked["looked"] < LOOKED:
        return Total(looked["messages"], "exact")
    return Total(max(looked["messages"], least), "at_least")


def _in_cohorts(filters: Filters) -> bool:
    """Whether the roll-up knows all that is asked for: it has whole hours, and no names."""
    others = (filters.code, filters.sender, filters.destination_end, filters.is_named, filters.changed)
    if any(others) or filters.overdue is not None or filters.final is not None:
        return False
    return all(at == _floor(at, HOUR) for at in _bounds(filters))


def _bounds(filters: Filters) -> tuple[datetime, datetime]:
    """Between which times the messages were born."""
    begin = born_at(filters.from_id) if filters.from_id else FIRST
    return begin, born_at(filters.to_id) if filters.to_id else LAST


def _asked_of_cohorts(filters: Filters) -> tuple[object, ...]:
    """The parameters of COHORTS from the second on: whole days, and the hours beside them."""
    begin, end = _bounds(filters)
    first, last = _floor(begin + DAY - MILLISECOND, DAY), _floor(end, DAY)
    spans = [(1, begin, first), (24, first, last), (1, last, end)] if first < last else [(1, begin, end)]
    spans = [span for span in spans if span[1] < span[2]]
    side = 0 if filters.country else ALL_COUNTRIES
    dimensions = (filters.country, filters.channel, filters.state, filters.origin)
    hours, begins, untils = (list(column) for column in zip(*spans, strict=True))
    return (
        hours,
        begins,
        untils,
        side,
        *(of or None for of in dimensions),
        filters.conflict,
        filters.reason_class or None,
    )


def _floor(at: datetime, step: timedelta) -> datetime:
    return at - (at - FIRST) % step
