"""Hearing of changes: one reader of the change log in each process, for all who wait for a message and all streams.

While nobody listens it asks the database nothing. It reads some ten times a second, with one connection, which nobody
holds who only waits.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Protocol
from uuid import UUID

import asyncpg

from receiver import metrics
from receiver.aside import begin_aside
from receiver.database.pool import NOT_THERE, Pool
from receiver.ids import TenantId
from receiver.queries import log as change_log
from receiver.queries.positions import MOST_IN_FLIGHT, Cut, Position

log = logging.getLogger("receiver.queries")

EVERY_SECONDS = 0.1
LONGEST_PAUSE = 2.0  # after failures
MOST_ROWS = 2_000  # a read
TOLD_AT_ONCE = 200  # then others have their turn
OPENING_SECONDS = 5.0  # in which somebody who begins to listen is told that it can't be done


class Restored(Exception):
    """The database is not the one that was read before, or has not counted anew what it was restored with."""


class Streams(Protocol):
    """Who wants whole changes, not only to be woken."""

    def tenants(self) -> Sequence[TenantId]:
        """Whose changes are wanted."""

    def tell(self, cluster: int, before: Cut, until: Cut, rows: Sequence[asyncpg.Record]) -> None:
        """More changes of a window, in order. Must not wait."""

    def end(self, reason: str) -> None:
        """Nothing more can be told to those who are there now."""


class Listener:
    """Hears of the changes of one message."""

    def __init__(self, closing: asyncio.Event) -> None:
        self._closing = closing
        self._is_changed = False
        self._waiting: asyncio.Future[None] | None = None

    async def changed(self, seconds: float) -> bool:
        """Whether it has changed since it was listened to, or since the last True; waits `seconds` for it at most.

        False at once when the process ends. A change of the moment before may count: compare versions.
        """
        if not self._is_changed and not self._closing.is_set() and seconds > 0:
            self._waiting = asyncio.get_running_loop().create_future()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._waiting
            self._waiting = None
        is_changed, self._is_changed = self._is_changed, False
        return is_changed

    def wake(self, *, is_changed: bool = True) -> None:
        """It has changed, or nothing more will be heard."""
        self._is_changed = self._is_changed or is_changed
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class _Asked:
    """Somebody who needs to know where the log stands, as of a read that begins after now."""

    def __init__(self, join: Callable[[Position], None] | None) -> None:
        self.join = join
        self.told: asyncio.Future[Position] = asyncio.get_running_loop().create_future()


class Watch:
    """Tails the change log while somebody listens. A worker. Closed, it wakes all: they are told nothing more."""

    def __init__(self, pool: Pool, *, every: float = EVERY_SECONDS, most: int = MOST_ROWS) -> None:
        self._pool, self._every, self._most = pool, every, most
        self._listeners: dict[UUID, set[Listener]] = {}
        self._streams: Streams | None = None
        self._asked: list[_Asked] = []  # until a read begins
        self._due: list[_Asked] = []  # until its window has been told
        self._position: Position | None = None
        self._cluster, self._has_gap = 0, False
        self._wanted, self._asking, self._closing = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._read_at = 0.0
        metrics.WATCH_LAG.set_function(self.lag)

    def serve(self, streams: Streams) -> None:
        """From now on changes are told to `streams` as well."""
        self._streams = streams

    @contextlib.asynccontextmanager
    async def listen(self, identity: UUID) -> AsyncIterator[Listener]:
        """Hears of each change of the message that is committed after this has been entered.

        Raises TimeoutError when the database does not answer within 5 seconds and nobody listened before.
        """
        listener = Listener(self._closing)
        mates = self._listeners.setdefault(identity, set())
        mates.add(listener)
        self._wanted.set()
        try:
            if self._position is None and not self._closing.is_set():
                await self.fresh()
            yield listener
        finally:
            mates.discard(listener)
            if not mates and self._listeners.get(identity) is mates:
                del self._listeners[identity]

    async def fresh(self, join: Callable[[Position], None] | None = None) -> Position:
        """Where the log stands now: all that was committed before this call, and has been told.

        `join` is called with it before anything later is told. Raises TimeoutError when the database does not answer
        within 5 seconds, or the process ends.
        """
        if self._closing.is_set():
            raise TimeoutError("the process ends")
        asked = _Asked(join)
        self._asked.append(asked)
        self._wanted.set()
        self._asking.set()
        try:
            async with asyncio.timeout(OPENING_SECONDS):
                return await asked.told
        finally:
            asked.join = None  # who has given up joins nothing

    @property
    def position(self) -> Position | None:
        """Up to where all has been told; None while it does not read."""
        return self._position

    @property
    def cluster(self) -> int:
        """Which Postgres was read last, and which timeline of it."""
        return self._cluster

    @property
    def is_closing(self) -> bool:
        """Whether nothing more will be told."""
        return self._closing.is_set()

    async def closed(self) -> None:
        """Returns when nothing more will be told."""
        await self._closing.wait()

    def lag(self) -> float:
        """Seconds since the last read that told all there was began; 0 while nobody listens."""
        return time.monotonic() - self._read_at if self._position is not None else 0.0

    async def run(self) -> None:
        """Reads while somebody listens, until closed."""
        pause = self._every
        while not self._closing.is_set():
            if not self._is_wanted():
                self._position = None
                self._wanted.clear()
                await self._wanted.wait()
                continue
            try:
                has_more = await self._cancelled_by_close(self._read())
                pause = self._every
            except (asyncpg.PostgresError, *NOT_THERE, Restored) as error:
                has_more = False
                log.log(
                    logging.WARNING if pause == self._every else logging.DEBUG,
                    "watch_failed",
                    extra={"reason": type(error).__name__},
                )
                pause = min(pause * 2, LONGEST_PAUSE)
            if not has_more:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await (self._asking if pause == self._every else self._closing).wait()

    async def close(self) -> None:
        """Wakes everybody, and ends the reading."""
        self._closing.set()
        self._wanted.set()
        self._asking.set()
        self._wake_all(is_changed=False)
        for asked in (*self._due, *self._asked):  # nobody reads any more
            if not asked.told.done():
                asked.told.set_exception(TimeoutError("the process ends"))
        if self._streams is not None:
            self._streams.end("draining")

    def _is_wanted(self) -> bool:
        return bool(self._listeners or self._asked or self._due or (self._streams and self._streams.tenants()))

    async def _cancelled_by_close(self, reading: Coroutine[Any, Any, bool]) -> bool:
        """A read; not waited for when the process ends: a server that hangs holds it up."""
        task = begin_aside(reading, "watch")
        closing = asyncio.create_task(self._closing.wait())
        await asyncio.wait({task, closing}, return_when=asyncio.FIRST_COMPLETED)
        closing.cancel()
        if task.done():
            return task.result()
        task.cancel()
        return False

    async def _read(self) -> bool:
        """One read, told to all; whether there is more at once."""
        began = time.monotonic()
        position = self._position
        self._asking.clear()
        if position is None or position.before is None:
            self._due, self._asked = [*self._due, *self._asked], []
        tenants = self._streams.tenants() if self._streams else []
        async with self._pool.acquire() as connection:
            if position is None:
                read = await change_log.look(connection)
            elif position.before is None:
                read = await change_log.window(connection, position.until, None, 0, self._most, tenants)
            else:
                read = await change_log.window(
                    connection, position.before, position.until, position.seq, self._most, tenants
                )
        self._check(read, position)
        if position is not None:
            before = position.before or position.until
            for first in range(0, len(read.rows), TOLD_AT_ONCE):
                rows = read.rows[first : first + TOLD_AT_ONCE]
                self._tell(before, read.cut, rows)
                self._position = Position(read.cut, before, rows[-1]["seq"])
                await asyncio.sleep(0)
        if read.more:
            return True
        self._position, self._read_at = Position(read.cut), began
        if self._has_gap:  # not before: who looked again earlier would not hear of what changed since
            self._has_gap = False
            self._wake_all(is_changed=True)
        self._answer(self._position)
        return False

    def _check(self, read: change_log.Read, position: Position | None) -> None:
        """Raises Restored for a database whose log does not go on from `position`."""
        until = position.until if position else None
        went_back = until is not None and (read.cluster != self._cluster or read.cut.xmax < until.xmax)
        self._cluster = read.cluster
        if went_back:
            self._position, self._has_gap = None, True
            if self._streams is not None:
                self._streams.end("restored")
            raise Restored("the database is another one, or an earlier state of it")
        if not read.is_settled:
            raise Restored("the database has been restored, and its statistics are not yet counted anew")
        if len(read.cut.in_flight) > MOST_IN_FLIGHT:  # nothing is lost: the next read begins where this one did
            raise Restored(f"{len(read.cut.in_flight)} transactions are in flight: too many to name in an id")

    def _tell(self, before: Cut, until: Cut, rows: Sequence[asyncpg.Record]) -> None:
        if self._listeners:
            for row in rows:
                for listener in self._listeners.get(row["message_id"], ()):
                    listener.wake()
        if self._streams is not None:
            self._streams.tell(self._cluster, before, until, rows)

    def _answer(self, position: Position) -> None:
        due, self._due = self._due, []
        for asked in due:
            if not asked.told.done():
                if asked.join is not None:
                    asked.join(position)
                asked.told.set_result(position)

    def _wake_all(self, *, is_changed: bool) -> None:
        for mates in self._listeners.values():
            for listener in mates:
                listener.wake(is_changed=is_changed)
