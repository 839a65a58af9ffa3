"""What a server and an application agree on, so that a request needs no task: see short_way.py.

Apart from the server's own modules: who serves nothing need not import them.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol, runtime_checkable

from starlette.types import Scope


class Said(NamedTuple):
    """An answer as it is sent: status line and headers, each with its line end; and the body."""

    head: bytes
    body: bytes


Answer = Callable[[Said], None]


@runtime_checkable
class AtOnce(Protocol):
    """What may take a request at once: an application, or an endpoint of it.

    True: it has, and calls `answer` once, now or later. False: nothing was done with it.
    """

    def at_once(self, scope: Scope, body: bytes, answer: Answer) -> bool: ...


def first_of(app: object) -> AtOnce | None:
    """`app`, if it may take requests at once."""
    return app if isinstance(app, AtOnce) else None


def said(start: Mapping[str, Any], body: Mapping[str, Any]) -> Said:
    """The answer of these two ASGI messages."""
    status = HTTPStatus(start["status"])
    lines = [f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()]
    lines += [b"%s: %s\r\n" % header for header in start["headers"]]
    return Said(b"".join(lines), body["body"])
