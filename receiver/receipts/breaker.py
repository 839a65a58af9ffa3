"""What leaves Postgres alone while it is in trouble: until a probe has committed, receipts go straight to the spool."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable

SHORTEST, LONGEST = 0.5, 8.0  # seconds until it is tried again, doubling while each try is followed by new trouble


class Breaker:
    """Open: live groups do not even try. A worker: `run` probes an open one about once a second and closes it."""

    def __init__(self, probe: Callable[[], Awaitable[bool]]) -> None:
        """`probe` commits something and tells whether it went well; it gives up after two seconds."""
        self._probe = probe
        self.is_open = False
        self.is_shaky = False
        """Whether no live group has gone well since it was last closed."""
        self._pause = SHORTEST
        self._opened, self._closed, self._ending = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._closed.set()

    def open(self) -> None:
        """Postgres is in trouble."""
        self._pause = min(self._pause * 2, LONGEST) if self.is_shaky else SHORTEST
        self.is_open = self.is_shaky = True
        self._closed.clear()
        self._opened.set()

    def went_well(self) -> None:
        """A live group was committed."""
        self.is_shaky = False

    async def until_closed_or(self, ending: asyncio.Event) -> None:
        """Waits until it is closed, or `ending` is set."""
        await _first(self._closed, ending)

    async def run(self) -> None:
        """Probes until closed."""
        while not self._ending.is_set():
            await _first(self._opened, self._ending)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause * random.uniform(0.5, 1.0)):
                    await self._ending.wait()
            if not self._ending.is_set() and await self._probe():
                self.is_open = False
                self._opened.clear()
                self._closed.set()

    async def close(self) -> None:
        """Ends the probing."""
        self._ending.set()


async def _first(*events: asyncio.Event) -> None:
    if any(event.is_set() for event in events):
        return
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
