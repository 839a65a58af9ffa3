"""Births, answers and rotations that meet in flight: each interleaving by itself, on two connections."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import asyncpg
import pytest

from receiver.database.partitions import rotate_keys
from receiver.database.pool import Connection, connect
from receiver.ids import MessageId, TenantId, leg_digest
from receiver.messages.lattice import State
from receiver.messages.store import connect as file_under
from receiver.messages.told import transid_digest
from receiver.receipts.apply import Applied
from tests.receipts.tellings import assert_books_balance, body
from tests.receipts.test_joining import ONE, delivered, issue, state, tell
from tests.support import Database

WAITERS = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


def in_flight(database: Database, work: Callable[[Connection, Connection], Awaitable[None]]) -> None:
    """Runs `work` on two connections; the books must balance afterwards, and no deadlock have happened."""

    async def wrapped() -> None:
        one, two = await connect(database.dsn, "tests"), await connect(database.dsn, "tests")
        await work(one, two)
        await assert_books_balance(one)
        await one.close()
        await two.close()

    asyncio.run(wrapped())


async def until_it_waits(connection: Connection) -> None:
    """Returns when another connection waits for a lock."""
    for _ in range(2000):
        if await connection.fetchval(WAITERS):
            return
        await asyncio.sleep(0.005)
    raise AssertionError("nobody waits")


async def answer(connection: Connection, tenant: TenantId, message: MessageId) -> None:
    """Files a message of ours under the transid of the answer, in the transaction that is open."""
    async with connection.transaction():
        await file_under(connection, (await connection.fetchval("select now()")), tenant, [(T, LEG, message)])


T, LEG = transid_digest("t-1"), leg_digest("", ONE)


@pytest.mark.parametrize("subtid", ["", "5"], ids=["the same key", "the key of a flow's node"])
def test_an_answer_waits_for_a_birth_in_flight_and_makes_it_ours(database: Database, subtid: str) -> None:
    tenant = database.tenant()

    async def work(one: Connection, two: Connection) -> None:
        (message,), _ = await issue(one, tenant, ONE)
        birth = one.transaction()
        await birth.start()
        await tell(one, tenant, body(delivered(ONE, subtid=subtid), "t-1"))
        answering = asyncio.create_task(answer(two, tenant, message))
        await until_it_waits(one)
        await birth.commit()
        await answering
        assert await state(one, message) is State.DELIVERED
        assert await one.fetchval("select count(*) from message_state where origin = 2 and merged_into is null") == 0

    in_flight(database, work)


@pytest.mark.parametrize("subtid", ["", "5"], ids=["the same key", "the key of a flow's node"])
def test_a_birth_waits_for_an_answer_in_flight_and_comes_to_our_message(database: Database, subtid: str) -> None:
    tenant = database.tenant()

    async def work(one: Connection, two: Connection) -> None:
        (message,), _ = await issue(one, tenant, ONE)
        filing = one.transaction()
        await filing.start()
        await answer(one, tenant, message)
        telling: asyncio.Task[Applied] = asyncio.create_task(
            tell(two, tenant, body(delivered(ONE, subtid=subtid), "t-1"))
        )
        await until_it_waits(one)
        await filing.commit()
        assert (await telling).results == ["applied"]
        assert await state(one, message) is State.DELIVERED
        assert await one.fetchval("select count(*) from message where origin = 2") == 0

    in_flight(database, work)


def test_a_rotation_waits_for_a_birth_in_flight_and_later_births_find_its_key(database: Database) -> None:
    tenant = database.tenant()

    async def work(one: Connection, two: Connection) -> None:
        birth = one.transaction()
        await birth.start()
        await tell(one, tenant, body(delivered(ONE), "t-1"))
        async with asyncio.timeout(10):
            rotating = asyncio.create_task(rotate(two))
            await until_it_waits(one)
            await birth.commit()
            assert await rotating == 2
        await tell(two, tenant, body(delivered(ONE, deliveryStatus="Read"), "t-1"))
        assert await one.fetchval("select count(*) from message") == 1

    in_flight(database, work)


async def rotate(connection: Connection) -> int | None:
    """Rotates with all the patience that the test has, not the 200 ms of a busy day."""
    while True:
        try:
            return await rotate_keys(connection, timedelta(0))
        except asyncpg.LockNotAvailableError:
            continue
