"""The bounds of the quarantine in Postgres: how much there is, the weeks that are too old, the rows that are too many.

A week goes as a whole: detached without a lock on the table, then dropped. Rows go a few at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import asyncpg

from receiver.database.pool import Connection

# Counted for each row beside its body: headers, keys, the index.
ROW_BYTES = 1024
AT_ONCE = 200  # rows in one DELETE: some 10 ms
MOST_DOOMED = 20_000  # rows chosen at once

MEASURE = f"""
select reason, count(*) as bodies, sum(octet_length(body) + {ROW_BYTES})::bigint as bytes
  from quarantine group by reason
"""
ON_DISK = """
select coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint from pg_inherits
 where inhparent = 'quarantine'::regclass
"""

TOO_MANY = f"""
select week, digest, tenant, last_at
  from (select week, digest, tenant, last_at,
               sum(octet_length(body) + {ROW_BYTES}) over (order by last_at desc, digest, tenant, week
                                                           rows unbounded preceding) as bytes_so_far
          from quarantine) q
 where bytes_so_far > $1
 order by last_at, digest limit {MOST_DOOMED}
"""
# A row that was told again meanwhile is not the oldest any more, and one that is being told now is left alone: who
# waits for no row can't be in a deadlock with the intake.
TRIM = """
with doomed as materialized (
  select q.week, q.digest, q.tenant
    from unnest($1::date[], $2::bytea[], $3::smallint[], $4::timestamptz[]) as d(week, digest, tenant, last_at)
    join quarantine q on q.week = d.week and q.digest = d.digest and q.tenant = d.tenant and q.last_at = d.last_at
     for update of q skip locked
)
delete from quarantine q using doomed d where q.week = d.week and q.digest = d.digest and q.tenant = d.tenant
"""

WEEKS = """
select c.relname as name, i.inhrelid is not null as attached, coalesce(i.inhdetachpending, false) as half_way
  from pg_class c left join pg_inherits i on i.inhrelid = c.oid
 where c.relkind = 'r' and c.relname ~ '^quarantine_[0-9]{8}$'
   and c.relnamespace = (select relnamespace from pg_class where oid = 'quarantine'::regclass)
 order by c.relname
"""
# Whoever waits for a lock makes all later ones wait behind: rather fail soon, and try again.
SHORT_LOCKS = "set lock_timeout = '50ms'"
LONG_LOCKS = "reset lock_timeout"
DETACH = "alter table quarantine detach partition {0} concurrently"
FINISH = "alter table quarantine detach partition {0} finalize"
COUNT = "select count(*) from {0}"
DROP = "drop table {0}"

TRY_LOCK = "select pg_try_advisory_lock(hashtext('receiver.quarantine'))"
UNLOCK = "select pg_advisory_unlock(hashtext('receiver.quarantine'))"


async def measure(connection: Connection) -> dict[str, tuple[int, int]]:
    """Bodies and bytes by reason, over all tenants."""
    return {row["reason"]: (row["bodies"], row["bytes"]) for row in await connection.fetch(MEASURE)}


async def bytes_on_disk(connection: Connection) -> int:
    """What the quarantine takes on disk, with what vacuum has not yet freed. Reads no table."""
    return int(await connection.fetchval(ON_DISK))


async def try_lock(connection: Connection) -> bool:
    """Whether this session may trim now: one at a time."""
    return await connection.fetchval(TRY_LOCK) is True


async def unlock(connection: Connection) -> None:
    """Lets others trim."""
    await connection.execute(UNLOCK)


async def trim_to(connection: Connection, most_bytes: int) -> int:
    """Deletes the rows told longest ago until the rest counts `most_bytes` at most; returns how many went."""
    gone = 0
    while doomed := await connection.fetch(TOO_MANY, most_bytes):
        before = gone
        for start in range(0, len(doomed), AT_ONCE):
            gone += await _delete(connection, doomed[start : start + AT_ONCE])
        if gone == before:  # all of them are being told right now
            break
    return gone


async def _delete(connection: Connection, rows: Sequence[asyncpg.Record]) -> int:
    columns = ([row[name] for row in rows] for name in ("week", "digest", "tenant", "last_at"))
    return int((await connection.execute(TRIM, *columns)).rpartition(" ")[2])


def is_old(name: str, today: date, days: int) -> bool:
    """Whether the week of a partition's name ended `days` or more ago."""
    begins = datetime.strptime(name.rpartition("_")[2], "%Y%m%d").date()
    return begins + timedelta(days=7 + days) <= today


@dataclass(frozen=True)
class Week:
    """A week's table, and how far its end has come: attached, half way out, or detached."""

    name: str
    attached: bool
    half_way: bool


async def old_weeks(connection: Connection, today: date, days: int) -> list[Week]:
    """The weeks that ended `days` or more ago, with what an earlier try left behind."""
    return [Week(**dict(row)) for row in await connection.fetch(WEEKS) if is_old(row["name"], today, days)]


async def drop_week(connection: Connection, week: Week) -> int:
    """Drops a week; returns how many bodies went with it. Goes on where an earlier try was cut off.

    Raises asyncpg.LockNotAvailableError if a long transaction is in the way: nobody waits behind us, so try again.
    """
    await connection.execute(SHORT_LOCKS)
    try:
        if week.attached:
            await connection.execute((FINISH if week.half_way else DETACH).format(week.name))
        bodies = int(await connection.fetchval(COUNT.format(week.name)))
        await connection.execute(DROP.format(week.name))
    finally:
        if not connection.is_closed():
            await connection.execute(LONG_LOCKS)
    return bodies
