"""Connections to Postgres: how each kind is set up, and what a failure to connect means in words."""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeAlias, TypeVar

import asyncpg

from receiver.errors import DatabaseError

# In quotes: asyncpg's classes are generic for the type checker only.
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
T = TypeVar("T")

CONNECT_SECONDS = 10.0
# The platform waits 10 s for our answer: a group that has not committed by then is answered 503 before.
WRITE_SECONDS = 6.0
READ_SECONDS = 10.0

# InternalClientError: asyncpg's word for a server that died between two of its messages.
NOT_THERE = (OSError, asyncio.TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError)


async def open_pool(dsn: str, name: str, size: int, *, writer: bool) -> Pool:
    """A pool of up to `size` connections. Raises DatabaseError in one sentence if the database does not answer.

    Writers plan once: planning over all partitions afresh costs more than the statement itself.
    """
    seconds = WRITE_SECONDS if writer else READ_SECONDS
    server_settings = {
        "application_name": f"receiver {name}",
        "timezone": "UTC",
        "statement_timeout": str(int(seconds * 1000)),
        "idle_in_transaction_session_timeout": "30000",
        "jit": "off",
    }
    if writer:
        server_settings["plan_cache_mode"] = "force_generic_plan"

    async def start() -> Pool:
        return await asyncpg.create_pool(
            dsn,
            min_size=1,
            max_size=size,
            timeout=CONNECT_SECONDS,
            command_timeout=seconds + 1,
            server_settings=server_settings,
            max_inactive_connection_lifetime=0,
        )

    return await in_words(dsn, start)


async def connect(dsn: str, name: str, **server_settings: str) -> "asyncpg.Connection[asyncpg.Record]":
    """One connection for an operator's command. Raises DatabaseError in one sentence."""

    async def start() -> "asyncpg.Connection[asyncpg.Record]":
        settings = {"application_name": f"receiver {name}", "timezone": "UTC", **server_settings}
        return await asyncpg.connect(dsn, timeout=CONNECT_SECONDS, server_settings=settings)

    return await in_words(dsn, start)


CAN_WRITE = "select current_setting('transaction_read_only') = 'off'"
PROBE_SECONDS = 2.0


async def can_write(pool: Pool) -> bool:
    """Whether the database answers within two seconds and takes writes."""
    try:
        async with asyncio.timeout(PROBE_SECONDS), pool.acquire() as connection:
            return await connection.fetchval(CAN_WRITE) is True
    except (asyncpg.PostgresError, TimeoutError, *NOT_THERE):
        return False


@contextlib.contextmanager
def told_in_words() -> Iterator[None]:
    """Turns what Postgres refuses while the block runs into a DatabaseError of one sentence."""
    try:
        yield
    except asyncpg.InsufficientPrivilegeError as error:
        raise DatabaseError(f"the database forbids it: {error}; give the user the right to it") from None
    except asyncpg.ReadOnlySQLTransactionError:
        raise DatabaseError("the database is read-only: is it a standby, or set so?") from None
    except asyncpg.LockNotAvailableError:
        raise DatabaseError("a table is in use by a long transaction: try again when it has ended") from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise DatabaseError(f"the database refused: {error}") from None


async def in_words(dsn: str, start: Callable[[], Awaitable[T]]) -> T:
    """What `start` gives; a failure to connect becomes a DatabaseError that says what to do."""
    try:
        return await start()
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise DatabaseError(
            f"the database {masked(dsn)} refuses us: {error}; check the user and the password"
        ) from None
    except asyncpg.InvalidCatalogNameError:
        raise DatabaseError(f"the database {masked(dsn)} does not exist: create it first") from None
    except (*NOT_THERE, asyncpg.PostgresError, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise DatabaseError(f"the database {masked(dsn)} does not answer ({reason}): is it running?") from None


def masked(dsn: str) -> str:
    """`dsn` without its user, password and parameters: what may be printed."""
    return re.sub(r"//[^/]*@", "//…@", dsn.partition("?")[0])
