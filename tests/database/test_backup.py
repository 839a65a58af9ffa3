"""docs/backup.md: what was dumped or copied under load serves again, and takes up where it was."""

import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from receiver.database.embedded import visiting
from receiver.database.migrate import migrate
from tests.database.ingest import Ingest
from tests.database.restoring import (
    PROGRAMS,
    books,
    call,
    program,
    reports_by,
    shown,
    sql_role,
    takes_up_where_it_was,
)
from tests.support import SECRET, Database, receiver_process, run

PARTITIONS = "select inhparent::regclass::text as t, inhrelid::regclass::text as p from pg_inherits order by 1, 2"
ROLE = f"reports_{os.getpid()}"


@pytest.fixture
def leave_role(database: Database) -> Iterator[Callable[[Database], None]]:
    """Takes the role for reports away from a database and from the server: gone after the test, too."""

    def leave(where: Database) -> None:
        if where.value("select exists (select from pg_roles where rolname = $1)", ROLE):
            where.fetch(f"drop owned by {ROLE}")
            where.fetch(f"drop role {ROLE}")

    yield leave
    leave(database)


def restoring(database: str, dump: Path) -> list[str]:
    """The words after `pg_restore` on the page, for another database and file."""
    (line,) = re.findall("^pg_restore (.*)$", shown("backup.md", "Restoring, into a database"), re.MULTILINE)
    asked = line.replace("--dbname=receiver ", f"--dbname={database} ").replace("receiver.dump", str(dump))
    assert asked.count(database) == asked.count(str(dump)) == 1, line
    return shlex.split(asked)


def test_a_dump_made_under_load_is_restored_where_its_roles_are_missing_and_serves(
    database: Database,
    fresh_database: Callable[[], Database],
    postgres: str,
    tmp_path: Path,
    leave_role: Callable[[Database], None],
) -> None:
    dump, restored = tmp_path / "receiver.dump", fresh_database()
    admin = Database(postgres, "receiver")
    admin.fetch(f"drop database {restored.name}")
    admin.fetch(f"create database {restored.name} template template0")
    key = database.key("read")
    sql_role(ROLE, database)
    with receiver_process(database, tmp_path) as receiver, Ingest(receiver.notify_url(), "dumped") as ingest:
        ingest.more()
        known = list(ingest.acknowledged)
        before = [tuple(row) for row in database.fetch(PARTITIONS)]
        call(program("pg_dump"), "--format=custom", f"--file={dump}", dsn=database.dsn)
        ingest.more()
    assert ingest.refused == []
    leave_role(database)
    call(program("pg_restore"), *restoring(restored.name, dump), dsn=restored.dsn)
    restored.fetch("analyze")
    sql_role(ROLE, restored)
    assert reports_by(ROLE, restored) >= len(known)
    leave_role(restored)

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
