"""How long statistics of 20 million messages take to read: `python -m bench.statistics [--rounds 10]`.

`--recount 1000000` measures instead how long it takes to count so many messages anew, as after a restore elsewhere.

The roll-ups of ninety days with 222,000 messages each are made in SQL: three channels, of which SMS has 80 %, fifteen
countries with skewed shares, states as they usually are, so that rare cells are absent. Of hours there are what the
questions read: those of seven days, all countries together.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from statistics import median
from typing import NamedTuple

from starlette.datastructures import QueryParams

from bench import preload
from bench.costs import Postgres, processor_seconds
from bench.preload import make_weeks
from bench.report import Section, Verdict
from bench.stage import Caller, request_bytes, stage
from receiver.database.partitions import make_week, week_of
from receiver.database.pool import connect, open_pool
from receiver.ids import TenantId
from receiver.messages.cells import COLUMNS, DIGITS, NAMES
from receiver.messages.patience import waits_of
from receiver.queries import statistics
from receiver.queries.statistics_asked import Asked, read_asked
from receiver.upkeep import folding
from receiver.waits import DEFAULTS
from tests.support import Receiver, receiver_process

DAYS, DAYS_OF_HOURS, A_DAY = 90, 7, 222_000
DEMANDED = 50.0  # ms, of 90 days
QUESTIONS = (
    ("", DAYS),
    ("day", DAYS),
    ("day,channel", DAYS),
    ("channel,country", DAYS),
    ("day,country", DAYS),
    ("channel,country,code_class", DAYS),
    ("hour", 7),
)

# Channel, share, and state, class, share of it. Origin 1: issued.
CELLS = """
with channel(channel, share) as (values (1, 0.8), (8, 0.15), (10, 0.05)),
country(of_hours, country, share) as (
  select 24, (array['GB','FR','DE','ES','IT','NL','BE','IE','US','PL','PT','SE','NO','DK','FI'])[n],
         0.38 * 0.62 ^ (n - 1) from generate_series(1, 15) n
  union all select 1, '', 1),
state(state, class, share) as (values
  (60, 0, 0.9), (45, 1, 0.04), (45, 5, 0.006), (46, 6, 0.004), (46, 2, 0.002), (42, 4, 0.003), (43, 1, 0.005),
  (20, 0, 0.008), (30, 0, 0.03), (10, 0, 0.001), (41, 0, 0.0005), (5, 0, 0.0003), (40, 0, 0.0002)),
span(hours, at, messages) as (
  select 24, d, $2::float8 from generate_series($3::timestamptz, $4::timestamptz - interval '1 day', '1 day') d
  union all
  select 1, h, $2 / 24 from generate_series($5::timestamptz, $4::timestamptz - interval '1 hour', '1 hour') h)
"""
# A column a state, its rows added up by country and for all countries together.
SUMS = ", ".join(
    f"coalesce(sum(n) filter (where state = {int(c.state)} and class = {c.code_class}), 0)" for c in COLUMNS
)
COHORT = f"""{CELLS},
cell as (
  select at, hours, channel, country, state, class,
         floor(messages * channel.share * country.share * state.share + random())::bigint as n
    from span join country on of_hours = hours cross join channel cross join state)
insert into cohort_state (at, hours, tenant, side, value, channel, country, origin, conflict, {", ".join(NAMES)})
select at, hours, $1, case when country is null then 4 else 0 end, '', channel, coalesce(country, ''), 1, false, {SUMS}
  from cell where n > 0
 group by at, hours, channel, rollup (country) having country is distinct from ''
 order by hours, 4, at, channel, country
"""
# Kind, its middle class and how many classes wide: a fifth of a second, one second, eight seconds, one second.
LAG = f"""{CELLS},
kind(kind, middle, width) as (values (1, 54, 4.0), (2, 70, 8.0), (3, 91, 10.0), (4, 70, 10.0)),
share(kind, class, share) as (
  select kind, class, exp(-((class - middle) / width) ^ 2 / 2) / (width * 2.5066)
    from kind, generate_series(20, 160) class where abs(class - middle) < 3 * width),
cell as (
  select at, hours, channel, country, kind, class,
         floor(messages * channel.share * country.share * share.share + random())::bigint as n
    from span join country on of_hours = hours cross join channel cross join share)
insert into cohort_lag (at, hours, tenant, side, value, channel, country, origin, kind, counts)
select at, hours, $1, case when country is null then 4 else 0 end, '', channel, coalesce(country, ''), 1, kind,
       sum(n * ('1e' || {DIGITS} * class)::numeric)
  from cell where n > 0
 group by at, hours, channel, kind, rollup (country) having country is distinct from ''
 order by hours, 4, at, channel, country
"""
ROWS = "select (select count(*) from cohort_state) + (select count(*) from cohort_lag)"


async def fill(dsn: str, tenant: TenantId, end: datetime) -> int:
    """The roll-ups of the ninety days before `end`; how many rows there are."""
    connection = await connect(dsn, "bench", synchronous_commit="off", work_mem="128MB", timezone="UTC")
    begin = end - timedelta(days=DAYS)
    monday: date = week_of(begin)
    while monday < week_of(end):
        if not await connection.fetchval("select exists (select from week where starts_on = $1)", monday):
            async with connection.transaction():
                await make_week(connection, monday)
        monday += timedelta(weeks=1)
    values = (tenant, float(A_DAY), begin, end, end - timedelta(days=DAYS_OF_HOURS))
    for statement in (COHORT, LAG):
        await connection.execute(statement, *values)
    await connection.execute("vacuum analyze cohort_state")
    await connection.execute("vacuum analyze cohort_lag")
    rows = await connection.fetchval(ROWS)
    await connection.close()
    return int(rows)


async def _median(rounds: int, work: Callable[[], Awaitable[object]]) -> float:
    """Milliseconds, after three times that do not count."""
    taken = []
    for number in range(rounds + 3):
        began = time.perf_counter()
        await work()
        if number > 2:
            taken.append((time.perf_counter() - began) * 1000)
    return median(taken)


class Taken(NamedTuple):
    """Of one question: milliseconds in the database and at the door, and of processors there, by us and by Postgres."""

    question: str
    database: float
    door: float
    ours: float
    postgres: float


async def _ask(dsn: str, tenant: TenantId, receiver: Receiver, key: str, rounds: int) -> list[Taken]:
    """How long each question takes."""
    end = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    waits, found = waits_of(DEFAULTS), list[Taken]()
    pool = await open_pool(dsn, "bench", 1, writer=False)
    caller = await Caller("127.0.0.1", int(receiver.url.rpartition(":")[2])).open()
    pids = receiver.process.pid, (await Postgres.of(dsn)).pid
    for by, days in QUESTIONS:
        for latency in ("false", "true"):
            query = f"from={end - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}&to={end:%Y-%m-%dT%H:%M:%SZ}"
            query += f"&origin=issued&latency={latency}" + (f"&by={by}" if by else "")
            asked = read_asked(QueryParams(query), lambda: datetime.now(UTC))
            assert isinstance(asked, Asked), asked
            request = request_bytes("GET", f"/v1/stats/delivery?{query}", authorization=f"Bearer {key}")
            status, body = await caller.ask(request)
            assert status == 200, body

            async def read(asked: Asked = asked) -> None:
                async with pool.acquire() as connection:
                    await statistics.deliveries(connection, tenant, asked, waits)

            async def ask(request: bytes = request) -> None:
                await caller.ask(request)

            name = f"`{by or 'nothing'}`, {days} days" + (", with percentiles" if latency == "true" else "")
            database, before = await _median(rounds, read), [processor_seconds(pid) for pid in pids]
            door = await _median(rounds, ask)
            spent = [processor_seconds(pid) - had for pid, had in zip(pids, before, strict=True)]
            found.append(Taken(name, database, door, *(1000 * seconds / (rounds + 3) for seconds in spent)))
    await caller.close()
    await pool.close()
    return found


def measure(rounds: int) -> Section:
    """Makes the roll-ups and asks."""
    with stage() as (database, folder):
        tenant, key = database.tenant(), database.key("read")
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        rows = asyncio.run(fill(database.dsn, tenant, today))
        with receiver_process(database, folder, RECEIVER_RATE_LIMIT="0") as receiver:
            found = asyncio.run(_ask(database.dsn, tenant, receiver, key, rounds))
    heads = ("by", "ms in the database, and there and back", "ms at the door", "CPU ms here", "CPU ms Postgres")
    section = Section("Statistics: 20 million messages of 90 days", heads)
    for one in found:
        section.rows.append((one.question, *(f"{ms:.0f}" for ms in one[1:])))
    section.notes.append(f"{rows:,} rows of roll-ups. Warm, median of {rounds}.")
    plain = max(one.door for one in found if "percentiles" not in one.question)
    timed = max(one.door for one in found if "percentiles" in one.question)
    section.verdicts = [
        Verdict("statistics: the slowest question without percentiles", plain, DEMANDED, at_least=False, unit=" ms"),
        Verdict("statistics: the slowest question with percentiles", timed, DEMANDED, at_least=False, unit=" ms"),
    ]
    return section


async def _recount(dsn: str, tenant: TenantId, messages: int) -> tuple[float, float, int, int]:
    """Seconds, of a processor of Postgres too, how many messages were counted, and how many rows the roll-ups have."""
    weeks = await make_weeks(dsn, datetime.now(UTC) - timedelta(minutes=1))
    await preload.fill(dsn, tenant, weeks, 0, messages, lambda _number: None)
    postgres = await Postgres.of(dsn)
    async with await open_pool(dsn, "bench", 1, writer=True) as pool, pool.acquire() as connection:
        before, began = processor_seconds(postgres.pid), time.perf_counter()
        step = await folding.recount(connection)
        took, spent = time.perf_counter() - began, processor_seconds(postgres.pid) - before
        rows = await connection.fetchval(ROWS)
    return took, spent, step.changes, int(rows)


def measure_recount(messages: int) -> Section:
    """Fills a database and counts it anew."""
    with stage() as (database, _):
        took, spent, counted, rows = asyncio.run(_recount(database.dsn, database.tenant(), messages))
    heads = ("messages", "seconds", "us a message", "CPU s Postgres", "rows of roll-ups")
    section = Section("Statistics: a count of everything anew", heads)
    each = f"{took / counted * 1e6:.1f}"
    section.rows.append([f"{counted:,}", f"{took:.1f}", each, f"{spent:.1f}", f"{rows:,}"])
    section.notes.append("Each with three or four rows of the change log. Writers wait for its snapshot alone.")
    return section


def main() -> None:
    """Reads the command line and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--recount", type=int, metavar="MESSAGES")
    chosen = parser.parse_args()
    (measure_recount(chosen.recount) if chosen.recount else measure(chosen.rounds)).print()


if __name__ == "__main__":
    main()
