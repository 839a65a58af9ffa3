"""Finds what never came: a walk over messages past their usual time, looks at those that wait, and giving up."""

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from receiver.database.leases import LOOK_SECONDS
from receiver.database.pool import NOT_THERE, Connection, Pool
from receiver.ids import MessageId, TenantId, born_at
from receiver.messages.changes import Change, count
from receiver.messages.lattice import Channel
from receiver.messages.patience import Decision, What, decide, grace, waits_of
from receiver.messages.store import MOST_TRIES, may_try_again
from receiver.messages.told import Feed
from receiver.upkeep import awaiting, completeness, learning
from receiver.upkeep.awaiting import Fence
from receiver.upkeep.rounds import round_until_closed
from receiver.upkeep.sweeping import give_up
from receiver.waits import Waits

log = logging.getLogger("receiver.upkeep")

EVERY_SECONDS = 2.0
PAUSE_SECONDS = 0.05
REST = 4  # while there is a backlog it works a fifth of the time: a first start may have millions of messages before it
MEASURE_SECONDS = 20.0
LEARN_SECONDS = 3600.0
A_STEP = 2_000  # messages of one step of the walk: some 30 ms
A_LOOK = 500
MOST_PARTS = 32  # into which both are cut after a statement that took too long
MOST_TRIMS = 100  # of 5,000 rows; the next hour goes on
MOST_GIVEN_UP = 200  # in one transaction, which locks them


class Awaiter:
    """A round every two seconds, and at once again while there is more to do. Any number of processes may.

    `held` says whether the duty is this process's now; the lease only keeps others from doing the same work. `now` is
    the clock by which messages are late.
    """

    def __init__(
        self,
        pool: Pool,
        tenants: Mapping[TenantId, str],
        channels: Mapping[str, Waits],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        held: Callable[[], bool] = lambda: True,
    ) -> None:
        self._pool, self._tenants, self._now, self._held = pool, tenants, now, held
        self._waits = waits_of(channels)
        self._groups: defaultdict[timedelta, list[Channel]] = defaultdict(list)
        for channel, waits in self._waits.items():
            self._groups[waits.usual].append(channel)
        self._fence = Fence()
        self._passed: dict[Channel, UUID] = {}
        self._learned: learning.Learned = {}
        self._behind: timedelta | None = None
        self._measure_at = self._learn_at = 0.0
        self._parts = 1
        self._closing = asyncio.Event()
        self._last_failure: str | None = None

    async def run(self) -> None:
        """Rounds until closed."""
        due = 0.0
        while not self._closing.is_set():
            wait, began = LOOK_SECONDS, time.monotonic()
            if not self._held():
                due = self._measure_at = self._learn_at = 0.0
                completeness.hide()
            elif began >= due:
                more = await round_until_closed(self._round(), self._closing, given_up=False)
                due = time.monotonic() + EVERY_SECONDS
                if more:
                    due, wait = 0.0, min(max((time.monotonic() - began) * REST, PAUSE_SECONDS), EVERY_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._closing.wait()
        completeness.hide()

    async def close(self) -> None:
        """Ends the waiting, and gives up what is in hand: the next round does it again."""
        self._closing.set()

    async def _round(self) -> bool:
        """One round, whatever comes of it; returns whether the next should be soon."""
        try:
            more = await self.once()
            await self._learn_and_measure()
        except (asyncpg.PostgresError, *NOT_THERE) as error:
            reason = f"{type(error).__name__} {getattr(error, 'sqlstate', None) or ''}".strip()
            if self._last_failure != reason:
                log.error("waiting_failed", extra={"reason": reason})  # noqa: TRY400
            self._last_failure = reason
            if isinstance(error, asyncpg.QueryCanceledError):  # a disk that is too slow for so much at once
                self._parts = min(self._parts * 2, MOST_PARTS)
            return False
        self._last_failure, self._parts = None, max(self._parts // 2, 1)
        return more

    async def once(self) -> bool:
        """A step of the walk for each usual time, and a look at what is due; returns whether there is more to do."""
        async with self._pool.acquire() as connection:
            if not self._passed:
                await awaiting.begin(connection, Channel, self._now())
                self._learned = await learning.stored(connection)
                self._passed = await awaiting.cursors(connection, Channel)
            walking = await self._walk(connection)
            looking = await self._look(connection)
        return walking or looking

    async def learn(self) -> None:
        """Learns how long the final word takes, and drops what is counted of hours that are gone."""
        now, heard = self._now(), list[learning.Heard]()
        async with self._pool.acquire() as connection:
            async for some in learning.sample(connection, learning.hours_before(now)):
                heard += some
                await asyncio.sleep(PAUSE_SECONDS if some else 0)
            self._learned = learning.learn(heard, self._waits, now)
            await learning.store(connection, self._learned, now)
            for _ in range(MOST_TRIMS):
                if not await completeness.trim(connection):
                    break

    async def measure(self) -> None:
        """Shows what waits, and how complete the push was."""
        async with self._pool.acquire() as connection:
            figures = await completeness.measure(connection, self._now())
        if self._held() and not self._closing.is_set():
            completeness.show(figures, self._tenants, self._behind)

    async def _learn_and_measure(self) -> None:
        if time.monotonic() >= self._learn_at:
            self._learn_at = time.monotonic() + LEARN_SECONDS
            await self.learn()
        if time.monotonic() >= self._measure_at:
            self._measure_at = time.monotonic() + MEASURE_SECONDS
            await self.measure()

    async def _walk(self, connection: Connection) -> bool:
        """A step for each usual time. Returns whether any has more before it."""
        seen = await self._fence.look(connection)
        if seen is None:
            return True
        limit = A_STEP // self._parts
        more, now, behind = False, self._now(), timedelta(0)
        for usual, channels in self._groups.items():
            until = min(now - usual, seen - awaiting.BEHIND)
            step = await awaiting.step(connection, channels, until, limit, grace(self._waits[channels[0]]), now)
            for channel in channels:
                self._passed[channel] = max(self._passed[channel], step.last_id)
            more = more or step.walked == limit
            behind = max(behind, now - usual - born_at(step.last_id))
        self._behind = behind
        return more

    async def _look(self, connection: Connection) -> bool:
        """Looks at some of what is due. Returns whether there may be more."""
        now, limit = self._now(), A_LOOK // self._parts
        async with connection.transaction():
            found = await awaiting.due(connection, now, limit, self._passed)
            decided = [(one, self._decide(one, now)) for one in found]
            await awaiting.carry_out(connection, decided)
        silent = sorted(one.id for one, made in decided if made.what is What.GIVE_UP)
        for start in range(0, len(silent), MOST_GIVEN_UP):
            changes = await self._give_up(connection, silent[start : start + MOST_GIVEN_UP], now)
            count(changes, Feed.OWN, self._tenants, {}, {})
        return len(found) == limit

    def _decide(self, one: awaiting.Awaited, now: datetime) -> Decision:
        waits = self._waits[one.channel]
        return decide(
            one.seen, one.channel, waits, learning.expected(self._learned, one.channel, one.country, waits), now
        )

    async def _give_up(self, connection: Connection, ids: list[MessageId], now: datetime) -> list[Change]:
        for tries_left in range(MOST_TRIES - 1, -1, -1):
            try:
                return await give_up(connection, ids, self._waits, now)
            except asyncpg.PostgresError as error:
                if not tries_left or not may_try_again(error):
                    raise
        raise AssertionError("the last try returns or raises")
