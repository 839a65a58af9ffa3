"""A key that was claimed for a birth that did not come leads nobody to nothing."""

import asyncio
from datetime import timedelta

import pytest

from receiver.database.partitions import rotate_keys
from receiver.database.pool import Connection, connect
from receiver.ids import new_id
from receiver.messages.told import Feed
from receiver.receipts.apply import apply
from tests.receipts.tellings import assert_books_balance, body, told_of
from tests.receipts.test_joining import ONE, delivered, issue, tell, with_connection
from tests.receipts.test_joining_events import answer, children, issue_events
from tests.receipts.test_joining_races import WAITERS, until_it_waits
from tests.support import Database, now, run

UNBORN = "select count(*) from message_key k where not exists (select from message m where m.id = k.message_id)"
ROTATION = "select pg_advisory_lock(hashtext('receiver.key_generation'))"


@pytest.mark.parametrize("rotating", [False, True], ids=["", "after a rotation of keys"])
def test_a_node_beside_our_id_under_a_transid_that_was_observed_leaves_no_key_of_nobody(
    database: Database, rotating: bool
) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        (message,), _ = await issue(connection, tenant, ONE)
        await tell(connection, tenant, body(delivered(ONE, deliveryStatus="Submitted"), "t-1"))
        if rotating:
            await rotate_keys(connection, timedelta(0))
        group = [
            told_of(body(delivered(ONE), "t-1", str(message)), tenant),
            told_of(body(delivered(ONE, deliveryStatus="Read", subtid="5"), "t-1"), tenant),
        ]
        assert (await apply(connection, new_id(), now(), Feed.PUSH, group)).results == ["applied", "applied"]
        assert await connection.fetchval(UNBORN) == 0

    with_connection(database, work)


def test_a_child_that_was_told_of_while_its_event_was_answered_can_be_told_of_again(database: Database) -> None:
    tenant = database.tenant()

    async def work() -> None:
        one, two, three, watcher = [await connect(database.dsn, "tests") for _ in range(4)]
        (event,), _ = await issue_events(one, tenant, 1)
        birth = one.transaction()
        await birth.start()
        await tell(one, tenant, body(delivered(ONE, deliveryStatus="Submitted"), "t-1"))
        await answer(watcher, tenant, "t-1", event)  # does not see the one that is being born
        await watcher.execute("update message_state set transid = 't-1' where id = $1", event)
        rotating = asyncio.create_task(three.execute(ROTATION))
        await until_it_waits(watcher)
        telling = asyncio.create_task(tell(two, tenant, body(delivered(ONE), "t-1")))  # finds the event, and waits
        while await watcher.fetchval(WAITERS) < 2:  # noqa: ASYNC110 (another session comes to wait)
            await asyncio.sleep(0.005)
        await birth.commit()
        await rotating
        await three.close()
        assert (await telling).results == ["applied"]
        assert await watcher.fetchval(UNBORN) == 0
        again = await tell(two, tenant, body(delivered(ONE, deliveryStatus="Read"), "t-1", str(event)))
        assert again.results == ["applied"]
        assert len(await children(watcher, event)) == 1
        await assert_books_balance(watcher)
        for connection in (one, two, watcher):
            await connection.close()

    run(work())
