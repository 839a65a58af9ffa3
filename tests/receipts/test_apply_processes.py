"""Two operating-system processes on one database, births included."""

import asyncio
import subprocess
import sys

from receiver.database.pool import connect
from receiver.messages.lattice import Channel
from receiver.sending import outbox
from receiver.sending.request import Asked, Request
from tests.receipts.answerer import NUMBERS, SUBMISSIONS, plans
from tests.receipts.racer import MESSAGES, lives
from tests.receipts.tellings import assert_books_balance, belief, truth
from tests.support import Database, now


def test_two_processes_that_tell_the_same_receipts_agree_with_the_plain_fold(database: Database) -> None:
    tenant = database.tenant()
    command = [sys.executable, "-m", "tests.receipts.racer", database.dsn, str(tenant)]
    racers = [subprocess.Popen([*command, str(seed)]) for seed in (1, 2)]
    assert [racer.wait(90) for racer in racers] == [0, 0]

    async def look() -> None:
        connection = await connect(database.dsn, "tests")
        for transid, told in lives(tenant).items():
            found = await connection.fetch("select id from message_state where transid = $1", transid)
            assert len(found) == 1, "born once"
            assert await belief(connection, found[0]["id"]) == truth(told)
        assert await connection.fetchval("select count(*) from message") == MESSAGES
        await assert_books_balance(connection)
        await connection.close()

    asyncio.run(look())


def test_receipts_and_answers_that_race_in_two_processes_end_on_the_issued_messages(database: Database) -> None:
    tenant = database.tenant()

    async def issue() -> None:
        connection = await connect(database.dsn, "tests")
        asked = tuple(Asked("msisdn", number, number, None) for number in NUMBERS)
        for _ in range(SUBMISSIONS):
            request = Request(Channel.SMS, b"{}", asked, None, None, None, 2, None)
            await outbox.accept(connection, tenant, request, now())
        await connection.close()

    asyncio.run(issue())
    command = [sys.executable, "-m", "tests.receipts.answerer", database.dsn, str(tenant)]
    racers = [subprocess.Popen([*command, str(seed)]) for seed in (1, 2)]
    assert [racer.wait(90) for racer in racers] == [0, 0]

    async def look() -> None:
        connection = await connect(database.dsn, "tests")
        for plan in await plans(connection, tenant):
            assert await belief(connection, plan.message) == truth(plan.told)
        live = "select count(*) from message_state where origin = 2 and merged_into is null"
        assert await connection.fetchval(live) == 0, "what was observed is ours"
        assert await connection.fetchval("select count(*) from message_state where merged_into is not null") > 0
        await assert_books_balance(connection)
        await connection.close()

    asyncio.run(look())
