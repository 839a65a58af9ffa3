"""What must be true after a run: everything that was answered 200 is there once, and all that is counted agrees."""

import asyncio
import time
from datetime import timedelta
from uuid import UUID

import asyncpg

from bench.wrk import Load
from receiver.database.pool import connect
from receiver.ids import born_at

SPOOLED = 60.0  # seconds


class NotTrue(AssertionError):
    """The database does not hold what was answered."""


# What was told of messages born from one id on, and the groups that were committed since.
COUNTS = """
select (select count(*) from receipt where feed = 1 and message_id >= $1) as receipts,
       coalesce(sum(received), 0)::bigint as received, coalesce(sum(applied), 0)::bigint as applied,
       coalesce(sum(duplicate), 0)::bigint as duplicate
  from intake where id >= $1
"""

# Beside the plain fold of all that was told: the greatest rank, all facts, the counts of the change log.
WRONG_STATES = """
select count(*) from message_state s
  full join (select r.message_id as id, max(r.rank) as state, bit_or(r.fact) as facts from receipt r
              where r.message_id >= $1 group by 1) f on f.id = s.id
 where coalesce(s.id, f.id) >= $1 and s.merged_into is null
   and (s.id is null or s.state <> coalesce(f.state, 0) or s.facts <> coalesce(f.facts, 0))
"""
WRONG_LOGS = """
select count(*) from message_state s
  full join (select c.message_id as id, count(*) as rows, max(c.version) as version,
                    (array_agg(c.new_state order by c.version desc))[1] as state
               from change c where c.message_id >= $1 and c.at >= $2 group by 1) l on l.id = s.id
 where coalesce(s.id, l.id) >= $1
   and (l.id is null or s.id is null or s.state <> l.state or s.version <> l.version
        or l.rows <> l.version + case s.origin when 2 then 0 else 1 end)
"""
WRONG_SUMS = """
select count(*) from (
  select state, sum(n) as n from (
    select new_state as state, count(*) as n from change
     where new_state is not null and message_id >= $1 and at >= $2 group by 1
    union all
    select old_state, -count(*) from change
     where old_state is not null and message_id >= $1 and at >= $2 group by 1) both_sides group by 1) summed
  full join (select state, count(*) as n from message_state where id >= $1 group by 1) counted using (state)
 where coalesce(summed.n, 0) <> coalesce(counted.n, 0)
"""


async def prove(dsn: str, load: Load, first: UUID, duplicates: float = 0.0) -> None:
    """Checks a run on messages from id `first` on, of which nothing was told before. What was in flight at its end may
    be there or not. Raises NotTrue.
    """
    connection = await connect(dsn, "bench")
    try:
        await prove_on(connection, load, first, duplicates)
    finally:
        await connection.close()


async def prove_on(
    connection: "asyncpg.Connection[asyncpg.Record]",
    load: Load,
    first: UUID,
    duplicates: float = 0.0,
    patience: float = SPOOLED,
) -> None:
    """`prove` on an open connection. What went to the spool has so many seconds to come out of it."""
    until = time.monotonic() + patience
    while True:
        row = await connection.fetchrow(COUNTS, first)
        assert row is not None
        receipts, received, applied, duplicate = row.values()
        if received >= load.good or time.monotonic() > until:
            break
        await asyncio.sleep(0.5)
    demand(load.good <= received <= load.sent, f"the ledger has {received}, answered {load.good}, sent {load.sent}")
    demand(applied == receipts, f"{receipts} receipts, the ledger says {applied}")
    demand(received == applied + duplicate, f"{received} received, {applied} applied, {duplicate} known")
    low, high = duplicates * 0.9 * load.good - 1_000, duplicates * 1.1 * load.sent
    demand(low <= duplicate <= high, f"{duplicate} of {load.good} were known")
    await prove_states(connection, first)


async def prove_states(connection: "asyncpg.Connection[asyncpg.Record]", first: UUID) -> None:
    """Every state is the fold of its receipts, and the change log says the same. Raises NotTrue."""
    since = born_at(first) - timedelta(minutes=1)
    for what, query, values in (
        ("states that are not the fold of their receipts", WRONG_STATES, [first]),
        ("messages whose change log ends elsewhere", WRONG_LOGS, [first, since]),
        ("states whose count is not the change log's sum", WRONG_SUMS, [first, since]),
    ):
        wrong = await connection.fetchval(query, *values)
        demand(wrong == 0, f"{wrong} {what}")


def demand(holds: bool, what: str) -> None:
    """Raises NotTrue with what does not hold."""
    if not holds:
        raise NotTrue(what)
