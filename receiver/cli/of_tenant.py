"""What the operator's commands of one tenant share: its database, open, and whose rows are meant."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import asyncpg

from receiver.access.tenants import Tenants
from receiver.cli.opening import database, run
from receiver.database.migrate import require_schema
from receiver.database.pool import Connection, connect
from receiver.errors import SettingsError
from receiver.ids import TenantId
from receiver.settings import Settings, read_settings

T = TypeVar("T")


@dataclass
class Opened:
    """The open database, its tenants, and which of them is meant."""

    connection: "asyncpg.Connection[asyncpg.Record]"
    tenants: Tenants
    tenant: TenantId


def for_tenant(
    name: str,
    command: str,
    work: Callable[[Opened], Awaitable[T]],
    *,
    statement_milliseconds: int,
    settings: Settings | None = None,
) -> T:
    """What `work` gives, done on a connection of its own. Also for a tenant that is configured no more.

    Raises SettingsError that names the tenants there are, and DatabaseError in one sentence.
    """
    settings = settings or read_settings(serving=False)

    async def wrapped(dsn: str) -> T:
        connection = await connect(dsn, command, statement_timeout=str(statement_milliseconds))
        try:
            await require_schema(connection)
            tenants, number = await load_tenant(connection, settings, name)
            return await work(Opened(connection, tenants, number))
        finally:
            await connection.close()

    with database(settings) as dsn:
        return run(wrapped(dsn))


async def load_tenant(connection: Connection, settings: Settings, name: str) -> tuple[Tenants, TenantId]:
    """All tenants, and the number of one of them, present or past. Raises SettingsError that names those there are."""
    tenants = Tenants(settings.tenants)
    await tenants.load(connection)
    try:
        return tenants, tenants.id_of(name)
    except KeyError:
        known = ", ".join(tenants.names.values())
        raise SettingsError([f"there is no tenant {name!r}: there are {known}"]) from None
