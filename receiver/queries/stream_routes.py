"""The door GET /v1/stream: changes of the caller's tenant as they happen, and what a client missed."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver import metrics
from receiver.access.keys import Keys
from receiver.database.pool import Pool
from receiver.openapi import Operation, Parameter
from receiver.queries.filters import CHANNELS, ORIGINS, STATES
from receiver.queries.parameters import YES_NO, Parameters
from receiver.queries.positions import BadPosition, Position, mark_of, read_id
from receiver.queries.stream import Outlet, Outlets, Wanted
from receiver.queries.streaming import READING_AT_ONCE, EventStream, Source
from receiver.queries.watch import Watch
from receiver.web import FieldError, Problem

KEPT = timedelta(hours=24)

PARAMETERS = {
    "channel": f"One of {', '.join(CHANNELS)}.",
    "state": f"The new state: one of {', '.join(STATES)}.",
    "origin": "One of issued, observed, recorded.",
    "final": "true: only changes after which nothing more is expected; false: only the others.",
    "batch_id": "The batch in which it was handed in.",
    "correlationid": "The client's own id, or ours as the platform shows it.",
    "callbackData": "What the client handed in.",
    "id": "The message's id.",
    "from": "Where to resume, as the header Last-Event-ID, which goes before it.",
}

OPERATIONS = (
    Operation(
        "GET",
        "/v1/stream",
        "stream_changes",
        "Changes of messages as they happen, as server-sent events; resumable for 24 hours.",
        {200: ("Events: ready, change, checkpoint, dropped, closing.", "text/event-stream")},
        scope="read",
        parameters=[
            *(Parameter(name, meaning) for name, meaning in PARAMETERS.items()),
            Parameter("Last-Event-ID", "The id of the last event that was received.", "header"),
        ],
        codes={400: ("bad_event_id",), 410: ("event_too_old",), 503: ("too_many_streams",)},
    ),
)


class StreamDoor:
    """Streams of changes, `most` at once in this process."""

    def __init__(
        self,
        pool: Pool,
        keys: Keys,
        watch: Watch,
        most: int,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._keys, self._watch, self._most, self._now = keys, watch, most, now
        outlets = Outlets()
        watch.serve(outlets)
        self._source = Source(pool, watch, outlets, asyncio.Semaphore(READING_AT_ONCE))
        self._open = 0

    def routes(self) -> list[Route]:
        """The routes of this door."""
        return [Route("/v1/stream", self.stream, methods=["GET"])]

    async def stream(self, request: Request) -> Response:
        """Events from where the client was, or from now."""
        caller = await self._keys.require(request, "read")
        wanted, begin, mark = self._read(request)
        if self._open >= self._most or self._watch.is_closing:
            full = f"{self._open} streams are open here, {self._most} at most: try again."
            title = "This process ends: connect again." if self._watch.is_closing else full
            raise Problem(503, "too_many_streams", title, headers={"retry-after": "5"})
        self._open += 1
        try:
            now = (await self._watch.fresh()).until
            if begin is not None and (mark != mark_of(self._watch.cluster) or begin.until.xmax > now.xmax):
                raise _bad_event_id()
        except BaseException:
            self._open -= 1
            raise
        metrics.STREAMS.set(self._open)
        outlet = Outlet(caller.tenant, wanted)
        return EventStream(self._source, outlet, begin, now, lambda: self._keys.is_good(caller), self._closed)

    def _closed(self) -> None:
        self._open -= 1
        metrics.STREAMS.set(self._open)

    def _read(self, request: Request) -> tuple[Wanted, Position | None, bytes]:
        """What is wanted and from where; asks nothing of the database. Raises Problem 400 or 410."""
        read = Parameters(request.query_params, PARAMETERS)
        final = read.choose_one("final", YES_NO)
        words = {"channel": CHANNELS, "state": STATES, "origin": ORIGINS}
        chosen = {name: frozenset(read.choose(name, {word: word for word in table})) for name, table in words.items()}
        ids = {name: frozenset(str(one) for one in read.ids(name, f"a {name}")) for name in ("id", "batch_id")}
        begin = read.single("from")
        if read.errors:
            raise Problem(400, "bad_parameter", "A parameter is wrong.", read.errors)
        wanted = Wanted(
            **chosen,
            **ids,
            correlationid=frozenset(read.texts("correlationid")),
            callback_data=frozenset(read.texts("callbackData")),
            final=final,
        )
        text = request.headers.get("last-event-id") or begin
        if text is None:
            return wanted, None, b""
        try:
            mark, position = read_id(text)
        except BadPosition:
            raise _bad_event_id() from None
        if position.until.at < self._now() - KEPT:
            raise Problem(
                410,
                "event_too_old",
                "The id is older than 24 hours: open a stream without one, then read the messages anew.",
            )
        return wanted, position, mark


def _bad_event_id() -> Problem:
    return Problem(
        400,
        "bad_event_id",
        "That is no event's id of this database: open a stream without one, then read what changed.",
        [FieldError("Last-Event-ID", "bad_event_id", "it takes the id of the last event that was received, unchanged")],
    )
