"""The receipts door: HEAD, GET and POST /notify/{token}.

A plain ASGI endpoint: Request and Response objects alone would cost a third of its time. It answers 200 only when the
body is durable, in Postgres or in the spool, understood or not; 503 when it could not be made so; 401 for a token that
is not ours, and for a header or a signature that the tenant requires and that is missing or wrong; 413 for a body over
the limit. Nothing else: the platform never tries again after 400, 404 or 409.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from starlette.convertors import PathConvertor, register_url_convertor
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from receiver import at_once
from receiver.access.refusals import Refusals
from receiver.access.signatures import Refusal
from receiver.access.tenants import AtTheDoor
from receiver.access.tokens import PROBE, NotifyToken, NotifyTokens
from receiver.receipts import probed
from receiver.receipts.answers import (
    NOT_NOW,
    READY,
    REFUSED,
    STORED,
    TOO_LARGE,
    Answer,
    Waiting,
    answers_with,
    log_fault,
    signed_as,
)
from receiver.receipts.arrival import Arrival
from receiver.receipts.intake import Intake
from receiver.receipts.patience import Patience
from receiver.receipts.receipt import Reading, Source, read
from receiver.receipts.waiting import NotDurable

log = logging.getLogger("receiver.notify")

BODY_SECONDS = 15.0  # the platform itself gives up after 10
READ_ASIDE = 64 * 1024  # bytes
MOST_ASIDE = 2  # large bodies that are read at a time; more of them would be answered after the platform has given up


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
        self._aside = 0

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
        except NotDurable:  # whose token it is nobody can say before the database was opened
            answer = NOT_NOW
        except Exception as error:  # a fault of ours: what comes again may find it mended
            log_fault(error)
            answer = NOT_NOW
        if answer is None:
            return
        if counts:
            answers_with(answer[0]["status"]).inc()
        await send(answer[0])
        await send(answer[1] if scope["method"] != "HEAD" else {"type": "http.response.body", "body": b""})

    def at_once(self, scope: Scope, body: bytes, answer: at_once.Answer) -> bool:
        """Takes a receipt in which nothing is unusual, and answers when it is durable, or could not be made so.

        All else is left to the endpoint, what is refused and what fails here, too; see at_once.AtOnce.
        """
        try:
            token = self._tokens.read(scope["path_params"].get("token", "").strip("/"))
            tenant = self._tenant_of(token.tenant) if token else None
            if token is None or tenant is None or tenant.id is None or not self._is_usual(body, scope, tenant):
                return False
            headers, protection = scope["headers"], tenant.protection
            signed = protection.signed(headers, body) if protection.secrets else None
            if signed is not None and protection.refusal(signed):
                return False
            arrival = Arrival(token.tenant, token.submission_id, datetime.now(UTC), body, headers, protection.header)
            reading = read(body, Source(tenant.id, token.submission_id, arrival.received_at, tenant.zone))
            self._intake.put(arrival, _with_headers(reading, arrival), Waiting(answer))
        except Exception:  # the endpoint meets it again, and logs and answers it
            return False
        if signed is not None:
            signed_as(signed, token.tenant).inc()
        return True

    def _is_usual(self, body: bytes, scope: Scope, tenant: AtTheDoor) -> bool:
        return (
            len(body) <= READ_ASIDE  # far below the largest that is taken
            and not (self._intake.is_spooling or self._intake.is_full)
            and tenant.protection.header_is_good(scope["headers"])
            and _is_whole(body, scope["headers"])
        )

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
            log_fault(error)
            return NOT_NOW
        return STORED

    def _refuse(self, refusal: Refusal, tenant: str) -> Answer:
        self._refusals.count(refusal, tenant)
        return REFUSED[refusal]

    async def _judge(self, body: bytes, token: NotifyToken, tenant: AtTheDoor, scope: Scope) -> Answer:
        """Stores what the platform signed, or did not have to sign. Raises NotDurable."""
        # Megabytes take milliseconds to check, thousands of receipts half a second to read: not while all others wait.
        aside, since = len(body) > READ_ASIDE, asyncio.get_running_loop().time()
        headers, protection = scope["headers"], tenant.protection
        if protection.secrets:
            signed = (
                await asyncio.to_thread(protection.signed, headers, body) if aside else protection.signed(headers, body)
            )
            signed_as(signed, token.tenant).inc()
            if refusal := protection.refusal(signed):
                return self._refuse(refusal, token.tenant)
        arrival = Arrival(token.tenant, token.submission_id, datetime.now(UTC), body, headers, protection.header)
        if tenant.id is None or self._intake.is_spooling or (aside and self._aside >= MOST_ASIDE):
            await self._intake.take(arrival, None)  # read when it drains
            return STORED
        if self._intake.is_full:
            return NOT_NOW
        source = Source(tenant.id, token.submission_id, arrival.received_at, tenant.zone)
        reading = await self._read_aside(body, source) if aside else read(body, source)
        await self._intake.take(arrival, _with_headers(reading, arrival), since)
        return STORED

    async def _read_aside(self, body: bytes, source: Source) -> Reading:
        self._aside += 1
        try:
            return await asyncio.to_thread(read, body, source)
        finally:
            self._aside -= 1

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


def _with_headers(reading: Reading, arrival: Arrival) -> Reading:
    """`reading`; what could not be read is kept with the headers that it came with."""
    if reading.rejects:
        kept = arrival.kept_headers()
        reading.rejects = [r._replace(headers=kept) for r in reading.rejects]
    return reading


def _is_whole(body: bytes, headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether this is the body that was announced: after an `Upgrade` the server hands us none of it."""
    for name, value in headers:
        if name == b"content-length":
            return value.isdigit() and int(value) == len(body)
    return bool(body) or not any(name in (b"transfer-encoding", b"upgrade") for name, _ in headers)
