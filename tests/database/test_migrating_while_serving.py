"""The next migrations run while this version serves: nobody is refused, nobody waits long, and it goes on with them."""

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import asyncpg
import pytest

from receiver.database.migrate import migrate, migrations_folder
from receiver.database.online_index import add_index
from receiver.database.pool import connect
from tests.database.ingest import Ingest
from tests.receipts.tellings import assert_books_balance
from tests.support import Database, eventually, receiver_process, run

# What a migration may do while the older version serves: docs/upgrade.md.
EXPANDS = '''
"""More is kept of a receipt."""
from alembic import op

revision, down_revision = "0002", "0001"


def upgrade():
    op.get_context().config.attributes["run_script"](op.get_bind(), """
alter table receipt add column operator text;
alter table message add column campaign text;
create table operator (name text not null, constraint operator_pk primary key (name));
create function operators_v1() returns bigint language sql stable
  as $$ select count(*) from operator $$;
""")
'''
INDEXES = '''
"""What a page of an operator's receipts needs."""
from alembic import op

revision, down_revision = "0003", "0002"


def upgrade():
    context = op.get_context()
    with context.autocommit_block():
        context.config.attributes["index_online"](
            op.get_bind(), "receipt", "receipt_by_operator", "(operator, message_id) where operator is not null"
        )
'''


@pytest.fixture
def next_version(tmp_path: Path) -> Path:
    """The migrations of a version after this one."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrations_folder(), folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "0002_operators.py").write_text(EXPANDS)
    (folder / "versions" / "0003_operators_index.py").write_text(INDEXES)
    return folder


@contextmanager
def reader_of(database: Database, table: str) -> Iterator[Event]:
    """A transaction that reads a table until the event is set: what a backup or an export does."""
    reading, over = Event(), Event()

    async def read() -> None:
        connection = await connect(database.dsn, "tests")
        async with connection.transaction():
            await connection.fetchval(f"select count(*) from {table}")
            reading.set()
            await asyncio.to_thread(over.wait, 60)
        await connection.close()

    thread = Thread(target=lambda: asyncio.run(read()))
    thread.start()
    try:
        assert reading.wait(20)
        yield over
    finally:
        over.set()
        thread.join(20)


def stored(database: Database) -> set[str]:
    async def books() -> None:
        connection = await connect(database.dsn, "tests")
        try:
            await assert_books_balance(connection)
        finally:
            await connection.close()

    run(books())
    return {row["transid"] for row in database.fetch("select transid from receipt")}


def test_the_next_migrations_run_while_this_version_takes_receipts(
    database: Database, next_version: Path, tmp_path: Path
) -> None:
    key = database.key()
    with (
        receiver_process(database, tmp_path) as receiver,
        receiver.client(key) as client,
        Ingest(receiver.notify_url(), "first") as first,
    ):
        first.more()
        asked = client.get("/v1/messages", params={"transid": first.acknowledged[0]})
        assert run(migrate(database.dsn, next_version)) == ("0001", "0003")
        first.more()
        # The older version goes on with what it had prepared before.
        again = client.get("/v1/messages", params={"transid": first.acknowledged[0]})
        assert (again.status_code, again.json()) == (200, asked.json())
    # It starts on the newer schema, too.
    with receiver_process(database, tmp_path) as receiver, Ingest(receiver.notify_url(), "second") as second:
        second.more()
    assert first.refused == second.refused == []
    assert {*first.acknowledged, *second.acknowledged} <= stored(database)
    assert database.value("select indisvalid from pg_index where indexrelid = 'receipt_by_operator'::regclass")
    parts = "select count(*) from pg_inherits where inhparent = $1::text::regclass"
    assert database.value(parts, "receipt_by_operator") == database.value(parts, "receipt")
    assert database.value("select operators_v1()") == 0


def test_a_migration_that_has_to_wait_for_a_reader_lets_the_receipts_pass(
    database: Database, next_version: Path, tmp_path: Path
) -> None:
    done: list[tuple[str | None, str]] = []
    with (
        receiver_process(database, tmp_path) as receiver,
        Ingest(receiver.notify_url(), "passing") as ingest,
        reader_of(database, "receipt") as over,
    ):
        migrating = Thread(target=lambda: done.append(run(migrate(database.dsn, next_version))))
        migrating.start()
        waits = "select count(*) from pg_stat_activity where application_name = 'receiver migrate' and state = 'active'"
        for _ in range(3):  # tries of the migration
            eventually(lambda: database.value(f"{waits} and wait_event_type = 'Lock'"), every=0.001)
            eventually(lambda: not database.value(f"{waits} and wait_event_type = 'Lock'"), every=0.001)
        ingest.more()
        assert done == []
        over.set()
        migrating.join(60)
        ingest.more()
    assert done == [("0001", "0003")]
    assert ingest.refused == []
    assert ingest.longest < 2.0  # the reader stayed longer, and a lock waits 0.2 s
    assert set(ingest.acknowledged) <= stored(database)


def test_an_index_that_a_killed_try_left_half_made_is_made_anew(database: Database) -> None:
    week = database.value("select to_char(min(starts_on), 'YYYYMMDD') from week")
    part, valid = f"message_by_sender_{week}", "select indisvalid from pg_index where indexrelid = $1::text::regclass"

    async def work() -> None:
        connection = await connect(database.dsn, "tests", statement_timeout="500")
        other = await connect(database.dsn, "tests")
        try:
            async with other.transaction():
                await other.execute(f"lock table message_{week} in row exclusive mode")  # as an insert has it
                with pytest.raises(asyncpg.QueryCanceledError):
                    await connection.execute(f"create index concurrently {part} on message_{week} (sender, id)")
            assert not await connection.fetchval(valid, part)
            await add_index(connection, "message", "message_by_sender", "(sender, id)")
            assert await connection.fetchval("show statement_timeout") == "500ms"
        finally:
            await connection.close()
            await other.close()

    run(work())
    assert database.value(valid, part)
    assert database.value(valid, "message_by_sender")
