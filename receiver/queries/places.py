"""Places for costly reads: few at once, each followed by a rest, so that receipts are not held up by those who ask.

A search by a name costs a millisecond and needs no place. What may read a hundred thousand rows takes one: a search
without a name, a large page, a page of an export, statistics.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable

from receiver import metrics
from receiver.web import Problem

PLACES = 2
WAITING = 64  # who comes when so many wait is refused at once
PATIENCE = 3.0  # seconds for a place, before it is refused
# While receipts come in a place rests for so many times as long as it was used: a ninth of its time it is in use.
RESTS = 8.0
LONGEST_REST = 20.0  # seconds
RETRY = {"retry-after": "5"}


def too_busy() -> Problem:
    """What is said to those for whom there is no place."""
    return Problem(503, "reads_under_way", "Too many costly searches at once: try again.", headers=RETRY)


class Places:
    """So many costly reads at once; the others wait, first come, first served.

    `live`: whether receipts come in now, as far as this process knows.
    """

    def __init__(
        self, live: Callable[[], bool], most: int = PLACES, *, patience: float = PATIENCE, rests: float = RESTS
    ) -> None:
        self._live, self._free, self._patience, self._rests = live, most, patience, rests
        self._waiting: deque[asyncio.Future[None]] = deque()

    @contextlib.asynccontextmanager
    async def one(self, *, patient: bool = False) -> AsyncIterator[None]:
        """A place while the block runs. Raises Problem 503 when none gets free in time; `patient` waits for ever."""
        await self._take(patient)
        began = time.monotonic()
        try:
            yield
        finally:
            used = time.monotonic() - began
            metrics.COSTLY_READS.observe(used)
            rest = min(used * self._rests, LONGEST_REST) if self._live() else 0.0
            if rest > 0:
                asyncio.get_running_loop().call_later(rest, self._give_back)
            else:
                self._give_back()

    async def _take(self, patient: bool) -> None:
        if self._free:
            self._free -= 1
            return
        if len(self._waiting) >= WAITING and not patient:
            metrics.READS_REFUSED.inc()
            raise too_busy()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(None if patient else self._patience):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # it came in the moment in which we went
                self._give_back()
            else:
                turn.cancel()
            if isinstance(error, TimeoutError):
                metrics.READS_REFUSED.inc()
                raise too_busy() from None
            raise

    def _give_back(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
