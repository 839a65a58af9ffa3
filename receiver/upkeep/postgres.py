"""Watches the embedded Postgres: without it a process can do nothing, and whoever started it should know."""

import asyncio
import contextlib
import logging
from collections.abc import Callable

log = logging.getLogger("receiver.upkeep")

EVERY_SECONDS = 1.0


class PostgresWatch:
    """A worker that dies when the embedded server has died: the process ends with 1 and can be started anew."""

    def __init__(self, is_alive: Callable[[], bool]) -> None:
        self._is_alive = is_alive
        self._closing = asyncio.Event()

    async def run(self) -> None:
        """Looks once a second until closed. Raises RuntimeError when the server is gone."""
        while not self._closing.is_set():
            if not self._is_alive():
                raise RuntimeError("the embedded Postgres has ended: see postgres.log in the data folder")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_SECONDS):
                    await self._closing.wait()

    async def close(self) -> None:
        """Ends the watching."""
        self._closing.set()
