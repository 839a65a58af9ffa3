"""The schema: bringing a database up to this version, and refusing one that is not."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from receiver.database.pool import Connection, connect
from receiver.errors import DatabaseError

if TYPE_CHECKING:
    from sqlalchemy import Connection as SqlConnection

# A migration waits at most this long for a lock and fails rather than stall the receipts' door behind it.
LOCK_MILLISECONDS = 5_000
STATEMENT_MILLISECONDS = 600_000

CURRENT = "select version_num from alembic_version"
EXISTS = "select to_regclass('alembic_version') is not null"
ONE_AT_A_TIME = "select pg_advisory_lock(hashtext('receiver.migrate'))"


def migrations_folder() -> Path:
    """Where the migrations are: inside the installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "_migrations", package.parent / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise DatabaseError("the migrations are missing from this installation: install the package again")


def latest_revision() -> str:
    """The schema that this version needs: the number of the last migration."""
    return max(file.name.partition("_")[0] for file in (migrations_folder() / "versions").glob("[0-9]*_*.py"))


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


async def migrate(dsn: str) -> tuple[str | None, str]:
    """Brings the schema up to this version; one process at a time. Returns (before, after)."""
    guard = await connect(dsn, "migrate")
    try:
        await guard.execute(ONE_AT_A_TIME)
        before, after = await revision_of(guard), latest_revision()
        if before is None or before < after:
            await asyncio.get_running_loop().run_in_executor(None, _upgrade, dsn)
        return before, max(before or after, after)
    finally:
        await guard.close()


def _upgrade(dsn: str) -> None:
    asyncio.run(_upgrade_async(dsn))


async def _upgrade_async(dsn: str) -> None:
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
            await connection.run_sync(_run_alembic)
    except CommandError as error:
        raise DatabaseError(f"the schema is not one of ours: {error}") from None
    except DBAPIError as error:
        raise DatabaseError(f"the database refused: {error.orig}") from None
    finally:
        await engine.dispose()


def _run_alembic(connection: "SqlConnection") -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["run_script"] = run_script
    command.upgrade(config, "head")


def run_script(connection: "SqlConnection", text: str) -> None:
    """Runs a whole SQL script inside the migration's transaction: what a prepared statement can't hold."""
    connection.exec_driver_sql("select 1")  # opens the transaction
    driver: Any = connection.connection.dbapi_connection
    driver.run_async(lambda raw: raw.execute(text))
