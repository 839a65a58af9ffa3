"""The doors without a dispatcher behind them: what was accepted stays in the outbox, as nobody claims it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import httpx2

from receiver.app import open_house
from receiver.database.pool import Connection, connect
from receiver.ids import SubmissionId, TenantId, new_id
from receiver.messages.lattice import State
from receiver.messages.told import Feed
from receiver.receipts.apply import Applied, apply
from receiver.settings import read_settings
from tests.receipts.tellings import assert_books_balance, told_of
from tests.support import PLATFORM_KEY, SECRET, Database, now

NOWHERE = "http://127.0.0.1:9"


@dataclass
class Doors:
    """The application, called without a socket, and a connection of the test's own."""

    api: httpx2.AsyncClient
    connection: Connection
    database: Database
    tenant: TenantId
    keys: dict[str, str]

    async def post(self, path: str, body: Any, **headers: str) -> httpx2.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.api.post(path, json=body, headers=named)

    async def get(self, identity: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.api.get(f"/v1/messages/{identity}")).json()
        return found

    async def rows(self, query: str, *values: object) -> Sequence[asyncpg.Record]:
        return await self.connection.fetch(query, *values)

    async def value(self, query: str, *values: object) -> Any:
        return await self.connection.fetchval(query, *values)

    async def counts(self) -> dict[str, int]:
        """The rows that a send writes."""
        tables = ("batch", "submission", "attempt", "outbox", "message", "message_state", "message_key", "change")
        return {table: await self.value(f"select count(*) from {table}") for table in tables}

    async def state(self, identity: str) -> State:
        return State(await self.value("select state from message_state where id = $1", UUID(identity)))

    async def tell(self, raw: bytes, submission: SubmissionId | None = None) -> Applied:
        """A receipt, as if it had come in by the tenant's own URL or by that of a submission."""
        return await apply(self.connection, new_id(), now(), Feed.PUSH, [told_of(raw, self.tenant, submission)])

    async def submission_of(self, identity: str) -> SubmissionId:
        return SubmissionId(await self.value("select submission_id from message where id = $1", UUID(identity)))

    def as_tenant(self, name: str, *scopes: str) -> dict[str, str]:
        """The header of a key that was asked for when the doors were opened."""
        return {"authorization": f"Bearer {self.keys[':'.join((name, *scopes))]}"}


@contextlib.asynccontextmanager
async def _opened(database: Database, keys: dict[str, str], environment: dict[str, str]) -> AsyncIterator[Doors]:
    variables = {
        "RECEIVER_DATABASE_URL": database.dsn,
        "RECEIVER_PUBLIC_URL": "http://127.0.0.1:8000",
        "RECEIVER_PLATFORM_URL": NOWHERE,
        "RECEIVER_PLATFORM_KEY": PLATFORM_KEY,
        "RECEIVER_CAMPAIGN_URL": NOWHERE,
        "RECEIVER_CAMPAIGN_TOKEN": "a campaign token for tests only",
        "RECEIVER_SECRET": SECRET,
        **environment,
    }
    settings = read_settings({name: value for name, value in variables.items() if value})
    async with open_house(settings, database.dsn, SECRET) as house:
        transport = httpx2.ASGITransport(app=house.app)
        headers = {"authorization": f"Bearer {keys['default']}"}
        async with httpx2.AsyncClient(transport=transport, base_url="http://receiver", headers=headers) as api:
            connection = await connect(database.dsn, "tests")
            try:
                yield Doors(api, connection, database, house.tenants.id_of("default"), keys)
                await assert_books_balance(connection)
            finally:
                await connection.close()


def with_doors(database: Database, work: Callable[[Doors], Awaitable[None]], *others: str, **environment: str) -> None:
    """Runs `work` against the doors; the books must balance afterwards. `others` name keys: `tenant:scope:scope`."""
    keys = {"default": database.key()}
    for other in others:
        tenant, *scopes = other.split(":")
        keys[other] = database.key(*scopes, tenant=tenant)

    async def main() -> None:
        async with _opened(database, keys, environment) as doors:
            await work(doors)

    asyncio.run(main())
