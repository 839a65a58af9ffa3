"""Hearing of changes: nobody who listens misses one, whoever makes it, and while nobody listens nothing is asked."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from receiver.database.pool import connect
from receiver.ids import TenantId, new_id
from receiver.queries.watch import OPENING_SECONDS, Watch
from tests.journey.trouble.own_postgres import own_postgres
from tests.queries.changes import be_born, change, read_pool
from tests.support import Database, run


@contextlib.asynccontextmanager
async def watching(database: Database, **options: Any) -> AsyncIterator[tuple[Watch, Any]]:
    """A watch that runs, and a connection that writes."""
    pool = await read_pool(database)
    writer = await connect(database.dsn, "writer")
    watch = Watch(pool, **options)
    running = asyncio.create_task(watch.run())
    try:
        yield watch, writer
    finally:
        await watch.close()
        await asyncio.wait_for(running, 5)
        await writer.close()
        await pool.close()


def test_who_listens_hears_of_a_change_made_elsewhere(database: Database) -> None:
    tenant = database.tenant()

    async def scenario() -> None:
        async with watching(database) as (watch, writer):
            message, other = await be_born(writer, tenant), await be_born(writer, tenant)
            async with watch.listen(message) as listener, watch.listen(message) as second:
                await change(writer, other, tenant)
                assert not await listener.changed(0.3)
                await change(writer, message, tenant)
                began = asyncio.get_running_loop().time()
                assert await listener.changed(10)
                assert asyncio.get_running_loop().time() - began < 2
                assert await second.changed(10)
                assert not await listener.changed(0.3), "it has been told"
                await change(writer, message, tenant)
                await change(writer, message, tenant)
                assert await listener.changed(10)

    run(scenario())


def test_what_is_committed_after_the_first_has_begun_to_listen_is_never_missed(database: Database) -> None:
    tenant = database.tenant()

    async def scenario() -> None:
        async with watching(database) as (watch, writer):
            message = await be_born(writer, tenant)
            for _ in range(10):  # each time from idle
                async with watch.listen(message) as listener:
                    await change(writer, message, tenant)
                    assert await listener.changed(10)
                while watch.position is not None:  # noqa: ASYNC110 (it ends by itself)
                    await asyncio.sleep(0.01)

    run(scenario())


def test_while_nobody_listens_it_asks_nothing(database: Database) -> None:
    tenant = database.tenant()

    async def scenario() -> None:
        pool = await read_pool(database, 1)
        watch = Watch(pool)
        running = asyncio.create_task(watch.run())
        await asyncio.sleep(0.25)
        assert pool.get_size() == 0, "not even a connection is made"
        writer = await connect(database.dsn, "writer")
        message = await be_born(writer, tenant)
        async with watch.listen(message):
            assert pool.get_size() == 1
            assert pool.get_idle_size() >= 0
        while watch.position is not None:  # noqa: ASYNC110 (it ends by itself)
            await asyncio.sleep(0.01)
        assert watch.lag() == 0
        asked = "select backend_start, query_start from pg_stat_activity where application_name = 'receiver tests'"
        before = await writer.fetch(asked)
        await asyncio.sleep(0.3)
        assert await writer.fetch(asked) == before
        await watch.close()
        await running
        await writer.close()
        await pool.close()

    run(scenario())


def test_five_thousand_listen_without_a_connection_and_each_hears_of_its_own(database: Database) -> None:
    tenant = database.tenant()

    async def scenario() -> None:
        async with watching(database) as (watch, writer):
            ids = [new_id() for _ in range(4_990)] + [await be_born(writer, tenant) for _ in range(10)]
            heard: list[Any] = []

            async def wait_for(identity: Any) -> None:
                async with watch.listen(identity) as listener:
                    listening.release()
                    if await listener.changed(30):
                        heard.append(identity)

            listening = asyncio.Semaphore(0)
            tasks = [asyncio.create_task(wait_for(identity)) for identity in ids]
            for _ in tasks:
                await listening.acquire()
            count = await writer.fetchval(
                "select count(*) from pg_stat_activity where application_name = 'receiver tests'"
            )
            assert count == 1
            began = asyncio.get_running_loop().time()
            for identity in ids[-10:]:
                await change(writer, identity, tenant)
            await asyncio.wait(tasks[-10:], timeout=10)
            assert asyncio.get_running_loop().time() - began < 3
            assert sorted(heard) == sorted(ids[-10:])
            await watch.close()
            await asyncio.wait_for(asyncio.gather(*tasks), 5)
            assert len(heard) == 10, "the end is no change"

    run(scenario())


def test_who_waits_when_the_process_ends_is_told_at_once(database: Database) -> None:
    async def scenario() -> None:
        async with watching(database) as (watch, _):
            async with watch.listen(new_id()) as listener:
                waiting = asyncio.create_task(listener.changed(60))
                await asyncio.sleep(0.05)
                await watch.close()
                assert await asyncio.wait_for(waiting, 1) is False
                assert await asyncio.wait_for(listener.changed(60), 1) is False
            async with watch.listen(new_id()) as late:
                assert await asyncio.wait_for(late.changed(60), 1) is False

    run(scenario())


def test_a_large_window_is_told_in_pages_without_a_gap(database: Database) -> None:
    tenant = database.tenant()

    async def scenario() -> None:
        async with watching(database, most=3) as (watch, writer):
            messages = [await be_born(writer, tenant) for _ in range(20)]
            async with contextlib.AsyncExitStack() as stack:
                listeners = [await stack.enter_async_context(watch.listen(message)) for message in messages]
                async with writer.transaction():
                    for message in messages:
                        await change(writer, message, tenant)
                assert all(await asyncio.gather(*(listener.changed(10) for listener in listeners)))

    run(scenario())


def test_a_read_that_asks_where_the_log_stands_has_seen_all_that_was_committed_before(database: Database) -> None:
    tenant = database.tenant()

    async def scenario() -> None:
        async with watching(database) as (watch, writer):
            message = await be_born(writer, tenant)
            async with watch.listen(message):
                for _ in range(5):
                    xid = await _change_with_xid(writer, message, tenant)
                    position = await watch.fresh()
                    assert position.before is None
                    assert position.until.xmax > xid
                    assert xid not in position.until.in_flight

    run(scenario())


async def _change_with_xid(writer: Any, message: Any, tenant: TenantId) -> int:
    async with writer.transaction():
        await change(writer, message, tenant)
        return int(await writer.fetchval("select pg_current_xact_id()::text"))


def test_a_database_that_was_set_back_wakes_all(database: Database) -> None:
    """As after a failover to a server that did not have the last transactions: nobody knows what has changed."""
    tenant = database.tenant()

    async def scenario() -> None:
        async with watching(database) as (watch, writer):
            message = await be_born(writer, tenant)
            async with watch.listen(message) as listener:
                position = await watch.fresh()
                until = position.until._replace(xmax=position.until.xmax + 1_000_000)
                watch._position = type(position)(until)
                assert await listener.changed(10)
                await change(writer, message, tenant)
                await watch.fresh()
                await change(writer, message, tenant)
                assert await listener.changed(10), "and it goes on from there"

    run(scenario())


def test_a_server_that_takes_over_wakes_all_though_its_numbers_go_on(tmp_path: Path) -> None:
    """Nobody knows whether it had the last transactions; if not, it gives out their numbers to others."""
    with own_postgres(tmp_path / "data") as postgres:
        database = Database(postgres.dsn, "receiver")
        tenant = database.tenant()

        async def scenario() -> None:
            pool = await read_pool(database)
            watch = Watch(pool)
            running = asyncio.create_task(watch.run())
            writer = await connect(database.dsn, "writer")
            message = await be_born(writer, tenant)
            await writer.close()
            async with watch.listen(message) as listener:
                known = watch.cluster
                postgres.stop()
                [settings] = (tmp_path / "data").rglob("postgresql.auto.conf")
                settings.with_name("standby.signal").touch()
                await asyncio.to_thread(postgres.start)
                again = await connect(database.dsn, "writer")
                assert await again.fetchval("select pg_promote()")
                assert await listener.changed(15)
                assert watch.cluster != known
                await change(again, message, tenant)
                assert await listener.changed(15), "and it goes on from there"
                await again.close()
            await watch.close()
            await asyncio.wait_for(running, 5)
            pool.terminate()

        run(scenario())


def test_while_postgres_is_away_they_wait_and_afterwards_nothing_was_missed(tmp_path: Path) -> None:
    with own_postgres(tmp_path / "data") as postgres:
        database = Database(postgres.dsn, "receiver")
        tenant = database.tenant()

        async def scenario() -> None:
            pool = await read_pool(database)
            watch = Watch(pool)
            running = asyncio.create_task(watch.run())
            writer = await connect(database.dsn, "writer")
            message = await be_born(writer, tenant)
            async with watch.listen(message) as listener:
                await change(writer, message, tenant)
                assert await listener.changed(10)
                postgres.kill()
                assert not await listener.changed(0.5)
                await asyncio.to_thread(postgres.start)
                again = await connect(database.dsn, "writer")
                await change(again, message, tenant)  # perhaps before the watch has found it again
                assert await listener.changed(15)
                await again.close()
            await watch.close()
            await asyncio.wait_for(running, 5)
            with contextlib.suppress(asyncpg.PostgresError, OSError, asyncpg.InterfaceError):
                await writer.close()
            pool.terminate()

        run(scenario())


def test_who_begins_to_listen_while_postgres_is_away_is_told_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        pool = await read_pool(Database(f"postgresql://nobody@/receiver?host={tmp_path}", "receiver"))
        watch = Watch(pool)
        running = asyncio.create_task(watch.run())
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            async with watch.listen(new_id()):
                pass
        assert asyncio.get_running_loop().time() - began < OPENING_SECONDS + 2
        await watch.close()
        await asyncio.wait_for(running, 5)
        await pool.close()

    run(scenario())


def test_who_asks_where_the_log_stands_while_it_closes_is_told_at_once(database: Database) -> None:
    """The watch does not run: nobody reads any more, as when the process ends between the question and the read."""

    async def scenario() -> None:
        pool = await read_pool(database)
        watch = Watch(pool)
        asking = asyncio.create_task(watch.fresh())
        await asyncio.sleep(0)
        began = asyncio.get_running_loop().time()
        await watch.close()
        with pytest.raises(TimeoutError, match="the process ends"):
            await asking
        assert asyncio.get_running_loop().time() - began < OPENING_SECONDS / 2
        await pool.close()

    run(scenario())
