"""Whether this process can make a receipt durable, and what keeps the door open while partitions are made."""

import asyncio
import gc
import socket
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from receiver.aside import begin_aside
from receiver.database.partitions import ensure_weeks, lock_table_warning, rotate_keys
from receiver.database.pool import CLOSE_SECONDS, PROBE_SECONDS, Pools, can_write, connect, is_away, open_pool
from tests.support import Database


def test_a_read_only_database_is_not_ready(database: Database) -> None:
    database.fetch(f"alter database {database.name} set default_transaction_read_only = on")

    async def work() -> bool:
        pool = await open_pool(database.dsn, "tests", 1, writer=True)
        ready = await can_write(pool)
        await pool.close()
        return ready

    assert asyncio.run(work()) is False
    assert database.value("select 1") == 1


def test_what_is_committed_is_on_the_disk_whatever_is_set_for_our_database(database: Database) -> None:
    database.fetch(f"alter database {database.name} set synchronous_commit = off")

    async def work() -> tuple[str, str]:
        writer = await open_pool(database.dsn, "tests", 1, writer=True)
        reader = await open_pool(database.dsn, "tests", 1, writer=False)
        said = await writer.fetchval("show synchronous_commit"), await reader.fetchval("show synchronous_commit")
        await writer.close()
        await reader.close()
        return said

    assert asyncio.run(work()) == ("on", "off"), "and readers are left as they are"


def test_a_server_that_takes_connections_and_says_nothing_is_not_ready_and_holds_nobody_up() -> None:
    async def work() -> tuple[bool, float, float]:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            loop = asyncio.get_running_loop()
            pools = Pools(f"postgresql://receiver@127.0.0.1:{silent.getsockname()[1]}/receiver")
            began = loop.time()
            ready = await can_write(await pools.add("tests", 1, writer=True))
            asked = loop.time()
            await pools.close()
            return ready, asked - began, loop.time() - asked

    ready, asking, closing = asyncio.run(work())
    assert not ready
    assert asking < PROBE_SECONDS + 1
    assert closing < CLOSE_SECONDS + 1


def test_what_nobody_waits_for_any_more_is_not_told_as_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    """A process that ends cuts off who asks; what the connection says to that afterwards is no news."""

    async def broken() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise asyncpg.ConnectionDoesNotExistError from None

    async def asker() -> None:
        asking = begin_aside(broken(), "asking")
        try:
            await asyncio.wait({asking})
        finally:
            asking.cancel()

    async def work() -> None:
        task = asyncio.create_task(asker())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(work())
    gc.collect()
    assert not caplog.records, "asyncio has nothing to say"


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (ConnectionRefusedError(), True),
        (TimeoutError(), True),
        (socket.gaierror(), True),
        (asyncpg.CannotConnectNowError(), True),
        (asyncpg.AdminShutdownError(), True),
        (asyncpg.TooManyConnectionsError(), True),
        (asyncpg.ReadOnlySQLTransactionError(), True),
        (asyncpg.InterfaceError("the connection is closed"), True),
        (asyncpg.InvalidPasswordError(), False),
        (asyncpg.InvalidCatalogNameError(), False),
        (asyncpg.InsufficientPrivilegeError(), False),
        (asyncpg.UndefinedTableError(), False),
        (asyncpg.exceptions.ClientConfigurationError("no such address"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_what_is_waited_for_and_what_ends_a_start(error: Exception, away: bool) -> None:
    assert is_away(error) is away


def test_an_open_reader_neither_stops_new_weeks_nor_new_generations(database: Database) -> None:
    async def work() -> None:
        reader, keeper = await connect(database.dsn, "reader"), await connect(database.dsn, "keeper")
        async with reader.transaction():
            for table in ("message", "receipt", "message_key", "change"):
                await reader.fetchval(f"select count(*) from {table}")
            weeks = await ensure_weeks(keeper, datetime.now(UTC) + timedelta(weeks=2))
            assert len(weeks) == 2
            assert await rotate_keys(keeper, timedelta(0)) == 2
        await reader.close()
        await keeper.close()

    asyncio.run(work())


def test_whoever_holds_a_table_for_long_is_not_waited_for(database: Database) -> None:
    async def work() -> None:
        holder, keeper = await connect(database.dsn, "holder"), await connect(database.dsn, "keeper")
        async with holder.transaction():
            await holder.execute("lock table receipt in share row exclusive mode")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await ensure_weeks(keeper, datetime.now(UTC) + timedelta(weeks=2))
        assert len(await ensure_weeks(keeper, datetime.now(UTC) + timedelta(weeks=2))) == 2, "afterwards it works"
        await holder.close()
        await keeper.close()

    asyncio.run(work())


def test_a_small_lock_table_is_told(database: Database) -> None:
    async def work() -> str | None:
        connection = await connect(database.dsn, "tests")
        warning = await lock_table_warning(connection)
        await connection.close()
        return warning

    assert asyncio.run(work()) is None, "the embedded Postgres has enough"
