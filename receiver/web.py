"""What every door shares: limits, problem answers, request ids. Knows no room.

A failure is `application/problem+json` (RFC 9457) with a stable `code`, and every broken field in one answer.
"""

import contextvars
import logging
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from receiver.at_once import Answer, first_of

log = logging.getLogger("receiver.web")

request_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("request_id", default=None)
_GOOD_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

# In the state of a request: headers, as pairs of bytes, that its answer bears whatever it is.
ANSWER_HEADERS = "answer_headers"
LOGGED = "receiver_logged"  # the attribute of a fault that has been logged: the server need not do it again


class FieldError(NamedTuple):
    """One broken field: where it is (a JSON pointer, or a parameter's name), a stable code, and what to do."""

    pointer: str
    code: str
    detail: str


class Problem(Exception):
    """A failure that the client is told: HTTP status, stable code, one sentence, broken fields, extra headers.

    `more` are members of the answer beside those that every problem has.
    """

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        errors: Sequence[FieldError] = (),
        headers: dict[str, str] | None = None,
        more: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(title)
        self.status, self.code, self.title, self.errors, self.headers = status, code, title, errors, headers or {}
        self.more = more or {}


class JsonResponse(Response):
    """Any value that msgspec can encode."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return msgspec.json.encode(content)


async def problem_response(request: Request, error: Exception) -> Response:
    """The answer to a Problem."""
    assert isinstance(error, Problem)
    body = {
        "type": "about:blank",
        "status": error.status,
        "code": error.code,
        "title": error.title,
        "errors": [e._asdict() for e in error.errors],
        "request_id": request_id.get(),
        **error.more,
    }
    return JsonResponse(body, error.status, error.headers, media_type="application/problem+json")


async def not_found(request: Request, error: Exception) -> Response:
    """The answer to a path that is no door, or a method that a door does not take."""
    status = getattr(error, "status_code", 404)
    headers = getattr(error, "headers", None) or {}
    if status == 405:
        problem = Problem(405, "method_not_allowed", "This door does not take that method.", headers=dict(headers))
    else:
        problem = Problem(404, "not_found", "There is no such door: see /openapi.json.")
    return await problem_response(request, problem)


async def failed(request: Request, error: Exception) -> Response:
    """The answer to a fault of ours: the client learns the request id, the log has the rest."""
    identity = request.scope.get("state", {}).get("request_id")
    headers = {"x-request-id": identity} if identity else {}
    token = request_id.set(identity)
    if not getattr(error, LOGGED, False):  # it may be answered inside, and go on to the outside
        door = getattr(request.scope.get("route"), "path", None)
        log.error("request_failed", extra={"reason": type(error).__name__, "door": door}, exc_info=error)
        setattr(error, LOGGED, True)
    try:
        title = "Something failed here; it has been logged."
        return await problem_response(request, Problem(500, "internal_error", title, headers=headers))
    finally:
        request_id.reset(token)


async def read_body(request: Request, limit: int) -> bytes:
    """The body as it came. Raises Problem 413 over `limit` bytes, 400 for one that was cut off."""
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > limit:
                raise Problem(
                    413, "body_too_large", f"The body is larger than {limit} bytes.", headers={"connection": "close"}
                )
    except ClientDisconnect:  # nobody reads the answer; it must not be a fault of ours in the log
        raise Problem(400, "body_cut_off", "The body ended before it was complete.") from None
    return bytes(body)


def json_of(body: bytes) -> Any:
    """The JSON value of `body`. Raises Problem 400 for what is not JSON."""
    try:
        return msgspec.json.decode(body.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Problem(400, "not_json", "The body is not JSON.", [FieldError("", "7000", reason)]) from None


class Ahead:
    """Leads what comes below `prefix` straight to `endpoint`, the rest of its path as the parameter `name`.

    It stands in front of the framework, whose middleware and routing cost more than reading a receipt. What the
    endpoint takes at once needs not even a task.
    """

    def __init__(self, app: ASGIApp, prefix: str, name: str, endpoint: ASGIApp) -> None:
        self._app, self._prefix, self._name, self._endpoint = app, prefix, name, endpoint
        self._first = first_of(endpoint)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(self._prefix):
            await self._endpoint(self._below(scope), receive, send)
        else:
            await self._app(scope, receive, send)

    def at_once(self, scope: Scope, body: bytes, answer: Answer) -> bool:
        """Whether the endpoint takes it; see at_once.AtOnce."""
        return (
            self._first is not None
            and scope["path"].startswith(self._prefix)
            and self._first.at_once(self._below(scope), body, answer)
        )

    def _below(self, scope: Scope) -> Scope:
        scope["path_params"] = {self._name: scope["path"][len(self._prefix) :]}
        return scope


def is_receipts_door(path: str) -> bool:
    """Whether a path leads to the receipts door, which nothing that is there for the others may slow down."""
    return path.startswith("/notify/") or path == "/notify"


class RequestIds:
    """Gives each request an id, the client's own where it is a sane one, and echoes it as X-Request-ID.

    The answer bears the request's ANSWER_HEADERS, too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The receipts door is the hot path and has no use for it.
        if scope["type"] != "http" or is_receipts_door(scope["path"]):
            await self._app(scope, receive, send)
            return
        told = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        identity = told if _GOOD_REQUEST_ID.fullmatch(told) else secrets.token_hex(8)
        token = request_id.set(identity)
        state = scope.setdefault("state", {})
        state["request_id"] = identity  # for the answer to a fault, which is given outside

        async def with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = identity
                headers.raw.extend(state.get(ANSWER_HEADERS, ()))
            await send(message)

        try:
            await self._app(scope, receive, with_id)
        finally:
            request_id.reset(token)


class Faults:
    """Answers a fault of ours inside of all that gives an answer its headers; the fault goes on to whoever logs it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def watched(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as fault:
            if scope["type"] == "http" and not has_begun:
                await (await failed(Request(scope), fault))(scope, receive, send)
            raise
