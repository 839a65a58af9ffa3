"""Sends what the outbox holds. Claims ahead, so that as many calls as allowed are under way while there is work.

No connection to the database is held while the platform thinks.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from receiver.access.tenants import Tenants
from receiver.access.tokens import NotifyTokens
from receiver.database.pool import NOT_THERE, Pool
from receiver.ids import SubmissionId, TenantId
from receiver.platform.client import PlatformClient
from receiver.platform.wire import Answer, Outcome
from receiver.sending import claims
from receiver.sending.caller import Caller, Slots, Work
from receiver.sending.claimer import Claimer
from receiver.sending.in_line import InLine
from receiver.sending.resending import Resending
from receiver.sending.settle import EXPIRED
from receiver.sending.settler import Settler
from receiver.sending.tidying import Tidying

log = logging.getLogger("receiver.dispatcher")

IDLE_SECONDS = 0.5  # how soon work of another process is seen; our own wakes us at once
AHEAD_SECONDS = 0.25  # claimed ahead is what will be called within that time, as calls last now
FRESH_SECONDS = 5.0  # a mark that is older is set anew before the call
STARTING_POINT = 0.5  # seconds that a call lasts, before the first has been measured

# A fault of ours, in the log. Whatever it was, the other calls of the request have gone out and are answered.
UNHEARD = Answer(Outcome.UNCERTAIN, description="the call failed here: it may have been sent")


def lease_of(timeout: float) -> timedelta:
    """The lease where none was chosen: the call, and then the tries to store its answer, end before it does."""
    return timedelta(seconds=timeout + 45)


class Dispatcher:
    """The worker behind the doors that send. `wake` tells it of work; `close` lets calls under way finish.

    Without `claims_outbox` it makes only the calls of the drop-in doors: another process sends what the outbox holds.
    """

    def __init__(
        self,
        pool: Pool,
        client: PlatformClient,
        tenants: Tenants,
        tokens: NotifyTokens,
        public_url: str,
        *,
        concurrency: int,
        timeout: float,
        keep_content: bool,
        lease: timedelta | None = None,
        claims_outbox: bool = True,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._pool, self._clock, self._concurrency = pool, clock, concurrency
        self._claims_outbox = claims_outbox
        self._lease = lease or lease_of(timeout)
        self._settler = Settler(pool, tenants, keep_content=keep_content)
        self._caller = Caller(pool, client, tenants, tokens, public_url, self._settler, clock)
        self._claimer = Claimer(tenants, self._lease, clock)
        resending = Resending(pool, tenants, clock, keep_content=keep_content)
        self._tidying = Tidying(pool, tenants, self._caller, resending, self._lease, clock)
        self._slots = Slots(concurrency)
        self._in_line = InLine(
            pool, self._caller, self._settler, self._slots, self._claimer.rate_of, self._lease, clock
        )
        self._claimed: deque[Work] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._marked = 0  # tasks that wait for a free call
        self._call_seconds, self._mark_seconds = STARTING_POINT, 0.0
        self._wake, self._room = asyncio.Event(), asyncio.Event()
        self._closing = False

    @property
    def trouble(self) -> dict[str, str]:
        """What keeps tenants from sending, in words."""
        named = [*self._caller.held_up.items(), *self._caller.unreachable.items()]
        return {f"{number}": text for number, (_, text) in enumerate(named)}

    def wake(self) -> None:
        """There is new work."""
        self._wake.set()

    async def close(self) -> None:
        """Claims nothing more; `run` returns when the calls under way have been settled."""
        self._closing = True
        self._wake.set()
        self._room.set()

    async def send_now(self, submissions: Sequence[SubmissionId], tenant: TenantId, within: float) -> list[Answer]:
        """Sends submissions that were accepted in line, now or never, and returns the platform's answers in order.

        Waits for the lane and a free call for `within` seconds in all. What is not called for is refused: with 7020
        where the lane lets nothing go, with the code that stopped it, with 7006 where the database is away. What is
        not answered is uncertain. A caller that goes away does not end the calls.
        """
        sending = [self._begin(self._in_line.send(s, tenant, within), f"dispatch {s} in line") for s in submissions]
        said = await asyncio.shield(asyncio.gather(*sending, return_exceptions=True))
        return [answer if isinstance(answer, Answer) else UNHEARD for answer in said]

    async def run(self) -> None:
        """Claims and sends until closed."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._settler.run(), name="settler")
            feeding = group.create_task(self._feed(), name="feeder")
            await self._claim_until_closed()
            await feeding
            while self._tasks:
                await asyncio.wait(self._tasks)
            await self._give_back([*self._claimed])
            await self._settler.close()

    async def _claim_until_closed(self) -> None:
        is_away = False
        while not self._closing:
            self._wake.clear()
            claimed = 0
            try:
                if self._tidying.is_due():
                    await (self._tidying.tidy() if self._claims_outbox else self._tidying.look())
                if self._claims_outbox:
                    claimed = await self._claim()
                is_away = False
            except (asyncpg.PostgresError, *NOT_THERE) as error:
                if not is_away:  # once, until the database has answered again
                    log.warning("outbox_unreachable", extra={"reason": type(error).__name__})
                is_away = True
            if not claimed:
                await self._pause()

    async def _pause(self) -> None:
        seconds = IDLE_SECONDS
        if self._claimer.next_at is not None:
            seconds = min(max((self._claimer.next_at - self._clock()).total_seconds(), 0.001), seconds)
        try:
            # not wait_for: on Python 3.11 it swallows a cancellation that comes together with the wake
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _claim(self) -> int:
        """Claims ahead when half of what was claimed ahead is gone."""
        ahead = self._ahead()
        if len(self._claimed) > ahead // 2:
            return 0
        holds = self._caller.holds()
        async with self._pool.acquire() as connection:
            found = await self._claimer.claim(connection, ahead - len(self._claimed))
        self._claimed += (Work(claim, load, holds[claim.lane]) for claim, load in found)
        self._room.set()
        return len(found)

    def _ahead(self) -> int:
        """How many to have claimed: more while calls are short; while they are long others find what is left."""
        return self._soon(AHEAD_SECONDS, most=2) + max(self._slots.free - self._marked, 0)

    def _soon(self, seconds: float, most: float = 1) -> int:
        """How many calls begin within that time, as long as calls last now: one to `most` for each under way."""
        rounds = seconds / max(self._call_seconds, 0.001)
        return max(math.ceil(self._concurrency * min(rounds, most)), 1)

    async def _feed(self) -> None:
        """Marks what is to be called next as sent: as far ahead of a free call as marking takes."""
        loop = asyncio.get_running_loop()
        while not self._closing:
            began = loop.time()
            ahead = max(self._soon(2 * self._mark_seconds), self._concurrency // 4)
            room = max(self._slots.free + ahead - self._marked, 0)
            works = [self._claimed.popleft() for _ in range(min(room, len(self._claimed)))]
            self._wake.set() if works else self._room.clear()
            try:
                await self._start(works) if works else await self._room.wait()
                self._mark_seconds += (loop.time() - began - self._mark_seconds) / 8 if works else 0.0
            except (asyncpg.PostgresError, *NOT_THERE) as error:
                log.warning("outbox_unreachable", extra={"reason": type(error).__name__})
                self._claimed.extendleft(reversed(works))
                await asyncio.sleep(IDLE_SECONDS)

    async def _start(self, works: Sequence[Work]) -> None:
        """Begins the calls of what is still ours; what has expired is not sent."""
        now = self._clock()
        works = [work for work in works if work.load.content is not None]  # else it was settled meanwhile
        going = [work for work in works if not work.expired(now)]
        async with self._pool.acquire() as connection:
            marked = await claims.mark_sent(connection, [work.claim for work in going], now, self._lease)
        for work in (work for work in works if work.expired(now)):
            self._begin(self._caller.conclude(work, EXPIRED, now), f"dispatch {work.claim.submission_id}")
        await self._give_back([work for work in going if work.claim.submission_id not in marked])
        for work in (work for work in going if work.claim.submission_id in marked):
            self._marked += 1
            self._begin(self._dispatch(work), f"dispatch {work.claim.submission_id}")

    async def _dispatch(self, work: Work) -> None:
        loop = asyncio.get_running_loop()
        marked, waits = loop.time(), 1
        try:
            prepared = self._caller.prepare(work)
            async with self._slots:
                self._marked, waits = self._marked - 1, 0
                if not await self._may_go(work, loop.time() - marked):
                    await self._give_back([work])
                    return
                began, began_at = loop.time(), self._clock()
                answer = await self._caller.call(work, prepared)
                self._call_seconds += (loop.time() - began - self._call_seconds) / 16
        finally:
            self._marked -= waits
            self._room.set()
        await self._caller.conclude(work, answer, began_at)
        if work.claim.tries:
            self._wake.set()

    async def _may_go(self, work: Work, seconds: float) -> bool:
        """Whether it may be called now: after a long wait for a free call that is asked again."""
        if self._closing or self._caller.was_held_up(work):
            return False
        if seconds < FRESH_SECONDS:
            return True
        async with self._pool.acquire() as connection:
            return bool(await claims.mark_sent(connection, [work.claim], self._clock(), self._lease))

    async def _give_back(self, works: list[Work]) -> None:
        if not works:
            return
        try:
            await self._caller.give_back(works)
        except (asyncpg.PostgresError, *NOT_THERE) as error:  # the lease ends by itself
            log.warning("outbox_unreachable", extra={"reason": type(error).__name__})

    def _begin(self, work: Coroutine[Any, Any, Any], name: str) -> "asyncio.Task[Any]":
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            # The lease runs out and the submission becomes uncertain: nothing is sent twice because of this.
            log.error("dispatch_failed", extra={"reason": type(error).__name__}, exc_info=error)
