"""The schema: bringing a database up to this version while an older one serves, and refusing one that is not."""

import asyncio
import logging
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from receiver.database.online_index import add_index
from receiver.database.pool import Connection, connect
from receiver.errors import DatabaseError

if TYPE_CHECKING:
    from sqlalchemy import Connection as SqlConnection

log = logging.getLogger("receiver.database")

# Whoever waits for a lock on a table makes all later ones wait behind: the receipts' door stands still as long as this,
# then goes on, and the migration begins anew.
LOCK_MILLISECONDS = 200
STATEMENT_MILLISECONDS = 600_000
# Longer than an export or a vacuum holds a table. The pause is long enough for the door to work off what piled up.
PATIENCE_SECONDS = 600.0
PAUSE_SECONDS = 1.0
BUSY = ("55P03", "40P01")  # no lock in time, and a ring of locks

CURRENT = "select version_num from alembic_version"
EXISTS = "select to_regclass('alembic_version') is not null"
ONE_AT_A_TIME = "select pg_try_advisory_lock(hashtext('receiver.migrate'))"


def migrations_folder() -> Path:
    """Where the migrations are: inside the installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "_migrations", package.parent / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise DatabaseError("the migrations are missing from this installation: install the package again")


def latest_revision(folder: Path | None = None) -> str:
    """The schema that this version needs: the number of the last migration."""
    versions = (folder or migrations_folder()) / "versions"
    return max(file.name.partition("_")[0] for file in versions.glob("[0-9]*_*.py"))


async def revision_of(connection: Connection) -> str | None:
    """The schema that the database has; None for an empty one."""
    if not await connection.fetchval(EXISTS):
        return None
    revision = await connection.fetchval(CURRENT)
    return None if revision is None else str(revision)


async def require_schema(connection: Connection) -> None:
    """Raises DatabaseError naming `receiver migrate` unless the schema is this version's or newer."""
    have, need = await revision_of(connection), latest_revision()
    if have is None:
        raise DatabaseError("the database is empty: run `receiver migrate` first")
    if have < need:
        raise DatabaseError(f"the database has schema {have}, this version needs {need}: run `receiver migrate`")


async def migrate(dsn: str, folder: Path | None = None) -> tuple[str | None, str]:
    """Brings the schema up to this version, or up to the migrations in `folder`. Returns (before, after).

    One process at a time; older versions may serve meanwhile. Raises DatabaseError.
    """
    folder = folder or migrations_folder()
    guard = await connect(dsn, "migrate")
    try:
        # Asked again and again, and not waited for: an index that is made concurrently waits for every statement
        # under way, and this one would wait for it.
        while not await guard.fetchval(ONE_AT_A_TIME):  # noqa: ASYNC110 (it is another process)
            await asyncio.sleep(PAUSE_SECONDS)
        before, after = await revision_of(guard), latest_revision(folder)
        if before is None or before < after:
            await asyncio.get_running_loop().run_in_executor(None, _upgrade, dsn, folder)
        return before, max(before or after, after)
    finally:
        await guard.close()


def _upgrade(dsn: str, folder: Path) -> None:
    """Begins anew whenever a table is in use, until it was done. Each migration that was done stays done."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return asyncio.run(_upgrade_async(dsn, folder))
        except _Busy:
            if time.monotonic() > deadline:
                raise DatabaseError(
                    f"a table was in use for {PATIENCE_SECONDS:.0f} s: end the long transaction (pg_stat_activity"
                    " names it), and run `receiver migrate` again"
                ) from None
            log.warning("migration_waits")
            time.sleep(random.uniform(0.5, 1.5) * PAUSE_SECONDS)


class _Busy(Exception):
    """Somebody holds what the migration needs: nothing of it was done."""


async def _upgrade_async(dsn: str, folder: Path) -> None:
    # Alembic and SQLAlchemy take half a second to import: only a migration waits for them.
    from alembic.util import CommandError
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    async def creator() -> "asyncpg.Connection[asyncpg.Record]":
        return await connect(
            dsn,
            "migrate",
            lock_timeout=str(LOCK_MILLISECONDS),
            statement_timeout=str(STATEMENT_MILLISECONDS),
        )

    engine = create_async_engine("postgresql+asyncpg://", async_creator=creator, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_run_alembic, folder)
    except CommandError as error:
        raise DatabaseError(f"the schema is not one of ours: {error}") from None
    except (DBAPIError, asyncpg.PostgresError) as error:
        # A script goes past SQLAlchemy, which does not wrap its errors then.
        refusal = error.orig if isinstance(error, DBAPIError) else error
        if getattr(refusal, "sqlstate", None) in BUSY:
            raise _Busy from None
        if isinstance(error, DBAPIError):
            raise DatabaseError(f"the database refused: {refusal}") from None
        raise
    finally:
        await engine.dispose()


def _run_alembic(connection: "SqlConnection", folder: Path) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["run_script"] = run_script
    config.attributes["index_online"] = index_online
    command.upgrade(config, "head")


def run_script(connection: "SqlConnection", text: str) -> None:
    """Runs a whole SQL script inside the migration's transaction: what a prepared statement can't hold."""
    connection.exec_driver_sql("select 1")  # opens the transaction
    driver: Any = connection.connection.dbapi_connection
    driver.run_async(lambda raw: raw.execute(text))


def index_online(connection: "SqlConnection", table: str, name: str, definition: str) -> None:
    """Adds an index to a partitioned table that is in use; to be called inside an `autocommit_block`."""
    driver: Any = connection.connection.dbapi_connection
    driver.run_async(lambda raw: add_index(raw, table, name, definition))
