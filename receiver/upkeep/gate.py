"""The gate before everything that needs the database: opened by the first try that goes well, however late.

The receiver starts, listens and takes receipts while Postgres is away. Whoever needs rows waits here.
"""

import asyncio
import contextlib
import logging
import random
from datetime import UTC, datetime

import asyncpg

from receiver.access.tenants import Tenants
from receiver.aside import begin_aside
from receiver.database.migrate import require_schema
from receiver.database.partitions import days_ahead, ensure_weeks, lock_table_warning
from receiver.database.pool import NOT_THERE, Connection, Pool, fsync_warning, is_away, sentence_of
from receiver.errors import DatabaseError
from receiver.workers import Worker

log = logging.getLogger("receiver.database")

FIRST_SECONDS = 3.0  # the first try: a database that is there answers in milliseconds
TRY_SECONDS = 30.0  # a later one: making the first weeks of an empty database takes a second or two
LONGEST_PAUSE = 2.0


class Gate:
    """Opens when the database has our schema and this process knows its tenants. A worker: `run` tries until then."""

    def __init__(self, dsn: str, pool: Pool, tenants: Tenants) -> None:
        self._dsn, self._pool, self._tenants = dsn, pool, tenants
        self._opened, self._closing = asyncio.Event(), asyncio.Event()
        self._warnings: list[str] = []
        self._trouble = "the database has not answered yet"
        self._told: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether the database has been found good; it stays so, whatever becomes of the database later."""
        return self._opened.is_set()

    def warnings(self) -> list[str]:
        """Why it is not open yet, or what is wrong with a database that is good enough."""
        if not self.is_open:
            return [f"{self._trouble}: trying again"]
        return self._warnings

    async def open(self) -> None:
        """Opens it now. Raises DatabaseError in one sentence."""
        try:
            await self._try(TRY_SECONDS)
        except (asyncpg.PostgresError, *NOT_THERE, ValueError) as error:
            raise DatabaseError(sentence_of(self._dsn, error)) from None

    async def first_try(self) -> None:
        """Opens it if the database is there. Raises DatabaseError for what no waiting mends: schema, user, address."""
        try:
            await self._try(FIRST_SECONDS)
        except (asyncpg.PostgresError, *NOT_THERE, ValueError) as error:
            if not is_away(error):
                raise DatabaseError(sentence_of(self._dsn, error)) from None
            self._tell(error)

    async def run(self) -> None:
        """Tries again and again until it is open; returns when closed."""
        pause = 0.1
        while not (self.is_open or self._closing.is_set()):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause * random.uniform(0.5, 1.0)):
                    await self._closing.wait()
                    return
            pause = min(pause * 2, LONGEST_PAUSE)
            try:
                await self._try(TRY_SECONDS)
            except (asyncpg.PostgresError, *NOT_THERE, ValueError, DatabaseError) as error:
                self._tell(error)
        await self._closing.wait()

    async def close(self) -> None:
        """Ends the trying."""
        self._closing.set()

    async def until_open_or(self, closing: asyncio.Event) -> bool:
        """Waits until it is open, or `closing` is set. Returns whether it is open."""
        waiting = [asyncio.create_task(event.wait()) for event in (self._opened, closing)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        return self.is_open

    async def _try(self, seconds: float) -> None:
        """One try within so many seconds. Raises what went wrong."""
        trying = begin_aside(self._prepare(), "opening")
        closing = asyncio.create_task(self._closing.wait())
        await asyncio.wait({trying, closing}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        closing.cancel()
        if not trying.done():  # not waited for: a server that hangs holds up the cancellation too
            trying.cancel()
            raise TimeoutError(f"no answer within {seconds:g} s")
        self._warnings = trying.result()
        self._opened.set()
        if self._told is not None:
            log.warning("database_open")

    async def _prepare(self) -> list[str]:
        async with self._pool.acquire() as connection:
            await require_schema(connection)
            await self._tenants.load(connection)
            await self._tenants.store_forward_to(connection)
            await _ensure_weeks(connection)
            found = [await lock_table_warning(connection), await fsync_warning(connection)]
            return [warning for warning in found if warning]

    def _tell(self, error: Exception) -> None:
        """Remembers why not, for /readyz, and logs it when it is news."""
        sentence = str(error) if isinstance(error, DatabaseError) else sentence_of(self._dsn, error)
        if sentence != self._told:
            log.log(
                logging.WARNING if is_away(error) else logging.ERROR, "database_not_open", extra={"reason": sentence}
            )
        self._told = sentence
        if isinstance(error, DatabaseError):
            self._trouble = sentence
        elif isinstance(error, asyncpg.PostgresError):  # its text may name a user
            self._trouble = f"the database refuses us ({type(error).__name__})"
        else:
            self._trouble = "the database does not answer"


async def _ensure_weeks(connection: Connection) -> None:
    """Makes missing weeks; somebody who holds a table is no reason not to start while there are weeks for today."""
    try:
        await ensure_weeks(connection, datetime.now(UTC))
    except asyncpg.LockNotAvailableError:
        if await days_ahead(connection) <= 0:
            raise


class Behind:
    """A worker that begins when the gate is open. Closed before, it begins and ends at once: nothing is left open."""

    def __init__(self, gate: Gate, worker: Worker) -> None:
        self._gate, self._worker = gate, worker
        self._closing = asyncio.Event()

    async def run(self) -> None:
        """Waits, then runs the worker to its end."""
        await self._gate.until_open_or(self._closing)
        await self._worker.run()

    async def close(self) -> None:
        """Closes the worker."""
        await self._worker.close()
        self._closing.set()
