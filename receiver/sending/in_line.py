"""Sends what a drop-in door has just accepted, while its client waits: through the same lanes, now or never."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import asyncpg

from receiver.database.pool import NOT_THERE, Connection, Pool
from receiver.ids import SubmissionId, TenantId
from receiver.platform.wire import Answer, AnswerItem, Outcome, Trouble
from receiver.sending import claims, lanes
from receiver.sending.caller import UNSENT, Caller, Work
from receiver.sending.claims import Claim, Load
from receiver.sending.lanes import Held, Lane
from receiver.sending.settle import Done
from receiver.sending.settler import Settler
from receiver.sending.slots import Slots

log = logging.getLogger("receiver.dispatcher")

FAULT, TOO_FAST = "7006", "7020"
CODES = {Trouble.THROTTLED: TOO_FAST, Trouble.CREDENTIALS: "7001"}  # where the platform gave none; else 7006


def refused(code: str, description: str) -> Answer:
    """The word on what was not called for."""
    return Answer(Outcome.REFUSED, (AnswerItem(code, None, description),), description=description)


NO_ROOM = refused(TOO_FAST, "There was no free call in time: nothing was sent.")
AWAY = refused(FAULT, "The database does not answer: nothing was sent.")
TAKEN_OVER = refused(FAULT, "It took too long to begin the call: nothing was sent.")


def why_closed(held: Held) -> Answer:
    """The word on what its lane lets not go."""
    if held.stopped_at:
        return refused(held.stopped_code or "7001", "The platform refuses the credentials: nothing was sent.")
    return refused(TOO_FAST, "The platform asks us to slow down: nothing was sent.")


@dataclass(frozen=True)
class Admitted:
    """A lane lets it go after `wait` seconds. `tries`: the lane is in trouble, and this one finds out."""

    wait: float = 0.0
    tries: bool = False


class InLine:
    """The calls of the drop-in doors. Every answer is the last word: the client hears it and may try again itself."""

    def __init__(
        self,
        pool: Pool,
        caller: Caller,
        settler: Settler,
        slots: Slots,
        rate_of: Callable[[Lane], float | None],
        lease: timedelta,
        clock: Callable[[], datetime],
    ) -> None:
        self._pool, self._caller, self._settler, self._slots = pool, caller, settler, slots
        self._rate_of, self._lease, self._clock = rate_of, lease, clock

    async def send(self, submission_id: SubmissionId, tenant: TenantId, within: float) -> Answer:
        """Calls for a submission that is ours by its birth, and settles it. Waits `within` seconds at most to begin."""
        deadline = asyncio.get_running_loop().time() + within
        try:
            async with self._pool.acquire() as connection:
                claim = await claims.born_claimed(connection, submission_id)
                (load,) = await claims.load(connection, [submission_id])
            if claim is None:
                return TAKEN_OVER
            admitted = await self._admit(claim.lane, claim.message_count, within)
        except (asyncpg.PostgresError, *NOT_THERE) as error:
            log.warning("outbox_unreachable", extra={"reason": type(error).__name__})
            return AWAY  # its lease runs out, and it is refused then
        if isinstance(admitted, Answer):
            await self._settle(claim, load, admitted)
            return admitted
        return await self._send(Work(replace(claim, tries=admitted.tries), load), admitted, deadline)

    async def _send(self, work: Work, admitted: Admitted, deadline: float) -> Answer:
        began = self._clock()
        try:
            await asyncio.sleep(admitted.wait)
            async with asyncio.timeout_at(deadline) as patience, self._slots.call(work.claim.lane) as call:
                patience.reschedule(None)
                began = self._clock()
                async with self._pool.acquire() as connection:
                    marked = await claims.mark_sent(connection, [work.claim], began, self._lease)
                    kept_from = None if marked else await self._closed(connection, work.claim.lane)
                if kept_from is None:
                    call.ended(said := await self._caller.call(work, self._caller.prepare(work)))
                answer = kept_from or last_word(said)
        except TimeoutError:
            answer = kept_from = NO_ROOM
        except (asyncpg.PostgresError, *NOT_THERE) as error:
            log.warning("outbox_unreachable", extra={"reason": type(error).__name__})
            answer = kept_from = AWAY
        try:
            if kept_from:
                await self._return(work)
            await self._settle(work.claim, work.load, answer)
            await self._caller.after_the_last_word(work.claim, answer, began)
        finally:
            if not kept_from:
                self._caller.decided(work.claim.lane, answer)
        return answer

    async def _closed(self, connection: Connection, lane: Lane) -> Answer:
        """Why what was not marked must not be called: its lane was held up meanwhile, or it is not ours any more."""
        held = next((held for held in await lanes.in_trouble(connection) if held.lane == lane), None)
        return why_closed(held) if held else TAKEN_OVER

    async def _admit(self, lane: Lane, count: int, within: float) -> Admitted | Answer:
        """Pays the lane and says when it may go, or why it may not. Those who come later wait behind it."""
        rate, now = self._rate_of(lane), self._clock()
        async with self._pool.acquire() as connection:
            if rate is None and lane not in {held.lane for held in await lanes.in_trouble(connection)}:
                return Admitted()
            async with connection.transaction():
                held = await lanes.hold(connection, lane, rate, now)
                if held.closed(now):
                    return why_closed(held)
                wait = max(-held.tokens, 0.0) / rate if rate else 0.0
                if wait > within:
                    return refused(TOO_FAST, "The rate is used up for longer than its client waits: not sent.")
                await lanes.take(connection, held, count, now, now + self._lease)
                return Admitted(wait, held.in_trouble)

    async def _return(self, work: Work) -> None:
        """What was paid for goes back to the lane."""
        try:
            async with self._pool.acquire() as connection:
                await lanes.give_back(connection, work.claim.lane, work.claim.message_count)
                if work.claim.tries:
                    await lanes.let_next_try(connection, work.claim.lane, self._clock())
        except (asyncpg.PostgresError, *NOT_THERE) as error:
            log.warning("lane_not_told", extra={"reason": type(error).__name__})

    async def _settle(self, claim: Claim, load: Load, answer: Answer) -> None:
        """Stores the last word; what can't be stored has been heard all the same."""
        try:
            await self._settler.settle(Done(claim, load, answer, self._clock()))
        except (asyncpg.PostgresError, *NOT_THERE) as error:
            extra = {"reason": type(error).__name__, "submission_id": str(claim.submission_id)}
            log.warning("answer_not_stored", extra=extra)


def last_word(answer: Answer) -> Answer:
    """What would be tried again is refused here, with the platform's code or the one that says why."""
    if answer.outcome not in UNSENT:
        return answer
    code = CODES.get(answer.trouble, FAULT) if answer.trouble else FAULT
    items = answer.items if answer.code else (AnswerItem(code, None, answer.description),)
    return replace(answer, outcome=Outcome.REFUSED, items=items)
