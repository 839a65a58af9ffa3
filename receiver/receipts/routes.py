"""The receipts door: HEAD, GET and POST /notify/{token}.

A plain ASGI endpoint: Request and Response objects alone would cost a third of its time. It answers 200 only when the
body is durable, understood or not; 503 when it could not be made so; 401 for a token that is not ours; 413 for a body
over the limit. Nothing else: the platform never tries again after 400, 404 or 409.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Any

from starlette.types import Receive, Scope, Send

from receiver import metrics
from receiver.access.tokens import NotifyToken, NotifyTokens
from receiver.ids import TenantId
from receiver.receipts.intake import Intake, NotDurable
from receiver.receipts.receipt import Source, read

log = logging.getLogger("receiver.notify")

KEPT_HEADERS = frozenset({b"content-type", b"content-length", b"user-agent", b"x-wx-gtrid"})
RETRY_SECONDS = b"10"
BODY_SECONDS = 15.0  # the platform itself gives up after 10
READ_ASIDE = 64 * 1024  # bytes

Answer = tuple[dict[str, Any], dict[str, Any]]


def _answer(status: int, text: bytes, *headers: tuple[bytes, bytes]) -> Answer:
    base = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(text)), *headers]
    return (
        {"type": "http.response.start", "status": status, "headers": base},
        {"type": "http.response.body", "body": text},
    )


STORED = _answer(200, b"stored\n")
READY = _answer(200, b"ready\n")
NOT_OURS = _answer(401, b"this address is not one of ours: ask for it with `receiver notify-url`\n")
TOO_LARGE = _answer(413, b"the body is over the limit\n", (b"connection", b"close"))
NOT_NOW = _answer(503, b"not stored: tell it again\n", (b"retry-after", RETRY_SECONDS))


class NotifyDoor:
    """The ASGI endpoint of /notify/{token}. `tenant_of` gives a tenant's id and zone, or None for one we don't know."""

    def __init__(
        self,
        tokens: NotifyTokens,
        tenant_of: Callable[[str], tuple[TenantId, tzinfo] | None],
        intake: Intake,
        max_body: int,
    ) -> None:
        self._tokens, self._tenant_of, self._intake, self._max_body = tokens, tenant_of, intake, max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._handle(scope, receive)
        if answer is None:
            return
        metrics.NOTIFY_RESPONSES.labels(str(answer[0]["status"])).inc()
        await send(answer[0])
        await send(answer[1] if scope["method"] != "HEAD" else {"type": "http.response.body", "body": b""})

    async def _handle(self, scope: Scope, receive: Receive) -> Answer | None:
        token = self._tokens.read(scope["path_params"].get("token", "").rstrip("/"))
        tenant = self._tenant_of(token.tenant) if token else None
        if token is None or tenant is None:
            return NOT_OURS
        if scope["method"] in ("HEAD", "GET", "OPTIONS"):
            return READY
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await self._body(receive)
        except _TooLarge:
            return TOO_LARGE
        except (TimeoutError, asyncio.CancelledError):
            return NOT_NOW  # half a body, and the server ends or nothing more comes: it is told again
        if body is None:
            return None  # the other side went away in the middle: nobody to answer
        return await self._store(body, token, tenant, scope)

    async def _store(self, body: bytes, token: NotifyToken, tenant: tuple[TenantId, tzinfo], scope: Scope) -> Answer:
        source = Source(tenant[0], token.submission_id, datetime.now(UTC), tenant[1])
        # A body with thousands of receipts takes half a second to read: not while all the others wait.
        large = len(body) > READ_ASIDE
        reading = await asyncio.to_thread(read, body, source) if large else read(body, source)
        if reading.rejects:
            headers = kept_headers(scope["headers"])
            reading.rejects = [r._replace(headers=headers) for r in reading.rejects]
        try:
            await self._intake.take(reading)
        except (NotDurable, asyncio.CancelledError):  # cancelled: the server ends, and its grace is over
            return NOT_NOW
        return STORED

    async def _body(self, receive: Receive) -> bytes | None:
        parts, size = [], 0
        while True:
            event = await receive()
            if event["type"] == "http.disconnect":
                return None
            part = event.get("body", b"")
            size += len(part)
            if size > self._max_body:
                raise _TooLarge
            parts.append(part)
            if not event.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)


class _TooLarge(Exception):
    pass


def kept_headers(headers: list[tuple[bytes, bytes]]) -> str:
    """The headers worth keeping beside a quarantined body, as JSON; none that can hold a secret."""
    kept = {k.decode("latin-1"): v.decode("latin-1")[:200].replace("\0", "") for k, v in headers if k in KEPT_HEADERS}
    return json.dumps(kept)
