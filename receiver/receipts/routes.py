"""The receipts door: HEAD, GET and POST /notify/{token}.

A plain ASGI endpoint: Request and Response objects alone would cost a third of its time. It answers 200 only when the
body is durable, in Postgres or in the spool, understood or not; 503 when it could not be made so; 401 for a token that
is not ours, and for a header or a signature that the tenant requires and that is missing or wrong; 413 for a body over
the limit. Nothing else: the platform never tries again after 400, 404 or 409.
"""

import asyncio
import logging
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from prometheus_client import Counter
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from receiver import metrics
from receiver.access.refusals import Refusals
from receiver.access.signatures import Refusal
from receiver.access.tenants import AtTheDoor
from receiver.access.tokens import PROBE, NotifyToken, NotifyTokens
from receiver.platform.retries import tells_again
from receiver.receipts import probed
from receiver.receipts.arrival import Arrival
from receiver.receipts.intake import Intake, NotDurable
from receiver.receipts.patience import Patience
from receiver.receipts.receipt import Reading, Source, read

log = logging.getLogger("receiver.notify")

RETRY_SECONDS = b"10"
BODY_SECONDS = 15.0  # the platform itself gives up after 10
READ_ASIDE = 64 * 1024  # bytes

Answer = tuple[dict[str, Any], dict[str, Any]]


def _answer(status: int, text: bytes, *headers: tuple[bytes, bytes]) -> Answer:
    base = [(b"content-length", b"%d" % len(text)), *headers]
    if text:
        base.append((b"content-type", b"text/plain"))
    return (
        {"type": "http.response.start", "status": status, "headers": base},
        {"type": "http.response.body", "body": text},
    )


STORED = _answer(200, b"")  # the server would hand a text to the kernel in a call of its own: a tenth of the whole
READY = _answer(200, b"ready\n")
TOO_LARGE = _answer(413, b"the body is over the limit\n", (b"connection", b"close"))
NOT_NOW = _answer(503, b"not stored: tell it again\n", (b"retry-after", RETRY_SECONDS))
REFUSED = {
    Refusal.ADDRESS: _answer(401, b"this address is not one of ours: ask for it with `receiver notify-url`\n"),
    Refusal.HEADER: _answer(401, b"the required header is missing or wrong\n"),
    Refusal.SIGNATURE_MISSING: _answer(401, b"the signature is missing\n"),
    Refusal.SIGNATURE_WRONG: _answer(401, b"the signature is wrong\n"),
}


class _Anything(PathConvertor):
    """The rest of a path, whatever it is: Starlette's own stops at a line end."""

    regex = r"[\s\S]*"


class _NearNotify(PathConvertor):
    """`/notify` as people mistype it in a console: two slashes, dots, capitals."""

    regex = r"[./]*[Nn][Oo][Tt][Ii][Ff][Yy]"


register_url_convertor("anything", _Anything())
register_url_convertor("near_notify", _NearNotify())


class NotifyDoor:
    """The ASGI endpoint of /notify/{token}. `tenant_of` tells of a tenant by its name; None: we don't know it."""

    def __init__(
        self, tokens: NotifyTokens, tenant_of: Callable[[str], AtTheDoor | None], intake: Intake, max_body: int
    ) -> None:
        self._tokens, self._tenant_of, self._intake, self._max_body = tokens, tenant_of, intake, max_body
        self._refusals = Refusals()
        self._patience = Patience(BODY_SECONDS)

    def routes(self) -> list[Route]:
        """Any path below /notify, any method: a 404 or a 405 would lose a receipt for ever, a 401 is told again."""
        return [
            Route("/notify", self),
            Route("/notify/{token:anything}", self),
            Route("/{near:near_notify}", self),
            Route("/{near:near_notify}/{token:anything}", self),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        counts = True
        try:
            answer = await self._handle(scope, receive)
        except _OwnProbe:
            counts, answer = False, await self._probed(scope, receive)
        except Exception as error:  # a fault of ours: what comes again may find it mended
            _log_fault(error)
            answer = NOT_NOW
        if answer is None:
            return
        if counts:
            _answers_with(answer[0]["status"]).inc()
        await send(answer[0])
        await send(answer[1] if scope["method"] != "HEAD" else {"type": "http.response.body", "body": b""})

    async def _handle(self, scope: Scope, receive: Receive) -> Answer | None:
        token = self._tokens.read(scope["path_params"].get("token", "").strip("/"))
        tenant = self._tenant_of(token.tenant) if token else None
        if token is None or tenant is None:
            if token is not None and token.tenant == PROBE:
                raise _OwnProbe
            return self._refuse(Refusal.ADDRESS, "none")
        if scope["method"] in ("HEAD", "GET", "OPTIONS"):
            return READY  # the platform tests the address with a bare HEAD: no signature, perhaps no header
        if not tenant.protection.header_is_good(scope["headers"]):
            return self._refuse(Refusal.HEADER, token.tenant)
        try:
            body = await self._body(receive)
        except _TooLarge:
            return TOO_LARGE
        except asyncio.CancelledError:
            return NOT_NOW  # half a body, and the server ends or nothing more comes: it is told again
        if body is None:
            return None  # the other side went away in the middle: nobody to answer
        if not _is_whole(body, scope["headers"]):
            return NOT_NOW
        try:
            return await self._judge(body, token, tenant, scope)
        except (NotDurable, asyncio.CancelledError):  # cancelled: the server ends, and its grace is over
            return NOT_NOW

    async def _probed(self, scope: Scope, receive: Receive) -> Answer | None:
        """The receiver's own probe: it goes a receipt's way, and is counted nowhere. Raises nothing."""
        if scope["method"] in ("HEAD", "GET", "OPTIONS"):
            return READY
        try:
            body = await self._body(receive)
            if body is None:
                return None
            if probed.read(body) is None:
                return REFUSED[Refusal.ADDRESS]
            arrival = Arrival(PROBE, None, datetime.now(UTC), body)
            await self._intake.take(arrival, None if self._intake.is_spooling else Reading())
        except _TooLarge:
            return TOO_LARGE
        except (NotDurable, asyncio.CancelledError):
            return NOT_NOW
        except Exception as error:
            _log_fault(error)
            return NOT_NOW
        return STORED

    def _refuse(self, refusal: Refusal, tenant: str) -> Answer:
        self._refusals.count(refusal, tenant)
        return REFUSED[refusal]

    async def _judge(self, body: bytes, token: NotifyToken, tenant: AtTheDoor, scope: Scope) -> Answer:
        """Stores what the platform signed, or did not have to sign. Raises NotDurable."""
        # Megabytes take milliseconds to check, thousands of receipts half a second to read: not while all others wait.
        aside = len(body) > READ_ASIDE
        headers, protection = scope["headers"], tenant.protection
        if protection.secrets:
            signed = (
                await asyncio.to_thread(protection.signed, headers, body) if aside else protection.signed(headers, body)
            )
            metrics.NOTIFY_SIGNATURES.labels(signed.value, token.tenant).inc()
            if refusal := protection.refusal(signed):
                return self._refuse(refusal, token.tenant)
        arrival = Arrival(token.tenant, token.submission_id, datetime.now(UTC), body, headers, protection.header)
        if tenant.id is None or self._intake.is_spooling:
            await self._intake.take(arrival, None)  # read when it drains
            return STORED
        if self._intake.is_full:
            return NOT_NOW
        source = Source(tenant.id, token.submission_id, arrival.received_at, tenant.zone)
        reading = await asyncio.to_thread(read, body, source) if aside else read(body, source)
        if reading.rejects:
            kept = arrival.kept_headers()
            reading.rejects = [r._replace(headers=kept) for r in reading.rejects]
        await self._intake.take(arrival, reading)
        return STORED

    async def _body(self, receive: Receive) -> bytes | None:
        parts, size = [], 0
        waiting = self._patience.begin()
        try:
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
        finally:
            self._patience.end(waiting)


class _TooLarge(Exception):
    pass


class _OwnProbe(Exception):
    """The token is that of the receiver's own probe."""


def _is_whole(body: bytes, headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether this is the body that was announced: after an `Upgrade` the server hands us none of it."""
    for name, value in headers:
        if name == b"content-length":
            return value.isdigit() and int(value) == len(body)
    return bool(body) or not any(name in (b"transfer-encoding", b"upgrade") for name, _ in headers)


@cache
def _answers_with(status: int) -> Counter:
    """The count of the answers with this status."""
    return metrics.NOTIFY_RESPONSES.labels(str(status), "yes" if tells_again(status) else "no")


def _log_fault(error: Exception) -> None:
    """Says where it broke, not with what words: the text of an error can hold a body or a token."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "nowhere"
    log.error("notify_failed", extra={"reason": type(error).__name__, "where": where})
