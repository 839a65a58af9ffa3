"""Keeps the statistics: folds the change log about once a second, and counts anew after a restore elsewhere."""

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
from receiver.database.pool import NOT_THERE, Pool
from receiver.upkeep import folding
from receiver.upkeep.folding import Step, Unsettled
from receiver.upkeep.outcomes import Outcomes
from receiver.upkeep.rounds import round_until_closed

log = logging.getLogger("receiver.upkeep")

EVERY_SECONDS, LAST_SECONDS = 1.0, 10.0
# It works a tenth of the time, a third while it is behind: the larger a step, the less a change costs.
REST, REST_BEHIND = 9, 2
LEAST = 1_000  # changes of a step on a disk that is too slow for more


class Folder:
    """A step about every second, and soon again while there is more. Any number of processes may; one at a time does.

    `held` says whether the duty is this process's now; `now` is the clock by which it is behind. `outcomes` counts what
    each step has added up, once it is committed.
    """

    def __init__(
        self,
        pool: Pool,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        held: Callable[[], bool] = lambda: True,
        outcomes: Outcomes | None = None,
    ) -> None:
        self._pool, self._now, self._held, self._outcomes = pool, now, held, outcomes
        self._closing = asyncio.Event()
        self._most = folding.MOST
        self._at: datetime | None = None
        self._last_failure: str | None = None
        metrics.STATISTICS_BEHIND.set_function(self.behind)

    async def run(self) -> None:
        """Rounds until closed."""
        while not self._closing.is_set():
            wait, began = LOOK_SECONDS, time.monotonic()
            if not self._held():
                self._at = None
            else:
                more = await round_until_closed(self._round(), self._closing, given_up=False)
                took = time.monotonic() - began
                wait = took * REST_BEHIND if more else min(max(took * REST, EVERY_SECONDS), LAST_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._closing.wait()
        self._at = None

    async def close(self) -> None:
        """Ends the waiting, and gives up what is in hand: the next step does it again."""
        self._closing.set()

    def behind(self) -> float:
        """Seconds since the time up to which the log is folded; NaN where this process does not know."""
        return math.nan if self._at is None else max((self._now() - self._at).total_seconds(), 0.0)

    async def once(self) -> Step | None:
        """One step; a count of everything where the database came from another cluster. None: another process folds."""
        async with self._pool.acquire() as connection:
            senders = None
            if self._outcomes is not None:
                await self._outcomes.begin(connection, self._now())
                senders = self._outcomes.senders.all
            try:
                step = await folding.fold(connection, self._most, senders)
            except Unsettled:
                log.warning("statistics_recounting", extra={"reason": "restored into another cluster"})
                step = await folding.recount(connection)
                log.info("statistics_recounted", extra={"messages": step.changes})
                self._at = step.at
                return step
            if step is not None:  # at once: whoever waits first, for a connection to be given back, may be cancelled
                self._at = step.at
                metrics.STATISTICS_CHANGES.inc(step.changes)
                if self._outcomes is not None:
                    self._outcomes.count(step.moved)
        return step

    async def _round(self) -> bool:
        """One step, whatever comes of it; returns whether the next should be soon."""
        try:
            step = await self.once()
        except (asyncpg.PostgresError, *NOT_THERE) as error:
            reason = f"{type(error).__name__} {getattr(error, 'sqlstate', None) or ''}".strip()
            if self._last_failure != reason:
                log.error("statistics_not_folded", extra={"reason": reason})  # noqa: TRY400
            self._last_failure = reason
            if isinstance(error, asyncpg.QueryCanceledError):
                self._most = max(self._most // 2, LEAST)
            return False
        self._last_failure, self._most = None, min(self._most * 2, folding.MOST)
        return step is not None and step.more
