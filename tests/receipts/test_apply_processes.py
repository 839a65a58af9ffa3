"""Two operating-system processes on one database, births included."""

import asyncio
import contextlib
import subprocess
import sys
from datetime import timedelta

import asyncpg
import pytest

from receiver.database.partitions import rotate_keys
from receiver.database.pool import connect
from receiver.ids import TenantId
from receiver.messages.lattice import Channel
from receiver.platform.apis import Api
from receiver.sending import outbox
from receiver.sending.request import Asked, Request
from tests.receipts.answerer import NUMBERS, SUBMISSIONS, plans
from tests.receipts.racer import MESSAGES, ROUNDS, lives
from tests.receipts.tellings import assert_books_balance, belief, truth
from tests.support import Database, now

# Some five months of weekly generations: each one is a partition that every statement on keys plans for.
MOST_GENERATIONS = 20
BORN_IN = "select exists (select from message_key where generation = $1)"
DEADLOCKS = "select deadlocks from pg_stat_database where datname = current_database()"


def race(database: Database, module: str, tenant: TenantId, *more: str) -> list["subprocess.Popen[bytes]"]:
    """Two processes of `module`, started."""
    command = [sys.executable, "-m", module, database.dsn, str(tenant)]
    return [subprocess.Popen([*command, str(seed), *more]) for seed in (1, 2)]


@pytest.mark.parametrize("rotating", [False, True], ids=["", "while the key generations rotate"])
def test_two_processes_that_tell_the_same_receipts_agree_with_the_plain_fold(
    database: Database, rotating: bool
) -> None:
    tenant = database.tenant()
    racers = race(database, "tests.receipts.racer", tenant, str(int(rotating)))
    rotations = asyncio.run(rotate(database, racers)) if rotating else 0
    assert [racer.wait(90) for racer in racers] == [0, 0]

    async def look() -> None:
        connection = await connect(database.dsn, "tests")
        if rotating:
            used = await connection.fetchval("select count(distinct generation) from message_key")
            assert rotations >= used >= ROUNDS, "births went on in one generation after another"
        for transid, told in lives(tenant).items():
            found = await connection.fetch("select id from message_state where transid = $1", transid)
            assert len(found) == 1, "born once"
            assert await belief(connection, found[0]["id"]) == truth(told)
        assert await connection.fetchval("select count(*) from message") == MESSAGES
        await assert_books_balance(connection)
        assert await connection.fetchval(DEADLOCKS) == 0
        await connection.close()

    asyncio.run(look())


async def rotate(database: Database, racers: list["subprocess.Popen[bytes]"]) -> int:
    """Begins the next generation whenever keys were born in the last one, while the racers run, up to a bound.

    Returns the last one.
    """
    connection = await connect(database.dsn, "tests")
    generation = 1
    while generation < MOST_GENERATIONS and any(racer.poll() is None for racer in racers):
        if await connection.fetchval(BORN_IN, generation):
            with contextlib.suppress(asyncpg.LockNotAvailableError):
                generation = await rotate_keys(connection, timedelta(0)) or generation
        await asyncio.sleep(0.05)  # births, too, want their turn
    await connection.close()
    return generation


def test_receipts_and_answers_that_race_in_two_processes_end_on_the_issued_messages(database: Database) -> None:
    tenant = database.tenant()

    async def issue() -> None:
        connection = await connect(database.dsn, "tests")
        asked = tuple(Asked("msisdn", number, number, None) for number in NUMBERS)
        for _ in range(SUBMISSIONS):
            request = Request(Api.MESSAGING, Channel.SMS, b"{}", asked, None, None, None, 2, None, None)
            await outbox.accept(connection, tenant, request, now())
        await connection.close()

    asyncio.run(issue())
    racers = race(database, "tests.receipts.answerer", tenant)
    assert [racer.wait(90) for racer in racers] == [0, 0]

    async def look() -> None:
        connection = await connect(database.dsn, "tests")
        for plan in await plans(connection, tenant):
            assert await belief(connection, plan.message) == truth(plan.told)
        live = "select count(*) from message_state where origin = 2 and merged_into is null"
        assert await connection.fetchval(live) == 0, "what was observed is ours"
        assert await connection.fetchval("select count(*) from message_state where merged_into is not null") > 0
        await assert_books_balance(connection)
        assert await connection.fetchval(DEADLOCKS) == 0
        await connection.close()

    asyncio.run(look())
