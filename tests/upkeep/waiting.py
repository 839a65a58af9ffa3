"""Messages of any age, told of by any feed, and the worker that waits for them, by a clock that tests move."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from receiver.database.partitions import ensure_weeks
from receiver.database.pool import Connection, Pool, connect, open_pool
from receiver.ids import MessageId, SubmissionId, TenantId, destination_digest, first_id_at, new_id
from receiver.messages.lattice import Channel, Fact
from receiver.messages.store import apply_known
from receiver.messages.told import Feed, Told, told_by_us
from receiver.upkeep.awaiter import Awaiter
from receiver.waits import DEFAULTS, Waits
from tests.support import Database

NUMBER = "447700900123"
_numbers = itertools.count(1)

BORN = """
with m as (
  insert into message (id, tenant, origin, channel, created_at, batch_id, submission_id, destination, destination_type,
                       destination_key)
  values ($1, $2, 1, $3, $4, $1, $1, $5, 'msisdn', $6))
insert into message_state (id, tenant, origin, channel, country, changed_at) values ($1, $2, 1, $3, $7, $4)
"""


def id_at(moment: datetime) -> MessageId:
    """An id that was minted at `moment`."""
    return MessageId(UUID(int=first_id_at(moment).int + new_id().int % (1 << 76) | 7 << 76 | 2 << 62))


@dataclass
class World:
    """A database with one tenant, and two connections: one that is noticed by the trigger for late births, one not."""

    database: Database
    tenant: TenantId
    pool: Pool
    connection: Connection
    unnoticed: Connection
    at: datetime
    """What the worker's clock shows."""

    def awaiter(self, **channels: Waits) -> Awaiter:
        """A worker, by this world's clock."""
        return Awaiter(self.pool, {self.tenant: "default"}, {**DEFAULTS, **channels}, now=lambda: self.at)

    async def born(
        self, at: datetime, channel: Channel = Channel.SMS, *, noticed: bool = False, country: str | None = "GB"
    ) -> MessageId:
        """A queued message that was handed in at `at`; committed in time, or so late that it is `noticed`."""
        identity = id_at(at)
        connection = self.connection if noticed else self.unnoticed
        values = (identity, self.tenant, channel, at, NUMBER, destination_digest(NUMBER), country)
        await connection.execute(BORN, *values)
        return identity

    async def told(
        self, message: MessageId, fact: Fact, at: datetime, feed: Feed = Feed.PUSH, *, transid: str | None = None
    ) -> None:
        """Somebody tells a fact of a message, and it is heard at `at`."""
        channel = Channel(await self.value("select channel from message where id = $1", message))
        async with self.connection.transaction():
            await apply_known(
                self.connection, at, feed, [message], [self._fact(message, fact, at, channel, transid=transid)]
            )

    async def many_sent(
        self, times: Sequence[datetime], channel: Channel = Channel.SMS, *, country: str | None = "GB"
    ) -> list[MessageId]:
        """As many messages, taken by the platform as soon as they were handed in."""
        ids = [id_at(at) for at in times]
        key = destination_digest(NUMBER)
        await self.unnoticed.executemany(
            BORN, [(one, self.tenant, channel, at, NUMBER, key, country) for one, at in zip(ids, times, strict=True)]
        )
        await self.many_told(ids, times, Fact.ACCEPTED, Feed.ANSWER, channel)
        return ids

    async def many_told(
        self,
        messages: Sequence[MessageId],
        times: Sequence[datetime],
        fact: Fact,
        feed: Feed = Feed.PUSH,
        channel: Channel = Channel.SMS,
    ) -> None:
        """Somebody tells the same fact of each of these messages, each at its time."""
        told = [self._fact(one, fact, at, channel) for one, at in zip(messages, times, strict=True)]
        async with self.connection.transaction():
            await apply_known(self.connection, max(times), feed, messages, told)

    def _fact(
        self, message: MessageId, fact: Fact, at: datetime, channel: Channel, *, transid: str | None = None
    ) -> Told:
        return told_by_us(
            tenant=self.tenant,
            submission_id=SubmissionId(message),
            message_id=message,
            channel=channel,
            destination=NUMBER,
            fact=fact,
            fingerprint=next(_numbers).to_bytes(16, "big"),
            at=at,
            status=str(fact.name),
            code=None,
            code_class=0,
            description=None,
            transid=transid,
            raw=b"{}",
        )

    async def sent(self, at: datetime, channel: Channel = Channel.SMS, *, country: str | None = "GB") -> MessageId:
        """A message that the platform took as soon as it was handed in."""
        message = await self.born(at, channel, country=country)
        await self.told(message, Fact.ACCEPTED, at, Feed.ANSWER, transid=f"T-{message}")
        return message

    async def value(self, query: str, *values: object) -> Any:
        return await self.connection.fetchval(query, *values)

    async def state(self, message: MessageId) -> int:
        return int(await self.value("select state from message_state where id = $1", message))

    async def awaited(self, message: MessageId) -> dict[str, Any] | None:
        """The row by which it is waited for."""
        row = await self.connection.fetchrow("select * from awaited where message_id = $1", message)
        return dict(row) if row else None

    async def counted(self) -> tuple[int, int]:
        """How many were pushed, and how many were not."""
        row = await self.connection.fetchrow("select sum(pushed)::int as p, sum(missed)::int as m from push_count")
        assert row is not None
        return row["p"] or 0, row["m"] or 0


async def settle(worker: Awaiter) -> None:
    """Rounds until there is nothing more to do now."""
    for _ in range(10_000):
        if not await worker.once():
            return
    raise AssertionError("it never ends")


@asynccontextmanager
async def world(database: Database, at: datetime | None = None) -> AsyncIterator[World]:
    pool = await open_pool(database.dsn, "awaiter", 4, writer=True)
    connection = await connect(database.dsn, "tests")
    unnoticed = await connect(database.dsn, "tests", session_replication_role="replica")
    tenant = await asyncio.to_thread(database.tenant)
    await ensure_weeks(connection, datetime.now(UTC) + 5 * WEEK)  # the clock goes there
    try:
        yield World(database, tenant, pool, connection, unnoticed, at or datetime.now(UTC))
    finally:
        await unnoticed.close()
        await connection.close()
        await pool.close()


def in_world(database: Database, work: Callable[[World], Awaitable[None]], at: datetime | None = None) -> None:
    """Runs `work` in a world whose clock shows `at`."""

    async def wrapped() -> None:
        async with world(database, at) as one:
            await work(one)

    asyncio.run(wrapped())


WEEK = timedelta(weeks=1)
HOUR, DAY, MINUTE, SECOND = timedelta(hours=1), timedelta(days=1), timedelta(minutes=1), timedelta(seconds=1)
