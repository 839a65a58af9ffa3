"""What stands in front of the framework takes its own paths, and no others."""

import asyncio

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from receiver.web import Ahead


def went_to(scope: Scope) -> tuple[str, object]:
    """Which of the two applications a request reaches, and with which parameters."""
    seen: list[tuple[str, object]] = []

    def named(name: str) -> ASGIApp:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append((name, scope.get("path_params")))

        return app

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError

    asyncio.run(Ahead(named("framework"), "/notify/", "token", named("door"))(scope, receive, send))
    (found,) = seen
    return found


@pytest.mark.parametrize("rest", ["abc", "", "abc/", "/abc", "a/b", "a\nb", "é", "notify/"])
def test_whatever_is_below_the_prefix_goes_ahead(rest: str) -> None:
    assert went_to({"type": "http", "path": f"/notify/{rest}"}) == ("door", {"token": rest})


@pytest.mark.parametrize("path", ["/notify", "/Notify/abc", "//notify/abc", "/v1/messages", "/", "", "/notifying"])
def test_everything_else_goes_to_the_framework(path: str) -> None:
    assert went_to({"type": "http", "path": path}) == ("framework", None)


def test_what_is_no_request_goes_to_the_framework() -> None:
    assert went_to({"type": "lifespan"}) == ("framework", None)
    assert went_to({"type": "websocket", "path": "/notify/abc"}) == ("framework", None)
