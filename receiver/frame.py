"""What stands around the doors of the rooms: health, figures, the answer of a closed door, two ports. Knows no room."""

from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from receiver import metrics
from receiver.openapi import Operation

OPERATIONS: Sequence[Operation] = (
    Operation("GET", "/livez", "livez", "The process runs.", {200: ("It does.", "text/plain")}),
    Operation(
        "GET",
        "/readyz",
        "readyz",
        "Whether this process can do its work, above all make a receipt durable, and what is wrong elsewhere.",
        {200: ("Ready.", "application/json"), 503: ("Not ready, or draining.", "application/json")},
    ),
    Operation("GET", "/metrics", "metrics", "For Prometheus.", {200: ("The figures.", "text/plain")}),
    Operation("GET", "/openapi.json", "openapi", "This document.", {200: ("OpenAPI 3.1.", "application/json")}),
)


async def livez(request: Request) -> Response:
    """The process runs."""
    return Response("alive\n", media_type="text/plain")


async def scrape(request: Request) -> Response:
    """For Prometheus: touches no table."""
    return Response(metrics.scrape(), media_type=metrics.CONTENT_TYPE)


class ClosedUntil:
    """An endpoint that answers with `away` as long as `is_open` says no."""

    def __init__(
        self, is_open: Callable[[], bool], app: ASGIApp, away: Callable[[Request], Awaitable[Response]]
    ) -> None:
        self._is_open, self._app, self._away = is_open, app, away

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app if self._is_open() else await self._away(Request(scope, receive))
        await app(scope, receive, send)


def closed_until(
    is_open: Callable[[], bool], routes: Sequence[Route], away: Callable[[Request], Awaitable[Response]]
) -> list[Route]:
    """The same routes, whose doors stay closed until then."""
    for route in routes:
        route.app = ClosedUntil(is_open, route.app, away)
    return list(routes)


class ByPort:
    """One server that listens on two ports: what comes to `port` goes to `there`, all else to `elsewhere`."""

    def __init__(self, port: int, there: ASGIApp, elsewhere: ASGIApp) -> None:
        self._port, self._there, self._elsewhere = port, there, elsewhere

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        server = scope.get("server")
        app = self._there if server is not None and server[1] == self._port else self._elsewhere
        await app(scope, receive, send)
