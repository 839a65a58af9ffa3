"""Those who wait for a message: each costs a little memory, no connection, and never longer than it asked for."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from enum import Enum
from typing import Protocol
from uuid import UUID

from starlette.datastructures import QueryParams
from starlette.requests import Request

from receiver import metrics
from receiver.aside import begin_aside
from receiver.messages.lattice import POSITIVE_STATES, Fact, State, is_final
from receiver.queries.one_message import Mark, Whole
from receiver.queries.parameters import Parameters
from receiver.web import Problem

LONGEST = 60.0
READS_AT_ONCE = 4  # of the eight readers' connections: whoever does not wait finds one, whatever wakes
_SECONDS = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?([eE]-?[0-9]{1,3})?")  # as JSON spells a number above 0


class Until(Enum):
    """What is waited for."""

    FINAL = "final"
    DELIVERED = "delivered"
    SUBMITTED = "submitted"
    CHANGE = "change"

    def is_met(self, seen: Mark, known: frozenset[str]) -> bool:
        """Whether that is so, or can never be any more. `known`: the ETags of what the reader has seen."""
        if self is Until.CHANGE:
            return seen.tag not in known
        if self is Until.DELIVERED and seen.state in POSITIVE_STATES:
            return True
        if self is Until.SUBMITTED and (seen.facts & Fact.SUBMITTED or seen.state is State.ENDED):
            return True
        return is_final(seen.state, seen.channel)


class Ended(Enum):
    """How a wait has ended."""

    MET = "met"
    TIMEOUT = "timeout"
    DRAINING = "draining"
    GONE = "gone"


PARAMETERS = {
    "wait": f"Seconds to wait for `until`: above 0, {LONGEST:g} at most.",
    "until": f"What to wait for: one of {', '.join(until.value for until in Until)}; final by default.",
}


def read_wish(parameters: QueryParams) -> tuple[float, Until] | None:
    """How long to wait for what; None: not at all. Raises Problem 400 that names every wrong parameter."""
    read = Parameters(parameters, PARAMETERS)
    wait, until = read.single("wait"), read.choose_one("until", {until.value: until for until in Until})
    seconds = float(wait) if wait is not None and wait.isascii() and _SECONDS.fullmatch(wait) else 0.0
    if wait is not None and not 0 < seconds <= LONGEST:
        read.wrong("wait", f"it takes seconds above 0, {LONGEST:g} at most")
    if until is not None and wait is None:
        read.wrong("until", "it takes wait beside it: how many seconds")
    if read.errors:
        raise Problem(400, "bad_parameter", "A parameter is wrong.", read.errors)
    return (seconds, until or Until.FINAL) if wait is not None else None


class Listener(Protocol):
    """Hears of the changes of one message."""

    async def changed(self, seconds: float) -> bool:
        """Whether it has changed since it was listened to, or since the last True; waits so long for it."""


class Watch(Protocol):
    """Where changes are heard of, in whichever process they happen."""

    def listen(self, identity: UUID) -> AbstractAsyncContextManager[Listener]:
        """Begins to listen: what changes from now on is heard."""


class Place:
    """One who waits: until when, and what ends it before that."""

    def __init__(self, room: "WaitingRoom", seconds: float) -> None:
        self._room = room
        self._deadline = asyncio.get_running_loop().time() + seconds
        self._scope: asyncio.Timeout | None = None
        self._gone = False

    async def changed(self, listener: Listener) -> Ended | None:
        """Waits for a change: None when there is one, else why it is over."""
        now = asyncio.get_running_loop().time()
        if not (self._gone or self._room.is_draining) and now < self._deadline:
            try:
                async with asyncio.timeout_at(self._deadline) as self._scope:
                    if await listener.changed(self._deadline - now):
                        return None
            except TimeoutError:
                pass
            finally:
                self._scope = None
        if self._gone:
            return Ended.GONE
        # who listens for us stops to a moment before we do, or after
        is_over = asyncio.get_running_loop().time() >= self._deadline - 0.001
        return Ended.TIMEOUT if is_over and not self._room.is_draining else Ended.DRAINING

    def wake(self) -> None:
        """Ends the waiting now."""
        if self._scope is not None and not self._scope.expired():  # one that has expired can't be told again
            self._scope.reschedule(asyncio.get_running_loop().time())

    async def watch_client(self, request: Request) -> None:
        """Ends the waiting when the client hangs up: who is not there takes nobody's place."""
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self.wake()


class WaitingRoom:
    """All who wait in this process, `most` at once. A worker: closed, it answers everybody with what is known."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._places: set[Place] = set()
        self._reading = asyncio.Semaphore(READS_AT_ONCE)
        self._next_reads: dict[object, asyncio.Future[Whole]] = {}
        self._closing = asyncio.Event()

    @property
    def is_draining(self) -> bool:
        """Whether nobody is to wait any more."""
        return self._closing.is_set()

    async def run(self) -> None:
        """Returns when closed."""
        await self._closing.wait()

    async def close(self) -> None:
        """Wakes everybody."""
        self._closing.set()
        for place in self._places:
            place.wake()

    async def wait(
        self,
        watch: Watch,
        read: Callable[[], Awaitable[Whole]],
        identity: UUID,
        wish: tuple[float, Until],
        known: frozenset[str],
        request: Request,
        *,
        alike: object,
    ) -> tuple[Whole, Ended]:
        """The message when the wish is met, or at the end. `read` reads it: a message merged meanwhile is followed.

        All whose `alike` is equal read the same: those that one change wakes share one look. Raises Problem 503 when
        too many wait, and what `read` raises.
        """
        seconds, until = wish
        with self._place(seconds) as place:
            async with _beside(place.watch_client(request)):
                found, ended = await self._until(watch, lambda: self._read(alike, read), identity, until, known, place)
        metrics.WAITS.labels(ended.value).inc()
        return found, ended

    async def _until(
        self,
        watch: Watch,
        read: Callable[[], Awaitable[Whole]],
        identity: UUID,
        until: Until,
        known: frozenset[str],
        place: Place,
    ) -> tuple[Whole, Ended]:
        while True:
            async with watch.listen(identity) as listener:  # first: what changes while it is read is heard
                while True:
                    found = await read()
                    known = known or frozenset({found.mark.tag})
                    if until.is_met(found.mark, known):
                        return found, Ended.MET
                    if found.row["id"] != identity:
                        identity = found.row["id"]
                        break
                    ended = await place.changed(listener)
                    if ended is Ended.TIMEOUT:  # what is no change of state may have come beside
                        found = await read()
                        return found, Ended.MET if until.is_met(found.mark, known) else ended
                    if ended is not None:
                        return found, ended

    async def _read(self, alike: object, read: Callable[[], Awaitable[Whole]]) -> Whole:
        """A look that begins now or later: one that was under way already may have missed the change."""
        if alike not in self._next_reads:
            self._next_reads[alike] = begin_aside(self._in_turn(alike, read), "look")
        return await asyncio.shield(self._next_reads[alike])

    async def _in_turn(self, alike: object, read: Callable[[], Awaitable[Whole]]) -> Whole:
        async with self._reading:
            del self._next_reads[alike]
            return await read()

    @contextlib.contextmanager
    def _place(self, seconds: float) -> Iterator[Place]:
        if len(self._places) >= self._most:
            metrics.WAITS.labels("refused").inc()
            title = f"{self._most} clients wait already: try again, or ask without wait."
            raise Problem(503, "too_many_waiters", title, headers={"retry-after": "5"})
        place = Place(self, seconds)
        self._places.add(place)
        metrics.WAITERS.set(len(self._places))
        try:
            yield place
        finally:
            self._places.discard(place)
            metrics.WAITERS.set(len(self._places))


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    task = begin_aside(work, "beside")
    try:
        yield
    finally:
        task.cancel()
