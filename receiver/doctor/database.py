"""The database: whether it answers, has our schema and what keeps receipts safe, and is ready for the next weeks."""

from collections.abc import Sequence
from datetime import timedelta

from receiver.database import partitions, retention
from receiver.database.migrate import latest_revision, revision_of
from receiver.database.pool import Connection, masked
from receiver.doctor.check import CONNECT_SECONDS, Installation, Verdict, failure, ok, skipped, warning
from receiver.errors import DatabaseError

OLDEST_POSTGRES, NEWEST_POSTGRES = 15, 18
SETTINGS = "select name, setting from pg_settings where name = any($1::text[])"
NOW = "select clock_timestamp()"
IS_EMPTY = "select not exists (select from week)"

CLOCK_WARNING, CLOCK_FAILURE = timedelta(seconds=2), timedelta(minutes=1)
FEW_DAYS = 7
OLD_GENERATION = timedelta(days=9)


async def database(installation: Installation) -> Sequence[Verdict]:
    """Whether it answers and takes writes."""
    if installation.dsn is None:
        installation.away = True
        cure = "Mend that first: all that needs the database was skipped. Run doctor as the user who runs the receiver."
        return [failure(installation.trouble, cure)]
    try:
        async with installation.connection() as connection:
            if await _setting(connection, "transaction_read_only") == "on":
                found = failure(
                    "it is read-only", "Point RECEIVER_DATABASE_URL at the primary; or a failover is under way."
                )
                return [found]
    except DatabaseError as error:
        installation.away = True
        return [failure(str(error), "Start Postgres, or correct RECEIVER_DATABASE_URL.")]
    except TimeoutError:
        installation.away = True
        where = masked(installation.dsn)
        return [failure(f"{where} did not answer within {CONNECT_SECONDS:.0f} s", "See whether Postgres hangs.")]
    return [ok("it answers and takes writes")]


async def schema(installation: Installation) -> Sequence[Verdict]:
    """Whether the schema is this version's."""
    async with installation.connection() as connection:
        have, need = await revision_of(connection), latest_revision()
    if have is None:
        return [failure("the database is empty", "Run `receiver migrate`.")]
    if have < need:
        return [failure(f"the schema is {have}, this version needs {need}", "Run `receiver migrate`.")]
    if have > need:
        return [warning(f"the schema is {have}, of a version newer than this ({need})", "Update this receiver soon.")]
    return [ok(f"the schema is {have}")]


async def postgres_settings(installation: Installation) -> Sequence[Verdict]:
    """What a 200 at the receipts door rests on: a commit that is on the disk."""
    async with installation.connection() as connection:
        version = connection.get_server_version().major
        names = ["fsync", "synchronous_commit", "full_page_writes", "autovacuum"]
        have = {row["name"]: row["setting"] for row in await connection.fetch(SETTINGS, names)}
    found: list[Verdict] = []
    if version < OLDEST_POSTGRES:
        found.append(failure(f"Postgres {version} is too old", f"Use {OLDEST_POSTGRES} to {NEWEST_POSTGRES}."))
    elif version > NEWEST_POSTGRES:
        found.append(warning(f"Postgres {version} was not tried", f"Use {OLDEST_POSTGRES} to {NEWEST_POSTGRES}."))
    if have["fsync"] == "off":
        found.append(failure("fsync is off: a crash of the machine loses receipts", "Set fsync = on in Postgres."))
    if have["synchronous_commit"] == "off":
        found.append(
            failure(
                "synchronous_commit is off: receipts are answered 200 before they are on the disk",
                "Set synchronous_commit = on, also where it is set for our user or our database.",
            )
        )
    if have["full_page_writes"] == "off":
        found.append(warning("full_page_writes is off", "Set it on, unless the disk never leaves a page half written."))
    if have["autovacuum"] == "off":
        found.append(warning("autovacuum is off: tables grow and searches slow down", "Set autovacuum = on."))
    return found or [ok(f"Postgres {version}; a commit is on the disk before it is answered")]


async def lock_table(installation: Installation) -> Sequence[Verdict]:
    """Whether a busy hour runs out of locks."""
    async with installation.connection() as connection:
        said = await partitions.lock_table_warning(connection)
    if said is None:
        return [ok("large enough")]
    what, _, cure = said.partition(": ")
    return [warning(what, f"{cure[:1].upper()}{cure[1:]}; it needs a restart of Postgres.")]


async def clock(installation: Installation) -> Sequence[Verdict]:
    """Whether this machine and the database agree on the time: ids are made by the one, leases end by the other."""
    async with installation.connection() as connection:
        before = installation.now()
        theirs = await connection.fetchval(NOW)
        after = installation.now()
    return [judged(theirs - (before + (after - before) / 2), "the database's", CLOCK_WARNING)]


def judged(off: timedelta, whose: str, tolerable: timedelta) -> Verdict:
    """What a clock that is `off` ahead of ours means."""
    if abs(off) < tolerable:
        return ok(f"{whose} clock agrees with ours")
    amount = abs(off).total_seconds()
    amount_text = f"{amount:.0f} s" if amount < 120 else f"{amount / 60:.0f} minutes"
    found = f"{whose} clock is {amount_text} {'ahead of' if off > timedelta() else 'behind'} ours"
    cure = "Let both machines keep time by NTP: ids, leases and signed tokens are made from it."
    return (failure if abs(off) >= CLOCK_FAILURE else warning)(found, cure)


async def weeks_ahead(installation: Installation) -> Sequence[Verdict]:
    """Whether there are partitions for the days to come."""
    cure = "Run a process with the role upkeep: it makes three weeks ahead. `receiver migrate` makes them at once."
    async with installation.connection() as connection:
        days = await partitions.days_ahead(connection)
        empty = await connection.fetchval(IS_EMPTY)
    if days <= 0:
        what = "there are none at all" if empty else "there are none for today: receipts find no room"
        return [failure(what, cure)]
    said = f"there are partitions for {days} days"
    return [warning(said, cure) if days < FEW_DAYS else ok(said)]


async def key_generations(installation: Installation) -> Sequence[Verdict]:
    """Whether keys of messages are born into a generation that is there and young."""
    cure = "Run a process with the role upkeep: it begins a new one every week."
    async with installation.connection() as connection:
        row = await connection.fetchrow(partitions.GENERATION_AGE)
        if row is None:
            return [failure("there is no present generation", "Restore the table key_generation from a backup.")]
        current, age = int(row["current"]), row["age"]
        made = [await connection.fetchval(partitions.IS_MADE, f"message_key_g{n}") for n in (current, current + 1)]
    if not made[0]:
        what = f"the table of generation {current} is gone: no new message can be observed"
        return [failure(what, "Restore it from a backup; `receiver migrate` does not make it.")]
    if abs(age) > OLD_GENERATION:
        return [warning(f"generation {current} is {abs(age).days} days old", cure)]
    return [ok(f"generation {current}, {abs(age).days} days old")]


async def old_weeks(installation: Installation) -> Sequence[Verdict]:
    """Whether weeks are kept that should have been dropped, or are half dropped."""
    days, now = installation.chosen.retention_days, installation.now()
    async with installation.connection() as connection:
        old = await retention.old_weeks(connection, now - timedelta(days=1), days)
        half = await retention.left_behind(connection)
        oldest = await retention.oldest_week(connection)
    cure = "See weeks_not_dropped in the log of the process with the role upkeep: a long transaction may be in the way."
    found = []
    if old:
        found.append(warning(f"{len(old)} weeks are older than {days} days, the oldest of {old[0]}", cure))
    if half:
        found.append(warning(f"{len(half)} weeks are detached and not dropped yet, the oldest of {half[0]}", cure))
    if oldest is None:
        return [skipped("there are no weeks")]
    return found or [ok(f"the oldest week that is kept began on {oldest}; {days} days are kept")]


async def _setting(connection: Connection, name: str) -> str:
    rows = await connection.fetch(SETTINGS, [name])
    return str(rows[0]["setting"]) if rows else ""
