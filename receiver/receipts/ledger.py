"""The ledger as SQL: what each feed brought, and whether the receipts that are there are those that were counted.

The two know nothing of one another: the sums read `intake` alone, the count reads every receipt that is kept. Both
see one moment (a REPEATABLE READ snapshot), so what commits meanwhile is in all of it or in none.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime

import asyncpg

from receiver.database.pool import Connection
from receiver.messages.told import Feed

FEEDS = (Feed.PUSH, Feed.IMPORT, Feed.POLL, Feed.REPLAY)
RESULTS = ("applied", "duplicate", "quarantined", "forged", "late")

# Readers walk by indexes alone; this one is a bitmap by its nature.
BY_TIME = "set local enable_bitmapscan = on"
# `at` decides, and no bound on the id: a unit of the spool is counted when it is drained, long after its key was made.
SUMS = """
select feed, count(*) as groups, sum(received)::bigint as received, sum(applied)::bigint as applied,
       sum(duplicate)::bigint as duplicate, sum(quarantined)::bigint as quarantined, sum(forged)::bigint as forged,
       sum(late)::bigint as late
  from intake where at >= $1 and at < $2 group by feed
"""

# A week that is detached and not dropped yet is in nobody's sums: its tables are still there, and are counted.
WEEKS = """
select starts_on from week union all select starts_on from dropped_week where dropped_at is null order by starts_on
"""
GONE = """
select coalesce(sum(receipts - copied), 0)::bigint as receipts, coalesce(sum(counted), 0)::bigint as counted
  from dropped_week where dropped_at is not null
"""
COUNT_RECEIPTS = "select count(*) filter (where feed <= 4 and not copied) from receipt_{0:%Y%m%d}"
COUNT_LEDGER = "select coalesce(sum(applied + late) filter (where feed <= 4), 0)::bigint from intake_{0:%Y%m%d}"
# One core and no more: receipts come in meanwhile.
ALONE = "set local max_parallel_workers_per_gather = 0; set local jit = off; set local statement_timeout = '{0}s'"
# What autovacuum last knew; a table that it has never seen is taken for full of receipts of half a kilobyte.
ESTIMATE = """
select coalesce(sum(case when c.reltuples >= 0 then c.reltuples else pg_relation_size(c.oid) / 512 end), 0)::bigint
  from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'receipt'::regclass
"""

KEEP = """
with old as (delete from ledger_check where at < $1::timestamptz - interval '400 days')
insert into ledger_check (at, difference, receipts, counted, seconds) values ($1, $2, $3, $4, $5) on conflict do nothing
"""
LAST = "select at, difference, receipts, counted, seconds from ledger_check order by at desc limit 1"

Sums = dict[Feed, dict[str, int]]


class WeekGone(Exception):
    """A week was dropped after the count had begun: what stood in it can't be known. Count again."""


@dataclass(frozen=True)
class Count:
    """What an independent count found."""

    at: datetime
    receipts: int
    """Those that are there, copies of merges apart, and those that were dropped with their weeks."""
    counted: int
    """What the ledger calls applied or late, and what it had called so of the weeks that were dropped."""
    seconds: float

    @property
    def difference(self) -> int:
        """0 when they balance; above: receipts are missing; below: receipts came in past the ledger."""
        return self.counted - self.receipts


async def sums(connection: Connection, since: datetime, until: datetime) -> Sums:
    """The figures of each feed in [since, until), by when their groups were committed; inside a transaction."""
    await connection.execute(BY_TIME)
    found = {row["feed"]: row for row in await connection.fetch(SUMS, since, until)}
    return {
        feed: {name: int(found[feed][name]) if feed in found else 0 for name in ("groups", "received", *RESULTS)}
        for feed in FEEDS
    }


def balances(found: Sums) -> bool:
    """Whether everything that was received came to one of the five ends, in each feed."""
    return all(figures["received"] == sum(figures[name] for name in RESULTS) for figures in found.values())


async def count(
    connection: Connection,
    seconds: float,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Count:
    """Reads every receipt that is kept, a week at a time, and compares; a week's table has `seconds` at most.

    `progress` hears how many weeks are done. Holds an old snapshot meanwhile. Raises WeekGone, asyncpg.PostgresError.
    """
    at, began = now(), time.monotonic()
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(ALONE.format(int(seconds)))
        gone = await connection.fetchrow(GONE)
        assert gone is not None
        receipts, counted = gone["receipts"], gone["counted"]
        weeks: list[date] = [row["starts_on"] for row in await connection.fetch(WEEKS)]
        for done, week in enumerate(weeks):
            progress(done, len(weeks))
            try:
                receipts += await connection.fetchval(COUNT_RECEIPTS.format(week), timeout=seconds + 1)
                counted += await connection.fetchval(COUNT_LEDGER.format(week), timeout=seconds + 1)
            except asyncpg.UndefinedTableError:
                raise WeekGone(f"the week {week} was dropped meanwhile") from None
        progress(len(weeks), len(weeks))
    return Count(at, receipts, counted, time.monotonic() - began)


async def estimate(connection: Connection) -> int:
    """About how many receipts are kept; reads no table."""
    return int(await connection.fetchval(ESTIMATE))


async def keep(connection: Connection, found: Count) -> None:
    """Stores a result; those of more than 400 days ago leave."""
    await connection.execute(KEEP, found.at, found.difference, found.receipts, found.counted, found.seconds)


async def last(connection: Connection) -> Count | None:
    """The latest result that was stored; None for none yet."""
    row = await connection.fetchrow(LAST)
    return None if row is None else Count(row["at"], row["receipts"], row["counted"], row["seconds"])
