"""Sends what the outbox holds. Claims ahead, so that as many calls as allowed are under way while there is work.

No connection to the database is held while the platform thinks.
"""

import asyncio
import logging
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
from receiver.sending.caller import Caller, Work
from receiver.sending.claimer import Claimer
from receiver.sending.in_line import InLine
from receiver.sending.resending import Resending
from receiver.sending.settle import EXPIRED
from receiver.sending.settler import Settler
from receiver.sending.slots import Slots
from receiver.sending.stock import Stock
from receiver.sending.tidying import Tidying

log = logging.getLogger("receiver.dispatcher")

IDLE_SECONDS = 0.5  # how soon work of another process is seen; our own wakes us at once
FRESH_SECONDS = 5.0  # a mark that is older is set anew before the call

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
        self._pool, self._clock = pool, clock
        self._claims_outbox = claims_outbox
        self._lease = lease or lease_of(timeout)
        self._settler = Settler(pool, tenants, keep_content=keep_content)
        self._caller = Caller(pool, client, tenants, tokens, public_url, self._settler, clock)
        self._claimer = Claimer(tenants, self._lease, clock)
        resending = Resending(pool, tenants, clock, keep_content=keep_content)
        self._tidying = Tidying(pool, tenants, self._caller, resending, self._lease, clock)
        self._slots = Slots(concurrency, self._make_room)
        self._stock = Stock(self._slots, concurrency)
        self._in_line = InLine(
            pool, self._caller, self._settler, self._slots, self._claimer.rate_of, self._lease, clock
        )
        self._tasks: set[asyncio.Task[Any]] = set()
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
        self._make_room()

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
            await self._give_back(self._stock.take_all())
            await self._settler.close()

    def _make_room(self) -> None:
        self._wake.set()
        self._room.set()

    async def _claim_until_closed(self) -> None:
        is_away = False
        while not self._closing:
            self._wake.clear()
            claimed = 0
            try:
                if self._tidying.is_due():
                    await (self._tidying.tidy() if self._claims_outbox else self._tidying.look())
                if self._claims_outbox:
                    await self._give_back(self._stock.take_surplus())
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
        """Claims ahead, of each lane its share."""
        wanted = self._stock.wanted()
        if not wanted:
            return 0
        holds = self._caller.holds()
        async with self._pool.acquire() as connection:
            found = await self._claimer.claim(connection, wanted, self._stock.shares)
        self._stock.add([Work(claim, load, holds[claim.lane]) for claim, load in found])
        self._room.set()
        return len(found)

    async def _feed(self) -> None:
        """Marks what is to be called next as sent: as far ahead of a free call as marking takes."""
        loop = asyncio.get_running_loop()
        while not self._closing:
            began = loop.time()
            works = self._stock.take_next()
            self._wake.set() if works else self._room.clear()
            try:
                await self._start(works) if works else await self._room.wait()
                if works:
                    self._stock.marking_took(loop.time() - began)
            except (asyncpg.PostgresError, *NOT_THERE) as error:
                log.warning("outbox_unreachable", extra={"reason": type(error).__name__})
                self._stock.put_back(works)
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
            self._stock.waits_for_a_slot(work.claim.lane)
            self._begin(self._dispatch(work), f"dispatch {work.claim.submission_id}")

    async def _dispatch(self, work: Work) -> None:
        loop, lane = asyncio.get_running_loop(), work.claim.lane
        marked, waits = loop.time(), True
        try:
            prepared = self._caller.prepare(work)
            async with self._slots.call(lane) as call:
                waits = False
                self._stock.waits_no_more(lane)
                if not await self._may_go(work, loop.time() - marked):
                    await self._give_back([work])
                    return
                began_at = self._clock()
                answer = await self._caller.call(work, prepared)
                call.ended(answer)
                self._stock.call_took(call.seconds)
        finally:
            if waits:
                self._stock.waits_no_more(lane)
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
