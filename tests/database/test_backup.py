"""docs/backup.md: what was dumped or copied under load serves again, and takes up where it was."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import httpx2
import pytest

from receiver.database.embedded import find_binaries, visiting
from receiver.database.migrate import migrate
from receiver.database.pool import connect
from tests.conftest import BINARIES
from tests.database.ingest import Ingest
from tests.receipts.tellings import assert_books_balance, body
from tests.support import SECRET, Database, receiver_process, run

PARTITIONS = "select inhparent::regclass::text as t, inhrelid::regclass::text as p from pg_inherits order by 1, 2"
PROGRAMS = find_binaries(Path(BINARIES) if BINARIES else None)


def program(name: str) -> Path:
    """One of Postgres's programs, of the server's own version; skips the test where it is missing, but not under CI."""
    if not (PROGRAMS / name).is_file():
        reason = f"{PROGRAMS} has no {name}: apt-get install postgresql-client, of the server's version"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return PROGRAMS / name


def environment(dsn: str) -> dict[str, str]:
    """What libpq's programs need to reach a database: no password on a command line."""
    parts = urlsplit(dsn)
    host = parse_qs(parts.query)["host"][0]
    return {
        "PATH": os.environ["PATH"],
        "PGHOST": host,
        "PGPORT": "5432",
        "PGUSER": unquote(parts.username or ""),
        "PGPASSWORD": unquote(parts.password or ""),
        "PGDATABASE": parts.path.removeprefix("/"),
    }


def call(*words: str | Path, dsn: str) -> None:
    done = subprocess.run(words, env=environment(dsn), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done


def tell(url: str, transid: str) -> None:
    info = {"deliveryChannel": "SMS", "deliveryStatus": "Delivered", "destination": "447700900001"}
    assert httpx2.post(url, content=body(info, transid), trust_env=False, timeout=20).status_code == 200


async def books(dsn: str) -> None:
    connection = await connect(dsn, "tests")
    try:
        await assert_books_balance(connection)
    finally:
        await connection.close()


def takes_up_where_it_was(restored: Database, notify_url: str, known: str) -> None:
    """A receipt told before is a duplicate, a new one is applied, and nothing else changed."""
    before = restored.counts()
    tell(notify_url, known)
    tell(notify_url, "told after the restore")
    after = restored.counts()
    grown = {table: after[table] - before[table] for table in after if after[table] != before[table]}
    assert {table: grown.get(table) for table in ("message", "message_state", "receipt")} == dict.fromkeys(
        ("message", "message_state", "receipt"), 1
    )
    assert restored.value("select sum(duplicate) from intake") >= 1
    run(books(restored.dsn))


def test_a_dump_made_under_load_is_restored_and_serves(
    database: Database, fresh_database: Callable[[], Database], postgres: str, tmp_path: Path
) -> None:
    dump, restored = tmp_path / "receiver.dump", fresh_database()
    admin = Database(postgres, "receiver")
    admin.fetch(f"drop database {restored.name}")
    admin.fetch(f"create database {restored.name} template template0")
    key = database.key("read")
    with receiver_process(database, tmp_path) as receiver, Ingest(receiver.notify_url(), "dumped") as ingest:
        ingest.more()
        known = list(ingest.acknowledged)
        before = [tuple(row) for row in database.fetch(PARTITIONS)]
        call(program("pg_dump"), "--format=custom", f"--file={dump}", dsn=database.dsn)
        ingest.more()
    assert ingest.refused == []
    call(program("pg_restore"), "--exit-on-error", f"--dbname={restored.name}", dump, dsn=restored.dsn)
    restored.fetch("analyze")

    kept = {row["transid"] for row in restored.fetch("select transid from receipt")}
    assert set(known) <= kept
    assert kept <= {row["transid"] for row in database.fetch("select transid from receipt")}
    run(books(restored.dsn))
    there = {tuple(row) for row in restored.fetch(PARTITIONS)}
    assert set(before) <= there <= {tuple(row) for row in database.fetch(PARTITIONS)}, "more were made meanwhile"
    assert restored.value("select last_value from change_seq") >= restored.value("select max(seq) from change")
    with receiver_process(restored, tmp_path) as receiver:
        with receiver.client(key) as client:
            found = client.get("/v1/messages", params={"transid": known[0]}).json()["messages"]
        assert [message["state"] for message in found] == ["delivered"]
        takes_up_where_it_was(restored, receiver.notify_url(), known[0])


def test_a_base_backup_made_under_load_serves_as_a_data_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    folder, copy = tmp_path / "data", tmp_path / "restored"
    with visiting(folder, binaries=PROGRAMS) as cluster:
        database = Database(cluster.dsn, "receiver")
        run(migrate(database.dsn))
        with receiver_process(database, tmp_path) as receiver, Ingest(receiver.notify_url(), "copied") as ingest:
            ingest.more()
            known = list(ingest.acknowledged)
            words = ("--checkpoint=fast", "--wal-method=stream", f"--pgdata={tmp_path / 'base'}")
            call(program("pg_basebackup"), *words, dsn=database.dsn)
            ingest.more()
        assert ingest.refused == []
    call(program("pg_verifybackup"), tmp_path / "base", dsn=database.dsn)

    copy.mkdir(mode=0o711)
    shutil.copy(folder / "postgres-password", copy)
    (tmp_path / "base").rename(copy / "postgres")
    if os.geteuid() == 0:
        owner = (folder / "postgres").stat()
        for path in (copy / "postgres", *(copy / "postgres").rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
    with visiting(copy, binaries=PROGRAMS) as cluster:
        restored = Database(cluster.dsn, "receiver")
        assert set(known) <= {row["transid"] for row in restored.fetch("select transid from receipt")}
        with receiver_process(restored, tmp_path, RECEIVER_SECRET=SECRET) as receiver:
            takes_up_where_it_was(restored, receiver.notify_url(), known[0])
