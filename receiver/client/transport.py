"""Making calls over httpx2, blocking and not: no rule of the receiver is known here."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2

from receiver.client.calls import Answer, Call
from receiver.client.errors import NoAnswer
from receiver.client.place import no_address, nobody, options_of
from receiver.client.steps import Ask, Open, Read, Sleep, Step
from receiver.errors import ReceiverError

READ_BYTES = 1 << 16


class Lines:
    """What the two kinds of transport share: how a call becomes a request, and an error a sentence."""

    def __init__(self, url: str, timeout: float) -> None:
        self.url = url.rstrip("/")
        self.timeout = timeout

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def request_of(self, call: Call, read: float | None = None) -> dict[str, Any]:
        """The arguments of a request. `read`: seconds of silence, where it is not the timeout."""
        reads = self.timeout + call.patience if read is None else read
        return {
            "method": call.method,
            "url": call.path,
            "params": list(call.parameters) or None,
            "headers": {name: value.encode() for name, value in call.headers.items()},  # an id may be any text
            "content": call.content,
            "timeout": httpx2.Timeout(self.timeout, read=reads),
        }

    @contextlib.contextmanager
    def in_words(self) -> Iterator[None]:
        """Raises NoAnswer, or ReceiverError for what is no address, in place of what the library raises."""
        try:
            yield
        except httpx2.UnsupportedProtocol as error:
            raise no_address(self.url, error) from None
        except httpx2.LocalProtocolError:
            raise ReceiverError("an id or a key of a call holds a character that no header can") from None
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise NoAnswer(nobody(self.url, error)) from None


class BlockingLines(Lines):
    """Takes steps and blocks meanwhile."""

    def __init__(self, url: str, api_key: str, timeout: float) -> None:
        """Raises ReceiverError for what is no address, or can't be a key."""
        super().__init__(url, timeout)
        try:
            self._http = httpx2.Client(**options_of(self.url, api_key, timeout))
        except httpx2.InvalidURL as error:
            raise no_address(url, error) from None

    def close(self) -> None:
        """Hangs up."""
        self._http.close()

    def take(self, step: Step, line: "BlockingLine") -> Any:
        """What came of a step. Raises NoAnswer."""
        match step:
            case Sleep(seconds):
                time.sleep(seconds)
                return None
            case Read():
                return line.read()
            case Open(call, silence):
                return line.open(self._http, call, silence)
            case Ask(call):
                with self.in_words():
                    response = self._http.request(**self.request_of(call))
                return Answer(response.status_code, response.headers, response.content)


class BlockingLine:
    """One answer that is read as it comes."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._response: httpx2.Response | None = None
        self._parts: Iterator[bytes] = iter(())

    def open(self, http: httpx2.Client, call: Call, silence: float) -> Answer:
        """The head of the answer; of a refusal the whole. Raises NoAnswer."""
        self.close()
        with self._lines.in_words():
            request = http.build_request(**self._lines.request_of(call, silence))
            self._response = response = http.send(request, stream=True)
            content = response.read() if response.status_code >= 400 else b""
        self._parts = response.iter_bytes()
        return Answer(response.status_code, response.headers, content)

    def read(self) -> bytes:
        """The next bytes, none at the end. Raises NoAnswer."""
        with self._lines.in_words():
            return next(self._parts, b"")

    def close(self) -> None:
        """Hangs up on what was not read."""
        if self._response is not None:
            self._response.close()


class AwaitingLines(Lines):
    """Takes steps and lets others work meanwhile."""

    def __init__(self, url: str, api_key: str, timeout: float) -> None:
        """Raises ReceiverError for what is no address, or can't be a key."""
        super().__init__(url, timeout)
        try:
            self._http = httpx2.AsyncClient(**options_of(self.url, api_key, timeout))
        except httpx2.InvalidURL as error:
            raise no_address(url, error) from None

    async def close(self) -> None:
        """Hangs up."""
        await self._http.aclose()

    async def take(self, step: Step, line: "AwaitingLine") -> Any:
        """What came of a step. Raises NoAnswer."""
        match step:
            case Sleep(seconds):
                await asyncio.sleep(seconds)
                return None
            case Read():
                return await line.read()
            case Open(call, silence):
                return await line.open(self._http, call, silence)
            case Ask(call):
                with self.in_words():
                    response = await self._http.request(**self.request_of(call))
                return Answer(response.status_code, response.headers, response.content)


class AwaitingLine:
    """One answer that is read as it comes."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._response: httpx2.Response | None = None
        self._parts: AsyncIterator[bytes]

    async def open(self, http: httpx2.AsyncClient, call: Call, silence: float) -> Answer:
        """The head of the answer; of a refusal the whole. Raises NoAnswer."""
        await self.close()
        with self._lines.in_words():
            request = http.build_request(**self._lines.request_of(call, silence))
            self._response = response = await http.send(request, stream=True)
            content = await response.aread() if response.status_code >= 400 else b""
        self._parts = response.aiter_bytes()
        return Answer(response.status_code, response.headers, content)

    async def read(self) -> bytes:
        """The next bytes, none at the end. Raises NoAnswer."""
        with self._lines.in_words():
            return await anext(self._parts, b"")

    async def close(self) -> None:
        """Hangs up on what was not read."""
        if self._response is not None:
            await self._response.aclose()
