"""One stream on its way to its client: what it missed, then what happens, heartbeats, and a last word."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import asyncpg
import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from receiver import metrics
from receiver.aside import begin_aside
from receiver.database.pool import NOT_THERE, Pool
from receiver.ids import TenantId
from receiver.queries import log as change_log
from receiver.queries.positions import Cut, Position, id_of, window_of
from receiver.queries.stream import Encoded, Events, Outlet, Outlets, event
from receiver.queries.watch import Watch

HEARTBEAT_SECONDS = 15.0
CHECKPOINT_SECONDS = 60.0  # without an id: a client whose changes are rare must not fall out of the 24 hours
KEY_SECONDS = 4.0
SEND_SECONDS = 30.0  # that the client's connection may take nothing
LAST_SECONDS = 2.0  # of that, when the process ends: it does not wait for one who reads nothing
RETRY_MILLISECONDS = 2_000
PIECE_BYTES = 64 * 1024
PAGE = 500  # changes a read while it catches up
NEAR = 5_000  # numbers behind: the rest is read while it is live already
READING_AT_ONCE = 2

WORDS = {
    "overflow": "The client reads too slowly: more waits for it than is kept.",
    "draining": "This process ends: connect again.",
    "restored": "The database was restored, or another server took over: read all anew, and begin without an id.",
    "key": "The API key has been revoked, or has expired.",
    "database": "The database does not answer: connect again.",
}


class Ready(msgspec.Struct):
    """The first event: from here on nothing is missed."""

    resumed: bool


class Checkpoint(msgspec.Struct):
    """Nothing happened that is wanted; resuming from here misses nothing."""


class Last(msgspec.Struct):
    """Why a stream ends, and the id from which to resume; null: begin without one."""

    reason: str
    text: str
    resume_from: str | None


@dataclass(frozen=True)
class Source:
    """Where streams get what they tell."""

    pool: Pool
    watch: Watch
    outlets: Outlets
    reading: asyncio.Semaphore


class _Ended(Exception):
    """The stream is over: the reason is a word of WORDS, or None when the client has gone."""

    def __init__(self, reason: str | None) -> None:
        super().__init__(reason)
        self.reason = reason


class EventStream(Response):
    """The answer to GET /v1/stream. `begin`: where the client was; without it begins now.

    `now`: where the log stood when it asked.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        source: Source,
        outlet: Outlet,
        begin: Position | None,
        now: Cut,
        is_good: Callable[[], Awaitable[bool]],
        done: Callable[[], None],
    ) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._source, self._outlet, self._begin, self._now = source, outlet, begin, now
        self._is_good, self._done = is_good, done
        self._last: str | None = None  # the id that the client has
        self._is_live = False
        self._send: Send
        self._id_at = self._sent_at = time.monotonic()
        self._key_at = time.monotonic() + KEY_SECONDS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends events until the client has gone, the process ends, or the client is too slow."""
        self._send = send
        reason = "gone"
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b""})
                return
            serving = begin_aside(self._serve(), "stream")
            leaving = asyncio.create_task(_until_gone(receive))
            ending = asyncio.create_task(self._until_too_late())
            try:
                await asyncio.wait({serving, leaving, ending}, return_when=asyncio.FIRST_COMPLETED)
                if serving.done():
                    reason = serving.result()
                elif ending.done():
                    reason = "stalled"
            finally:
                for task in (serving, leaving, ending):
                    task.cancel()
        finally:
            self._source.outlets.remove(self._outlet)
            self._done()
        metrics.STREAMS_ENDED.labels(reason).inc()

    async def _until_too_late(self) -> None:
        """Returns when the process ends and the last word should have been taken."""
        await self._source.watch.closed()
        await asyncio.sleep(LAST_SECONDS)

    async def _serve(self) -> str:
        """Returns why it ended, when the client has been told."""
        try:
            await self._begin_it()
            await self._go_on()
        except _Ended as ended:
            reason = ended.reason or "gone"
        except (asyncpg.PostgresError, *NOT_THERE):
            reason = "draining" if self._source.watch.is_closing else "database"
        if reason not in ("stalled", "gone"):
            with contextlib.suppress(_Ended):
                await self._put(self._last_word(reason))
                await self._within(self._send({"type": "http.response.body", "body": b"", "more_body": False}))
        return reason

    async def _begin_it(self) -> None:
        """The first event, and all from where the client was to where the log is read now."""
        source, begin = self._source, self._begin
        if begin is None:
            begin = await source.watch.fresh(lambda at: source.outlets.add(self._outlet, at))
            await self._ready(begin, resumed=False)
            return
        await self._ready(begin, resumed=True)
        if begin.before is not None:
            await self._catch_up(begin.before, begin.until, begin.seq)
        before, now = begin.until, self._now
        while now.high - before.low >= NEAR:
            await self._catch_up(before, now)
            before, now = now, (await source.watch.fresh()).until
        joined = await source.watch.fresh(lambda at: source.outlets.add(self._outlet, at))
        await self._catch_up(before, joined.until)

    async def _ready(self, at: Position, *, resumed: bool) -> None:
        identity = id_of(self._source.watch.cluster, at)
        data = event("ready", identity, msgspec.json.encode(Ready(resumed)))
        await self._put(b"retry: %d\n" % RETRY_MILLISECONDS + data, identity)

    async def _catch_up(self, before: Cut, until: Cut, after: int | None = None) -> None:
        """Sends what `until` sees and `before` does not, in pages; no connection is held while the client reads."""
        async for events in self._missed(self._outlet.tenant, before, until, after):
            await self._put(events.data, events.last)
            await self._look_around()

    async def _missed(self, tenant: TenantId, before: Cut, until: Cut, after: int | None) -> AsyncIterator[Events]:
        window = window_of(self._source.watch.cluster, before, until)
        more = True
        while more:
            async with self._source.reading, self._source.pool.acquire() as connection:
                if after is None:
                    after = await change_log.before_first(connection, before)
                read, after = await change_log.part(connection, before, until, after, tenant, PAGE)
            more = read.more
            events = Encoded(window, read.rows).wanted(self._outlet.wanted) if read.rows else None
            if events is not None:
                metrics.STREAM_EVENTS.inc(events.count)
                yield events
            else:
                await self._look_around()

    async def _go_on(self) -> None:
        """Sends what waits, as it comes."""
        outlet, self._is_live = self._outlet, True
        while True:
            outlet.stirred.clear()
            if taken := outlet.take(PIECE_BYTES):
                await self._put(b"".join(events.data for events in taken), taken[-1].last)
            await self._look_around()
            if outlet.is_empty and outlet.ended is None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(KEY_SECONDS):
                        await outlet.stirred.wait()

    async def _look_around(self) -> None:
        """Raises _Ended where something ends it; a heartbeat or a checkpoint where it is time for one."""
        outlet, watch, now = self._outlet, self._source.watch, time.monotonic()
        if outlet.ended == "overflow" or (outlet.ended is not None and outlet.is_empty):
            raise _Ended(outlet.ended)
        if watch.is_closing:
            raise _Ended("draining")
        if now >= self._key_at:
            self._key_at = now + KEY_SECONDS
            with contextlib.suppress(asyncpg.PostgresError, *NOT_THERE):  # nobody knows: it is asked again
                if not await self._is_good():
                    raise _Ended("key")
        if now - self._id_at >= CHECKPOINT_SECONDS and self._is_live and outlet.is_empty and watch.position:
            identity = id_of(watch.cluster, watch.position)
            await self._put(event("checkpoint", identity, msgspec.json.encode(Checkpoint())), identity)
        elif now - self._sent_at >= HEARTBEAT_SECONDS:
            await self._put(b": still here\n\n")

    async def _put(self, data: bytes, identity: str | None = None) -> None:
        """Sends, and remembers the id that the client has then. Raises _Ended when nothing is taken for 30 seconds."""
        await self._within(self._send({"type": "http.response.body", "body": data, "more_body": True}))
        self._sent_at = time.monotonic()
        if identity is not None:
            self._last, self._id_at = identity, self._sent_at

    async def _within(self, sending: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await sending
        except TimeoutError:
            raise _Ended("stalled") from None

    def _last_word(self, reason: str) -> bytes:
        """The last event: `dropped` for who reads too slowly, `closing` for all else."""
        resume = None if reason == "restored" else self._last
        data = msgspec.json.encode(Last(reason, WORDS[reason], resume))
        name = b"dropped" if reason == "overflow" else b"closing"
        return b"event: %b\ndata: %b\n\n" % (name, data)


async def _until_gone(receive: Receive) -> None:
    """Returns when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
