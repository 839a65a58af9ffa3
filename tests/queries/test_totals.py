"""The total of a search from the roll-ups: the same as a count of the cells, whatever is asked for."""

import asyncio
import random
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from receiver.database.pool import Connection, connect
from receiver.ids import TenantId, first_id_at
from receiver.messages.cells import COLUMNS, NAMES, Column
from receiver.messages.lattice import NEGATIVE_STATES, State
from receiver.queries.cursors import Position
from receiver.queries.filters import Filters
from receiver.queries.search import Found
from receiver.queries.totals import MOST_COHORTS, Total, total
from tests.support import Database, now

CELL = f"""
insert into cohort_state (at, hours, tenant, side, value, channel, country, origin, conflict, {", ".join(NAMES)})
select w.at, w.hours, $1, s.side, '', $3, s.country, $5, $6, {", ".join(f"n.n[{n}]" for n in range(1, len(NAMES) + 1))}
  from (values (date_trunc('hour', $2::timestamptz), 1), (date_trunc('day', $2::timestamptz, 'UTC'), 24)) w(at, hours)
 cross join (values (0, $4::text), (4, '')) s(side, country) cross join (select $7::integer[] as n) n
on conflict (tenant, hours, side, value, at, channel, country, origin, conflict)
do update set {", ".join(f"{name} = cohort_state.{name} + excluded.{name}" for name in NAMES)}
"""
MANY = """
insert into cohort_state (at, hours, tenant, side, value, channel, country, origin, conflict, n60)
select $2::timestamptz, 24, $1, 4, '', n, '', 3, false, 1 from generate_series(1, $3::integer) n
"""
DAY = timedelta(days=1)
TODAY = now().replace(hour=0, minute=0, second=0, microsecond=0)
MORE = Found([], Position(UUID(int=0)))  # there is a next page: so many have to be counted


class Cell(NamedTuple):
    """So many messages of an hour."""

    at: datetime
    channel: int
    country: str
    origin: int
    conflict: bool
    column: Column
    messages: int


async def cells(connection: Connection, tenant: TenantId) -> list[Cell]:
    """Some columns of some hours."""
    rnd, made = random.Random(4), list[Cell]()
    for _ in range(60):
        at = TODAY - rnd.randrange(3 * 24) * timedelta(hours=1)
        key = (at, rnd.choice((1, 8)), rnd.choice(("", "GB", "FR")), rnd.choice((1, 2)), rnd.random() < 0.2)
        counts = {column: rnd.randrange(1, 100) for column in rnd.sample(COLUMNS, 12)}
        values = [counts.get(column, 0) for column in COLUMNS]
        await connection.execute(CELL, tenant, key[0], key[1], key[2], key[3], key[4], values)
        made += [Cell(*key, column, n) for column, n in counts.items()]
    return made


def counted(made: list[Cell], asked: Filters, begin: datetime, end: datetime) -> int:
    return sum(
        cell.messages
        for cell in made
        if begin <= cell.at < end
        and (not asked.channel or cell.channel in asked.channel)
        and (not asked.country or cell.country in asked.country)
        and (not asked.origin or cell.origin in asked.origin)
        and (asked.conflict is None or cell.conflict is asked.conflict)
        and (not asked.state or cell.column.state in asked.state)
        and (
            not asked.reason_class
            or (cell.column.state in NEGATIVE_STATES and cell.column.code_class in asked.reason_class)
        )
    )


def test_an_estimate_is_a_count_of_the_cells(database: Database) -> None:
    tenant = database.tenant()

    async def work() -> None:
        connection = await connect(database.dsn, "tests")
        await connection.execute("update folded set at = now()")  # the template may be minutes old
        made = await cells(connection, tenant)
        begin, end = TODAY - 2 * DAY - timedelta(hours=5), TODAY - timedelta(hours=7)
        for asked in (
            Filters(),
            Filters(channel=[8], origin=[1]),
            Filters(country=["GB"]),
            Filters(country=["GB", "FR"], state=[State.UNDELIVERED, State.DELIVERED], conflict=False),
            Filters(reason_class=[0]),
            Filters(reason_class=[1, 6], state=[State.UNDELIVERED, State.BOUNCED, State.READ]),
            Filters(state=[State.QUEUED], conflict=True),
        ):
            wanted = counted(made, asked, begin, end)
            assert wanted > 0, asked
            bounded = Filters(**{**vars(asked), "from_id": first_id_at(begin), "to_id": first_id_at(end)})
            assert await total(connection, tenant, bounded, MORE) == Total(wanted, "estimate"), asked
        everything = counted(made, Filters(), TODAY - 9 * DAY, TODAY + DAY)
        assert await total(connection, tenant, Filters(), MORE) == Total(everything, "estimate")
        await connection.execute(MANY, tenant, TODAY, MOST_COHORTS)
        part = await total(connection, tenant, Filters(), MORE)
        assert part.accuracy == "at_least"
        assert 0 < part.value < everything + MOST_COHORTS
        await connection.execute("update folded set at = now() - interval '6 minutes'")
        assert (await total(connection, tenant, Filters(), MORE)).accuracy == "exact", "of no message at all"
        await connection.close()

    asyncio.run(work())
