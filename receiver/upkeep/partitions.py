"""Keeps partitions and key generations made ahead, so that a Monday is a day like any other."""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime

import asyncpg

from receiver import metrics
from receiver.database.leases import LOOK_SECONDS
from receiver.database.partitions import days_ahead, ensure_weeks, rotate_keys
from receiver.database.pool import NOT_THERE, Pool

log = logging.getLogger("receiver.upkeep")

EVERY_SECONDS = 3600.0
AGAIN_SECONDS = 60.0


class PartitionKeeper:
    """Looks once an hour, and after a failure once a minute; three weeks are always ahead.

    `held` says whether the duty is this process's now; when it becomes so, the first look is at once.
    """

    def __init__(self, pool: Pool, held: Callable[[], bool] = lambda: True) -> None:
        self._pool, self._held = pool, held
        self._closing = asyncio.Event()

    async def run(self) -> None:
        """Makes what is missing, again and again, until closed."""
        due = 0.0
        while not self._closing.is_set():
            if not self._held():
                due = 0.0
                metrics.DAYS_AHEAD.set(math.nan)
            elif time.monotonic() >= due:
                due = time.monotonic() + EVERY_SECONDS
                try:
                    await self.once()
                except (asyncpg.PostgresError, *NOT_THERE) as error:
                    log.error("partitions_not_made", extra={"reason": repr(error)})  # noqa: TRY400
                    due = time.monotonic() + AGAIN_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._closing.wait()

    async def once(self) -> None:
        """Makes the weeks and the generation that are missing."""
        async with self._pool.acquire() as connection:
            for week in await ensure_weeks(connection, datetime.now(UTC)):
                log.info("week_made", extra={"starts_on": week.isoformat()})
            if generation := await rotate_keys(connection):
                log.info("keys_rotated", extra={"generation": generation})
            metrics.DAYS_AHEAD.set(await days_ahead(connection))

    async def close(self) -> None:
        """Ends the waiting."""
        self._closing.set()
