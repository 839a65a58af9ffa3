"""A sender in the test's own process: its time is the test's, and it can be killed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from receiver.access.tenants import Tenants
from receiver.access.tokens import NotifyTokens
from receiver.database.pool import open_pool
from receiver.platform.client import PlatformClient
from receiver.sending.dispatcher import Dispatcher
from receiver.sending.outbox import Accepted, accept
from receiver.sending.request import Request, check
from receiver.sending.slots import most_under_way
from receiver.tenant_settings import Tenant
from tests.sending.platforms import Platform, sms
from tests.support import PLATFORM_KEY, SECRET, Database

NUMBER = "447700900001"
TIMEOUT = 5.0
LEASE = timedelta(seconds=TIMEOUT + 45)


class Sender:
    """A dispatcher with its own pool, at a time that the test chooses."""

    def __init__(
        self,
        pool: "asyncpg.Pool[asyncpg.Record]",
        client: PlatformClient,
        tenants: Tenants,
        at_once: int,
        timeout: float = TIMEOUT,
    ) -> None:
        self.at = datetime.now(UTC)
        self.pool, self.tenants = pool, tenants
        self.dispatcher = Dispatcher(
            pool,
            client,
            tenants,
            NotifyTokens(SECRET),
            "https://receiver.example",
            concurrency=at_once,
            timeout=timeout,
            keep_content=False,
            clock=lambda: self.at,
        )
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self.dispatcher.run())

    async def kill(self) -> None:
        """Ends it as a kill -9 would: its calls are cut, nothing is stored, nothing is told."""
        calls = [task for task in asyncio.all_tasks() if task.get_name().startswith("dispatch ")]
        for task in [*calls, *([self._task] if self._task else [])]:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def stop(self) -> None:
        await self.dispatcher.close()
        if self._task:
            await asyncio.wait_for(self._task, 10)


@contextlib.asynccontextmanager
async def sender(
    database: Database,
    platform: Platform,
    at_once: int = 4,
    others: Sequence[Tenant] = (),
    timeout: float = TIMEOUT,
    **settings: Any,
) -> AsyncIterator[Sender]:
    """One that sends for the tenant `default`, with `settings` of its own, and for the `others`."""
    pool = await open_pool(database.dsn, "tests", 4, writer=True)
    try:
        default = Tenant("default", platform_url=platform.url, platform_key=PLATFORM_KEY, **settings)
        tenants = Tenants([default, *others])
        async with pool.acquire() as connection:
            await tenants.load(connection)
        async with PlatformClient(timeout, most_under_way(at_once)) as client:
            yield Sender(pool, client, tenants, at_once, timeout)
    finally:
        pool.terminate()


async def hand_in(one: Sender, *numbers: str, tenant: str = "default", **more: Any) -> list[str]:
    """Accepts one SMS to each of these numbers, in one batch; the ids of the messages."""
    request = check(sms(*numbers, **more))
    assert isinstance(request, Request)
    return [str(identity) for identity, _ in (await take_in(one, request, tenant)).messages]


async def take_in(one: Sender, request: Request, tenant: str = "default", **choices: Any) -> Accepted:
    """Accepts a request that was checked."""
    async with one.pool.acquire() as connection:
        return await accept(connection, one.tenants.id_of(tenant), request, one.at, **choices)


async def value(one: Sender, query: str, *values: object) -> Any:
    async with one.pool.acquire() as connection:
        return await connection.fetchval(query, *values)


async def until(one: Sender, query: str, expected: object) -> None:
    async with asyncio.timeout(10):
        while await value(one, query) != expected:  # noqa: ASYNC110 (a row has no event)
            await asyncio.sleep(0.02)


async def called(platform: Platform, times: int) -> None:
    async with asyncio.timeout(10):
        while len(platform.calls) < times:  # noqa: ASYNC110 (it is called from another thread)
            await asyncio.sleep(0.01)


STATE = "select state from message_state"
UNCERTAIN, ACCEPTED, QUEUED = 5, 10, 0
