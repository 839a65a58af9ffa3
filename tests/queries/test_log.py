"""The cursor over the change log: each change once, none missed, a message's in order, whoever commits when."""

import asyncio
import contextlib
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from receiver.database.pool import connect
from receiver.ids import TenantId
from receiver.queries import log
from receiver.queries.positions import (
    BadPosition,
    Cut,
    Position,
    id_of,
    id_within,
    mark_of,
    read_id,
    window_of,
)
from tests.queries.changes import Reader, be_born, catch_up, change, in_order, read_pool
from tests.support import Database, run

MOMENT = datetime(2026, 11, 21, 10, tzinfo=UTC)
EARLY = Cut(1000, 1010, (1000, 1004), 50, 60, MOMENT)
LATE = Cut(1004, 1300, (1004, 1200, 1299), 60, 900, MOMENT)


def test_an_id_says_where_it_was_given() -> None:
    for position in (Position(EARLY), Position(LATE, EARLY, 777)):
        mark, read = read_id(id_of(42, position))
        assert (mark, read) == (mark_of(42), position)
    assert id_within(window_of(42, EARLY, LATE), 777) == id_of(42, Position(LATE, EARLY, 777))
    assert mark_of(42) != mark_of(43)


def test_an_id_is_short_enough_for_a_header() -> None:
    assert len(id_of(7_000_000_000_000_000_000, Position(LATE, EARLY, 777))) < 100
    busy = Cut(10**9, 10**9 + 90_000, tuple(range(10**9, 10**9 + 90_000, 90)), 10**9, 10**9 + 5, MOMENT)
    assert len(busy.in_flight) == 1000
    assert len(id_of(7_000_000_000_000_000_000, Position(busy, busy, 10**9))) < 4_000


@pytest.mark.parametrize(
    "broken",
    ["", "x", "7", "é" * 40, "A" * 64, "A" * 100_000, "\0", "../..", "null", "AQ=="],
    ids=["empty", "short", "number", "not-ascii", "zeros", "long", "nul", "path", "null", "padded"],
)
def test_garbage_is_no_id(broken: str) -> None:
    with pytest.raises(BadPosition):
        read_id(broken)


def test_a_place_beyond_its_window_is_none() -> None:
    for seq in (LATE.high + 1, 1 << 70):
        with pytest.raises(BadPosition):
            read_id(id_within(window_of(42, EARLY, LATE), seq))


def test_an_id_with_any_letter_changed_or_cut_off_is_no_id() -> None:
    good = id_of(42, Position(LATE, EARLY, 777))
    for at in range(len(good)):
        other = "A" if good[at] != "A" else "B"
        for changed in (good[:at] + other + good[at + 1 :], good[:at]):
            with pytest.raises(BadPosition):
                assert read_id(changed)[1] != Position(LATE, EARLY, 777)


def test_what_is_committed_after_a_later_number_is_not_lost(database: Database) -> None:
    tenant = database.tenant()

    async def scenario() -> list[int]:
        pool = await read_pool(database)
        slow, quick = await connect(database.dsn, "slow"), await connect(database.dsn, "quick")
        first, second = await be_born(quick, tenant), await be_born(quick, tenant)
        reader = Reader(pool)
        await reader.begin()
        held = slow.transaction()
        await held.start()
        await change(slow, first, tenant)
        await change(quick, second, tenant)
        await reader.all_there_is()
        counts = [len(reader.seen)]
        await reader.all_there_is()
        counts.append(len(reader.seen))
        await held.commit()
        await reader.all_there_is()
        assert reader.seen == [(second, 1), (first, 1)]
        await slow.close()
        await quick.close()
        await pool.close()
        return counts

    assert run(scenario()) == [1, 1]


def test_an_old_transaction_that_comes_late_to_a_message_is_told_after_the_newer_ones_before_it(
    database: Database,
) -> None:
    tenant = database.tenant()

    async def scenario() -> None:
        pool = await read_pool(database)
        old, quick, idle = [await connect(database.dsn, name) for name in ("old", "quick", "idle")]
        message = await be_born(quick, tenant)
        reader = Reader(pool)
        await reader.begin()
        begun = reader.position
        assert begun is not None
        held = old.transaction()
        await held.start()
        await old.fetchval("select pg_current_xact_id()")
        other = idle.transaction()  # the oldest in flight, when the old one has ended, is younger than it
        await other.start()
        await idle.fetchval("select pg_current_xact_id()")
        await change(quick, message, tenant, 10)
        await change(old, message, tenant, 60)
        await reader.all_there_is()
        await held.commit()
        await reader.all_there_is()
        assert reader.seen == [(message, 1), (message, 2)]
        assert reader.position is not None
        assert await catch_up(pool, begun, reader.position, tenant, 1) == reader.seen
        await other.rollback()
        for one in (old, quick, idle):
            await one.close()
        await pool.close()

    run(scenario())


async def _writer(dsn: str, messages: list[Any], tenant: TenantId, dice: random.Random, rounds: int) -> int:
    """Transactions of some changes each, in the order of ids; some take their time, some are rolled back."""
    connection = await connect(dsn, "writer")
    written = 0
    try:
        for _ in range(rounds):
            chosen = sorted(dice.sample(messages, dice.randint(1, 4)))
            transaction = connection.transaction()
            await transaction.start()
            for message in chosen:
                if dice.random() < 0.2:
                    async with connection.transaction():
                        await change(connection, message, tenant)
                else:
                    await change(connection, message, tenant)
                if dice.random() < 0.3:
                    await asyncio.sleep(dice.random() * 0.02)
            if dice.random() < 0.15:
                await transaction.rollback()
            else:
                await transaction.commit()
                written += len(chosen)
    finally:
        await connection.close()
    return written


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whatever_writers_do_each_change_is_read_once_and_a_messages_in_order(database: Database, seed: int) -> None:
    tenant = database.tenant()

    async def scenario() -> None:
        dice = random.Random(seed)
        pool = await read_pool(database, 4)
        setup = await connect(database.dsn, "setup")
        messages = [await be_born(setup, tenant) for _ in range(12)]
        readers = [Reader(pool, most) for most in (1000, 2)]
        for reader in readers:
            await reader.begin()
        marks: list[tuple[Position, int]] = []
        writers = [
            asyncio.create_task(_writer(database.dsn, messages, tenant, random.Random(dice.random()), 30))
            for _ in range(6)
        ]

        async def follow(reader: Reader) -> None:
            while not all(task.done() for task in writers):
                await reader.step()
                assert reader.position is not None
                if reader is readers[1] and (reader.position.before or dice.random() < 0.1):
                    marks.append((reader.position, len(reader.seen)))

        await asyncio.gather(*map(follow, readers))
        written = sum([task.result() for task in writers])
        for reader in readers:
            await reader.all_there_is()
            assert len(reader.seen) == written
            assert in_order(reader.seen)
        final = readers[1].position
        assert final is not None
        assert any(mark.before is not None for mark, _ in marks), "some were taken inside a window"
        for mark, count in dice.sample(marks, min(15, len(marks))):
            for most in (5, 1000):
                missed = await catch_up(pool, read_id(id_of(1, mark))[1], final, tenant, most)
                assert in_order(readers[1].seen[:count] + missed)
                assert len(missed) == written - count
        await setup.close()
        await pool.close()

    run(scenario())


def test_a_number_as_cursor_would_lose_some_of_them(database: Database) -> None:
    """The same load, read as is often done: so that the test above can fail."""
    tenant = database.tenant()

    async def scenario() -> tuple[int, int]:
        setup = await connect(database.dsn, "setup")
        messages = [await be_born(setup, tenant) for _ in range(12)]
        writers = [asyncio.create_task(_writer(database.dsn, messages, tenant, random.Random(n), 30)) for n in range(6)]
        last = seen = 0
        while not all(task.done() for task in writers):
            rows = await setup.fetch("select seq from change where seq > $1 order by seq", last)
            seen += len(rows)
            last = rows[-1]["seq"] if rows else last
        rows = await setup.fetch("select seq from change where seq > $1", last)
        await setup.close()
        return seen + len(rows), sum([task.result() for task in writers])

    seen, written = run(scenario())
    assert seen < written


def test_what_a_restore_brought_along_is_passed_by(database: Database) -> None:
    tenant = database.tenant()

    async def scenario() -> None:
        pool = await read_pool(database)
        writer = await connect(database.dsn, "writer")
        message = await be_born(writer, tenant)
        reader = Reader(pool)
        await reader.begin()
        await change(writer, message, tenant)
        async with pool.acquire() as connection:
            assert (await log.look(connection)).is_settled
        await writer.execute("update folded set cluster = cluster + 1")
        async with pool.acquire() as connection:
            assert not (await log.look(connection)).is_settled
        floor = await writer.fetchval("select max(seq) from change")
        await writer.execute("update folded set cluster = cluster - 1, floor_seq = $1", floor)
        await change(writer, message, tenant)
        begun = reader.position
        await reader.all_there_is()
        assert reader.seen == [(message, 2)]
        assert begun is not None
        assert reader.position is not None
        assert await catch_up(pool, begun, reader.position, tenant, 10) == [(message, 2)]
        await writer.close()
        await pool.close()

    run(scenario())


def test_one_long_transaction_does_not_make_each_read_longer(database: Database) -> None:
    tenant = database.tenant()

    async def scenario() -> str:
        pool = await read_pool(database)
        long, writer = await connect(database.dsn, "long"), await connect(database.dsn, "writer")
        message = await be_born(writer, tenant)
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(long.transaction())
            await long.fetchval("select pg_current_xact_id()")
            for _ in range(300):
                await change(writer, message, tenant)
            reader = Reader(pool)
            await reader.begin()
            assert reader.position is not None
            before = reader.position.until.snapshot
            async with pool.acquire() as connection:
                plan = await connection.fetch("explain (analyze, timing off) " + log.WINDOW, before, None, 0, 100, [])
        await long.close()
        await writer.close()
        await pool.close()
        return "\n".join(row[0] for row in plan)

    plan = run(scenario())
    scans = [line for line in plan.splitlines() if " on change_2" in line and "rows=" in line.partition("actual")[2]]
    assert scans
    assert not [line for line in scans if "Index Scan" not in line and "never executed" not in line], plan
    removed = sum(int(line.split(":")[1]) for line in plan.splitlines() if "Rows Removed by Filter" in line)
    assert removed < 5, plan


INDEX_ROWS = "select sum(idx_tup_read)::int from pg_stat_user_indexes where relname like 'change_2%'"
MANY = """
insert into change (at, message_id, version, tenant, origin, channel, new_state, new_conflict)
select now(), $1, n, $2, 2, 1, 10, false from generate_series(1, $3::int) n
"""


def test_a_large_window_is_read_once_in_however_many_pages(database: Database) -> None:
    """A reader that was held up must catch up: a page that looks at the whole window makes it fall behind further."""
    tenant = database.tenant()

    async def scenario() -> None:
        pool = await read_pool(database, 1)

        async def looked_at() -> int:
            async with pool.acquire() as connection:
                await connection.execute("select pg_stat_force_next_flush()")
                return int(await connection.fetchval(INDEX_ROWS))

        writer = await connect(database.dsn, "writer")
        message = await be_born(writer, tenant)
        await writer.execute(MANY, message, tenant, 5)
        reader = Reader(pool, 100)
        await reader.begin()
        await writer.execute(MANY, message, tenant, 5_000)
        assert await reader.step()
        before = await looked_at()
        await reader.all_there_is()
        assert [version for _, version in reader.seen] == list(range(1, 5_001))
        assert await looked_at() - before < 3 * 5_000
        await writer.close()
        await pool.close()

    run(scenario())
