"""What is looked after every few seconds: claims of dead processes, lanes that others hold up, resends, the depth."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from receiver import metrics
from receiver.access.tenants import Tenants
from receiver.database.pool import Pool
from receiver.ids import born_at
from receiver.platform.wire import Answer, AnswerItem, Outcome
from receiver.sending import claims, lanes, outbox
from receiver.sending.caller import Caller, Work
from receiver.sending.resending import Resending
from receiver.sending.settle import ABANDONED

log = logging.getLogger("receiver.dispatcher")

LONGEST_SECONDS = 5.0  # between two looks; half a lease, where that is less
MOST_AT_ONCE = 64

# Its client was told nothing, or that it failed, and may have sent it again by now.
NOT_CALLED = Answer(
    Outcome.REFUSED,
    (AnswerItem("7006", None, "The process ended before the call was made: nothing was sent."),),
    description="the process ended before the call was made: nothing was sent",
)


class Tidying:
    """Tidies up after processes that died, and sees what the others see."""

    def __init__(
        self,
        pool: Pool,
        tenants: Tenants,
        caller: Caller,
        resending: Resending,
        lease: timedelta,
        clock: Callable[[], datetime],
    ) -> None:
        self._pool, self._tenants, self._caller, self._lease, self._clock = pool, tenants, caller, lease, clock
        self._resending = resending
        self._every = min(LONGEST_SECONDS, lease.total_seconds() / 2)
        self._last: float | None = None

    def is_due(self) -> bool:
        """Whether it is time again."""
        return self._last is None or asyncio.get_running_loop().time() - self._last >= self._every

    async def tidy(self) -> None:
        """Takes over what dead processes left, sends again what is due, and measures the outbox and its lanes."""
        self._last = asyncio.get_running_loop().time()
        async with self._pool.acquire() as connection:
            found = await claims.claim_abandoned(connection, self._clock(), MOST_AT_ONCE, self._lease)
            loads = await claims.load(connection, [c.submission_id for c in found]) if found else []
            depths = {row["tenant"]: row for row in await connection.fetch(outbox.DEPTH)}
            held_up = await lanes.in_trouble(connection)
        for tenant, name in self._tenants.names.items():
            depth = depths.get(tenant)
            metrics.OUTBOX.labels(name).set(depth["messages"] if depth else 0)
            waits = (self._clock() - born_at(depth["oldest"])).total_seconds() if depth else 0.0
            metrics.OUTBOX_OLDEST.labels(name).set(max(waits, 0.0))
        self._show(held_up)
        if len(found) == MOST_AT_ONCE:
            self._last = None
        unsent: list[Work] = []
        settling = []
        for work in (Work(claim, load) for claim, load in zip(found, loads, strict=True)):
            log.warning("claim_abandoned", extra={"submission_id": str(work.claim.submission_id)})
            if work.load.sent_at is not None or work.load.content is None:
                settling.append(self._caller.conclude(work, ABANDONED, self._clock()))
            elif work.claim.in_line:
                settling.append(self._caller.conclude(work, NOT_CALLED, self._clock()))
            else:
                unsent.append(work)
        if unsent:
            await self._caller.give_back(unsent)
        await asyncio.gather(*settling)
        if await self._resending.resend_due():
            self._last = None

    async def look(self) -> None:
        """Sees which lanes are held up, and touches nothing: for a process that sends only in line."""
        self._last = asyncio.get_running_loop().time()
        async with self._pool.acquire() as connection:
            held_up = await lanes.in_trouble(connection)
        self._show(held_up)

    def _show(self, held_up: list[lanes.Held]) -> None:
        stopped = {held.lane.tenant for held in held_up if held.stopped_at is not None}
        for tenant, name in self._tenants.names.items():
            metrics.LANE_STOPPED.labels(name).set(int(tenant in stopped))
        present = {held.lane for held in held_up}
        for lane in [lane for lane in self._caller.held_up if lane not in present]:
            del self._caller.held_up[lane]
        for held in held_up:
            if held.lane not in self._caller.held_up:
                why = held.stopped_code if held.stopped_at else "7020"
                self._caller.note_held_up(held.lane, why, stopped=held.stopped_at is not None)
