"""A spool that grows while it drains: what comes in behind a unit that is under way, or of unknown end, is kept."""

import asyncio
import contextlib
import sqlite3
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

import pytest

from receiver.access.tenants import Tenants
from receiver.database.pool import Pool, connect, lazy_pool
from receiver.ids import new_id
from receiver.messages.told import Feed
from receiver.receipts.arrival import Arrival
from receiver.receipts.drain import drain_unit
from receiver.receipts.group import store
from receiver.receipts.receipt import Source, read
from receiver.receipts.spool import Spool
from receiver.tenant_settings import Tenant
from tests.receipts.spooling import COMMIT, INSTALLATION, MOST, Way, arrival, filled, running
from tests.receipts.tellings import assert_books_balance
from tests.support import SECRET, Database, environment_of, receiver_command

pytestmark = pytest.mark.usefixtures("tenant")


@pytest.fixture
def tenant(database: Database) -> None:
    database.tenant()


def arrivals(first: int, end: int) -> list[Arrival]:
    return [arrival(number) for number in range(first, end)]


class Hand:
    """A drain by hand, step by step."""

    def __init__(self, pool: Pool, tenants: Tenants, spool: Spool) -> None:
        self.pool, self.tenants, self.spool = pool, tenants, spool

    async def drain(self) -> tuple[int, int]:
        """Drains a unit: its bodies, and how many of them are known to be in."""
        found = await self.spool.oldest()
        assert found is not None
        held, unit = found
        done = await drain_unit(self.pool, self.tenants, held.identity, unit)
        await self.spool.drained(held, done)
        return len(unit.arrivals), len(done.arrivals)

    async def commit(self) -> None:
        """Drains a unit, and dies before it is deleted."""
        found = await self.spool.oldest()
        assert found is not None
        await drain_unit(self.pool, self.tenants, found[0].identity, found[1])


def by_hand(database: Database, folder: Path, work: Callable[[Hand], Awaitable[None]]) -> None:
    """Runs `work` with a spool that nobody else drains; every receipt is then in the books once."""

    async def wrapped() -> None:
        pool = await lazy_pool(database.dsn, "tests", 4, writer=True)
        tenants = Tenants([Tenant("default")])
        async with pool.acquire() as connection:
            await tenants.load(connection)
        spool = Spool(folder, MOST, [INSTALLATION])
        await spool.open()
        await work(Hand(pool, tenants, spool))
        assert spool.bodies == 0
        await spool.close()
        async with pool.acquire() as connection:
            await assert_books_balance(connection)
        pool.terminate()

    asyncio.run(wrapped())
    assert list(folder.iterdir()) == []


def assert_in_once(database: Database, number: int) -> None:
    assert database.value("select count(*) from receipt") == number
    assert database.value("select count(distinct transid) from receipt") == number
    counted = database.fetch("select sum(received) as received, sum(duplicate) as again from intake where feed = 1")
    assert [(row["received"], row["again"]) for row in counted] == [(number, 0)]


def test_what_comes_in_between_commit_and_delete_is_drained(database: Database, tmp_path: Path) -> None:
    async def work(hand: Hand) -> None:
        await hand.spool.append(new_id(), arrivals(0, 10))
        await hand.commit()
        await hand.spool.append(new_id(), arrivals(10, 15))
        await hand.spool.append(new_id(), arrivals(15, 20))
        assert await hand.drain() == (20, 10)
        assert hand.spool.bodies == 10
        assert await hand.drain() == (10, 10)

    by_hand(database, tmp_path, work)
    assert_in_once(database, 20)


def test_the_next_process_drains_what_came_in_between_commit_and_delete(database: Database, tmp_path: Path) -> None:
    async def work(hand: Hand) -> None:
        dying = await filled(tmp_path)
        await dying.append(new_id(), arrivals(0, 10))
        [held] = dying._held()
        unit = held.file.next_unit()
        assert unit is not None
        await drain_unit(hand.pool, hand.tenants, held.identity, unit)
        await dying.append(new_id(), arrivals(10, 20))
        held.file.close()
        held.claim.give_back()
        await hand.spool.adopt()
        assert await hand.drain() == (20, 10)
        assert await hand.drain() == (10, 10)
        assert await hand.spool.oldest() is None

    by_hand(database, tmp_path, work)
    assert_in_once(database, 20)


def test_the_command_drains_what_came_in_between_commit_and_delete(database: Database, tmp_path: Path) -> None:
    async def work() -> None:
        pool = await lazy_pool(database.dsn, "tests", 4, writer=True)
        tenants = Tenants([Tenant("default")])
        async with pool.acquire() as connection:
            await tenants.load(connection)
        spool = await filled(tmp_path)
        await spool.append(new_id(), arrivals(0, 10))
        await Hand(pool, tenants, spool).commit()
        await spool.append(new_id(), arrivals(10, 20))
        await spool.close()
        pool.terminate()

    asyncio.run(work())
    environment = environment_of(
        RECEIVER_DATABASE_URL=database.dsn, RECEIVER_SPOOL=str(tmp_path), RECEIVER_SECRET=SECRET
    )
    command = [*receiver_command(), "spool", "drain"]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (told.returncode, told.stdout) == (0, f"drained 20 bodies from {tmp_path}\n"), told.stderr
    assert_in_once(database, 20)


def test_what_comes_in_while_the_answer_to_the_drains_commit_is_lost_is_drained(
    database: Database, tmp_path: Path
) -> None:
    async def work() -> None:
        async with Way(database).standing() as way, running(way.dsn, tmp_path) as house:
            way.withhold(COMMIT)
            await house.spool.append(new_id(), arrivals(0, 10))
            async with asyncio.timeout(20):
                while not way.withheld:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            await house.spool.append(new_id(), arrivals(10, 20))
            way.cut()
            way.mend()
            await house.until_empty()

    asyncio.run(work())
    assert_in_once(database, 20)


@pytest.mark.parametrize("key", [new_id(), UUID(int=1)], ids=["a new key", "a key older than the ledger"])
def test_what_comes_in_while_the_first_commit_of_a_spool_is_still_under_way_is_drained(
    database: Database, tmp_path: Path, key: UUID
) -> None:
    """Postgres goes on with what it heard from a process that has died, and the next one drains the same file."""

    async def work(hand: Hand) -> None:
        holder = await connect(database.dsn, "tests")
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("lock table message_key in share row exclusive mode")
        await hand.spool.append(key, arrivals(0, 10))
        of_the_dead = asyncio.create_task(hand.commit())
        await until_blocked(1)
        await hand.spool.append(new_id(), arrivals(10, 20))
        drained = asyncio.create_task(hand.drain())
        await until_blocked(2)
        await transaction.rollback()
        await holder.close()
        await of_the_dead
        assert await drained == (20, 10)
        assert await hand.drain() == (10, 10)

    async def until_blocked(number: int) -> None:
        watcher = await connect(database.dsn, "tests")
        waiting = "select count(*) from pg_locks where not granted"
        async with asyncio.timeout(5):
            while await watcher.fetchval(waiting) < number:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await watcher.close()

    by_hand(database, tmp_path, work)
    assert_in_once(database, 20)


def test_groups_that_drain_together_are_in_though_the_ledger_has_the_key_of_the_first(
    database: Database, tmp_path: Path
) -> None:
    """A file that somebody copied under another name: what it holds is told again, and nothing behind it is dropped."""

    async def work(hand: Hand) -> None:
        key = new_id()
        source = Source(hand.tenants.id_of("default"), None, arrival(0).received_at)
        told = [receipt for one in arrivals(0, 2) for receipt in read(one.body, source).receipts]
        async with hand.pool.acquire() as connection:
            await store(connection, key, Feed.PUSH, told, [])
        await hand.spool.append(key, arrivals(0, 2))
        await hand.spool.append(new_id(), arrivals(2, 5))
        assert await hand.drain() == (5, 5)

    by_hand(database, tmp_path, work)
    assert database.value("select count(*) from receipt") == 5


def test_where_the_disk_refuses_the_delete_what_comes_in_behind_is_drained_once(
    database: Database, tmp_path: Path
) -> None:
    async def work(hand: Hand) -> None:
        await hand.spool.append(new_id(), arrivals(0, 10))
        [held] = hand.spool._held()
        with contextlib.closing(sqlite3.connect(held.file.path, isolation_level=None)) as other:
            other.execute("begin immediate")
            assert await hand.drain() == (10, 10)
        assert held.file.has_rest
        await hand.spool.append(new_id(), arrivals(10, 20))
        assert await hand.drain() == (10, 10)

    by_hand(database, tmp_path, work)
    assert_in_once(database, 20)
