"""Whether the statistics come to the messages: nothing else compares them, and pages by state rely on them.

A few hours are compared in one snapshot: docs/decisions/0027-hours-that-hold-none.md.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import asyncpg

from receiver.database.pool import Connection
from receiver.doctor.check import Installation, Verdict, failure, ok, skipped, warning
from receiver.ids import first_id_at
from receiver.messages.cells import COLUMNS
from receiver.messages.lattice import State
from receiver.messages.log_steps import changes_of_step

LATEST, ANY = 12, 12  # hours with messages: the last ones, and some of all that are kept
MOST_MESSAGES = 100_000  # of an hour: some 0.1 s
MOST_UNFOLDED = 100_000  # changes: some 0.2 s
SECONDS = 3.0  # at most, usually a tenth: where disks are slow, fewer hours are compared
WORDS = {int(state): state.word for state in State}
HOUR, DAY = timedelta(hours=1), timedelta(days=1)

BY_INDEX = """
select set_config(name, 'off', true) from unnest(array['enable_seqscan', 'enable_bitmapscan', 'enable_hashjoin',
  'enable_mergejoin', 'enable_memoize']) as n(name)
"""
FOLDED = """
select f.cluster = p.system_identifier as is_settled, f.snapshot::text as before, pg_current_snapshot()::text as until,
       f.floor_seq
  from folded f, pg_control_system() p
"""
TENANTS = "select id, name from tenant"
# From any moment back to an hour that has messages. Those that are left out when time is out are not always the oldest.
_HOUR = "date_trunc('hour', to_timestamp(minted_v1({0})), 'UTC')"
_BEFORE = "(select s.id from message_state s where s.id < first_id_at_v1({0}) order by s.id desc limit 1)"
HOURS = f"""
with recursive latest(id, n) as (
  (select s.id, 1 from message_state s order by s.id desc limit 1)
  union all
  select {_BEFORE.format(_HOUR.format("l.id"))}, l.n + 1 from latest l where l.id is not null and l.n < $1),
picked(id, n) as (
  select {_BEFORE.format("r.at")}, $1 + r.n
    from (select g.n, k.begin + random() * (now() - k.begin) as at
            from (select min(starts_on)::timestamp at time zone 'UTC' as begin from week) k, generate_series(1, $2) g(n)
          offset 0) r)
select {_HOUR.format("c.id")} as at from (select * from latest union all select * from picked) c
 where c.id is not null group by 1 order by min(c.n)
"""
_CHANGES = changes_of_step("message_id, tenant, old_state, new_state")
UNFOLDED = f"select count(*) from (select from ({_CHANGES}) c limit {MOST_UNFOLDED} + 1) l"
MOVED = f"""
select h.at, c.tenant, v.state, sum(v.n)::bigint as messages
  from ({_CHANGES}) c
 cross join lateral (select {_HOUR.format("c.message_id")} as at offset 0) h
 cross join lateral (values (c.old_state, -1), (c.new_state, 1)) v(state, n)
 where v.state is not null and h.at = any($4::timestamptz[])
 group by 1, 2, 3
"""
MESSAGES = f"""
select s.tenant, s.state, count(*) as messages
  from (select i.tenant, i.state from message_state i
         where i.id >= $1 and i.id < $2 and i.merged_into is null limit {MOST_MESSAGES} + 1) s
 group by 1, 2
"""
# Summed up before there is a row for each state. The tenant first: the key begins with it.
_STATES = {int(state): " + ".join(f"i.{c.name}" for c in COLUMNS if c.state is state) for state in State}
CELLS = f"""
select f.tenant, n.state, n.messages
  from (select t.id as tenant, {", ".join(f"sum(c.n{state})::bigint as n{state}" for state in _STATES)}
          from tenant t
         cross join lateral (
           select {", ".join(f"{columns} as n{state}" for state, columns in _STATES.items())} from cohort_state i
            where i.tenant = t.id and i.hours = $1 and i.side = 4 and i.value = '' and i.at >= $2 and i.at < $3
           offset 0) c
         group by 1) f
 cross join lateral (values {", ".join(f"({state}, f.n{state})" for state in _STATES)}) n(state, messages)
 where n.messages <> 0
"""

Cells = Counter[tuple[int, int]]
"""How many messages of a tenant (its number) are in a state."""


@dataclass
class Look:
    """What was compared, and what differs: in words, the first of each kind is an example."""

    hours: int = 0
    days: int = 0
    large: int = 0
    """Hours that have too many messages."""
    wrong_hours: list[str] = field(default_factory=list)
    wrong_days: list[str] = field(default_factory=list)
    in_time: bool = False

    async def over(self, connection: Connection, hours: Sequence[datetime], moved: Mapping[datetime, Cells]) -> None:
        """Compares each hour with its messages, and then each day with its hours."""
        tenants = {row["id"]: row["name"] for row in await connection.fetch(TENANTS)}
        for at in hours:
            there = _cells(await connection.fetch(MESSAGES, first_id_at(at), first_id_at(at + HOUR)))
            if there.total() > MOST_MESSAGES:
                self.large += 1
                continue
            told = await _rolled_up(connection, 1, at, HOUR)
            told.update(moved.get(at, Cells()))
            if unlike := _unlike(told, there, tenants):
                self.wrong_hours.append(f"{at:%Y-%m-%d %H}:00 UTC the statistics have {unlike}")
            self.hours += 1
        for day in dict.fromkeys(at.replace(hour=0) for at in hours):
            of_hours, of_day = [await _rolled_up(connection, n, day, DAY) for n in (1, 24)]
            if unlike := _unlike(of_day, of_hours, tenants):
                self.wrong_days.append(f"{day:%Y-%m-%d} the statistics have {unlike} by its hours")
            self.days += 1
        self.in_time = True


async def statistics(installation: Installation) -> Sequence[Verdict]:
    """Whether hours of the statistics, and the changes that are not added up yet, come to the messages."""
    look = Look()
    async with installation.connection() as connection:
        try:
            async with (
                asyncio.timeout(SECONDS),
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                why_not = await _look(connection, look)
        except TimeoutError:
            why_not = None
    return [why_not or _judged(look)]


async def _look(connection: Connection, look: Look) -> Verdict | None:
    """Compares what may be compared; or says why nothing may."""
    await connection.execute(BY_INDEX)
    row = await connection.fetchrow(FOLDED)
    if row is None:
        cure = "Insert it as in migrations/sql/0001_tables.sql, with the cluster 0: then all is counted anew."
        return failure("the row of `folded` is gone: nothing is added up any more", cure)
    if not row["is_settled"]:
        cure = "The process with the role upkeep does so by itself. If it stays so, its log has statistics_not_folded."
        return warning("all is to be counted anew, as after a restore or `receiver forget`", cure)
    since = row["before"], row["until"], row["floor_seq"]
    if await connection.fetchval(UNFOLDED, *since) > MOST_UNFOLDED:
        return skipped(f"more than {MOST_UNFOLDED} changes are not added up yet: run it again when fewer are")
    hours = [one["at"] for one in await connection.fetch(HOURS, LATEST, ANY)]
    moved: dict[datetime, Cells] = {}
    for one in await connection.fetch(MOVED, *since, hours):
        moved.setdefault(one["at"], Cells())[one["tenant"], one["state"]] = one["messages"]
    await look.over(connection, hours, moved)
    return None


def _judged(look: Look) -> Verdict:
    left = f"; {look.large} with more than {MOST_MESSAGES} messages were left out" if look.large else ""
    left += "" if look.in_time else f"; no more within {SECONDS:.0f} s"
    wrong = [
        f"{len(found)} of {compared} {what} are wrong: of {found[0]}"
        for found, compared, what in ((look.wrong_hours, look.hours, "hours"), (look.wrong_days, look.days, "days"))
        if found
    ]
    if wrong:
        cure = (
            "Pages by state may leave messages out. `update folded set cluster = 0` in psql: pages are right at once,"
            " and the process with the role upkeep counts all anew. That is a fault of ours, or somebody wrote to"
            " cohort_state: report it."
        )
        return failure("; ".join(wrong) + left, cure)
    if not look.hours and left:
        return skipped("no hour was compared" + left)
    if not look.hours:
        return ok("there are no messages")
    return ok(f"{look.hours} hours come to their messages, {look.days} days to their hours" + left)


async def _rolled_up(connection: Connection, hours: int, at: datetime, span: timedelta) -> Cells:
    """What the rows of so many hours have from `at` on."""
    return _cells(await connection.fetch(CELLS, hours, at, at + span))


def _cells(rows: Iterable[asyncpg.Record]) -> Cells:
    return Cells({(row["tenant"], row["state"]): row["messages"] for row in rows})


def _unlike(told: Cells, there: Cells, tenants: Mapping[int, str]) -> str:
    """The first cell in which they differ, in words."""
    for tenant, state in sorted({*told, *there}):
        one, other = told[tenant, state], there[tenant, state]
        if one != other:
            return f"{one} {WORDS.get(state, state)} for tenant {tenants.get(tenant, tenant)}, there are {other}"
    return ""
