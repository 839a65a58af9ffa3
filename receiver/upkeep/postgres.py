"""Keeps the embedded Postgres alive: when it dies it is started again, and its death is told."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from receiver.database.revival import EmbeddedError, EmbeddedPostgres

log = logging.getLogger("receiver.upkeep")

EVERY_SECONDS = 0.25
# Before each try. After six within about a minute it is not Postgres's bad day but a disk or a setting: a person is
# needed, and whoever watches the process hears of it.
PAUSES_SECONDS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)
STEADY_SECONDS = 60.0  # it lived as long: what happened before is forgotten


class PostgresWatch:
    """A worker that starts a dead server again; it dies, and the process with 1, only when that does not help."""

    def __init__(self, postgres: EmbeddedPostgres, pauses: Sequence[float] = PAUSES_SECONDS) -> None:
        self._postgres, self._pauses = postgres, pauses
        self._closing = asyncio.Event()
        self._tries = 0
        self._started_at = 0.0

    async def run(self) -> None:
        """Looks four times a second until closed. Raises RuntimeError with the reason after too many tries."""
        while not self._closing.is_set():
            if self._is_dead():
                await self._start_again()
            await self._pause(EVERY_SECONDS)

    async def close(self) -> None:
        """Ends the watching; a start that is under way is given up within seconds."""
        self._closing.set()

    def _is_dead(self) -> bool:
        try:
            return not self._postgres.is_alive()
        except OSError:  # no descriptor is free, say: nobody knows, and dying of it would help nobody
            return False

    async def _start_again(self) -> None:
        now = asyncio.get_running_loop().time
        died_at = now()
        if died_at - self._started_at > STEADY_SECONDS:
            self._tries = 0
        reason = "it dies again and again: look into postgres.log in the data folder"
        log.error("postgres_died", extra={"tries": self._tries})
        while self._tries < len(self._pauses):
            await self._pause(self._pauses[self._tries])
            if self._closing.is_set():
                return
            self._tries += 1
            try:
                # In a thread: it waits for Postgres's recovery, and the doors must go on meanwhile.
                started = await asyncio.to_thread(self._postgres.start_again, self._closing.is_set)
            except EmbeddedError as error:
                reason = str(error)
                log.error("postgres_not_started", extra={"reason": reason, "tries": self._tries})  # noqa: TRY400
                continue
            if started:
                self._started_at = now()
                seconds = round(self._started_at - died_at, 3)
                log.warning("postgres_started", extra={"seconds": seconds, "tries": self._tries})
            return
        raise RuntimeError(f"the embedded Postgres can't be kept alive ({self._tries} starts): {reason}")

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()
