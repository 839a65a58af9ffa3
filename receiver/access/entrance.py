"""What every request passes before a door, but for the receipts': no key in a URL, and browsers of other origins."""

import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from receiver.access.keys import Failure, count
from receiver.web import Problem, is_receipts_door, problem_response

_KEY = re.compile(rb"(?<![A-Za-z0-9])rk_[0-9a-f]{12}_")

METHODS = ("GET", "POST", "DELETE")
ASKED = ("Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "Last-Event-ID", "X-Request-ID")
TOLD = (
    "ETag",
    "Idempotency-Replayed",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-ID",
    "X-Wait",
)
PREFLIGHT_SECONDS = 600


class Entrance:
    """Answers a URL with a key in it 400, and gives `origins` the headers that their browsers ask for."""

    def __init__(self, app: ASGIApp, origins: Sequence[str] = ()) -> None:
        """`origins` as browsers spell them, or `*`; none: no page of another origin may read an answer."""
        self._app = app
        self._let_in: ASGIApp = self._without_key
        if origins:
            self._let_in = CORSMiddleware(
                self._without_key,
                allow_origins=origins,
                allow_methods=METHODS,
                allow_headers=ASKED,
                expose_headers=TOLD,
                max_age=PREFLIGHT_SECONDS,
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_receipts_door(scope["path"]):
            await self._app(scope, receive, send)
        else:
            await self._let_in(scope, receive, send)

    async def _without_key(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not (_bears_key(scope["query_string"]) or _bears_key(scope["path"].encode("utf-8", "surrogateescape"))):
            await self._app(scope, receive, send)
            return
        count(Failure.URL)
        problem = Problem(
            400,
            "key_in_url",
            "An API key stands in this URL: send it in the header, Authorization: Bearer rk_…; and revoke this one "
            "with `receiver keys revoke`, for URLs are logged on their way.",
        )
        answer = await problem_response(Request(scope), problem)
        await answer(scope, receive, send)


def _bears_key(text: bytes) -> bool:
    """Whether a piece of a URL has something in it that looks like a key, however it is quoted."""
    if b"%" in text:
        text = unquote_to_bytes(text)
    return b"rk_" in text and _KEY.search(text) is not None
