"""What stands around the doors of the rooms: health, figures, the answer of a closed door, two ports. Knows no room."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from receiver import metrics
from receiver.at_once import Answer, first_of
from receiver.openapi import Header, Operation


class Readiness(msgspec.Struct):
    """Whether this process can do its work, and whatever is wrong, in sentences."""

    ready: bool
    warnings: list[str]


OPERATIONS: Sequence[Operation] = (
    Operation(
        "GET",
        "/livez",
        "livez",
        "The process runs.",
        {200: ("It does.", "text/plain")},
        examples={200: "alive\n"},
    ),
    Operation(
        "GET",
        "/readyz",
        "readyz",
        "Whether this process can do its work, above all make a receipt durable, and what is wrong elsewhere.",
        {200: ("Ready.", Readiness), 503: ("Not ready, or draining.", Readiness)},
        examples={
            200: {"ready": True, "warnings": ["tenant default accepts receipts with its token alone"]},
            503: {"ready": False, "warnings": ["this process is draining"]},
        },
    ),
    Operation(
        "GET",
        "/metrics",
        "metrics",
        "For Prometheus.",
        {200: ("The figures.", "text/plain")},
        examples={200: 'receiver_notify_responses_total{code="200",retried="no"} 48213.0\n'},
    ),
    Operation(
        "GET",
        "/openapi.json",
        "openapi",
        "This document.",
        {200: ("OpenAPI 3.1.", "application/json")},
        examples={200: {"openapi": "3.1.0"}},
    ),
    Operation(
        "GET",
        "/docs",
        "docs",
        "This document as a page to read, which asks nothing of the internet.",
        {200: ("The page.", "text/html")},
        examples={200: "<!doctype html>…"},
        headers={200: (Header("Content-Security-Policy", "What a browser may do with it: nothing but show it."),)},
    ),
)


async def livez(request: Request) -> Response:
    """The process runs."""
    return Response("alive\n", media_type="text/plain")


async def scrape(request: Request) -> Response:
    """For Prometheus: touches no table."""
    return Response(await metrics.scrape_in_turns(), media_type=metrics.CONTENT_TYPE)


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


class ByMethod:
    """An endpoint of several routes of one path: each method goes to its own."""

    def __init__(self, apps: Mapping[str, ASGIApp]) -> None:
        self._apps = apps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._apps[scope["method"]](scope, receive, send)


class OnlyRoute(Route):
    """The only route of its path: a method that it does not take is answered 405 here, and looked for nowhere else."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        return (Match.FULL if match is Match.PARTIAL else match), child


def one_a_path(routes: Sequence[Route]) -> list[Route]:
    """The same doors with one route for each path, so that a 405 names every method that is taken there.

    A path without parameters comes first and answers for all methods: it is never taken for an id.
    """
    by_path: dict[str, list[Route]] = {}
    for route in routes:
        by_path.setdefault(route.path, []).append(route)
    made = []
    for path, several in by_path.items():
        if (len(several) == 1 and "{" in path) or any(route.methods is None for route in several):
            made += several  # of the latter one takes every method
            continue
        apps = {method: route.app for route in several for method in route.methods or ()}
        made.append((Route if "{" in path else OnlyRoute)(path, ByMethod(apps), methods=list(apps)))
    return sorted(made, key=lambda route: "{" in route.path)


class ByPort:
    """One server that listens on two ports: what comes to `port` goes to `there`, all else to `elsewhere`."""

    def __init__(self, port: int, there: ASGIApp, elsewhere: ASGIApp) -> None:
        self._port, self._there, self._elsewhere = port, there, elsewhere
        self._first = {app: first_of(app) for app in (there, elsewhere)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._of(scope)(scope, receive, send)

    def at_once(self, scope: Scope, body: bytes, answer: Answer) -> bool:
        """Whether the application behind the port takes it; see at_once.AtOnce."""
        first = self._first.get(self._of(scope))
        return first is not None and first.at_once(scope, body, answer)

    def _of(self, scope: Scope) -> ASGIApp:
        server = scope.get("server")
        return self._there if server is not None and server[1] == self._port else self._elsewhere
