"""Keeps partitions and key generations made ahead, so that a Monday is a day like any other."""

import asyncio
import contextlib
import logging
from datetime import UTC, datetime

import asyncpg

from receiver import metrics
from receiver.database.partitions import days_ahead, ensure_weeks, rotate_keys
from receiver.database.pool import NOT_THERE, Pool

log = logging.getLogger("receiver.upkeep")

EVERY_SECONDS = 3600.0


class PartitionKeeper:
    """Looks once an hour; three weeks are always ahead, so a failure has days to be seen."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._closing = asyncio.Event()

    async def run(self) -> None:
        """Makes what is missing, again and again, until closed."""
        while not self._closing.is_set():
            try:
                await self.once()
            except (asyncpg.PostgresError, *NOT_THERE) as error:
                log.error("partitions_not_made", extra={"reason": repr(error)})  # noqa: TRY400
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_SECONDS):
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
