"""Posting bodies over kept connections, with as little work as HTTP/1.1 allows.

A general HTTP client takes about 1.1 ms of processor time a request; a storm of receipts needs a tenth of that, for the
receiver under test runs on the same machine. Only the status of an answer is of interest here.
"""

import asyncio
import contextlib
import ssl
from collections import deque
from dataclasses import dataclass, field
from typing import Final

import httpx2

# Below the 5 s after which uvicorn closes an idle connection: a receipt sent into a closing one is lost.
KEEPALIVE: Final = 2.0
HEADS: Final = 10_000  # notifyurls whose request is kept ready; each submission has one of its own
HUNG_UP: Final = 0.02  # seconds that a simulated time-out lets the other side read and store


class Unreachable(Exception):
    """There is no connection: nothing was sent."""


class Unanswered(Exception):
    """It was sent, at least in part, and no answer came."""


@dataclass(slots=True, eq=False)
class _Line:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    idle_since: float = 0.0


@dataclass(slots=True, eq=False)
class _Host:
    """Where bodies go to, and the connections there that are idle."""

    name: str
    port: int
    tls: bool
    idle: deque[_Line] = field(default_factory=deque)


class Poster:
    """Posts JSON bodies; belongs to one event loop. No proxy of the environment, no redirect, no cookie."""

    def __init__(self) -> None:
        self._hosts: dict[tuple[str, int, bool], _Host] = {}
        self._heads: dict[httpx2.URL, tuple[_Host, bytes]] = {}
        self._trust: ssl.SSLContext | None = None

    async def post(self, url: httpx2.URL, body: bytes) -> int:
        """The HTTP status that `body` was answered with; raises Unreachable or Unanswered."""
        host, head = self._way(url)
        line = await self._line(host)
        try:
            line.writer.write(head % len(body) + body)
            status, more = await _answer(line.reader)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            line.writer.close()
            raise Unanswered from error
        except BaseException:
            line.writer.close()
            raise
        if more:
            line.idle_since = asyncio.get_running_loop().time()
            host.idle.append(line)
        else:
            line.writer.close()
        return status

    async def post_and_hang_up(self, url: httpx2.URL, body: bytes) -> None:
        """Sends `body` and leaves without the answer; raises Unreachable."""
        host, head = self._way(url)
        line = await self._line(host)
        try:
            line.writer.write(head % len(body) + body)
            with contextlib.suppress(OSError):
                await line.writer.drain()
            await asyncio.sleep(HUNG_UP)
        finally:
            line.writer.close()

    def close(self) -> None:
        """Closes what is idle."""
        for host in self._hosts.values():
            while host.idle:
                host.idle.pop().writer.close()

    def _way(self, url: httpx2.URL) -> tuple[_Host, bytes]:
        """The host of `url`, and the head of a request to it with a place for the length."""
        way = self._heads.get(url)
        if way is None:
            if len(self._heads) >= HEADS:
                self._heads.clear()
            way = self._heads[url] = (self._host(url), _head(url))
        return way

    def _host(self, url: httpx2.URL) -> _Host:
        tls = url.scheme == "https"
        address = (url.host, url.port or (443 if tls else 80), tls)
        return self._hosts.setdefault(address, _Host(*address))

    async def _line(self, host: _Host) -> _Line:
        """A connection that was used a moment ago, or a new one; raises Unreachable."""
        freshest = asyncio.get_running_loop().time() - KEEPALIVE
        while host.idle:
            line = host.idle.pop()
            if line.idle_since > freshest and not line.reader.at_eof():
                return line
            line.writer.close()
        trust = self._trusted() if host.tls else None
        try:
            return _Line(*await asyncio.open_connection(host.name, host.port, ssl=trust))
        except OSError as error:
            raise Unreachable from error

    def _trusted(self) -> ssl.SSLContext:
        if self._trust is None:
            self._trust = ssl.create_default_context()
        return self._trust


def _head(url: httpx2.URL) -> bytes:
    head = b"POST %s HTTP/1.1\r\nhost: %s\r\ncontent-type: application/json\r\ncontent-length: %%d\r\n\r\n"
    return head % (url.raw_path.replace(b"%", b"%%"), url.netloc)


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """The status of the next answer, and whether the connection can be used again; raises ValueError if it is none."""
    head = b"HTTP/1.1 100"
    while head[9:10] == b"1":  # an interim answer
        head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    lower = head.lower()
    _, found, rest = lower.partition(b"\r\ncontent-length:")
    if not found or b"\r\nconnection: close" in lower:
        return status, False
    await reader.readexactly(int(rest.partition(b"\r\n")[0]))
    return status, True
