"""`receiver import`, run as an operator runs it: real files, processes, a real Postgres."""

import asyncio
import contextlib
import gzip
import json
import os
import pty
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from receiver.database.pool import connect
from tests.cli.forks import Fork, forked
from tests.cli.test_commands import one_sentence
from tests.receipts.exports import FORMS, exported, in_lines, write
from tests.receipts.tellings import assert_books_balance
from tests.support import Database, cloned, environment_of, eventually, receiver_command, run

IMPORTED = 2
MANY = 4_000  # receipts: an import that takes half a second or more
LEDGER = """
select feed, sum(received) as n, sum(applied) as applied, sum(duplicate) as duplicate, sum(quarantined) as quarantined
  from intake group by feed
"""
POSITION = "select position from import where done_at is null"
BY_FEED = "select feed, count(*) as n from receipt where transid like $1 group by feed"


@pytest.fixture(scope="module")
def module_database(postgres: str, template: str) -> Iterator[Database]:
    with cloned(postgres, template, "import_file") as database:
        yield database


def environment(database: Database) -> dict[str, str]:
    return environment_of(RECEIVER_DATABASE_URL=database.dsn) | {"COLUMNS": "200"}


def importing(database: Database, *arguments: str | Path, stdin: bytes = b"") -> "subprocess.CompletedProcess[str]":
    return Fork(["import", *map(str, arguments)], environment(database), stdin).end()


def report(database: Database, *arguments: str | Path) -> dict[str, Any]:
    ran = importing(database, *arguments, "--json")
    assert ran.returncode == 0, ran.stderr
    told: dict[str, Any] = json.loads(ran.stdout)
    results = ("applied", "duplicate", "late", "quarantined", "forged")
    assert told["received"] == sum(told[result] for result in results)
    return told


def balance(database: Database) -> None:
    async def work() -> None:
        connection = await connect(database.dsn, "tests")
        try:
            await assert_books_balance(connection)
        finally:
            await connection.close()

    run(work())


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_imported_once_and_found_again(form: str, module_database: Database, tmp_path: Path) -> None:
    file = write(tmp_path / "export", FORMS[form](range(300), form))
    first = report(module_database, file)
    assert (first["received"], first["applied"], first["duplicate"]) == (300, 300, 0)
    again = report(module_database, file)
    assert (again["received"], again["applied"], again["duplicate"]) == (300, 0, 300)
    assert again["resumed_at"] == 0
    feeds = module_database.fetch(BY_FEED, f"{form}-%")
    assert [tuple(row) for row in feeds] == [(IMPORTED, 300)]
    balance(module_database)


def test_the_same_receipts_are_known_in_every_form(module_database: Database, tmp_path: Path) -> None:
    assert report(module_database, write(tmp_path / "1", exported(range(50), "any")))["applied"] == 50
    for number, form in enumerate(FORMS.values()):
        packed = gzip.compress(form(range(50), "any"))
        assert report(module_database, write(tmp_path / f"{number}.gz", packed))["duplicate"] == 50


def test_the_ledger_has_the_feed(database: Database, tmp_path: Path) -> None:
    file = write(tmp_path / "export", exported(range(300)) + b"\nhello\n{}\n")
    told = report(database, file)
    assert (told["applied"], told["quarantined"]) == (300, 2)
    assert [tuple(row) for row in database.fetch(LEDGER)] == [(IMPORTED, 302, 300, 0, 2)]
    assert report(database, file)["quarantined"] == 2
    assert [tuple(row) for row in database.fetch(LEDGER)] == [(IMPORTED, 604, 300, 300, 4)]
    assert database.value("select count(*) from quarantine") == 2
    balance(database)


def test_what_was_quarantined_is_no_failure_and_is_pointed_to(module_database: Database, tmp_path: Path) -> None:
    file = write(tmp_path / "export", in_lines(range(3), "words") + b'{"torn": "')
    ran = importing(module_database, file, "--tenant", "default")
    assert ran.returncode == 0
    assert ran.stdout.startswith("received 4: 3 applied, 0 duplicate, 0 late, 1 quarantined, 0 forged")
    assert "receiver quarantine list" in ran.stderr


def test_standard_input_is_imported(module_database: Database) -> None:
    for result in ("applied", "duplicate"):
        ran = importing(module_database, "-", "--json", stdin=exported(range(20), "stdin"))
        assert json.loads(ran.stdout)[result] == 20


def test_a_closed_standard_input_is_told(module_database: Database) -> None:
    shell = shlex.join([*receiver_command(), "import", "-"]) + " <&-"
    ran = subprocess.run(
        ["sh", "-c", shell], env=environment(module_database), capture_output=True, text=True, timeout=60, check=False
    )
    one_sentence(ran, "standard input is closed")


def test_what_is_no_export_is_refused_in_a_sentence(module_database: Database, tmp_path: Path) -> None:
    one_sentence(importing(module_database, write(tmp_path / "a", b"a,b\n1,2\n")), "no export", "transid")
    one_sentence(importing(module_database, tmp_path / "b"), "can't be read")
    one_sentence(importing(module_database, tmp_path), "can't be read")
    one_sentence(importing(module_database, tmp_path / "a", "--tenant", "acme"), "acme", code=2)
    old = write(tmp_path / "d", b"transid,code,deliveryStatus\ra,7500,Delivered\r")  # lines of an old Macintosh
    one_sentence(importing(module_database, old), "no export")
    torn = gzip.compress(exported(range(2000), "torn"))
    one_sentence(importing(module_database, write(tmp_path / "c", torn[: len(torn) // 2])), "ends before", "are in")


@pytest.fixture
def slow_file(tmp_path: Path) -> Path:
    """A file that takes some seconds."""
    return write(tmp_path / "export.json", exported(range(MANY)))


def halfway(database: Database, process: "subprocess.Popen[Any] | Fork", least: int = 1) -> int:
    """The position of the import, once it has one and is not done."""

    async def work() -> int:
        connection = await connect(database.dsn, "tests")
        try:
            async with asyncio.timeout(60):
                while True:
                    assert process.poll() is None, "it has ended"
                    position: int | None = await connection.fetchval(POSITION)
                    if (position or 0) >= least:
                        return position or 0
                    await asyncio.sleep(0.005)
        finally:
            await connection.close()

    return run(work())


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT], ids=lambda end: end.name)
def test_it_goes_on_where_it_was_cut_off(end: signal.Signals, database: Database, slow_file: Path) -> None:
    with forked(["import", str(slow_file)], environment(database)) as process:
        halfway(database, process, least=500_000)
        process.send_signal(end)
        ran = process.end()
    if end is signal.SIGKILL:
        assert ran.returncode == -signal.SIGKILL
    else:
        assert ran.returncode == 1
        assert "go on from there" in ran.stderr
    [row] = eventually(lambda: database.fetch("select * from import where done_at is null"))
    assert 0 < row["position"] < slow_file.stat().st_size
    told = report(database, slow_file)
    assert told["resumed_at"] >= row["position"]
    assert (told["received"], told["applied"], told["duplicate"]) == (MANY, MANY, 0)
    assert database.value("select count(*) from receipt where feed = 2") == MANY
    balance(database)


CUT = """
select pg_terminate_backend(pid) from pg_stat_activity
 where application_name = 'receiver import' and datname = current_database()
"""


def test_lost_connections_cost_nothing(database: Database, slow_file: Path) -> None:
    cut = 0
    with forked(["import", str(slow_file), "--json"], environment(database)) as process:
        for part in (0.1, 0.3, 0.5):
            halfway(database, process, least=int(part * slow_file.stat().st_size))
            cut += len(database.fetch(CUT))
        ran = process.end()
    assert ran.returncode == 0, ran.stderr
    assert cut > 0
    told = json.loads(ran.stdout)
    assert (told["received"], told["applied"], told["duplicate"]) == (MANY, MANY, 0)
    balance(database)


def test_two_runs_at_once_do_not_count_twice(database: Database, slow_file: Path) -> None:
    both = [Fork(["import", str(slow_file)], environment(database)) for _ in range(2)]
    ends = [(ran.stderr, ran.returncode) for ran in (process.end() for process in both)]
    assert 0 in [code for _, code in ends], ends
    assert all(code == 0 or "another import" in said for said, code in ends), ends
    assert database.value("select count(*) from receipt where feed = 2") == MANY
    assert database.value("select sum(applied) from intake where feed = 2") == MANY
    balance(database)


def test_what_holds_no_receipt_is_not_read_on(database: Database, tmp_path: Path) -> None:
    file = write(tmp_path / "other.ndjson", b"".join(b'{"order": %d}\n' % n for n in range(3_000)))
    one_sentence(importing(database, file), "no export", "none of its first")
    assert database.value("select count(*) from quarantine") < 2_000


def test_a_restart_begins_at_the_beginning(database: Database, tmp_path: Path) -> None:
    content = exported(range(600))
    file = write(tmp_path / "export.json", content)
    assert report(database, file)["applied"] == 600
    middle = content.index(b",\n", len(content) // 2)
    for options, resumed_at in (([], middle), (["--restart"], 0)):
        database.fetch(
            "update import set done_at = null, position = $1, received = 0, applied = 0, duplicate = 0", middle
        )
        told = report(database, file, *options)
        assert told["resumed_at"] == resumed_at
        assert told["duplicate"] == content[resumed_at:].count(b"transid")


def test_a_bar_is_shown_at_a_terminal(module_database: Database, tmp_path: Path) -> None:
    file = write(tmp_path / "export", exported(range(600), "bar"))
    mine, theirs = pty.openpty()
    process = subprocess.Popen(
        [*receiver_command(), "import", str(file), "--json"],
        env=environment(module_database) | {"TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal ends
        while part := os.read(mine, 65536):
            shown += part
    os.close(mine)
    told, _ = process.communicate(timeout=60)
    assert json.loads(told)["received"] == 600
    assert b"600 receipts" in shown
    assert b"/s" in shown


def peak(process: "subprocess.Popen[bytes]") -> int:
    """The most memory that a process had until now, in kB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def test_a_file_of_any_length_takes_the_same_memory(database: Database, tmp_path: Path) -> None:
    # One body that is refused, again and again: Postgres is soon done with it.
    line = b'{"deliveryInfoNotification": {"deliveryInfo": {"filler": "' + b"x" * 60_000 + b'"}}}\n'
    size = 50_000_000
    file = tmp_path / "long.ndjson"
    with file.open("wb") as written:
        while written.tell() < size:
            written.write(line)
    process = subprocess.Popen([*receiver_command(), "import", str(file)], env=environment(database))
    halfway(database, process, least=10_000_000)
    first = peak(process)
    halfway(database, process, least=45_000_000)
    second = peak(process)
    assert process.wait(60) == 0
    assert second - first < 10_000, (first, second)
