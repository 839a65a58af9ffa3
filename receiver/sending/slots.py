"""The calls that may be under way at once, and how the lanes share them: one whose platform hangs holds up no other."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from receiver.platform.wire import Answer
from receiver.sending.lanes import Lane

# A call that lasts longer leaves its slot to the other lanes. Most calls are answered within a tenth of that.
LONG_SECONDS = 2.0
# Of a lane whose last long call ended without an answer so many times fewer calls are under way, until one is answered.
SILENT_PART = 8
LANES_AT_MOST = 8  # so many lanes may hang with all their calls before the others feel it


def most_under_way(slots: int) -> int:
    """The most calls under way at once, long ones too: the connections that it may take."""
    return LANES_AT_MOST * slots


@dataclass
class _Share:
    """What a lane has of the slots."""

    under_way: int = 0
    waiting: deque["asyncio.Future[None]"] = field(default_factory=deque)
    is_slow: bool = False  # a call became long, and none has been answered since
    is_silent: bool = False  # a long call even ended without an answer, and none has been answered since


@dataclass
class UnderWay:
    """A call that has a slot; `seconds` says how long it held it."""

    began: float
    is_long: bool = False
    answered: bool | None = None

    def ended(self, answer: Answer) -> None:
        """What came of it. Until then nothing is known of the platform."""
        self.answered = answer.http_status is not None

    @property
    def seconds(self) -> float:
        """How long it has held its slot."""
        return min(asyncio.get_running_loop().time() - self.began, LONG_SECONDS)


class Slots:
    """So many calls may be under way at once, of the outbox and of the doors together.

    A lane may have all of them. A call that has lasted for long is counted no more but in its own lane, so the others
    go on. A slot that is free goes to the lane that has the fewest calls under way, where a slow one weighs more.
    `on_room` is told when a call has become long: another lane may begin one.
    """

    def __init__(
        self, number: int, on_room: Callable[[], None] = lambda: None, long_seconds: float = LONG_SECONDS
    ) -> None:
        self._number, self._on_room, self._long_seconds = number, on_room, long_seconds
        self._under_way = self._long = 0
        self._shares: dict[Lane, _Share] = {}
        self._waiting: dict[Lane, _Share] = {}  # those of them in which calls wait

    @property
    def free(self) -> int:
        """How many calls may begin now, of lanes that have room."""
        counted = self._under_way - self._long
        return max(min(self._number - counted, most_under_way(self._number) - self._under_way), 0)

    def under_way(self, lane: Lane) -> int:
        """The calls of a lane, those that wait for a slot included."""
        share = self._shares.get(lane)
        return share.under_way + len(share.waiting) if share else 0

    def weight(self, lane: Lane) -> int:
        """By how much a lane stands behind others that have as few calls: not for ever, or it would stay behind."""
        return max(self._number // 2, 1) if self.is_slow(lane) else 0

    def room(self, lane: Lane) -> int:
        """How many more calls the lane may have under way, if slots are free."""
        share = self._shares.get(lane)
        return max(self.most(lane) - share.under_way, 0) if share else self._number

    def most(self, lane: Lane) -> int:
        """How many calls the lane may have under way now."""
        return max(self._number // SILENT_PART, 1) if self.is_silent(lane) else self._number

    def is_silent(self, lane: Lane) -> bool:
        """Whether its platform left the last long call without an answer."""
        share = self._shares.get(lane)
        return share is not None and share.is_silent

    def is_slow(self, lane: Lane) -> bool:
        """Whether a call of the lane became long, and none has been answered since."""
        share = self._shares.get(lane)
        return share is not None and share.is_slow

    def is_stuck(self, lane: Lane) -> bool:
        """Whether slots are free but not for this lane: its own calls take too long."""
        return self.free > 0 and self.room(lane) == 0

    @asynccontextmanager
    async def call(self, lane: Lane) -> AsyncIterator[UnderWay]:
        """A slot for one call of that lane; waits for it behind those of its lane that came before."""
        share = self._shares.setdefault(lane, _Share())
        await self._enter(lane, share)
        loop = asyncio.get_running_loop()
        call = UnderWay(loop.time())
        timer = loop.call_later(self._long_seconds, self._leave_to_others, share, call)
        try:
            yield call
        finally:
            timer.cancel()
            if call.answered:
                share.is_slow = share.is_silent = False
            elif call.answered is False and call.is_long:
                share.is_silent = True
            self._leave(share, call.is_long)

    async def _enter(self, lane: Lane, share: _Share) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        share.waiting.append(turn)
        self._waiting[lane] = share
        self._hand_out()
        try:
            await turn
        except asyncio.CancelledError:
            if turn in share.waiting:
                share.waiting.remove(turn)
            elif not turn.cancelled():  # it had its slot just before
                self._leave(share, is_long=False)
            raise

    def _leave_to_others(self, share: _Share, call: UnderWay) -> None:
        call.is_long = share.is_slow = True
        self._long += 1
        self._hand_out()
        self._on_room()

    def _leave(self, share: _Share, is_long: bool) -> None:
        share.under_way -= 1
        self._under_way -= 1
        self._long -= is_long
        self._hand_out()

    def _hand_out(self) -> None:
        while self._waiting and self.free:
            ready = [lane for lane in self._waiting if self.room(lane)]
            if not ready:
                return
            lane = min(ready, key=lambda each: self._shares[each].under_way + self.weight(each))
            share = self._shares[lane]
            turn = share.waiting.popleft() if share.waiting else None
            if not share.waiting:
                del self._waiting[lane]
            if turn is not None and not turn.done():
                share.under_way += 1
                self._under_way += 1
                turn.set_result(None)
