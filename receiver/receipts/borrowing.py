"""A connection for a group of receipts, and for so long and no longer: what hangs is cut off, and its group is told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg

from receiver.database.pool import NOT_THERE, Connection, Pool

MOST_TIMES = 1_000  # then it is given back once, and the pool may make it anew


class Kept:
    """A connection of `pool` that one worker keeps from group to group.

    Giving it back and taking it again takes several turns of the event loop, and Postgres has nothing to do meanwhile.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record] | None = None
        self._times = 0

    @contextlib.asynccontextmanager
    async def borrowed(self, seconds: float) -> AsyncIterator[Connection]:
        """The connection for at most so many seconds: then it is cut off, and whoever waits for it hears TimeoutError.

        Cut off, not cancelled: cancelling asks a server that hangs. After any error it is not used again, so that after
        a failover nobody speaks to the old server.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        connection = await self._ready(deadline)
        is_late = False

        def cut_off() -> None:
            nonlocal is_late
            is_late = True
            _cut_off(connection)

        watch = loop.call_at(deadline, cut_off)
        try:
            yield connection
        except BaseException as error:
            _cut_off(connection)
            await self.give_back()
            if isinstance(error, Exception) and is_late:
                # whatever asyncpg calls it: between two statements it stumbles over what it lost (AttributeError)
                raise TimeoutError(f"no commit within {seconds:g} s") from error
            raise
        finally:
            watch.cancel()

    async def give_back(self) -> None:
        """Nobody has it until it is borrowed again. One that dies meanwhile is not the borrower's affair any more."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(asyncpg.PostgresError, *NOT_THERE):
                await self._pool.release(connection)

    async def _ready(self, deadline: float) -> Connection:
        if self._connection is not None and (_is_gone(self._connection) or self._times >= MOST_TIMES):
            await self.give_back()
        if self._connection is None:
            async with asyncio.timeout_at(deadline):
                self._connection = await self._pool.acquire()
            self._times = 0
        self._times += 1
        return self._connection


@contextlib.asynccontextmanager
async def borrowed(pool: Pool, seconds: float) -> AsyncIterator[Connection]:
    """As `Kept.borrowed`, and given back at the end."""
    kept = Kept(pool)
    try:
        async with kept.borrowed(seconds) as connection:
            yield connection
    finally:
        await kept.give_back()


def _is_gone(connection: Connection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:  # the pool has it back already: it died before
        return True


def _cut_off(connection: Connection) -> None:
    with contextlib.suppress(asyncpg.InterfaceError):  # as above
        connection.terminate()
