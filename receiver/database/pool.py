"""Connections to Postgres: how each kind is set up, and what a failure to connect means in words."""

import asyncio
import contextlib
import logging
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import asyncpg

from receiver import metrics
from receiver.aside import begin_aside
from receiver.errors import DatabaseError

# In quotes: asyncpg's classes are generic for the type checker only.
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
T = TypeVar("T")

log = logging.getLogger("receiver.database")

CONNECT_SECONDS = 10.0
# The platform waits 10 s for our answer: a group that has not committed by then is answered 503 before.
WRITE_SECONDS = 6.0
READ_SECONDS = 10.0
MOST_PLANS = 32  # kept on a connection: that of a search over all weeks takes a megabyte
# A plan that is kept may be of a time when a week was small: it must not be one that reads the week whole, nor one
# that reads all of it before it sorts.
BY_INDEX = {"enable_seqscan": "off", "enable_bitmapscan": "off", "max_parallel_workers_per_gather": "0"}

# InternalClientError: asyncpg's word for a server that died between two of its messages.
NOT_THERE = (OSError, asyncio.TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError)


# Not the statement's fault: connection, read-only after a failover, rollback, resources, object in use, operator,
# system.
PASSING = ("08", "25", "40", "53", "55", "57", "58")
# A connection that still waits for its cancelled statement (a server that hangs) is cut off and replaced by a new one.
RELEASE_SECONDS = 1.0


class _Pool(asyncpg.Pool[asyncpg.Record] if TYPE_CHECKING else asyncpg.Pool):  # type: ignore[misc]
    """A pool that is never held up by a server that hangs: what does not come back clean in time is cut off."""

    async def release(self, connection: Any, *, timeout: float | None = None) -> None:
        releasing = begin_aside(super().release(connection, timeout=timeout or RELEASE_SECONDS), "releasing")
        try:
            await asyncio.shield(releasing)
        except TimeoutError:  # cut off by now; the next one who asks gets a new connection
            log.warning("connection_cut_off")


def is_away(error: BaseException) -> bool:
    """Whether this failure means that the database is not there now: down, starting, failing over, out of room."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "")[:2] in PASSING
    return isinstance(error, NOT_THERE) and not isinstance(error, ValueError)


async def lazy_pool(dsn: str, name: str, size: int, *, writer: bool) -> Pool:
    """A pool of up to `size` connections, each made when it is needed: the database need not be there yet.

    Each plans once: planning over all partitions afresh costs more than the statement itself. A connection that
    died is replaced when it is asked for next. Raises DatabaseError in one sentence for an address that is none.
    """
    return await in_words(dsn, lambda: _started(dsn, name, size, 0, writer=writer))


async def open_pool(dsn: str, name: str, size: int, *, writer: bool) -> Pool:
    """A pool that has connected already. Raises DatabaseError in one sentence if the database does not answer."""
    return await in_words(dsn, lambda: _started(dsn, name, size, 1, writer=writer))


# 200 means on the disk, whatever is set for our user or our database. Where a standby must have it too, it has it.
FSYNCED = {"synchronous_commit": "on"}
# Then a connection is made anew. It plans anew, 0.2 s for receipts: once a day at full load, not every few minutes.
MOST_QUERIES = 5_000_000


async def _started(dsn: str, name: str, size: int, least: int, *, writer: bool) -> Pool:
    seconds = WRITE_SECONDS if writer else READ_SECONDS
    server_settings = {
        "application_name": f"receiver {name}",
        "timezone": "UTC",
        "statement_timeout": str(int(seconds * 1000)),
        "idle_in_transaction_session_timeout": "30000",
        "jit": "off",
        "plan_cache_mode": "force_generic_plan",
    }
    server_settings |= FSYNCED if writer else BY_INDEX
    pool = _Pool(
        dsn,
        connection_class=asyncpg.Connection,
        record_class=asyncpg.Record,
        min_size=least,
        max_size=size,
        max_queries=MOST_QUERIES,
        max_inactive_connection_lifetime=0,
        setup=None,
        init=None,
        reset=None,
        loop=None,
        timeout=CONNECT_SECONDS,
        command_timeout=seconds + 1,
        statement_cache_size=100 if writer else MOST_PLANS,
        server_settings=server_settings,
    )
    await pool
    return pool


CLOSE_SECONDS = 2.0


class Pools:
    """The pools of a process. They open nothing by themselves, and are closed together, in two seconds at most."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pools: list[Pool] = []

    async def add(self, name: str, size: int, *, writer: bool) -> Pool:
        """One more lazy pool."""
        pool = await lazy_pool(self._dsn, name, size, writer=writer)
        self._pools.append(pool)
        metrics.POOL_LIMIT.labels(name).set(size)
        metrics.POOL_CONNECTIONS.labels(name, "idle").set_function(pool.get_idle_size)
        metrics.POOL_CONNECTIONS.labels(name, "busy").set_function(lambda: pool.get_size() - pool.get_idle_size())
        return pool

    async def close(self) -> None:
        """Closes all; what is in use then, or hangs, is cut off."""
        closing = [asyncio.ensure_future(pool.close()) for pool in self._pools]
        if closing:
            await asyncio.wait(closing, timeout=CLOSE_SECONDS)
        for pool, task in zip(self._pools, closing, strict=True):
            if not task.done() or task.exception():
                pool.terminate()
            task.cancel()
        await asyncio.gather(*closing, return_exceptions=True)


async def connect(dsn: str, name: str, **server_settings: str) -> "asyncpg.Connection[asyncpg.Record]":
    """One connection for an operator's command. Raises DatabaseError in one sentence."""

    async def start() -> "asyncpg.Connection[asyncpg.Record]":
        settings = {"application_name": f"receiver {name}", "timezone": "UTC", **server_settings}
        return await asyncpg.connect(dsn, timeout=CONNECT_SECONDS, server_settings=settings)

    return await in_words(dsn, start)


IS_FSYNCED = "select current_setting('fsync') = 'on'"


async def fsync_warning(connection: Connection) -> str | None:
    """That a crash of the machine loses what Postgres has committed."""
    if await connection.fetchval(IS_FSYNCED):
        return None
    return "fsync is off in Postgres: a crash of its machine loses receipts that were answered 200"


CAN_WRITE = "select current_setting('transaction_read_only') = 'off'"
PROBE_SECONDS = 2.0


async def can_write(pool: Pool) -> bool:
    """Whether the database answers within two seconds and takes writes."""

    async def ask() -> bool:
        async with pool.acquire() as connection:
            return await connection.fetchval(CAN_WRITE) is True

    asking = begin_aside(ask(), "probe")
    try:
        done, _ = await asyncio.wait({asking}, timeout=PROBE_SECONDS)
        return bool(done) and asking.result()
    except (asyncpg.PostgresError, *NOT_THERE):
        return False
    finally:
        asking.cancel()  # not waited for: a server that hangs holds up the cancellation too


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
    except (*NOT_THERE, asyncpg.PostgresError, ValueError) as error:
        raise DatabaseError(sentence_of(dsn, error)) from None


def sentence_of(dsn: str, error: BaseException) -> str:
    """What a failure to connect means, and what to do."""
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        return f"the database {masked(dsn)} refuses us: {error}; check the user and the password"
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return f"the database {masked(dsn)} does not exist: create it first"
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return f"the database forbids it: {error}; give the user the right to it"
    if isinstance(error, asyncpg.PostgresError) and not is_away(error):
        return f"the database refused: {error}"
    if isinstance(error, ValueError) and not isinstance(
        error, OSError
    ):  # its text has pieces of what it could not read
        quoting = "a user or password with / ? # @ or % must have them quoted (%2F for /)"
        return f"the database's address can't be read: it takes postgresql://user:password@host/name; {quoting}"
    reason = str(error) or type(error).__name__
    return f"the database {masked(dsn)} does not answer ({reason}): is it running?"


def masked(dsn: str) -> str:
    """`dsn` without its user, password and parameters: what may be printed, however they were quoted."""
    return re.sub(r"//.*@", "//…@", dsn, flags=re.DOTALL).partition("?")[0]
