"""What the tests of the change log and of streams share: writers of changes, and readers of streams."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg

from receiver.database.pool import lazy_pool
from receiver.ids import TenantId, new_id
from receiver.queries import log
from receiver.queries.positions import Position
from tests.support import Database

WRITE = """
insert into change (at, message_id, version, tenant, origin, channel, old_state, new_state, new_conflict)
values ($1, $2, $3, $4, 2, 1, null, $5, false)
"""
BORN = """
insert into message (id, tenant, origin, channel, created_at, destination, destination_type, destination_key,
                     correlationid, callback_data)
values ($1, $2, 2, 1, now(), '447700900001', 'msisdn', substr(sha256('x'), 1, 16), $3, $4)
"""
STATE = """
insert into message_state (id, tenant, origin, channel, changed_at) values ($1, $2, 2, 1, now())
"""
NEXT = "update message_state set version = version + 1, changed_at = now() where id = $1 returning version"


async def read_pool(database: Database, size: int = 3) -> "asyncpg.Pool[asyncpg.Record]":
    """A pool as the receiver's readers have."""
    return await lazy_pool(database.dsn, "tests", size, writer=False)


async def be_born(connection: Any, tenant: TenantId, name: str | None = None) -> UUID:
    """A message without any change."""
    identity = new_id()
    await connection.execute(BORN, identity, tenant, name, None)
    await connection.execute(STATE, identity, tenant)
    return identity


async def change(connection: Any, identity: UUID, tenant: TenantId, state: int = 10) -> int:
    """One more change, written as the receiver's functions do: under the lock of the message's row."""
    version: int = await connection.fetchval(NEXT, identity)
    await connection.execute(WRITE, datetime.now(UTC), identity, version, tenant, state)
    return version


class Reader:
    """Reads window after window, in pages."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", most: int = 1000) -> None:
        self.pool, self.most = pool, most
        self.position: Position | None = None
        self.seen: list[tuple[UUID, int]] = []

    async def begin(self) -> None:
        async with self.pool.acquire() as connection:
            self.position = Position((await log.look(connection)).cut)

    async def step(self) -> bool:
        """One page; whether there is more at once."""
        assert self.position is not None
        at = self.position
        async with self.pool.acquire() as connection:
            read = await log.window(
                connection, at.before or at.until, at.until if at.before else None, at.seq, self.most, []
            )
        self.seen += [(row["message_id"], row["version"]) for row in read.rows]
        if read.more:
            self.position = Position(read.cut, at.before or at.until, read.rows[-1]["seq"])
        else:
            self.position = Position(read.cut)
        return read.more

    async def all_there_is(self) -> None:
        """Up to the present: to the end of the window that it is in, and all of the next one."""
        assert self.position is not None
        while self.position.before is not None:
            await self.step()
        while await self.step():
            pass


async def catch_up(
    pool: "asyncpg.Pool[asyncpg.Record]", begin: Position, until: Position, tenant: TenantId, most: int
) -> list[tuple[UUID, int]]:
    """What is between two positions, as a stream that resumes reads it."""
    seen: list[tuple[UUID, int]] = []

    async def through(before: Any, to: Any, after: int | None) -> None:
        more = True
        while more:
            async with pool.acquire() as connection:
                if after is None:
                    after = await log.before_first(connection, before)
                read, after = await log.part(connection, before, to, after, tenant, most)
            seen.extend((row["message_id"], row["version"]) for row in read.rows)
            more = read.more

    if begin.before is not None:
        await through(begin.before, begin.until, begin.seq)
    await through(begin.until, until.until, None)
    return seen


def in_order(seen: Sequence[tuple[object, int]]) -> bool:
    """Whether each message's versions come one after the other, none missing and none twice."""
    last: dict[object, int] = {}
    for identity, version in seen:
        if version != last.get(identity, 0) + 1:
            return False
        last[identity] = version
    return True
