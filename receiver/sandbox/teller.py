"""Telling receipts by the platform's delivery policy: when, how often, and when no more."""

import asyncio
import contextlib
import heapq
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import httpx2

from receiver.sandbox.ledger import Ledger
from receiver.sandbox.parcel import Fault, Parcel
from receiver.sandbox.post import Poster, Unanswered, Unreachable
from receiver.sandbox.settings import SandboxSettings

log = logging.getLogger("receiver.sandbox")

TAKEN: Final = frozenset({200, 201})
# After these the platform never tries again; after all others it does.
DROPPED: Final = frozenset(
    {*range(202, 209), 226, *range(300, 400), 400, 402, *range(404, 412), 414, 415, 416, 418, 505}
)


class Verdict(Enum):
    """What an answer to a receipt means for it."""

    TOLD = "told"
    DROPPED = "dropped"
    AGAIN = "again"


def verdict(status: int) -> Verdict:
    """What HTTP `status` means, by the platform's documented list."""
    if status in TAKEN:
        return Verdict.TOLD
    return Verdict.DROPPED if status in DROPPED else Verdict.AGAIN


@dataclass(slots=True, eq=False)
class Errand:
    """The bodies of one message on their way to one notifyurl.

    They are first tried in order, each after the one before was answered or timed out; a further try
    waits on its own, so that a Submitted that was refused lands after Delivered.
    """

    url: httpx2.URL
    began: float
    """The submission, by the loop's clock; each parcel is due its offset later."""
    parcels: Sequence[Parcel]
    transid: str = ""
    spread: float = 1.0
    """What the waits before further tries are multiplied by."""
    tried: asyncio.Future[None] | None = None
    """Done when each body was tried once, or when the teller ends."""


@dataclass(slots=True, order=True)
class _Try:
    due: float
    turn: int
    errand: Errand = field(compare=False)
    place: int = field(compare=False)
    earlier: int = field(compare=False, default=0)
    """How many tries of this body went before."""

    @property
    def parcel(self) -> Parcel:
        """What is to be told."""
        return self.errand.parcels[self.place]


class Teller:
    """Tells what it is given, until it is closed; belongs to one event loop."""

    def __init__(self, settings: SandboxSettings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger
        self._waits = [wait * settings.speed for wait in settings.retries]
        self._heap: list[_Try] = []
        self._turn = 0
        self._busy: set[asyncio.Task[None]] = set()
        self._awaited: set[asyncio.Future[None]] = set()
        self._wake = asyncio.Event()
        self._ended = asyncio.Event()
        self._closing = False
        self._started = False

    @property
    def closed(self) -> bool:
        """Whether nothing that is given from now on would be told."""
        return self._closing

    def take(self, errand: Errand) -> None:
        """Tells the receipts of `errand` in their time; raises RuntimeError when closed."""
        if self._closing:
            raise RuntimeError("the teller is closed")
        self._ledger.plan(errand.parcels)
        if errand.tried is not None:
            self._awaited.add(errand.tried)
            errand.tried.add_done_callback(self._awaited.discard)
        self._next(errand, 0)

    async def run(self) -> None:
        """Tells until close(); may be run once."""
        if self._started:
            raise RuntimeError("the teller was run before")
        self._started = True
        poster = Poster()
        try:
            try:
                await self._walk(poster)
            finally:
                await self._stop_trying()
                poster.close()
        finally:
            self._closing = True
            for waiter in tuple(self._awaited):
                _finish(waiter)
            self._ended.set()

    async def close(self) -> None:
        """Ends the telling at once: tries under way are cut off, those to come are forgotten."""
        self._closing = True
        self._wake.set()
        if self._started:
            await self._ended.wait()
        for waiter in tuple(self._awaited):
            _finish(waiter)

    async def _walk(self, poster: Poster) -> None:
        loop = asyncio.get_running_loop()
        while not self._closing:
            self._wake.clear()
            while self._heap and self._heap[0].due <= loop.time() and len(self._busy) < self._settings.tellers:
                task = loop.create_task(self._try(poster, heapq.heappop(self._heap)))
                self._busy.add(task)
                task.add_done_callback(self._tried)
            timer = None
            if self._heap and len(self._busy) < self._settings.tellers:
                timer = loop.call_at(self._heap[0].due, self._wake.set)
            try:
                await self._wake.wait()
            finally:
                if timer is not None:
                    timer.cancel()

    async def _stop_trying(self) -> None:
        for task in self._busy:
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)

    def _tried(self, task: asyncio.Task[None]) -> None:
        self._busy.discard(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("receipt_try_broke", exc_info=error)

    async def _try(self, poster: Poster, at: _Try) -> None:
        try:
            meaning = await self._tell(poster, at)
            self._judge(at, meaning)
        except Exception:
            self._ledger.give_up(at.parcel)
            raise
        finally:
            if at.earlier == 0:
                self._next(at.errand, at.place + 1)

    async def _tell(self, poster: Poster, at: _Try) -> Verdict:
        """What came of one try, entered in the ledger."""
        parcel = at.parcel
        fault = parcel.faults[at.earlier] if at.earlier < len(parcel.faults) else None
        if fault is Fault.NOT_SENT:
            self._ledger.answers[fault.value] += 1
            parcel.met = fault.value
            return Verdict.AGAIN
        sent_at = time.time()
        try:
            async with asyncio.timeout(self._settings.timeout):
                status = await self._send(poster, parcel.url or at.errand.url, parcel.body(), fault)
        except TimeoutError:
            return self._unanswered(parcel, sent_at, "timeout")
        except Unanswered:
            return self._unanswered(parcel, sent_at, "unreachable")
        except Unreachable:
            self._ledger.answers["unreachable"] += 1
            parcel.met = "unreachable"
            return Verdict.AGAIN
        if status is None:
            return self._unanswered(parcel, sent_at, Fault.NOT_READ.value)
        self._ledger.answers[str(status)] += 1
        parcel.met = str(status)
        _sent(parcel, sent_at)
        if status >= 500:
            self._ledger.no_answer(parcel)  # it may have been stored before something broke
        elif status not in TAKEN:
            for telling in parcel.tellings:
                telling.refused += 1
        return verdict(status)

    @staticmethod
    async def _send(poster: Poster, url: httpx2.URL, body: bytes, fault: Fault | None) -> int | None:
        if fault is Fault.NOT_READ:
            await poster.post_and_hang_up(url, body)
            return None
        return await poster.post(url, body)

    def _unanswered(self, parcel: Parcel, sent_at: float, why: str) -> Verdict:
        self._ledger.answers[why] += 1
        parcel.met = why
        self._ledger.no_answer(parcel)
        _sent(parcel, sent_at)
        return Verdict.AGAIN

    def _judge(self, at: _Try, meaning: Verdict) -> None:
        parcel = at.parcel
        if meaning is Verdict.TOLD:
            self._ledger.acknowledge(parcel, time.time())
        elif meaning is Verdict.DROPPED:
            self._ledger.drop(parcel)
            log.warning("receipt_dropped", extra={"transid": at.errand.transid})
        elif at.earlier < len(self._waits):
            wait = self._waits[at.earlier] * at.errand.spread
            due = asyncio.get_running_loop().time() + wait
            self._push(due, at.errand, at.place, at.earlier + 1)
        else:
            self._ledger.give_up(parcel)
            log.warning("receipt_given_up", extra={"transid": at.errand.transid})

    def _next(self, errand: Errand, place: int) -> None:
        if place < len(errand.parcels):
            self._push(errand.began + errand.parcels[place].offset, errand, place, 0)
        elif errand.tried is not None:
            _finish(errand.tried)

    def _push(self, due: float, errand: Errand, place: int, earlier: int) -> None:
        self._turn += 1
        heapq.heappush(self._heap, _Try(due, self._turn, errand, place, earlier))
        self._wake.set()


def _finish(waiter: asyncio.Future[None]) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):
        waiter.set_result(None)


def _sent(parcel: Parcel, at: float) -> None:
    for telling in parcel.tellings:
        if telling.sent_at is None or at < telling.sent_at:
            telling.sent_at = at
