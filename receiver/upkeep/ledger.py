"""Counts the receipts and compares them with the ledger, once a day by default: the independent check."""

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import asyncpg

from receiver import metrics
from receiver.database.leases import LOOK_SECONDS
from receiver.database.pool import NOT_THERE, Pool
from receiver.receipts import ledger
from receiver.receipts.ledger import Count, WeekGone
from receiver.upkeep.rounds import round_until_closed

log = logging.getLogger("receiver.upkeep")

FIRST = timedelta(minutes=5)  # after the duty was taken: a process that starts has other things to do
AGAIN = timedelta(minutes=10)  # after a count that failed
# For all of a count: its snapshot keeps vacuum from tidying. At 100 MB a second from the disk that is 180 GB.
MOST_SECONDS = 1800.0


class LedgerKeeper:
    """Counts every `hours`; 0: never. The last result is in the database, so a restart does not repeat it.

    `held` says whether the duty is this process's now.
    """

    def __init__(
        self,
        pool: Pool,
        hours: int,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        held: Callable[[], bool] = lambda: True,
    ) -> None:
        self._pool, self._every, self._now, self._held = pool, timedelta(hours=hours), now, held
        self._closing = asyncio.Event()
        self._due: datetime | None = None
        self._last_failure: str | None = None

    async def run(self) -> None:
        """Looks until closed whether it is time; a count that is under way then is abandoned."""
        while not self._closing.is_set():
            await round_until_closed(self.look(), self._closing, given_up=False)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._closing.wait()

    async def look(self) -> bool:
        """Counts if it is ours to do and time for it; whether it did. What fails is logged, and tried again."""
        if not self._held() or not self._every:
            self._due = None
            _show(None)
            return False
        try:
            if self._due is None:
                self._due = await self._first_due()
            if self._now() < self._due:
                return False
            self._due = self._now() + AGAIN
            await self.once()
        except (asyncpg.PostgresError, TimeoutError, WeekGone, *NOT_THERE) as error:
            self._tell_failure(f"{type(error).__name__} {getattr(error, 'sqlstate', None) or ''}".strip())
            return False
        self._due, self._last_failure = self._now() + self._every, None
        return True

    async def once(self) -> Count:
        """Counts, stores what was found, and shows it. Raises WeekGone, TimeoutError, and what Postgres says."""
        async with asyncio.timeout(MOST_SECONDS), self._pool.acquire() as connection:
            found = await ledger.count(connection, MOST_SECONDS, now=self._now)
            await ledger.keep(connection, found)
        _show(found)
        figures = {"receipts": found.receipts, "counted": found.counted, "seconds": round(found.seconds, 3)}
        if found.difference:
            log.error("ledger_differs", extra={"difference": found.difference, **figures})
        else:
            log.info("ledger_balances", extra=figures)
        return found

    async def close(self) -> None:
        """Ends the waiting, and a count."""
        self._closing.set()

    async def _first_due(self) -> datetime:
        """When to count first, now that the duty is ours: a while from now, or when the last result is old enough."""
        async with self._pool.acquire() as connection:
            before = await ledger.last(connection)
        _show(before)
        soon = self._now() + FIRST
        # of a clock that was put back since: no reason to wait for it
        return soon if before is None or before.at > self._now() else max(soon, before.at + self._every)

    def _tell_failure(self, reason: str) -> None:
        """Logs the first failure of its kind in a row; that a week was dropped meanwhile is one when it comes again."""
        if reason == WeekGone.__name__ and self._last_failure is None:
            reason = f"{reason} once"
            log.info("ledger_counted_later", extra={"reason": "a week was dropped meanwhile"})
        elif self._last_failure != reason:
            log.error("ledger_not_checked", extra={"reason": reason})
        self._last_failure = reason


def _show(found: Count | None) -> None:
    """NaN for what this process does not know, or need not tell."""
    metrics.LEDGER_DIFFERENCE.set(math.nan if found is None else found.difference)
    metrics.LEDGER_CHECKED.set(math.nan if found is None else found.at.timestamp())
