"""Writing down when each API key was used last: now and then, all at once, and never while a caller waits."""

import asyncio
import contextlib
import logging

import asyncpg

from receiver.access.key_book import write_uses
from receiver.access.keys import Keys
from receiver.database.pool import NOT_THERE, Pool

log = logging.getLogger("receiver.keys")

EVERY_SECONDS = 30.0  # so `last used` is right to about a minute, at two statements a minute and process
WRITE_SECONDS = 5.0
LAST_SECONDS = 2.0  # at the end, for what was used since


class LastUse:
    """A worker. While the database is away it keeps one time for each key, and tries again."""

    def __init__(self, pool: Pool, keys: Keys, every: float = EVERY_SECONDS) -> None:
        self._pool, self._keys, self._every = pool, keys, every
        self._closing = asyncio.Event()

    async def run(self) -> None:
        """Writes until it is closed, and once more then."""
        is_last = False
        while not is_last:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), self._every)
            is_last = self._closing.is_set()  # it may be closed while it writes: what was used since is written, too
            await self.write(LAST_SECONDS if is_last else WRITE_SECONDS)

    async def close(self) -> None:
        """Lets it end."""
        self._closing.set()

    async def write(self, seconds: float = WRITE_SECONDS) -> None:
        """Writes what was used since the last time; what can't be written is kept for the next."""
        uses = self._keys.take_uses()
        if not uses:
            return
        try:
            async with asyncio.timeout(seconds), self._pool.acquire() as connection:
                await write_uses(connection, uses)
        except (asyncpg.PostgresError, *NOT_THERE) as error:
            log.debug("key_uses_not_written", extra={"reason": type(error).__name__})
            self._keys.give_back(uses)
