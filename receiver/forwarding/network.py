"""The way out to clients' addresses: every address behind a name is checked in the moment of connecting.

The check and the connection use the same answer of the DNS, so no second answer can lead elsewhere. Redirects are not
followed, and no proxy of the environment is used.
"""

import asyncio
import functools
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

import httpcore2
import httpx2

from receiver import __version__
from receiver.targets import Allowed, refused_address, refused_target

SECONDS = 10.0  # for the whole call, as the platform waits
LARGEST_ANSWER = 64 * 1024
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
IDLE_SECONDS = 4.0  # many servers close after five: a call must not meet that

# The loop's own threads are few, and asking can't be given up: a name of a client whose DNS hangs must not keep the
# platform's name waiting.
_NAMES = ThreadPoolExecutor(max_workers=16, thread_name_prefix="names of clients")

Resolve = Callable[[str, int], Awaitable[list[str]]]
Option = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]

NOT_REACHED = (
    httpcore2.NetworkError,
    httpcore2.TimeoutException,
    httpcore2.ProtocolError,
    httpcore2.UnsupportedProtocol,
    OSError,  # TimeoutError too
)


class Refused(Exception):
    """Nothing may go to this address: the reason, in a sentence."""


class NotReached(Exception):
    """No answer came: the reason, without the address."""


async def resolve(host: str, port: int) -> list[str]:
    """All addresses of a name. Raises OSError, and UnicodeError for a name that can't be asked for."""
    asked = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(_NAMES, asked)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Connects only to addresses that may be spoken to."""

    def __init__(self, allowed: Allowed, resolver: Resolve = resolve) -> None:
        self._allowed, self._resolve = allowed, resolver
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Option] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connects to the first address that answers. Raises Refused if any of them is one that may not be."""
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError):  # Python itself refuses a name with an empty part, or one of over 63 letters
            raise httpcore2.ConnectError("its name is not known") from None
        for address in addresses:
            if reason := refused_address(ipaddress.ip_address(address), host, self._allowed):
                raise Refused(reason)
        failure: Exception = httpcore2.ConnectError("its name has no address")
        for address in addresses:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure

    async def sleep(self, seconds: float) -> None:
        """Between tries of httpcore2's own; it makes none here."""
        await asyncio.sleep(seconds)


class Teller:
    """Tells receipts to clients' addresses."""

    def __init__(self, connections: int, resolver: Resolve = resolve, seconds: float = SECONDS) -> None:
        self._connections, self._resolve, self._seconds = connections, resolver, seconds
        self._tls = httpx2.create_ssl_context(trust_env=False)
        # A pool for each set of allowances: a kept connection was checked against those of its own.
        self._pools: dict[Allowed, httpcore2.AsyncConnectionPool] = {}

    async def tell(self, url: str, body: bytes, allowed: Allowed, headers: Mapping[str, str] = NO_HEADERS) -> int:
        """Posts a receipt and returns the status of the answer. Raises Refused or NotReached."""
        if reason := refused_target(url, allowed):
            raise Refused(reason)
        request = self._request(url)
        status: int | None = None
        try:
            async with (
                asyncio.timeout(self._seconds),
                self._pool(allowed).stream("POST", request, content=body, **self._more(headers)) as response,
            ):
                status = response.status
                left = LARGEST_ANSWER
                async for part in response.aiter_stream():
                    left -= len(part)
                    if left < 0:
                        break
        except NOT_REACHED as error:
            if status is None:  # else it has answered, whatever broke behind
                raise NotReached(_in_words(error)) from None
        assert status is not None
        return status

    async def aclose(self) -> None:
        """Closes the kept connections."""
        for pool in self._pools.values():
            await pool.aclose()
        self._pools.clear()

    def _more(self, headers: Mapping[str, str]) -> dict[str, Any]:
        headers = {"content-type": "application/json", "user-agent": f"receiver/{__version__}", **headers}
        times = dict.fromkeys(("connect", "read", "write", "pool"), self._seconds)
        return {"headers": headers, "extensions": {"timeout": times}}

    def _pool(self, allowed: Allowed) -> httpcore2.AsyncConnectionPool:
        if allowed not in self._pools:
            self._pools[allowed] = httpcore2.AsyncConnectionPool(
                ssl_context=self._tls,
                max_connections=self._connections,
                max_keepalive_connections=self._connections,
                keepalive_expiry=IDLE_SECONDS,
                network_backend=CheckedNetwork(allowed, self._resolve),
            )
        return self._pools[allowed]

    @staticmethod
    def _request(url: str) -> httpcore2.URL:
        """The address as bytes: names in punycode, the path encoded."""
        try:
            parts = httpx2.URL(url)
            return httpcore2.URL(scheme=parts.raw_scheme, host=parts.raw_host, port=parts.port, target=parts.raw_path)
        except (httpx2.InvalidURL, ValueError):
            raise Refused("it is no address: it takes https://host[:port][/path]") from None


def _in_words(error: Exception) -> str:
    """A reason that may be shown: no address stands in it."""
    if isinstance(error, httpcore2.ConnectError):
        return f"no connection: {error}"[:200]
    if isinstance(error, TimeoutError | httpcore2.TimeoutException):
        return "no answer in time"
    return f"the connection broke ({type(error).__name__})"
