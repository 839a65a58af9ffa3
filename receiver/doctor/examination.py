"""All checks in their order, each on its own: one that breaks or hangs says so, and the others go on."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence

import asyncpg

from receiver.database.pool import NOT_THERE
from receiver.doctor import books, database, disk, outside, own_settings, roll_up, work
from receiver.doctor.check import Check, Finding, Installation, Result, Verdict, failure, skipped
from receiver.errors import ReceiverError

CHECKS: Sequence[Check] = (
    Check("settings", own_settings.settings, settings=False),
    Check("database", database.database),
    Check("schema", database.schema, database=True),
    Check("postgres settings", database.postgres_settings, database=True),
    Check("lock table", database.lock_table, database=True),
    Check("clock", database.clock, database=True),
    Check("partitions", database.weeks_ahead, database=True),
    Check("key generations", database.key_generations, database=True),
    Check("retention", database.old_weeks, database=True),
    Check("background duties", work.duties, database=True),
    Check("ledger", books.balance, database=True),
    Check("receipts counted", books.counted, database=True, seconds=books.ALL_SECONDS + 10),
    Check("statistics", roll_up.statistics, database=True),
    Check("lanes", work.lanes, database=True),
    Check("outbox", work.outbox, database=True),
    Check("quarantine", work.quarantine, database=True),
    Check("spool folder", disk.spool_folder_check),
    Check("spool", disk.spool_depth),
    Check("disk space", disk.disk_space),
    Check("public address", outside.public_url, seconds=10),
    Check("certificate", outside.certificate, seconds=10),
    Check("self-probe", work.probes, database=True),
    Check("platform", outside.platform, seconds=22),
    Check("outside clock", outside.outside_clock, seconds=10),
)


async def examine(installation: Installation, checks: Iterable[Check] = CHECKS) -> AsyncIterator[Finding]:
    """The findings of each check, one check after the other."""
    for check in checks:
        for verdict in await _verdicts(check, installation):
            yield Finding(check.name, verdict)


async def _verdicts(check: Check, installation: Installation) -> Sequence[Verdict]:
    if check.settings and installation.settings is None:
        return [skipped("the settings can't be read")]
    if check.database and installation.away:
        return [skipped("the database can't be asked")]
    try:
        async with asyncio.timeout(check.seconds):
            return await check.run(installation)
    except TimeoutError:
        said = f"it did not end within {check.seconds:.0f} s"
        return [failure(said, "What it looks at hangs, or is far too slow.")]
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.UndefinedFunctionError):
        return [skipped("the schema lacks what it reads: see the check of the schema")]
    except ReceiverError as error:
        return [failure(str(error), "Mend that, and run it again.")]
    except (asyncpg.PostgresError, *NOT_THERE) as error:
        said = f"the database failed meanwhile ({type(error).__name__} {getattr(error, 'sqlstate', None) or ''})"
        return [failure(said.replace(" )", ")"), "Run it again; if it stays so, see the log of Postgres.")]
    except Exception as error:  # its text may hold what nobody should read
        return [failure(f"the check itself broke ({type(error).__name__})", "That is a fault of ours: report it.")]


def worst(findings: Iterable[Finding]) -> Result:
    """How it stands on the whole."""
    results = {finding.verdict.result for finding in findings}
    return next((r for r in (Result.FAILURE, Result.WARNING) if r in results), Result.OK)
