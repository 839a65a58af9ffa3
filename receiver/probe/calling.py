"""One call to our own public address, made as the platform makes it: DNS, a new connection, TLS, a POST, its answer.

No redirect is followed, no body of an answer is read, and each step has its seconds. No text here holds the path: it
has a token.
"""

import asyncio
import contextlib
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from receiver import __version__
from receiver.probe.certificate import not_after

DNS_SECONDS, CONNECT_SECONDS, TLS_SECONDS = 5.0, 5.0, 5.0
ANSWER_SECONDS = 10.0  # the platform's own patience
MOST_HEAD = 16 * 1024  # bytes of an answer's head
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: |\r\n)")


class Result(StrEnum):
    """How a probe ended."""

    ARRIVED = "arrived"
    DNS = "dns"
    TLS = "tls"
    CONNECTION = "connection"
    REFUSED = "refused"
    LOST = "lost"


class Called(NamedTuple):
    """What came of a call: where it failed and why (None: it was answered 200), and when the certificate ends."""

    failed: Result | None
    why: str
    expires: datetime | None


class _Failed(Exception):
    def __init__(self, result: Result, why: str) -> None:
        super().__init__(why)
        self.result, self.why = result, why


async def post(url: str, body: bytes, *, patience: float = ANSWER_SECONDS) -> Called:
    """POSTs `body` to `url`, and waits `patience` seconds for the answer. It never raises: the result says all."""
    call = _Call(url, patience)
    try:
        await call.make(body)
    except _Failed as failed:
        return Called(failed.result, failed.why, call.expires)
    except Exception as error:  # whatever a loop or a library makes of an address: it must not end the process
        return Called(Result.CONNECTION, f"it can't be called ({type(error).__name__})", call.expires)
    return Called(None, "", call.expires)


@dataclass
class _Call:
    url: str = field(repr=False)
    patience: float
    expires: datetime | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        self.host = parts.hostname or ""
        self.tls = parts.scheme == "https"
        self.port = parts.port or (443 if self.tls else 80)
        self.named, self.path = parts.netloc.rpartition("@")[2], parts.path

    async def make(self, body: bytes) -> None:
        """Raises _Failed."""
        addresses = await self._addresses()
        # to read all authorities takes tens of milliseconds: not while receipts wait
        async with _step(Result.TLS, TLS_SECONDS, "the authorities that we trust can't be read"):
            trusting = await asyncio.to_thread(ssl.create_default_context) if self.tls else None
        connected, address = await self._connected(addresses)
        reader, writer = await self._speaking(connected, address, trusting)
        try:
            async with _step(Result.CONNECTION, self.patience, "it does not answer"):
                writer.write(self._head(len(body)) + body)
                await writer.drain()
                status = await _status(reader)
        finally:
            writer.transport.abort()
        if 300 <= status < 400:
            raise _Failed(Result.REFUSED, f"it redirects (HTTP {status}), and the platform follows no redirects")
        if status != 200:
            raise _Failed(Result.REFUSED, f"it answers {status}")

    def _head(self, length: int) -> bytes:
        return (
            f"POST {self.path} HTTP/1.1\r\nhost: {self.named}\r\nuser-agent: receiver/{__version__} probe\r\n"
            f"content-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        ).encode()

    async def _addresses(self) -> list[tuple[int, Any]]:
        async with _step(Result.DNS, DNS_SECONDS, f"the name {self.host} does not resolve"):
            found = await asyncio.get_running_loop().getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys((family, address) for family, _, _, _, address in found))

    async def _connected(self, addresses: list[tuple[int, Any]]) -> tuple[socket.socket, tuple[int, Any]]:
        """A connection to the first address that takes one."""
        async with _step(Result.CONNECTION, CONNECT_SECONDS, "it can't be reached"):
            for address in addresses[:-1]:
                with contextlib.suppress(OSError, TimeoutError):
                    async with asyncio.timeout(CONNECT_SECONDS / len(addresses)):
                        return await _connect(*address), address
            return await _connect(*addresses[-1]), addresses[-1]

    async def _speaking(
        self, connected: socket.socket, address: tuple[int, Any], trusting: ssl.SSLContext | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The connection as a stream, over TLS where the address is https."""
        if trusting is None:
            async with _step(Result.CONNECTION, CONNECT_SECONDS, "it can't be reached"):
                return await asyncio.open_connection(sock=connected, limit=MOST_HEAD)
        try:
            async with _step(Result.TLS, TLS_SECONDS, "it does not speak TLS"):
                reader, writer = await self._handshake(connected, trusting)
        except _Failed as failed:
            if isinstance(failed.__cause__, ssl.SSLCertVerificationError):
                await self._look_at_certificate(address)
            raise
        self._shown(writer)
        return reader, writer

    async def _handshake(
        self, connected: socket.socket, context: ssl.SSLContext
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            return await asyncio.open_connection(
                sock=connected, ssl=context, server_hostname=self.host, limit=MOST_HEAD
            )
        except BaseException:
            connected.close()
            raise

    async def _look_at_certificate(self, address: tuple[int, Any]) -> None:
        """When the certificate ends that was refused: a second handshake, over which nothing is told."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(TLS_SECONDS):
                _, writer = await self._handshake(await _connect(*address), context)
            self._shown(writer)
            writer.transport.abort()

    def _shown(self, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ValueError):
            self.expires = not_after(writer.get_extra_info("ssl_object").getpeercert(binary_form=True) or b"")


async def _connect(family: int, address: Any) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made


async def _status(reader: asyncio.StreamReader) -> int:
    """The HTTP status of the answer. Raises _Failed for what is none."""
    for _ in range(4):  # a few of 100 and 103 may come before
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as cut:
            if not cut.partial:
                raise _Failed(Result.CONNECTION, "it hangs up without an answer") from None
            head = cut.partial
        except asyncio.LimitOverrunError:
            break
        match = _STATUS.match(head)
        if match is None:
            break
        if int(match[1]) >= 200:
            return int(match[1])
    raise _Failed(Result.REFUSED, "it gives no HTTP answer that can be read")


@contextlib.asynccontextmanager
async def _step(result: Result, seconds: float, what: str) -> AsyncIterator[None]:
    """Whatever goes wrong inside, or takes longer, is _Failed with this result."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except ssl.SSLCertVerificationError as error:
        raise _Failed(result, f"its certificate is refused: {error.verify_message}") from error
    except TimeoutError:
        raise _Failed(result, f"{what}: no answer in time") from None
    except (OSError, UnicodeError) as error:
        raise _Failed(result, f"{what}: {_words(error)}") from None


def _words(error: Exception) -> str:
    """Why, in words that hold no address."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or type(error).__name__).replace("_", " ").lower()
    if isinstance(error, socket.gaierror):
        return str(error.strerror).lower()
    number = getattr(error, "errno", None)
    return os.strerror(number).lower() if isinstance(number, int) and number > 0 else type(error).__name__
