"""Dropping what is older than the retention: whole weeks, and the generations of keys that pointed into them.

A week leaves in two steps. First all its tables are detached in one transaction, so that a receipt finds its message
in all of them or in none (docs/decisions/0013-retention.md). Then, when nobody can write to them any more, they are
counted for the ledger and dropped, again in one transaction: cut off anywhere, the next round goes on.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import asyncpg

from receiver.database.partitions import BY_ID, BY_TIME, ONE_AT_A_TIME
from receiver.database.pool import Connection
from receiver.ids import first_id_at

TABLES = (*BY_ID, *BY_TIME)
LONG_SECONDS = 600.0  # counting a week of 20 million receipts; holds up nobody

TRY_LOCK = "select pg_try_advisory_lock(hashtext('receiver.retention'))"
UNLOCK = "select pg_advisory_unlock(hashtext('receiver.retention'))"

# Both clocks must say that a week is old: one that jumped ahead drops nothing. The week of today always stays.
OLD_WEEKS = """
select starts_on from week
 where starts_on + 7 + $2::int <= (least($1::timestamptz, now()) at time zone 'UTC')::date
 order by starts_on
"""
OLDEST_WEEK = "select starts_on from week order by starts_on limit 1"
LEFT_BEHIND = "select starts_on from dropped_week where dropped_at is null order by starts_on"
PARTITIONS = """
select p.relname as parent, c.relname as name, i.inhdetachpending as half_way
  from pg_inherits i join pg_class c on c.oid = i.inhrelid join pg_class p on p.oid = i.inhparent
 where c.relname = any($1::text[])
"""

# Whoever waits for a lock makes all later ones wait behind. So we look first whether somebody has a table for long, and
# then wait 50 ms for each and 150 ms for all of them; where groups take longer than that, up to 200 and 300 ms.
FIRST_PATIENCE, LAST_PATIENCE, MORE_FOR_ALL = 50, 200, 100
# What another user of the database does is hidden from us, a vacuum too: it may take long.
IN_USE = """
select count(*) from pg_locks l join pg_stat_activity a on a.pid = l.pid
 where l.relation = any($1::text[]::regclass[]) and l.pid <> pg_backend_pid()
   and l.database = (select oid from pg_database where datname = current_database())
   and coalesce(a.xact_start < clock_timestamp() - interval '500 ms', true)
"""
SHORT_LOCKS = "set local lock_timeout = '{0}ms'"
SHORT_STATEMENTS = "set local statement_timeout = '{0}ms'"
LONG_STATEMENTS = f"set local statement_timeout = '{int(LONG_SECONDS)}s'"
LOCK = "lock table {0} in access exclusive mode"
DETACH = "alter table {0} detach partition {1}"
FINISH = "alter table {0} detach partition {1} finalize"
TAKE_OUT = """
with w as (delete from week where starts_on = $1)
insert into dropped_week (starts_on) values ($1) on conflict do nothing
"""
# What was never sent all that time will have no message any more. A thousand at a time, before anything is locked.
UNSENT = """
delete from outbox where submission_id in (
  select submission_id from outbox where submission_id < $1 order by submission_id limit 1000)
"""
UNRESENT = "delete from resend where submission_id < $1"

IS_THERE = "select to_regclass($1) is not null"
COUNT = {
    "message": "select count(*), 0 from {0}",
    "receipt": "select count(*), count(*) filter (where copied) from {0} where feed <= 4",
    "intake": "select coalesce(sum(applied + late), 0)::bigint, 0 from {0}",
}
KEEP_COUNTS = """
update dropped_week set messages = $2, receipts = $3, copied = $4, counted = $5, dropped_at = now()
 where starts_on = $1 and dropped_at is null
"""
DROP = "drop table if exists {0}"

# A generation may go when the messages of its time have gone: those that are kept were all born after it.
OLD_GENERATIONS = """
select g.number from past_generation g
 where g.ended_at < (select (min(starts_on)::timestamp at time zone 'UTC') - interval '1 hour' from week)
 order by g.number
"""
# A key may have been given to a younger message since: it moves into the present generation. An UPDATE, so that who
# changes it at the same time is told to look again.
MOVE_YOUNG = """
update message_key k set generation = g.current
  from key_generation g
 where k.generation = $1 and k.message_id >= (select first_id from week order by starts_on limit 1)
   and not exists (select from message_key x
                    where (x.transid_key, x.leg_key, x.tenant) = (k.transid_key, k.leg_key, k.tenant)
                      and x.generation = g.current)
"""
# Those that became young between the move and the detaching.
SAVE_YOUNG = """
insert into message_key (generation, tenant, transid_key, leg_key, message_id)
select g.current, k.tenant, k.transid_key, k.leg_key, k.message_id from {0} k, key_generation g
 where k.message_id >= (select first_id from week order by starts_on limit 1)
on conflict do nothing
"""
DROP_GENERATION = "delete from past_generation where number = $1"


class InUse(Exception):
    """A table is in use: try again later. `waited`: it was not for long, and a little more patience may do."""

    def __init__(self, *, waited: bool) -> None:
        super().__init__("in use")
        self.waited = waited


async def try_lock(connection: Connection) -> bool:
    """Whether this session may drop now: one at a time."""
    return await connection.fetchval(TRY_LOCK) is True


async def unlock(connection: Connection) -> None:
    """Lets others drop."""
    await connection.execute(UNLOCK)


async def old_weeks(connection: Connection, now: datetime, days: int) -> list[date]:
    """The weeks whose youngest message is `days` days old or more, oldest first."""
    return [row["starts_on"] for row in await connection.fetch(OLD_WEEKS, now, days)]


async def left_behind(connection: Connection) -> list[date]:
    """The weeks that were detached by a round that was cut off, and are still to be counted and dropped."""
    return [row["starts_on"] for row in await connection.fetch(LEFT_BEHIND)]


async def oldest_week(connection: Connection) -> date | None:
    """The Monday of the oldest week that is kept."""
    starts_on: date | None = await connection.fetchval(OLDEST_WEEK)
    return starts_on


async def clear_unsent(connection: Connection, week: date) -> int:
    """Takes out of the outbox what is as old as the week or older; returns how many submissions had never been sent."""
    await connection.execute(UNRESENT, _end_of(week))
    gone = 0
    while deleted := int((await connection.execute(UNSENT, _end_of(week))).rpartition(" ")[2]):
        gone += deleted
    return gone


async def detach_week(connection: Connection, week: date, patience: int = FIRST_PATIENCE) -> None:
    """Takes the week out, all its tables at once; waits `patience` ms for each lock, 100 ms more for all of them.

    From the commit on a receipt of a message of that week is late. Weeks go in order, oldest first. Raises InUse.
    """
    names = [_name(table, week) for table in TABLES]
    partitions = await connection.fetch(PARTITIONS, names)
    for row in partitions:
        if row["half_way"]:  # somebody began to detach it by hand
            await _within(connection, [FINISH.format(row["parent"], row["name"])], transaction=False)
    attached = [row for row in partitions if not row["half_way"]]
    # the week's own tables, too: a vacuum has them for minutes, and no parent
    if await connection.fetchval(IN_USE, [*TABLES, *(row["name"] for row in attached)]):
        raise InUse(waited=False)
    try:
        async with connection.transaction():
            await connection.execute(SHORT_LOCKS.format(patience))
            await connection.execute(ONE_AT_A_TIME)
            await connection.execute(SHORT_STATEMENTS.format(patience + MORE_FOR_ALL))
            await connection.execute(LOCK.format(", ".join(f"only {table}" for table in TABLES)))
            for row in attached:
                await connection.execute(DETACH.format(row["parent"], row["name"]))
            await connection.execute(TAKE_OUT, week)
    except (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError) as error:
        raise InUse(waited=True) from error


async def drop_week(connection: Connection, week: date) -> None:
    """Counts a detached week for the ledger and drops it, in one transaction: once, however often it is tried."""
    async with connection.transaction():
        await connection.execute(LONG_STATEMENTS)
        counts: dict[str, Sequence[int]] = {}
        for table, query in COUNT.items():
            name = _name(table, week)
            there = await connection.fetchval(IS_THERE, name)
            counts[table] = await _counts(connection, query.format(name)) if there else (0, 0)
        messages, (receipts, copied), counted = counts["message"][0], counts["receipt"], counts["intake"][0]
        await connection.execute(KEEP_COUNTS, week, messages, receipts, copied, counted)
        for table in TABLES:
            await connection.execute(DROP.format(_name(table, week)), timeout=LONG_SECONDS)


async def old_generations(connection: Connection) -> list[int]:
    """The generations of keys that ended before the oldest message that is kept was born."""
    return [row["number"] for row in await connection.fetch(OLD_GENERATIONS)]


async def drop_generation(connection: Connection, number: int) -> None:
    """Drops a generation of keys; goes on where an earlier try was cut off. Raises InUse."""
    name = f"message_key_g{number}"
    if await connection.fetch(PARTITIONS, [name]):
        async with connection.transaction():
            await connection.execute(LONG_STATEMENTS)
            await connection.execute(MOVE_YOUNG, number, timeout=LONG_SECONDS)
        if await connection.fetchval(IN_USE, ["message_key"]):
            raise InUse(waited=False)
        await _within(connection, [LOCK.format("only message_key"), DETACH.format("message_key", name)])
    async with connection.transaction():
        await connection.execute(LONG_STATEMENTS)
        if await connection.fetchval(IS_THERE, name):
            await connection.execute(SAVE_YOUNG.format(name), timeout=LONG_SECONDS)
        await connection.execute(DROP.format(name), timeout=LONG_SECONDS)
        await connection.execute(DROP_GENERATION, number)


def _end_of(week: date) -> UUID:
    """The first id that is younger than the week."""
    end = week + timedelta(weeks=1)
    return first_id_at(datetime(end.year, end.month, end.day, tzinfo=UTC))


def _name(table: str, week: date) -> str:
    return f"{table}_{week:%Y%m%d}"


async def _counts(connection: Connection, query: str) -> Sequence[int]:
    row = await connection.fetchrow(query, timeout=LONG_SECONDS)
    assert row is not None
    return row[0], row[1]


async def _within(connection: Connection, statements: Sequence[str], *, transaction: bool = True) -> None:
    """Runs statements that wait 200 ms for a lock at most. Raises InUse where that is too short."""
    try:
        if transaction:
            async with connection.transaction():
                await connection.execute(SHORT_LOCKS.format(LAST_PATIENCE))
                for statement in statements:
                    await connection.execute(statement)
            return
        await connection.execute(SHORT_LOCKS.format(LAST_PATIENCE).replace("set local", "set"))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            if not connection.is_closed():
                await connection.execute("reset lock_timeout")
    except asyncpg.LockNotAvailableError as error:
        raise InUse(waited=True) from error
