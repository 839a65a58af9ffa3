"""Two operating-system processes on one database, births included."""

import asyncio
import subprocess
import sys

from receiver.database.pool import connect
from tests.receipts.racer import MESSAGES, lives
from tests.receipts.tellings import assert_books_balance, belief, truth
from tests.support import Database


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
