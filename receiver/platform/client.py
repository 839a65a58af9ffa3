"""Calls to the platform. No database connection is held while it thinks; nothing here is tried twice."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

from receiver import __version__
from receiver.platform import status as transaction_status
from receiver.platform.apis import Api
from receiver.platform.calls import answer_of
from receiver.platform.credentials import Credentials
from receiver.platform.wire import Answer, Call, Outcome, Trouble

log = logging.getLogger("receiver.platform")

LARGEST_ANSWER = 1024 * 1024
# A status answers for each message of its transid, a thousand of them, and repeats the request in each.
LARGEST_STATUS = 8 * LARGEST_ANSWER
READ_ASIDE = 256 * 1024  # bytes: reading more of them would hold up whoever shares the loop
CONNECT_SECONDS = 10.0
PIECE = 64 * 1024  # bytes of a body that are written at a time
# What the system holds back counts as taken, for it may have left. Left to itself it holds back megabytes.
SEND_BUFFER = (socket.SOL_SOCKET, socket.SO_SNDBUF, PIECE)
IDLE_SECONDS = 4.0  # below the 5 s after which many servers close: a call into a closing connection is uncertain


class _Body:
    """A body in pieces, which knows whether the last of them was handed to the connection."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.complete = False
        """From before the last piece is written: what may have arrived as a whole counts as arrived."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        last = max(len(self._content) - 1, 0) // PIECE * PIECE
        for start in range(0, last, PIECE):
            yield self._content[start : start + PIECE]
        self.complete = True
        yield self._content[last:]


@dataclass(frozen=True)
class _Response:
    """An answer as it came in."""

    status: int
    body: bytes
    retry_after: str | None
    content_type: str | None


class PlatformClient:
    """One pool of connections to all platforms of the tenants."""

    def __init__(self, timeout: float, connections: int, connect: float = CONNECT_SECONDS) -> None:
        # A timeout counts from byte to byte; this bounds a whole call, so that it ends before its lease does.
        self._longest = timeout + connect
        self._connections = connections
        self._timeout = aiohttp.ClientTimeout(total=None, connect=min(timeout, connect), sock_read=timeout)
        self._http: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections, keepalive_timeout=IDLE_SECONDS, socket_factory=_socket
            ),
            timeout=self._timeout,
            headers={"user-agent": f"receiver/{__version__}"},
            # A session of one tenant must not be shown with the key of another at the same address.
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def send(self, base_url: str, credentials: Credentials, api: Api, call: Call) -> Answer:
        """Hands one call to the platform and says what came of it. Does not raise for the network.

        Until the last piece of the body was handed over nothing was sent, whatever breaks: half a request can't be
        acted on. Whatever breaks after that may have been sent.
        """
        body = _Body(call.body)
        headers = {
            "content-type": "application/json",
            "content-length": str(len(call.body)),
            **credentials.header(datetime.now(UTC)),
        }
        try:
            async with asyncio.timeout(self._longest):
                response = await self._post(base_url + call.path, body, headers)
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
            return _unanswered(body, type(error).__name__)
        answer = answer_of(api, response.status, response.body, response.retry_after)
        answer = replace(answer, content_type=response.content_type)
        if answer.outcome is Outcome.UNCERTAIN and not body.complete:
            return replace(answer, outcome=Outcome.NOT_SENT, trouble=Trouble.UNREACHABLE)
        return answer

    async def _post(self, url: str, body: _Body, headers: dict[str, str]) -> _Response:
        """The answer; what is over the limit is not read."""
        async with self._http.post(url, data=body, headers=headers, allow_redirects=False) as response:
            return await _read(response, LARGEST_ANSWER)

    async def status(self, base_url: str, credentials: Credentials, transid: str) -> transaction_status.Answer:
        """Asks what the platform knows of `transid`, and says what it answered. Does not raise for the network."""
        url = base_url + transaction_status.path_of(transid)
        try:
            async with asyncio.timeout(self._longest):
                headers = credentials.header(datetime.now(UTC))
                async with self._http.get(URL(url, encoded=True), headers=headers, allow_redirects=False) as response:
                    said = await _read(response, LARGEST_STATUS)
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
            return transaction_status.no_answer(type(error).__name__)
        read = transaction_status.answer_of
        if len(said.body) > READ_ASIDE:
            return await asyncio.to_thread(read, said.status, said.body, said.retry_after)
        return read(said.status, said.body, said.retry_after)


async def _read(response: aiohttp.ClientResponse, most: int) -> _Response:
    """The answer as it came in; what is over `most` bytes is not read."""
    answer = bytearray()
    async for part in response.content.iter_any():
        answer += part
        if len(answer) > most:
            break
    said = response.headers
    return _Response(response.status, bytes(answer), said.get("retry-after"), said.get("content-type"))


def _socket(address: Any) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(*SEND_BUFFER)
    return made


def _unanswered(body: _Body, error: str) -> Answer:
    """What a call without an answer proves."""
    if body.complete:
        return Answer(Outcome.UNCERTAIN, description=f"the platform did not answer ({error})")
    description = f"the request did not reach the platform ({error})"
    return Answer(Outcome.NOT_SENT, description=description, trouble=Trouble.UNREACHABLE)
