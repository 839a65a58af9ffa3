"""The plans on sixty days of messages: nothing reads a partition with more than a thousand rows from end to end."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from bench.issued import Issued, issue
from bench.lookups import BY, asked, filters_of, large_tables, look_up, scans, too_much
from bench.preload import fill, make_weeks
from receiver.database.pool import connect, open_pool
from receiver.ids import TenantId
from receiver.queries.filters import Filters
from tests.bench.test_proof import told
from tests.support import Database, run

MESSAGES, WEEKS, FEW = 9_000, 3, 20


async def scanned_without_indexes(dsn: str, tenant: TenantId, m: Issued) -> list[str]:
    """What is read from end to end where no index may be used."""
    connection = await connect(
        dsn, "tests", enable_indexscan="off", enable_bitmapscan="off", enable_indexonlyscan="off"
    )
    try:
        return await too_much(connection, tenant, await large_tables(connection), "transid", asked("transid", m))
    finally:
        await connection.close()


async def scanned_while_small(dsn: str, tenant: TenantId, m: Issued) -> list[str]:
    """What the plans of look-ups read from end to end in a week of a few messages, which Postgres has just counted."""
    counting = await connect(dsn, "tests")
    await counting.execute("vacuum analyze")
    few = await large_tables(counting, 0)
    await counting.close()
    assert few["message_key_g1"] == FEW
    wanted: dict[str, Filters | UUID] = {kind: asked(kind, m) for kind in BY if kind != "id"}
    wanted |= {"id": m.id, "failed": filters_of({"state": "failed"}), "submitted": filters_of({"state": "submitted"})}
    pool = await open_pool(dsn, "tests", 1, writer=False)
    found: list[str] = []
    async with pool.acquire() as connection:
        for kind, looked_for in wanted.items():
            found += await too_much(connection, tenant, few, kind, looked_for)
    await pool.close()
    return found


def test_a_plan_that_is_made_while_a_week_is_small_is_good_when_it_has_grown(database: Database) -> None:
    tenant = database.tenant()
    issued = run(issue(database.dsn, tenant, FEW))
    assert run(scanned_while_small(database.dsn, tenant, issued[0])) == []


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
