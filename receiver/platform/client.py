"""Calls to the platform. No database connection is held while it thinks; nothing here is tried twice."""

import asyncio
import logging
from types import TracebackType
from typing import Self

import httpx2

from receiver import __version__
from receiver.platform.wire import MESSAGING_PATH, Answer, Outcome, messaging_answer

log = logging.getLogger("receiver.platform")

LARGEST_ANSWER = 1024 * 1024
CONNECT_SECONDS = 10.0


class PlatformClient:
    """One pool of connections to all platforms of the tenants."""

    def __init__(self, timeout: float, connections: int, connect: float = CONNECT_SECONDS) -> None:
        # A timeout counts from byte to byte; this bounds a whole call, so that it ends before its lease does.
        self._longest = timeout + connect
        self._http = httpx2.AsyncClient(
            timeout=httpx2.Timeout(timeout, connect=min(timeout, connect)),
            limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
            follow_redirects=False,
            headers={"user-agent": f"receiver/{__version__}"},
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def send(self, base_url: str, key: str, body: bytes) -> Answer:
        """Hands one Messaging v1 call to the platform and says what came of it. Does not raise for the network.

        A connection that never came about has sent nothing; whatever breaks after that may have been sent.
        """
        headers = {"key": key, "content-type": "application/json"}
        try:
            async with asyncio.timeout(self._longest):
                status, answer = await self._post(base_url + MESSAGING_PATH, body, headers)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            return Answer(Outcome.NOT_SENT, description=f"no connection to the platform ({type(error).__name__})")
        except (httpx2.UnsupportedProtocol, httpx2.InvalidURL, httpx2.LocalProtocolError) as error:
            return Answer(Outcome.NOT_SENT, description=f"the request can't be made ({type(error).__name__})")
        except (httpx2.HTTPError, TimeoutError) as error:
            return Answer(Outcome.UNCERTAIN, description=f"the platform did not answer ({type(error).__name__})")
        return messaging_answer(status, answer)

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        """Status and body of the answer; what is over the limit is not read."""
        async with self._http.stream("POST", url, content=body, headers=headers) as response:
            answer = bytearray()
            async for part in response.aiter_bytes():
                answer += part
                if len(answer) > LARGEST_ANSWER:
                    break
            return response.status_code, bytes(answer)
