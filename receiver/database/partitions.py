"""The weeks: partitions made ahead by the ids that are born in them, and generations of keys.

A message's whole life lies in the week of its id. There is no default partition: it would forbid to detach one
without a lock on all.
"""

from datetime import UTC, date, datetime, timedelta

from receiver.database.pool import Connection
from receiver.ids import first_id_at

WEEKS_AHEAD = 3

BY_ID = ("batch", "submission", "attempt", "message", "message_state", "receipt", "intake")
BY_TIME = ("change", "cohort_state", "cohort_lag")
HOT = {
    "message_state": "with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05)",
    "cohort_state": "with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05)",
    "cohort_lag": "with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05)",
}

WEEKS = "select starts_on from week order by starts_on"
LAST_DROPPED = "select max(starts_on) from dropped_week"
DATABASE_NOW = "select now()"
ADD_WEEK = "insert into week (starts_on, first_id, end_id) values ($1, $2, $3)"
# Whoever waits for a lock makes all later ones wait behind: rather fail soon, and try again.
SHORT_LOCKS = "set local lock_timeout = '200ms'"
ONE_AT_A_TIME = "select pg_advisory_xact_lock(hashtext('receiver.partitions'))"
# Up to the first gap: a clock that jumped may have had weeks made that are far away.
DAYS_AHEAD = """
select min(w.starts_on) + 7 - t.today
  from (select (now() at time zone 'UTC')::date as today) t
  join week w on w.starts_on + 7 > t.today and not exists (select from week n where n.starts_on = w.starts_on + 7)
 where exists (select from week p where p.starts_on <= t.today and p.starts_on + 7 > t.today)
 group by t.today
"""


def week_of(moment: datetime) -> date:
    """The Monday (UTC) of the week of `moment`."""
    day = moment.astimezone(UTC).date()
    return day - timedelta(days=day.weekday())


async def ensure_weeks(connection: Connection, now: datetime) -> list[date]:
    """Makes the partitions of last week (clocks differ), this and the next ones, by `now` and by the database's clock.

    Raises asyncpg.LockNotAvailableError if somebody holds a table for longer than we let the receipts wait behind us.
    """
    async with connection.transaction():
        await connection.execute(SHORT_LOCKS)
        await connection.execute(ONE_AT_A_TIME)
        have = {row["starts_on"] for row in await connection.fetch(WEEKS)}
        dropped = await connection.fetchval(LAST_DROPPED)
        # This process may make them for all: where its clock is slow, the others must not run out of weeks.
        mondays = [week_of(now), week_of(await connection.fetchval(DATABASE_NOW))]
        wanted = sorted({m + timedelta(weeks=n) for m in mondays for n in range(-1, WEEKS_AHEAD + 1)})
        # What retention dropped must not come back. Behind the newest there may be a gap: a clock that jumped ahead
        # and back has had weeks made that are far away.
        new = [week for week in wanted if week not in have and (dropped is None or week > dropped)]
        for week in new:
            await make_week(connection, week)
    return new


async def make_week(connection: Connection, week: date) -> None:
    """Makes the partitions of one week, inside the caller's transaction."""
    start = datetime(week.year, week.month, week.day, tzinfo=UTC)
    end = start + timedelta(weeks=1)
    first_id, end_id = first_id_at(start), first_id_at(end)
    bounds = {table: (str(first_id), str(end_id)) for table in BY_ID}
    bounds |= {table: (start.isoformat(), end.isoformat()) for table in BY_TIME}
    bounds["quarantine"] = (week.isoformat(), end.date().isoformat())
    for table, (low, high) in bounds.items():
        await attach(connection, table, f"{week:%Y%m%d}", f"from ('{low}') to ('{high}')")
    await connection.execute(ADD_WEEK, week, first_id, end_id)


async def attach(connection: Connection, table: str, name: str, bound: str) -> None:
    """Makes a partition beside its table and attaches it: neither readers nor writers are locked out meanwhile."""
    options = HOT.get(table, "")
    await connection.execute(f"create table if not exists {table}_{name} (like {table} including all) {options}")
    await connection.execute(f"alter table {table} attach partition {table}_{name} for values {bound}")


async def days_ahead(connection: Connection) -> int:
    """For how many days there are partitions."""
    return int(await connection.fetchval(DAYS_AHEAD) or 0)


LOCK_TABLE = "select current_setting('max_locks_per_transaction')::int"
ENOUGH_LOCKS = 1024


async def lock_table_warning(connection: Connection) -> str | None:
    """What is wrong with the size of the lock table: a group locks some 300 tables and indexes of all weeks."""
    have = int(await connection.fetchval(LOCK_TABLE))
    if have >= ENOUGH_LOCKS:
        return None
    return f"max_locks_per_transaction is {have}: set it to {ENOUGH_LOCKS} in Postgres, or busy hours run out of locks"


LOCK_GENERATION = "select pg_advisory_xact_lock(hashtext('receiver.key_generation'))"
CURRENT_GENERATION = "select current from key_generation"
GENERATION_AGE = "select current, now() - rotated_at as age from key_generation"
SET_GENERATION = """
with ended as (insert into past_generation (number, ended_at) values ($1 - 1, now()))
update key_generation set current = $1, rotated_at = now() where current = $1 - 1
"""
IS_MADE = "select exists (select from pg_inherits where inhrelid = to_regclass($1))"


async def rotate_keys(connection: Connection, every: timedelta = timedelta(weeks=1)) -> int | None:
    """Begins a new generation of keys if the present one is older than `every`; returns its number.

    The one after it is made too: beginning it needs no new table then. The exclusive lock waits for every birth in
    flight: no key can be born in two generations. Raises asyncpg.LockNotAvailableError if that takes too long.
    """
    row = await connection.fetchrow(GENERATION_AGE)
    if row is None:
        return None
    current = int(row["current"])
    if abs(row["age"]) < every:  # begun in the future: the clock has been put right since
        await make_generation(connection, current + 1)
        return None
    await make_generation(connection, current + 1)
    async with connection.transaction():
        await connection.execute(SHORT_LOCKS)
        await connection.execute(ONE_AT_A_TIME)
        if await connection.fetchval(CURRENT_GENERATION) != current:
            return None  # another process was first
        await connection.execute(LOCK_GENERATION)
        await connection.execute(SET_GENERATION, current + 1)
    await make_generation(connection, current + 2)
    return current + 1


async def make_generation(connection: Connection, number: int) -> None:
    """Makes the partition of a generation, if it is not there yet."""
    if await connection.fetchval(IS_MADE, f"message_key_g{number}"):
        return
    async with connection.transaction():
        await connection.execute(SHORT_LOCKS)
        await connection.execute(ONE_AT_A_TIME)
        if not await connection.fetchval(IS_MADE, f"message_key_g{number}"):
            await attach(connection, "message_key", f"g{number}", f"in ({number})")
