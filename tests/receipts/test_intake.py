"""The group commit: what one body must not cost another."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from receiver.database.pool import Pool, open_pool
from receiver.ids import TenantId
from receiver.receipts import intake
from receiver.receipts.arrival import Arrival
from receiver.receipts.intake import Intake
from receiver.receipts.receipt import Reading, Source, read
from receiver.receipts.waiting import Full, NotDurable
from tests.receipts.tellings import RECEIVED, assert_books_balance, body
from tests.support import Database


def reading(raw: bytes, tenant: TenantId) -> Reading:
    return read(raw, Source(tenant, None, RECEIVED))


def delivered(number: int) -> bytes:
    return body({"deliveryStatus": "Delivered", "destination": "447700900001"}, f"intake-{number}")


def arrived(found: Reading) -> tuple[Arrival, Reading]:
    """What the door gives to the intake."""
    raw = found.receipts[0].raw if found.receipts else found.rejects[0].body
    return Arrival("default", None, RECEIVED, raw), found


def with_intake(database: Database, work: Callable[[Intake, Pool], Awaitable[None]]) -> None:
    """Runs `work` beside a running intake, closes it, and looks at the books."""

    async def wrapped() -> None:
        pool = await open_pool(database.dsn, "tests", 2, writer=True)
        taker = Intake(pool, {})
        running = asyncio.create_task(taker.run())
        await work(taker, pool)
        await taker.close()
        await running
        async with pool.acquire() as connection:
            await assert_books_balance(connection)
        await pool.close()

    asyncio.run(wrapped())


def test_two_rejects_of_the_same_bytes_do_not_cost_their_group(database: Database) -> None:
    tenant = database.tenant()
    odd = reading(b"[[],[[[[[[[[[]]]]]]]]]]", tenant)
    assert len(odd.rejects) > 1

    async def work(taker: Intake, pool: Pool) -> None:
        await asyncio.gather(
            taker.take(*arrived(odd)), *(taker.take(*arrived(reading(delivered(n), tenant))) for n in range(3))
        )

    with_intake(database, work)
    assert database.value("select count(*) from receipt") == 3
    assert database.value("select sum(told) from quarantine") == len(odd.rejects)


def test_a_receipt_that_the_database_refuses_is_quarantined_and_its_neighbours_are_stored(database: Database) -> None:
    tenant = database.tenant()
    poison = reading(delivered(99), tenant)
    poison.receipts = [poison.receipts[0]._replace(description="a NUL \0 that the reader would have replaced")]

    async def work(taker: Intake, pool: Pool) -> None:
        await asyncio.gather(
            taker.take(*arrived(poison)), *(taker.take(*arrived(reading(delivered(n), tenant))) for n in range(20))
        )

    with_intake(database, work)
    assert database.value("select count(*) from receipt") == 20
    kept = database.fetch("select reason, body from quarantine")
    assert [(row["reason"], row["body"]) for row in kept] == [("database_refused", delivered(99))]
    assert database.value("select sum(quarantined) from intake") == 1


def test_a_good_receipt_that_finds_no_way_is_told_again_and_never_quarantined(database: Database) -> None:
    tenant = database.tenant()

    async def work(taker: Intake, pool: Pool) -> None:
        await taker.take(*arrived(reading(delivered(99), tenant)))
        async with pool.acquire() as connection:
            await connection.execute(
                "update message_state set merged_into = id"
            )  # a tombstone that its key still names
        again = reading(delivered(99).replace(b"Delivered", b"Submitted"), tenant)
        taken = [taker.take(*arrived(again)), *(taker.take(*arrived(reading(delivered(n), tenant))) for n in range(3))]
        results = await asyncio.gather(*taken, return_exceptions=True)
        assert isinstance(results[0], NotDurable)
        async with pool.acquire() as connection:
            await connection.execute("update message_state set merged_into = null")
        await taker.take(*arrived(again))

    with_intake(database, work)
    assert database.value("select count(*) from quarantine") == 0
    assert database.value("select count(*) from receipt where status = 'Submitted'") == 1


def test_a_full_queue_says_so_at_once_and_a_group_is_bounded_by_its_bytes(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = database.tenant()
    large = len(delivered(1))
    monkeypatch.setattr(intake, "CAPACITY_BYTES", large * 4)
    monkeypatch.setattr(intake, "GROUP_BYTES", large * 2)

    async def work(taker: Intake, pool: Pool) -> None:
        taking = [asyncio.create_task(taker.take(*arrived(reading(delivered(n), tenant)))) for n in range(9)]
        results = await asyncio.gather(*taking, return_exceptions=True)
        assert [type(r) for r in results] == [type(None)] * 4 + [Full] * 5

    with_intake(database, work)
    assert database.value("select max(received) from intake") == 2


def test_a_connection_that_dies_in_mid_commit_ends_its_group_and_not_the_worker(database: Database) -> None:
    tenant = database.tenant()
    killer = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'receiver tests'"

    async def work(taker: Intake, pool: Pool) -> None:
        stored: set[int] = set()

        async def tell(number: int) -> None:
            while number not in stored:
                try:
                    await taker.take(*arrived(reading(delivered(number), tenant)))
                    stored.add(number)
                except NotDurable:
                    await asyncio.sleep(0.01)

        async def kill() -> None:
            for _ in range(12):
                await asyncio.to_thread(database.fetch, killer + " and pid <> pg_backend_pid()")
                await asyncio.sleep(0.05)

        async with asyncio.timeout(60):
            await asyncio.gather(kill(), *(tell(number) for number in range(400)))

    with_intake(database, work)
    assert database.value("select count(*) from receipt") == 400


SLOW = """
create function wait_a_little() returns trigger language plpgsql as
$f$ begin perform pg_sleep(0.1); return new; end $f$;
create trigger slow before insert on intake for each row execute function wait_a_little();
"""


def test_who_would_wait_for_too_long_is_told_at_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = database.tenant()
    monkeypatch.setattr(intake, "MOST_SECONDS", 0.3)

    async def work(taker: Intake, pool: Pool) -> None:
        for statement in SLOW.strip().split(";\n", 1):
            await pool.execute(statement)
        for n in range(8):  # it learns how long a group takes
            await taker.take(*arrived(reading(delivered(n), tenant)))
        many = [taker.take(*arrived(reading(delivered(n), tenant))) for n in range(8, 2_008)]
        told = await asyncio.gather(*many, return_exceptions=True)
        full = [n for n, answer in enumerate(told) if isinstance(answer, Full)]
        assert 0 < len(full) < len(told) - 256
        assert full[0] > 256, "a burst that one group or two can hold is no trouble"
        assert all(answer is None or isinstance(answer, Full) for answer in told)
        assert await pool.fetchval("select count(*) from receipt") == 8 + len(told) - len(full)

    with_intake(database, work)
