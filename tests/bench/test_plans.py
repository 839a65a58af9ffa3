"""The plans on sixty days of messages: nothing reads a partition with more than a thousand rows from end to end."""

from datetime import UTC, datetime, timedelta

from bench.issued import Issued
from bench.lookups import asked, large_tables, look_up, scans, too_much
from bench.preload import fill, make_weeks
from receiver.database.pool import connect
from receiver.ids import TenantId
from tests.bench.test_proof import told
from tests.support import Database, run

MESSAGES, WEEKS = 30_000, 3


async def scanned_without_indexes(dsn: str, tenant: TenantId, m: Issued) -> list[str]:
    """What is read from end to end where no index may be used."""
    connection = await connect(
        dsn, "tests", enable_indexscan="off", enable_bitmapscan="off", enable_indexonlyscan="off"
    )
    try:
        return await too_much(connection, tenant, await large_tables(connection), "transid", asked("transid", m))
    finally:
        await connection.close()


def test_look_ups_and_ingest_read_no_large_partition_from_end_to_end(database: Database) -> None:
    tenant = database.tenant()
    weeks = run(make_weeks(database.dsn, datetime.now(UTC) - timedelta(minutes=1)))
    sample = run(fill(database.dsn, tenant, weeks[-WEEKS:], 0, MESSAGES, lambda _number: None))
    assert database.value("select count(*) from receipt where feed = 1") == 2 * MESSAGES
    assert run(scanned_without_indexes(database.dsn, tenant, sample[0])), "it would be found"
    assert run(look_up(database.dsn, tenant, sample, weeks[0].begin, weeks[-1].end, times=5)).scans == []
    before = run(scans(database.dsn))
    run(told(database.dsn, tenant))
    after = run(scans(database.dsn))
    assert {table for table, number in after.items() if number > before.get(table, 0)} == set()
