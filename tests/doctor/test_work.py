"""What the doctor says of what is under way, and of the books."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from receiver.database.pool import Connection, Pool
from receiver.doctor.check import Installation, Result
from receiver.receipts import ledger
from receiver.receipts.ledger import Count
from tests.database.past import tell, telling, with_pool
from tests.doctor.examining import assert_says, broken, installation, verdict
from tests.receipts.quarantining import put
from tests.support import Database, now

DUTY = "insert into duty (name, holder, place, taken_at, until) values ('{0}', '{1}', 'here:1', now(), now() + '{2}')"


@pytest.fixture
def one(database: Database, tmp_path: Path) -> Installation:
    """An installation whose database is the test's own."""
    return installation(database.dsn, tmp_path)


def test_duties_that_nobody_does(database: Database, one: Installation) -> None:
    assert_says(verdict(one, "background duties"), Result.WARNING, "no process does")
    broken(database, DUTY.format("partitions", uuid4(), "1 minute"))
    broken(database, DUTY.format("given up long ago", uuid4(), "-30 days"))
    assert_says(verdict(one, "background duties"), Result.OK, "partitions", "here:1")
    broken(database, DUTY.format("retention", uuid4(), "-1 minute"))
    assert_says(verdict(one, "background duties"), Result.WARNING, "nobody does: retention")


def test_a_lane_that_is_stopped(database: Database, one: Installation) -> None:
    tenant = database.tenant()
    assert verdict(one, "lanes").result is Result.OK
    broken(
        database,
        "insert into lane (tenant, family, stopped_at, stopped_code)"
        f" values ({tenant}, 1, now() - interval '3 hours', '7001')",
    )
    broken(
        database,
        "insert into outbox (submission_id, tenant, family, priority, message_count, due_at)"
        f" values ('{uuid4()}', {tenant}, 1, 2, 5, now() - interval '3 hours')",
    )
    said = verdict(one, "lanes")
    assert_says(said, Result.FAILURE, "the platform has refused the credentials for 3 hours", "7001", "5 messages wait")
    assert said.of == "default"
    assert verdict(one, "outbox").result is Result.OK, "they are told of once"
    broken(database, "delete from lane")
    assert_says(verdict(one, "outbox"), Result.WARNING, "5 messages wait, the oldest for 3 hours")
    broken(database, "update outbox set lease_until = now() + interval '20 seconds'")
    assert verdict(one, "outbox").result is Result.OK, "somebody has them in hand"
    broken(database, "update outbox set lease_until = now() - interval '2 hours'")
    assert_says(verdict(one, "outbox"), Result.WARNING, "5 messages wait")  # who had them is dead


def test_bodies_that_were_not_understood(database: Database, one: Installation) -> None:
    tenant = database.tenant()
    assert_says(verdict(one, "quarantine"), Result.OK, "empty")

    async def work(pool: Pool, connection: Connection) -> None:
        await put(connection, tenant, b"<x/>", "xml", at=now() - timedelta(hours=1))

    with_pool(database, work)
    assert_says(verdict(one, "quarantine"), Result.WARNING, "1 bodies", "xml")
    broken(database, "update quarantine set replay_result = 'applied'")
    assert_says(verdict(one, "quarantine"), Result.OK, "1 bodies")


@pytest.fixture
def told(database: Database) -> None:
    """Three receipts in the books."""
    tenant = database.tenant()

    async def work(pool: Pool, connection: Connection) -> None:
        for n in range(3):
            await tell(connection, telling(tenant, f"t-{n}"))

    with_pool(database, work)


@pytest.mark.usefixtures("told")
def test_a_row_of_the_ledger_or_a_receipt_that_is_gone(database: Database, one: Installation) -> None:
    assert_says(verdict(one, "receipts counted"), Result.OK, "3 receipts")
    broken(database, "delete from intake where id = (select id from intake order by id limit 1)")
    assert_says(verdict(one, "receipts counted"), Result.FAILURE, "1 receipts are there that the ledger did not count")
    broken(database, "delete from receipt")
    assert_says(verdict(one, "receipts counted"), Result.FAILURE, "2 receipts are missing")
    assert_says(verdict(one, "ledger"), Result.OK, "2 received")  # by itself it can't know


@pytest.mark.usefixtures("told")
def test_a_ledger_whose_guard_was_taken_away(database: Database, one: Installation) -> None:
    assert verdict(one, "ledger").result is Result.OK
    broken(database, "alter table intake drop constraint intake_balances")
    assert_says(verdict(one, "ledger"), Result.FAILURE, "intake")
    broken(database, "update intake set duplicate = 7")
    assert_says(verdict(one, "ledger"), Result.FAILURE, "not what became of it")


@pytest.mark.usefixtures("told")
def test_many_receipts_are_counted_only_when_asked_and_else_the_last_count_speaks(
    database: Database, one: Installation
) -> None:
    broken(database, "update pg_class set reltuples = 3e6 where relname like 'receipt\\_2%' and relkind = 'r'")
    assert_says(verdict(one, "receipts counted"), Result.SKIPPED, "nobody has counted them yet")

    def keep(age: timedelta, receipts: int) -> None:
        async def work(pool: Pool, connection: Connection) -> None:
            await connection.execute("delete from ledger_check")
            await ledger.keep(connection, Count(datetime.now(UTC) - age, receipts, 3, 0.1))

        with_pool(database, work)

    keep(timedelta(hours=5), 3)
    assert_says(verdict(one, "receipts counted"), Result.OK, "5 hours ago")
    keep(timedelta(days=4), 3)
    assert_says(verdict(one, "receipts counted"), Result.WARNING, "4 days old")
    keep(timedelta(hours=5), 1)
    assert_says(verdict(one, "receipts counted"), Result.FAILURE, "2 receipts are missing")
    one.full = True
    heard: list[tuple[int, int]] = []
    one.progress = lambda done, of: heard.append((done, of))
    assert_says(verdict(one, "receipts counted"), Result.OK, "3 receipts", "just now")
    assert heard[0][0] == 0
    assert heard[-1][0] == heard[-1][1] > 0
    assert database.value("select count(*) from ledger_check") == 1, "looking changes nothing"
