"""The sandbox's doors: a Starlette app that any ASGI server can serve."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.sandbox.answers import Code, Refused, refusal
from receiver.sandbox.crowd import BadTelling
from receiver.sandbox.sandbox import Sandbox, TooMuch
from receiver.sandbox.settings import SandboxSettings

log = logging.getLogger("receiver.sandbox")

BODY_MAX: Final = 16 * 1024 * 1024  # 1,000 entries of 1,000 values of 16 bytes
PAGE_MAX: Final = 1_000  # messages: some 2 MB of JSON
JSON: Final[Mapping[str, str]] = {"content-type": "application/json"}


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

    async def messaging(request: Request) -> Response:
        try:
            body = await _read(request)
        except ClientDisconnect:
            return Response(status_code=400)
        if body is None:
            return Response(refusal(Refused(Code.INVALID, "body too large")), 413, JSON)
        try:
            return Response(await sandbox.messaging(request.headers.get("key"), body), 200, JSON)
        except Refused as refused:
            return Response(refusal(refused), settings.refusal_status, JSON)

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

    async def ledger(_: Request) -> Response:
        return _json(sandbox.ledger.as_json())

    async def told(request: Request) -> Response:
        try:
            after, limit = (int(request.query_params.get(name, n)) for name, n in (("after", 0), ("limit", 100)))
        except ValueError:
            return _json({"error": "after, limit: numbers"}, 400)
        page = sandbox.ledger.page(max(after, 0), min(max(limit, 1), PAGE_MAX))
        return _json({"messages": [record.as_json() for record in page], "next": page[-1].number if page else None})

    app = Starlette(
        routes=[
            Route("/resources/v1/messaging", messaging, methods=["POST"]),
            Route("/sandbox/tell", tell, methods=["POST"]),
            Route("/sandbox/ledger", ledger, methods=["GET"]),
            Route("/sandbox/ledger/messages", told, methods=["GET"]),
        ],
        lifespan=lifespan,
    )
    app.state.sandbox = sandbox
    return app


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
