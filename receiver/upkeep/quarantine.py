"""Keeps the quarantine within its bounds of age and size, and measures it."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from datetime import UTC, date, datetime

import asyncpg

from receiver import metrics
from receiver.database.pool import NOT_THERE, Connection, Pool
from receiver.receipts import quarantine_bounds as bounds

log = logging.getLogger("receiver.upkeep")

EVERY_SECONDS = 60.0
LOOK_SECONDS = 1.0
# Between two rounds it may grow by this part of its bound; then the next round is at once.
GROWTH = 0.25
# Trimmed a little below the bound, so that a flood is trimmed by the thousand and not row by row.
ROOM = 0.9


class QuarantineKeeper:
    """Trims once a minute, and sooner when much comes in. Any number of processes may: one at a time does.

    `held` says whether the duty is this process's now; when it becomes so, the first round is at once.
    """

    def __init__(
        self,
        pool: Pool,
        days: int,
        most_bytes: int,
        today: Callable[[], date] = lambda: datetime.now(UTC).date(),
        held: Callable[[], bool] = lambda: True,
    ) -> None:
        self._pool, self._days, self._most_bytes, self._today = pool, days, most_bytes, today
        self._held = held
        self._on_disk = 0
        self._closing = asyncio.Event()
        self._last_failure: str | None = None

    async def run(self) -> None:
        """Rounds until closed; a failed one is tried again at the next minute."""
        due = 0.0
        while not self._closing.is_set():
            try:
                if not self._held():
                    due = self._leave_to_another()
                elif time.monotonic() >= due or (self._last_failure is None and await self._is_growing()):
                    due = time.monotonic() + EVERY_SECONDS
                    await self.once()
                    self._last_failure = None
            except (asyncpg.PostgresError, *NOT_THERE) as error:
                due = time.monotonic() + EVERY_SECONDS
                self._tell_failure(error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._closing.wait()

    def _leave_to_another(self) -> float:
        """Shows nothing of what another process measures. Returns when to begin, should the duty come here: at once."""
        self._show({})
        metrics.QUARANTINE_LIMIT.set(metrics.UNKNOWN)
        return 0.0

    async def once(self) -> None:
        """Drops what is too old and too much, if no other process does right now; then measures."""
        async with self._pool.acquire() as connection:
            if await bounds.try_lock(connection):
                try:
                    await self._trim(connection)
                finally:
                    if not connection.is_closed():
                        await bounds.unlock(connection)
            self._show(await bounds.measure(connection))
            self._on_disk = await bounds.bytes_on_disk(connection)
        metrics.QUARANTINE_LIMIT.set(self._most_bytes)

    async def close(self) -> None:
        """Ends the waiting."""
        self._closing.set()

    async def _is_growing(self) -> bool:
        async with self._pool.acquire() as connection:
            return await bounds.bytes_on_disk(connection) > self._on_disk + self._most_bytes * GROWTH

    async def _trim(self, connection: Connection) -> None:
        have = sum(size for _, size in (await bounds.measure(connection)).values())
        if have > self._most_bytes:
            gone = await bounds.trim_to(connection, int(self._most_bytes * ROOM))
            metrics.QUARANTINE_TRIMMED.labels("size").inc(gone)
            log.warning("quarantine_trimmed", extra={"bodies": gone, "bound": "size"})
        for week in await bounds.old_weeks(connection, self._today(), self._days):
            try:
                gone = await bounds.drop_week(connection, week)
            except asyncpg.LockNotAvailableError:  # a long reader is in the way; the next round goes on from here
                log.info("quarantine_week_in_use", extra={"week": week.name})
                return
            metrics.QUARANTINE_TRIMMED.labels("age").inc(gone)
            log.info("quarantine_trimmed", extra={"bodies": gone, "bound": "age"})

    @staticmethod
    def _show(measured: dict[str, tuple[int, int]]) -> None:
        metrics.QUARANTINE_BODIES.clear()
        metrics.QUARANTINE_BYTES.clear()
        for reason, (bodies, size) in measured.items():
            metrics.QUARANTINE_BODIES.labels(reason).set(bodies)
            metrics.QUARANTINE_BYTES.labels(reason).set(size)

    def _tell_failure(self, error: Exception) -> None:
        """Logs the first failure of a row."""
        reason = f"{type(error).__name__} {getattr(error, 'sqlstate', None) or ''}".strip()
        if self._last_failure is None:
            log.error("quarantine_not_trimmed", extra={"reason": reason})
        self._last_failure = reason
