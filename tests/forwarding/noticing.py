"""Messages that fail, a noticer to look for them, and what it queues."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from receiver import metrics
from receiver.access.tenants import Tenants
from receiver.database.pool import connect, open_pool
from receiver.failure_settings import FailureNotices
from receiver.forwarding.noticer import Noticer
from receiver.ids import TenantId, new_id
from receiver.messages.told import Feed
from receiver.targets import parse_allowed
from receiver.tenant_settings import Tenant
from tests.forwarding.clients import NUMBER, Scene
from tests.receipts.tellings import body
from tests.support import Database, now

SECRET = "signs the notices of tests"


@dataclass
class Clock:
    """A clock that a test moves."""

    at: datetime = field(default_factory=now)

    def __call__(self) -> datetime:
        return self.at

    def move(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


def failed(
    identity: UUID | str, code: str = "7207", status: str = "Undelivered", number: str = NUMBER, transid: str = ""
) -> bytes:
    """A receipt that says that a message will not arrive."""
    info = {"deliveryStatus": status, "deliveryChannel": "SMS", "destination": number, "code": code}
    return body(info, transid or f"t-{identity}", str(identity))


@dataclass
class Stage(Scene):
    """A scene whose tenants want to hear of failures."""

    database: Database

    def noticer(self, **more: Any) -> Noticer:
        return Noticer(self.pool, self.tenants, **more)

    async def begun(self, **more: Any) -> Noticer:
        """A noticer that has begun: what happens from now on is told."""
        noticer = self.noticer(**more)
        await all_of(noticer)
        return noticer

    async def fail(self, tenant: TenantId | None = None, feed: Feed = Feed.PUSH, **more: Any) -> UUID:
        """A message of ours fails."""
        mine = self.tenant
        self.tenant = tenant or mine
        try:
            message, _ = await self.issue(None)
            await self.tell(failed(message, **more), feed=feed)
        finally:
            self.tenant = mine
        return message

    async def notices(self) -> list[Any]:
        """The bodies that wait."""
        rows = await self.connection.fetch("select body from forward where body is not null order by id")
        return [json.loads(row["body"]) for row in rows]

    async def ids(self) -> list[str]:
        """Of which messages notices wait."""
        return [notice["id"] for notice in await self.notices()]

    async def log(self, number: int, state: int = 46, feed: Feed | None = Feed.PUSH) -> None:
        """So many changes into a state in one transaction, as a bulk writer would make them."""
        await self.connection.execute(
            "insert into change (at, message_id, version, tenant, origin, channel, feed, country, old_state, new_state,"
            " new_class) select now(), gen_random_uuid(), 2, $2, 1, 1, $4, 'GB', 20, $3, 1 from generate_series(1, $1)",
            number,
            self.tenant,
            state,
            feed,
        )


async def all_of(noticer: Noticer) -> None:
    """Steps until there is no more to read."""
    while await noticer.once():
        pass


def stage(
    database: Database,
    work: Callable[[Stage], Awaitable[None]],
    *told: FailureNotices | None,
) -> None:
    """Runs `work` on a stage: the tenants are `default`, `second`, `third`, as many as `told`."""

    async def wrapped() -> None:
        allow = parse_allowed("127.0.0.1")
        names = ("default", "second", "third")
        configured = [Tenant(name, forward_allow=allow, failures=one) for name, one in zip(names, told, strict=False)]
        tenants = Tenants(configured)
        pool = await open_pool(database.dsn, "notices", 4, writer=True)
        connection = await connect(database.dsn, "tests")
        try:
            await tenants.load(connection)
            await work(Stage(pool, connection, tenants, tenants.id_of("default"), database))
        finally:
            await connection.close()
            await pool.close()

    asyncio.run(wrapped())


@contextlib.asynccontextmanager
async def at_work(noticer: Noticer) -> AsyncIterator[None]:
    """The noticer at work; closed at the end."""
    task = asyncio.create_task(noticer.run())
    try:
        yield
    finally:
        await noticer.close()
        await task


def noticed(result: str, tenant: str = "default") -> float:
    """How many tries to tell of failures ended so, in this process."""
    labels = {"result": result, "tenant": tenant}
    return metrics.REGISTRY.get_sample_value("receiver_failure_notices_total", labels) or 0.0


def observed_name() -> str:
    """A correlationid of somebody else's."""
    return f"theirs-{new_id()}"
