"""Whether the database answers this process: looked at every few seconds, whatever else the process does."""

import asyncio
import contextlib

from receiver import metrics
from receiver.database.pool import Pool, can_write

EVERY_SECONDS = 5.0


class Pulse:
    """A worker with a connection of its own: a pool that is busy is no database that is away."""

    def __init__(self, pool: Pool, every: float = EVERY_SECONDS) -> None:
        self._pool, self._every = pool, every
        self._closing = asyncio.Event()

    async def run(self) -> None:
        """Looks until closed; from then on nothing is known."""
        while not self._closing.is_set():
            metrics.DATABASE_UP.set(float(await can_write(self._pool)))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await self._closing.wait()
        metrics.DATABASE_UP.set(metrics.UNKNOWN)

    async def close(self) -> None:
        """Ends the looking."""
        self._closing.set()
