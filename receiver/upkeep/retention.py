"""Drops weeks that are older than the retention, while receipts come in."""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable
from datetime import UTC, date, datetime

import asyncpg

from receiver import metrics
from receiver.database import retention
from receiver.database.leases import LOOK_SECONDS
from receiver.database.pool import NOT_THERE, Connection, Pool
from receiver.database.retention import InUse
from receiver.upkeep.rounds import round_until_closed

log = logging.getLogger("receiver.upkeep")

EVERY_SECONDS = 3600.0
AGAIN_SECONDS = 10.0


class RetentionKeeper:
    """Looks once an hour, and every ten seconds while something is in the way. One process at a time drops.

    `held` says whether the duty is this process's now; when it becomes so, the first look is at once.
    """

    def __init__(
        self,
        pool: Pool,
        days: int,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        held: Callable[[], bool] = lambda: True,
    ) -> None:
        self._pool, self._days, self._now, self._held = pool, days, now, held
        self._patience = retention.FIRST_PATIENCE
        self._closing = asyncio.Event()
        self._last_failure: str | None = None

    async def run(self) -> None:
        """Rounds until closed."""
        due = 0.0
        while not self._closing.is_set():
            if not self._held():
                due = 0.0
                metrics.OLDEST_WEEK.set(math.nan)
            elif time.monotonic() >= due:
                # counting a week may take minutes: given up when we are closed, and the next round goes on
                wait = await round_until_closed(self._round(), self._closing, AGAIN_SECONDS)
                due = time.monotonic() + wait
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._closing.wait()

    async def _round(self) -> float:
        """One look, whatever comes of it; returns how many seconds until the next."""
        try:
            if not await self.once():
                return AGAIN_SECONDS
        except InUse:
            self._tell_failure("in use")
        except (asyncpg.PostgresError, *NOT_THERE) as error:
            self._tell_failure(f"{type(error).__name__} {getattr(error, 'sqlstate', None) or ''}".strip())
        else:
            self._last_failure = None
            return EVERY_SECONDS
        return AGAIN_SECONDS

    async def once(self) -> bool:
        """Drops what is too old, unless another process does right now; then tells the oldest week that is kept.

        False: another does, or it died in the middle of it and the database does not know yet. Raises InUse if a long
        transaction is in the way, and what Postgres says.
        """
        async with self._pool.acquire() as connection:
            if ours := await retention.try_lock(connection):
                try:
                    await self._drop(connection)
                finally:
                    if not connection.is_closed():
                        await retention.unlock(connection)
            _show(await retention.oldest_week(connection))
        return ours

    async def close(self) -> None:
        """Ends the waiting."""
        self._closing.set()

    async def _drop(self, connection: Connection) -> None:
        for week in await retention.left_behind(connection):
            await self._finish(connection, week)
        for week in await retention.old_weeks(connection, self._now(), self._days):
            if unsent := await retention.clear_unsent(connection, week):
                log.warning("unsent_dropped", extra={"starts_on": week.isoformat(), "submissions": unsent})
            await self._detach(connection, week)
            await self._finish(connection, week)
        for number in await retention.old_generations(connection):
            await retention.drop_generation(connection, number)
            log.info("key_generation_dropped", extra={"generation": number})

    async def _detach(self, connection: Connection, week: date) -> None:
        try:
            await retention.detach_week(connection, week, self._patience)
            self._patience = retention.FIRST_PATIENCE
        except InUse as error:
            if error.waited:
                self._patience = min(self._patience * 2, retention.LAST_PATIENCE)
            raise

    async def _finish(self, connection: Connection, week: date) -> None:
        await retention.drop_week(connection, week)
        metrics.WEEKS_DROPPED.inc()
        log.info("week_dropped", extra={"starts_on": week.isoformat()})

    def _tell_failure(self, reason: str) -> None:
        """Logs the first failure of its kind in a row. A long transaction is no fault."""
        if self._last_failure != reason:
            log.log(
                logging.INFO if reason == "in use" else logging.ERROR, "weeks_not_dropped", extra={"reason": reason}
            )
        self._last_failure = reason


def _show(oldest: date | None) -> None:
    if oldest is not None:
        metrics.OLDEST_WEEK.set(datetime(oldest.year, oldest.month, oldest.day, tzinfo=UTC).timestamp())
