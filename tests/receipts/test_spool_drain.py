"""The spool between the door and Postgres: what is taken while Postgres is in trouble is in the books once."""

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from receiver.database.pool import connect
from receiver.receipts import group, intake
from receiver.receipts.waiting import NotDurable
from tests.receipts.spooling import Running, Way, arrival, delivered, filled, running
from tests.receipts.tellings import assert_books_balance
from tests.support import Database

pytestmark = pytest.mark.usefixtures("tenant")


@pytest.fixture
def tenant(database: Database) -> None:
    database.tenant()


def over_the_way(
    database: Database, folder: Path, work: Callable[[Running, Way], Awaitable[None]], *, load: bool = True
) -> None:
    """Runs `work` beside an intake whose Postgres is at the other end of a way, and looks at the books."""

    async def wrapped() -> None:
        async with Way(database).standing() as way:
            if not load:
                way.cut()
            async with running(way.dsn, folder, load=load) as house:
                await work(house, way)
        connection = await connect(database.dsn, "tests")
        await assert_books_balance(connection)
        await connection.close()

    asyncio.run(wrapped())


def received(database: Database) -> int:
    """What the ledger counted of pushed receipts."""
    return int(database.value("select coalesce(sum(received), 0) from intake where feed = 1"))


def test_while_postgres_is_away_all_is_taken_and_afterwards_all_is_in_the_books_once(
    database: Database, tmp_path: Path
) -> None:
    async def work(house: Running, way: Way) -> None:
        await house.take(0)
        way.cut()
        await asyncio.gather(*(house.take(n) for n in range(1, 600)))
        assert house.spool.bodies == 599
        spooling = [house.intake.is_spooling]
        way.mend()
        await house.until_empty()
        assert [*spooling, house.intake.is_spooling] == [True, False]
        await house.take(600)
        assert house.spool.bodies == 0

    over_the_way(database, tmp_path, work)
    assert database.value("select count(*) from receipt") == received(database) == 601
    assert database.value("select count(distinct transid) from receipt") == 601
    assert list(tmp_path.iterdir()) == []


def test_a_postgres_that_was_away_since_the_start_costs_nothing(database: Database, tmp_path: Path) -> None:
    async def work(house: Running, way: Way) -> None:
        await asyncio.gather(*(house.take(n) for n in range(50)))
        assert not house.tenants.is_known("default")
        way.mend()
        await house.until_empty()

    over_the_way(database, tmp_path, work, load=False)
    assert database.value("select count(*) from receipt") == received(database) == 50


def test_a_postgres_that_stands_still_costs_the_first_group_two_seconds_and_the_next_none(
    database: Database, tmp_path: Path
) -> None:
    async def work(house: Running, way: Way) -> None:
        await house.take(0)
        way.freeze()
        began = time.monotonic()
        await house.take(1)
        assert 1.5 < time.monotonic() - began < 7
        for number in range(2, 12):
            began = time.monotonic()
            await house.take(number)
            assert time.monotonic() - began < 1.5
        way.mend()
        began = time.monotonic()
        await house.until_empty()
        assert time.monotonic() - began < 10

    over_the_way(database, tmp_path, work)
    assert database.value("select count(*) from receipt") == received(database) == 12


def test_a_commit_whose_answer_was_lost_counts_once(database: Database, tmp_path: Path) -> None:
    async def work(house: Running, way: Way) -> None:
        way.withhold()
        await asyncio.gather(*(house.take(n) for n in range(20)))
        assert way.withheld
        assert house.spool.bodies == 20
        await house.until_empty()

    over_the_way(database, tmp_path, work)
    assert database.value("select count(*) from receipt") == received(database) == 20
    assert database.value("select sum(duplicate) from intake") == 0


def test_a_commit_that_is_still_under_way_when_its_group_drains_counts_once(database: Database, tmp_path: Path) -> None:
    async def work(house: Running, way: Way) -> None:
        holder = await connect(database.dsn, "tests")
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("lock table message_key in share row exclusive mode")
        await asyncio.gather(*(house.take(n) for n in range(20)))
        assert house.spool.bodies == 20
        waiting = "select count(*) from pg_locks where not granted"
        async with asyncio.timeout(20):
            while await holder.fetchval(waiting) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await transaction.rollback()
        await holder.close()
        await house.until_empty()

    over_the_way(database, tmp_path, work)
    assert database.value("select count(*) from receipt") == received(database) == 20
    assert database.value("select count(*) from intake") == 1


def test_a_crash_between_commit_and_delete_counts_once(database: Database, tmp_path: Path) -> None:
    folder, before = tmp_path / "spool", tmp_path / "before"

    async def work() -> None:
        killed = await filled(folder, [arrival(n) for n in range(10)], [arrival(n) for n in range(10, 15)])
        shutil.copytree(folder, before)
        await killed.close()
        async with running(database.dsn, folder) as house:
            await house.spool.adopt()
            await house.until_empty()
        for file in before.iterdir():
            if not file.name.endswith((".lock", "-shm")):
                shutil.copy(file, folder)
        async with running(database.dsn, folder) as house:
            await house.spool.adopt()
            await house.until_empty()

    asyncio.run(work())
    assert database.value("select count(*) from receipt") == received(database) == 15
    assert list(folder.iterdir()) == []


def test_a_group_that_the_database_refuses_is_drained_in_parts_and_its_culprit_is_quarantined(
    database: Database, tmp_path: Path
) -> None:
    database.fetch("alter table receipt add constraint poison check (description is distinct from 'poison')")

    async def work() -> None:
        spool = await filled(tmp_path, [arrival(n) for n in range(40)] + [arrival(99, description="poison")])
        await spool.close()
        async with running(database.dsn, tmp_path) as house:
            await house.spool.adopt()
            await house.until_empty()

    asyncio.run(work())
    assert database.value("select count(*) from receipt") == 40
    assert received(database) == 41
    kept = database.fetch("select reason, body from quarantine")
    assert [(row["reason"], row["body"]) for row in kept] == [("database_refused", delivered(99, description="poison"))]


def test_a_live_group_that_was_halved_has_one_commit_and_its_key(database: Database, tmp_path: Path) -> None:
    database.fetch("alter table receipt add constraint poison check (description is distinct from 'poison')")

    async def work(house: Running, way: Way) -> None:
        way.withhold()
        await asyncio.gather(house.take(99, description="poison"), *(house.take(n) for n in range(40)))
        assert house.spool.bodies == 41
        await house.until_empty()

    over_the_way(database, tmp_path, work)
    assert database.value("select count(*) from receipt") == 40
    assert database.value("select told from quarantine") == 1
    assert received(database) == 41


def test_a_body_larger_than_a_group_is_spooled_and_counts_once(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "GROUP", 8)
    large = b"[" + b",".join(delivered(n) for n in range(30)) + b"]"

    async def work() -> None:
        spool = await filled(tmp_path, [arrival(0)._replace(body=large)])
        await spool.close()
        async with running(database.dsn, tmp_path) as house:
            await house.spool.adopt()
            await house.until_empty()

    asyncio.run(work())
    assert database.value("select count(*) from receipt") == received(database) == 30
    assert database.value("select count(*) from intake") == 4


def test_what_cant_be_read_is_spooled_too_and_quarantined_when_it_drains(database: Database, tmp_path: Path) -> None:
    async def work() -> None:
        spool = await filled(tmp_path, [arrival(0)._replace(body=b"nothing that anybody could read")])
        await spool.close()
        async with running(database.dsn, tmp_path) as house:
            await house.spool.adopt()
            await house.until_empty()

    asyncio.run(work())
    [row] = database.fetch("select body, headers from quarantine")
    assert (row["body"], row["headers"]) == (b"nothing that anybody could read", '{"user-agent": "platform"}')


def test_trouble_in_the_middle_of_draining_leaves_the_rest_and_it_drains_later(
    database: Database, tmp_path: Path
) -> None:
    async def work(house: Running, way: Way) -> None:
        way.cut()
        for first in range(0, 100, 10):
            await asyncio.gather(*(house.take(n) for n in range(first, first + 10)))
        for _ in range(4):
            way.mend()
            waits = house.spool.bodies
            async with asyncio.timeout(20):
                while house.spool.bodies >= waits and waits:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            way.cut()
        way.mend()
        await house.until_empty()

    over_the_way(database, tmp_path, work)
    assert database.value("select count(*) from receipt") == received(database) == 100


def test_live_receipts_are_answered_promptly_while_a_long_spool_drains(database: Database, tmp_path: Path) -> None:
    async def work() -> None:
        spool = await filled(
            tmp_path, *([arrival(n) for n in range(first, first + 50)] for first in range(0, 5000, 50))
        )
        await spool.close()
        async with running(database.dsn, tmp_path) as house:
            await house.spool.adopt()
            slowest = 0.0
            for number in range(10_000, 10_050):
                began = time.monotonic()
                await house.take(number)
                slowest = max(slowest, time.monotonic() - began)
            assert house.spool.bodies > 0
            assert slowest < 1.9
            assert not house.intake.is_spooling
            await house.until_empty(60)

    asyncio.run(work())
    assert database.value("select count(*) from receipt") == received(database) == 5050


def test_when_neither_postgres_nor_the_spool_can_take_it_nobody_is_told_that_it_is_stored(
    database: Database, tmp_path: Path
) -> None:
    async def work(house: Running, way: Way) -> None:
        way.cut()
        house.spool._most_bytes = 0
        results = await asyncio.gather(*(house.take(n) for n in range(20)), return_exceptions=True)
        assert {type(result) for result in results} == {NotDurable}
        way.mend()
        await house.breaker.until_closed_or(asyncio.Event())
        await house.take(21)

    over_the_way(database, tmp_path, work)
    assert database.value("select count(*) from receipt") == 1


def test_where_postgres_hangs_and_the_spool_is_full_only_the_first_group_waits_to_hear_so(
    database: Database, tmp_path: Path
) -> None:
    async def work(house: Running, way: Way) -> None:
        await house.take(0)
        house.spool._most_bytes = 0
        way.freeze()
        began = time.monotonic()
        results = await asyncio.gather(*(house.take(n) for n in range(1, 5 * group.GROUP)), return_exceptions=True)
        assert {type(result) for result in results} == {NotDurable}
        assert time.monotonic() - began < 2 * intake.COMMIT_SECONDS
        way.mend()

    over_the_way(database, tmp_path, work)


def test_who_has_waited_long_behind_slow_commits_is_spooled(database: Database, tmp_path: Path) -> None:
    number = 12 * group.GROUP
    database.fetch(
        "create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(1); return null; end $$"
    )
    database.fetch("create trigger slow after insert on intake for each statement execute function slow()")

    async def work() -> None:
        async with running(database.dsn, tmp_path, drains=False) as house:
            began = time.monotonic()
            await asyncio.gather(*(house.take(n) for n in range(number)))
            assert time.monotonic() - began < 10
            assert not house.intake.is_spooling
            assert 0 < house.spool.bodies < number

    async def drain() -> None:
        async with running(database.dsn, tmp_path) as house:
            await house.spool.adopt()
            await house.until_empty()

    asyncio.run(work())
    database.fetch("drop trigger slow on intake")
    asyncio.run(drain())
    assert database.value("select count(*) from receipt") == received(database) == number


def test_who_goes_away_while_he_waits_costs_the_others_nothing(database: Database, tmp_path: Path) -> None:
    async def work(house: Running, way: Way) -> None:
        await house.take(0)
        way.freeze()
        waiting = [asyncio.create_task(house.take(n)) for n in range(1, 11)]
        async with asyncio.timeout(20):
            while not house.intake.is_busy:  # noqa: ASYNC110
                await asyncio.sleep(0)
        for task in waiting[::2]:
            task.cancel()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(answer) for answer in answers] == [asyncio.CancelledError, type(None)] * 5
        way.mend()
        await house.take(11)
        await house.until_empty()

    over_the_way(database, tmp_path, work)
    assert database.value("select count(*) from receipt") == received(database) == 12


def test_an_orphan_of_a_process_that_dies_while_we_live_is_found(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.receipts.drain.LOOK_SECONDS", 0.05)

    async def work() -> None:
        async with running(database.dsn, tmp_path) as house:
            dying = await filled(tmp_path, [arrival(1)])
            await dying.close()
            async with asyncio.timeout(10):
                while len(list(tmp_path.glob("*.spool"))) > 1:  # noqa: ASYNC110, ASYNC240
                    await asyncio.sleep(0.01)
            await house.until_empty()

    asyncio.run(work())
    assert database.value("select count(*) from receipt") == received(database) == 1
