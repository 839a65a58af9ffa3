"""Telling receipts by the platform's delivery policy: when, how often, and when no more."""

import asyncio
import contextlib
import heapq
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import httpx2

from receiver.sandbox.ledger import Ledger
from receiver.sandbox.receipt import Notification, body
from receiver.sandbox.settings import SandboxSettings

log = logging.getLogger("receiver.sandbox")

# Below the 5 s after which uvicorn closes an idle connection: a receipt sent into a closing one is lost.
KEEPALIVE: Final = 2.0
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
    """The receipts of one message on their way to one notifyurl.

    They are first tried in order, each after the one before was answered or timed out; a further try
    waits on its own, so that a Submitted that was refused lands after Delivered.
    """

    url: httpx2.URL
    receipts: Sequence[tuple[float, Notification]]
    """When each is due, by the loop's clock, and what it says."""
    spread: float = 1.0
    """What the waits before further tries are multiplied by."""
    tried: asyncio.Future[None] | None = None
    """Done when each receipt was tried once, or when the teller ends."""


@dataclass(slots=True, order=True)
class _Try:
    due: float
    turn: int
    errand: Errand = field(compare=False)
    place: int = field(compare=False)
    earlier: int = field(compare=False, default=0)
    """How many tries of this receipt went before."""


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
        self._ledger.planned += len(errand.receipts)
        if errand.tried is not None:
            self._awaited.add(errand.tried)
            errand.tried.add_done_callback(self._awaited.discard)
        self._next(errand, 0)

    async def run(self) -> None:
        """Tells until close(); may be run once."""
        if self._started:
            raise RuntimeError("the teller was run before")
        self._started = True
        limits = httpx2.Limits(
            max_connections=self._settings.tellers,
            max_keepalive_connections=self._settings.tellers,
            keepalive_expiry=KEEPALIVE,
        )
        try:
            # No proxy of the environment: what is meant for loopback must not leave the machine.
            async with httpx2.AsyncClient(
                timeout=None, limits=limits, trust_env=False, follow_redirects=False
            ) as client:
                try:
                    await self._walk(client)
                finally:
                    await self._stop_trying()
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

    async def _walk(self, client: httpx2.AsyncClient) -> None:
        loop = asyncio.get_running_loop()
        while not self._closing:
            self._wake.clear()
            while self._heap and self._heap[0].due <= loop.time() and len(self._busy) < self._settings.tellers:
                task = loop.create_task(self._try(client, heapq.heappop(self._heap)))
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
            self._ledger.given_up += 1
            log.error("receipt_try_broke", exc_info=error)

    async def _try(self, client: httpx2.AsyncClient, at: _Try) -> None:
        try:
            meaning = await self._post(client, at.errand.url, at.errand.receipts[at.place][1])
            self._judge(at, meaning)
        finally:
            if at.earlier == 0:
                self._next(at.errand, at.place + 1)

    async def _post(self, client: httpx2.AsyncClient, url: httpx2.URL, told: Notification) -> Verdict:
        try:
            async with asyncio.timeout(self._settings.timeout):
                answer = await client.post(url, content=body(told), headers={"content-type": "application/json"})
        except TimeoutError:
            self._ledger.answers["timeout"] += 1
            return Verdict.AGAIN
        except httpx2.HTTPError:
            self._ledger.answers["unreachable"] += 1
            return Verdict.AGAIN
        self._ledger.answers[str(answer.status_code)] += 1
        return verdict(answer.status_code)

    def _judge(self, at: _Try, meaning: Verdict) -> None:
        if meaning is Verdict.TOLD:
            self._ledger.told += 1
        elif meaning is Verdict.DROPPED:
            self._ledger.dropped += 1
            log.warning("receipt_dropped", extra={"transid": at.errand.receipts[at.place][1].transid})
        elif at.earlier < len(self._waits):
            wait = self._waits[at.earlier] * at.errand.spread
            due = asyncio.get_running_loop().time() + wait
            self._push(due, at.errand, at.place, at.earlier + 1)
        else:
            self._ledger.given_up += 1
            log.warning("receipt_given_up", extra={"transid": at.errand.receipts[at.place][1].transid})

    def _next(self, errand: Errand, place: int) -> None:
        if place < len(errand.receipts):
            self._push(errand.receipts[place][0], errand, place, 0)
        elif errand.tried is not None:
            _finish(errand.tried)

    def _push(self, due: float, errand: Errand, place: int, earlier: int) -> None:
        self._turn += 1
        heapq.heappush(self._heap, _Try(due, self._turn, errand, place, earlier))
        self._wake.set()


def _finish(waiter: asyncio.Future[None]) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):
        waiter.set_result(None)
