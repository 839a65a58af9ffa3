"""A connection that is kept from group to group: for as long as it is good, and nobody waits for it in vain."""

import asyncio
from collections.abc import Awaitable, Callable
from unittest.mock import Mock

import asyncpg
import pytest
import uvloop

from receiver.database.pool import Pool, open_pool
from receiver.ids import TenantId
from receiver.receipts import borrowing, intake
from receiver.receipts.borrowing import Kept, borrowed
from receiver.receipts.intake import Intake
from tests.receipts.spooling import Way
from tests.receipts.test_intake import arrived, delivered, reading
from tests.support import Database

PID = "select pg_backend_pid()"


def with_pool(database: Database, work: Callable[[Pool], Awaitable[None]]) -> None:
    """Runs `work` with a pool of one connection."""

    async def wrapped() -> None:
        pool = await open_pool(database.dsn, "tests", 1, writer=True)
        try:
            await asyncio.wait_for(work(pool), 20)
        finally:
            pool.terminate()

    asyncio.run(wrapped())


async def pid_of(kept: Kept, seconds: float = 5) -> int:
    async with kept.borrowed(seconds) as connection:
        return int(await connection.fetchval(PID))


def test_it_is_kept_until_it_is_given_back(database: Database) -> None:
    async def work(pool: Pool) -> None:
        kept = Kept(pool)
        first = await pid_of(kept)
        assert (await pid_of(kept), pool.get_idle_size()) == (first, 0)
        await kept.give_back()
        await kept.give_back()
        assert pool.get_idle_size() == 1
        assert await pid_of(kept) == first

    with_pool(database, work)


def test_the_pool_has_it_now_and_then(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(borrowing, "MOST_TIMES", 3)

    async def work(pool: Pool) -> None:
        kept = Kept(pool)
        released = Mock(wraps=pool.release)
        monkeypatch.setattr(pool, "release", released)
        for _ in range(7):
            await pid_of(kept)
        assert released.call_count == 2

    with_pool(database, work)


def test_after_an_error_it_is_another_one(database: Database) -> None:
    async def work(pool: Pool) -> None:
        kept = Kept(pool)
        first = await pid_of(kept)
        with pytest.raises(asyncpg.DivisionByZeroError):
            async with kept.borrowed(5) as connection:
                await connection.fetchval("select 1 / 0")
        assert await pid_of(kept) != first

    with_pool(database, work)


def test_one_that_died_while_nobody_used_it_is_replaced(database: Database) -> None:
    async def work(pool: Pool) -> None:
        kept = Kept(pool)
        first = await pid_of(kept)
        connection = kept._connection
        assert connection is not None
        other = await asyncpg.connect(database.dsn)
        await other.execute(f"select pg_terminate_backend({first})")
        await other.close()
        while not borrowing._is_gone(connection):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert await pid_of(kept) != first

    with_pool(database, work)


def test_who_waits_too_long_is_told_and_the_next_one_has_another(database: Database) -> None:
    async def work(pool: Pool) -> None:
        kept = Kept(pool)
        first = await pid_of(kept)
        with pytest.raises(TimeoutError):
            async with kept.borrowed(0.2) as connection:
                await connection.execute("select pg_sleep(10)")
        assert await pid_of(kept) != first
        await kept.give_back()
        async with borrowed(pool, 5):
            with pytest.raises(TimeoutError):
                await pid_of(kept, 0.2)

    with_pool(database, work)


@pytest.mark.parametrize("seconds", [0.01, 0.0113])
def test_who_waits_too_long_is_told_so_whatever_the_clock_of_the_loop_rounds_to(
    database: Database, seconds: float
) -> None:
    async def work() -> None:
        pool = await open_pool(database.dsn, "tests", 1, writer=True)
        kept = Kept(pool)
        for _ in range(120):
            with pytest.raises(TimeoutError):  # the time runs while it connects
                async with kept.borrowed(seconds) as connection:
                    await connection.execute("select pg_sleep(0.1)")
        pool.terminate()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work())


class Cutting(Way):
    """A way that is cut when a connection is given back, which the pool makes clean."""

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, held: list[bool], *, up: bool
    ) -> None:
        while chunk := await reader.read(65536):
            if up and b"RESET ALL" in chunk:
                break
            writer.write(chunk)
            await writer.drain()
        raise ConnectionResetError


def test_one_that_dies_while_it_is_given_back_costs_the_intake_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "IDLE_SECONDS", 0.1)
    tenant = database.tenant()

    async def work() -> None:
        async with Cutting(database).standing() as way:
            pool = await open_pool(way.dsn, "tests", 1, writer=True)
            taker = Intake(pool, {})
            running = asyncio.create_task(taker.run())
            for number in (1, 2):
                await take(taker, number, tenant)
                assert pool.get_size() == 1
                async with asyncio.timeout(10):
                    while pool.get_size():  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
            await take(taker, 3, tenant)
            await taker.close()
            await running
            pool.terminate()

    asyncio.run(work())


def test_an_intake_keeps_it_while_receipts_come_and_gives_it_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "IDLE_SECONDS", 0.2)
    tenant = database.tenant()

    async def work(pool: Pool) -> None:
        taker = Intake(pool, {})
        running = asyncio.create_task(taker.run())
        await take(taker, 1, tenant)
        assert pool.get_idle_size() == 0
        while not pool.get_idle_size():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await take(taker, 2, tenant)
        assert pool.get_idle_size() == 0
        await taker.close()
        await running
        assert pool.get_idle_size() == 1, "the end does not wait for a connection that nobody gives back"

    with_pool(database, work)


async def take(taker: Intake, number: int, tenant: TenantId) -> None:
    await taker.take(*arrived(reading(delivered(number), tenant)))
