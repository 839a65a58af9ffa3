"""The door of exports: GET /v1/messages/export, streamed in constant memory, as fast as the client reads."""

import asyncio
import logging
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import asyncpg
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from receiver import metrics
from receiver.access.keys import Keys
from receiver.database.pool import NOT_THERE, Pool
from receiver.openapi import Operation, Parameter
from receiver.queries.cursors import Position
from receiver.queries.export import Pages, cells, head, lines
from receiver.queries.filters import FILTERS, Filters, filters_of
from receiver.queries.parameters import Parameters
from receiver.queries.places import PATIENCE, Places
from receiver.queries.search_routes import took_too_long
from receiver.web import Problem

NDJSON, CSV = "application/x-ndjson", "text/csv"
FORMATS = {"ndjson": NDJSON, "csv": CSV}
EXPORT_PARAMETERS = FILTERS | {
    "format": "ndjson (a message a line) or csv; else the header Accept says which, else ndjson.",
    "after": "Goes on behind this message: the id of the last whole line or row of an export that was cut off.",
}
STALL_SECONDS = 60.0  # of a client that takes nothing; then the export gives up its place among the few

log = logging.getLogger("receiver.queries")

BODIES = {
    NDJSON: {"type": "string", "description": "Each line is a Message: see `#/components/schemas/Message`."},
    CSV: {"type": "string", "description": "RFC 4180: a head, and a message a row, with the fields of Message."},
}
OPERATIONS = (
    Operation(
        "GET",
        "/v1/messages/export",
        "export_messages",
        "All messages that the filters let through, newest first, as a stream.",
        {200: ("A message a line (NDJSON), or a message a row (CSV) as `format` says.", BODIES)},
        scope="read",
        parameters=[Parameter(name, meaning) for name, meaning in EXPORT_PARAMETERS.items()],
        codes={503: ("exports_under_way", "search_too_long", "reads_under_way")},
    ),
)


class ExportDoor:
    """The door of exports: few at once, each a page at a time."""

    def __init__(self, pool: Pool, keys: Keys, places: Places, most: int, draining: Callable[[], bool]) -> None:
        self._pool, self._keys, self._places, self._most, self._draining = pool, keys, places, most, draining
        self._free = asyncio.Semaphore(most)

    def routes(self) -> list[Route]:
        """The route of this door; it must stand before that of one message."""
        return [Route("/v1/messages/export", self.export, methods=["GET"])]

    async def export(self, request: Request) -> Response:
        """The stream. Raises Problem 503 when too many are under way; later failures break the connection off."""
        caller = await self._keys.require(request, "read")
        filters, kind = self._read(request)
        encodings = request.headers.get("accept-encoding", "")
        headers = {"vary": "accept, accept-encoding", "cache-control": "no-store"}
        if kind == CSV:
            headers["content-disposition"] = 'attachment; filename="messages.csv"'
        zipped = takes_gzip(encodings)
        if zipped:
            headers["content-encoding"] = "gzip"
        if request.method == "HEAD":
            head_alone = Response(headers=headers, media_type=kind)
            del head_alone.headers["content-length"]  # a stream has none
            return head_alone
        await self._enter()
        pages = Pages(self._pool, self._places, caller.tenant, filters)
        stream = self._stream(pages, kind, zlib.compressobj(1, zlib.DEFLATED, 31) if zipped else None)
        return _Stream(stream, self._free.release, headers, kind)

    async def _enter(self) -> None:
        """One of the few. Who asks again and again is made to wait before he is refused: a refusal costs too."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._free.acquire()
        except TimeoutError:
            title = f"{self._most} exports are under way here: wait for one to end."
            raise Problem(503, "exports_under_way", title, headers={"retry-after": "30"}) from None

    def _read(self, request: Request) -> tuple[Filters, str]:
        """The filters and the media type. Raises Problem 400 naming every wrong parameter."""
        asked = Parameters(request.query_params, EXPORT_PARAMETERS)
        filters = filters_of(asked)
        kind = asked.choose_one("format", FORMATS) or _accepted(request.headers.get("accept", ""))
        asked.single("after")
        after = asked.ids("after", "the id of a message")
        if asked.errors:
            raise Problem(400, "bad_parameter", "A parameter is wrong.", asked.errors)
        return replace(filters, position=Position(id=after[0])) if after else filters, kind

    async def _stream(self, pages: Pages, kind: str, gzip: "zlib._Compress | None") -> AsyncIterator[bytes]:
        """What goes out, a page at a time; flushed, so that a client can read each page when it comes."""

        def packed(part: bytes) -> bytes:
            return gzip.compress(part) + gzip.flush(zlib.Z_SYNC_FLUSH) if gzip else part

        before = head() if kind == CSV else b""  # not by itself: until the first page is there a failure is an answer
        async for part, number in pages.encoded(cells if kind == CSV else lines):
            if self._draining():
                raise TimeoutError
            yield packed(before + part)
            before = b""
            metrics.EXPORTED.inc(number)
        if before:
            yield packed(before)
        if gzip:
            yield gzip.flush()


class _Stream(StreamingResponse):
    """A stream whose failure is seen: the connection is broken off, and not ended as if that were all."""

    def __init__(
        self, stream: AsyncIterator[bytes], leave: Callable[[], None], headers: dict[str, str], kind: str
    ) -> None:
        super().__init__(stream, headers=headers, media_type=kind)
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._result = "left"
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave()
            metrics.EXPORTS.labels(self._result).inc()

    async def stream_response(self, send: Send) -> None:
        parts = aiter(self.body_iterator)
        try:
            first = await anext(parts, b"")  # a failure up to here is answered as such
        except asyncpg.QueryCanceledError:
            raise took_too_long() from None
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            await _sent(send, first)
            async for part in parts:
                await _sent(send, part)
        except (asyncpg.PostgresError, *NOT_THERE) as error:  # without its end the server hangs up: a broken stream
            self._result = "broken"
            log.warning("export_broken", extra={"reason": type(error).__name__})
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        self._result = "done"


async def _sent(send: Send, part: bytes | str | memoryview) -> None:
    """Sends a part, when the client has taken what came before. Raises TimeoutError when it takes nothing for long."""
    async with asyncio.timeout(STALL_SECONDS):
        await send({"type": "http.response.body", "body": part, "more_body": True})


def _accepted(accept: str) -> str:
    """CSV for who asks for it and not for NDJSON; NDJSON for all others."""
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    return CSV if CSV in kinds and NDJSON not in kinds else NDJSON


def takes_gzip(encodings: str) -> bool:
    """Whether a client that says so reads gzip."""
    for part in encodings.lower().split(","):
        name, _, quality = part.partition(";")
        if name.strip() in ("gzip", "x-gzip", "*"):
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
