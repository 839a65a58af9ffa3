"""Answers that are none: a call that hangs, a connection that is reset in mid-answer, one that is closed unread."""

import asyncio
import os
import socket
import struct
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_PROMISED = b"1024"  # bytes of an answer of which the first comes
_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset


class Hang(Response):
    """Never answers; ends when the client leaves."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Waits."""
        await _until_gone(receive)


class Reset(Response):
    """The head of an answer and its first byte, and then a reset on the wire."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Begins an answer and breaks off."""
        headers = [(b"content-type", b"application/json"), (b"content-length", _PROMISED)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})
        transport = _transport(receive)
        while transport.get_write_buffer_size():  # noqa: ASYNC110 (a transport has no event for it)
            await asyncio.sleep(0)
        with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as twin:
            twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        transport.abort()
        await _until_gone(receive)


class Close(Response):
    """Closes the connection without a word."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Breaks off."""
        _transport(receive).abort()
        await _until_gone(receive)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _transport(receive: Receive) -> Any:
    """The connection under uvicorn, whose `receive` is a method of the request that holds it."""
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if transport is None:
        raise RuntimeError("only under uvicorn can a connection be broken off")
    return transport
