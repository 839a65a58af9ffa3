"""The sandbox's doors: a Starlette app that any ASGI server can serve."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from receiver.sandbox.answers import JSON
from receiver.sandbox.credentials import Caller
from receiver.sandbox.crowd import BadTelling
from receiver.sandbox.doors import Door, answer, doors
from receiver.sandbox.plays import BadPlay, asked
from receiver.sandbox.sandbox import Sandbox, TooMuch
from receiver.sandbox.scenario import STATUS, BadScenario, Scenario, read_json
from receiver.sandbox.settings import SandboxSettings
from receiver.sandbox.troubles import Close, Hang, Reset

log = logging.getLogger("receiver.sandbox")

BODY_MAX: Final = 16 * 1024 * 1024  # 1,000 entries of 1,000 values of 16 bytes
PAGE_MAX: Final = 1_000  # messages: some 2 MB of JSON
EXPORTED_AT_ONCE: Final = 100  # messages


def build(settings: SandboxSettings) -> Starlette:
    """An app whose lifespan runs a new Sandbox, found at `app.state.sandbox`.

    Served without a lifespan, it queues but tells nobody until the caller runs `app.state.sandbox.run()`.
    """
    sandbox = Sandbox(settings)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        telling = asyncio.create_task(sandbox.run(), name="sandbox")
        telling.add_done_callback(_tell_of_death)
        try:
            yield
        finally:
            await sandbox.close()
            await asyncio.gather(telling, return_exceptions=True)

    async def call(request: Request, door: Door) -> Response:
        arrived = asyncio.get_running_loop().time()
        if sandbox.scenario.refuses(door.path):
            sandbox.ledger.answer(door.path, "refuse_before")
            return Close()
        try:
            body = await _read(request) if door.path != STATUS else request.path_params["transid"].encode()
        except ClientDisconnect:
            return Response(status_code=400)
        if body is None:
            return Response(status_code=413)
        caller = Caller(request.headers.get("key", ""), request.headers.get("authorization", ""))
        given, how = await answer(sandbox, door, caller, body)
        wait = arrived + settings.answer_ms / 1_000 - asyncio.get_running_loop().time()
        if how is not None:
            wait = max(wait, 0.0) + how.slow
        if wait > 0:
            await asyncio.sleep(wait)
        match how.trouble if how else None:
            case "hang":
                return Hang()
            case "reset":
                return Reset()
        return Response(given.body, given.status, given.headers)

    async def play(request: Request) -> Response:
        try:
            body = await _read(request)
            sandbox.scenario = Scenario(read_json(body or b""))
        except ClientDisconnect:
            return Response(status_code=400)
        except BadScenario as bad:
            return _json({"error": str(bad)}, 422)
        return _json(sandbox.scenario.as_json())

    async def scenario(_: Request) -> Response:
        return _json(sandbox.scenario.as_json())

    async def tell(request: Request) -> Response:
        try:
            body = await _read(request)
            planned = await sandbox.tell(body or b"")
        except ClientDisconnect:
            return Response(status_code=400)
        except BadTelling as bad:
            return _json({"error": str(bad)}, 422)
        except TooMuch:
            return _json({"error": "too many receipts wait already"}, 429)
        return _json(planned, 202)

    async def play_capture(request: Request) -> Response:
        try:
            planned = await sandbox.play(asked(await _read(request) or b"", settings))
        except ClientDisconnect:
            return Response(status_code=400)
        except BadPlay as bad:
            return _json({"error": str(bad)}, 422)
        except TooMuch:
            return _json({"error": "too many receipts wait already"}, 429)
        return _json(planned, 202)

    async def export(request: Request) -> Response:
        newest = sandbox.ledger.newest
        try:
            after = max(int(request.query_params.get("after", 0)), 0)
            last = min(after + max(int(request.query_params.get("limit", newest)), 1), newest)
        except ValueError:
            return _json({"error": "after, limit: numbers"}, 400)
        return StreamingResponse(_export(sandbox, after, last), headers=JSON)

    async def ledger(_: Request) -> Response:
        return _json(sandbox.ledger.as_json())

    async def told(request: Request) -> Response:
        try:
            after, limit = (int(request.query_params.get(name, n)) for name, n in (("after", 0), ("limit", 100)))
        except ValueError:
            return _json({"error": "after, limit: numbers"}, 400)
        page = sandbox.page(max(after, 0), min(max(limit, 1), PAGE_MAX))
        return _json({"messages": page, "next": page[-1]["number"] if page else None})

    app = Starlette(
        routes=[
            *(_route(door, call) for door in doors(sandbox)),
            Route("/sandbox/scenario", play, methods=["POST"]),
            Route("/sandbox/scenario", scenario, methods=["GET"]),
            Route("/sandbox/tell", tell, methods=["POST"]),
            Route("/sandbox/play", play_capture, methods=["POST"]),
            Route("/sandbox/export", export, methods=["GET"]),
            Route("/sandbox/ledger", ledger, methods=["GET"]),
            Route("/sandbox/ledger/messages", told, methods=["GET"]),
        ],
        lifespan=lifespan,
    )
    app.state.sandbox = sandbox
    return app


def _route(door: Door, call: Callable[[Request, Door], Awaitable[Response]]) -> Route:
    async def endpoint(request: Request) -> Response:
        return await call(request, door)

    if door.path == STATUS:
        return Route(f"{STATUS}/{{transid}}", endpoint, methods=["GET"])
    return Route(door.path, endpoint, methods=["POST"])


async def _export(sandbox: Sandbox, after: int, last: int) -> AsyncIterator[bytes]:
    """A JSON array, a piece for so many messages."""
    yield b"["
    comma = b""
    while after < last:
        upto = min(after + EXPORTED_AT_ONCE, last)
        for entry in sandbox.export(after, upto):
            yield comma + entry
            comma = b",\n"
        after = upto
        await asyncio.sleep(0)  # the doors are served meanwhile
    yield b"]"


def _json(body: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, JSON)


async def _read(request: Request) -> bytes | None:
    """The body, or None when it is larger than BODY_MAX."""
    held = bytearray()
    async for chunk in request.stream():
        held += chunk
        if len(held) > BODY_MAX:
            return None
    return bytes(held)


def _tell_of_death(telling: asyncio.Task[Any]) -> None:
    # From here on submissions are answered 7006, so that the death is seen on the other side too.
    if not telling.cancelled() and (error := telling.exception()) is not None:
        log.error("sandbox_died", exc_info=error)
