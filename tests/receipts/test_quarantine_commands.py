"""`receiver quarantine`, run as an operator or a script runs it."""

import json
import os
import pty
import subprocess
from collections.abc import Iterator

import pytest

from receiver.database.pool import connect
from receiver.receipts.quarantine import Place
from tests.cli.test_commands import command, one_sentence
from tests.receipts.quarantining import minutes_ago, put
from tests.receipts.tellings import assert_books_balance, body
from tests.support import Database, cloned, environment_of, receiver_command, run

ONE = "447700900001"


@pytest.fixture(scope="module")
def module_database(postgres: str, template: str) -> Iterator[Database]:
    with cloned(postgres, template, "quarantine_commands") as database:
        database.tenant()
        yield database


@pytest.fixture
def cleared(module_database: Database) -> Database:
    module_database.fetch("delete from quarantine")
    return module_database


def keep(database: Database, *bodies: tuple[bytes, str], tenant: str = "default") -> list[Place]:
    """Rows put in by hand, the first told longest ago."""
    number = database.tenant(tenant)

    async def work() -> list[Place]:
        connection = await connect(database.dsn, "tests")
        try:
            return [
                await put(connection, number, raw, reason, at=minutes_ago(len(bodies) - n))
                for n, (raw, reason) in enumerate(bodies)
            ]
        finally:
            await connection.close()

    return run(work())


def delivered(transid: str) -> bytes:
    return body({"deliveryStatus": "Delivered", "deliveryChannel": "SMS", "destination": ONE}, transid)


def quarantine(database: Database, *arguments: str) -> "subprocess.CompletedProcess[str]":
    ran = command("quarantine", *arguments, DATABASE_URL=database.dsn)
    assert "Traceback" not in ran.stderr
    return ran


def test_the_list_for_eyes_and_for_scripts(cleared: Database) -> None:
    places = keep(cleared, (b"<x>[/red]\x1b[31m</x>", "xml"), (b"[1]", "no_receipt"), (b"\xff\xfe", "not_json"))
    shown = quarantine(cleared, "list")
    assert shown.returncode == 0, shown.stderr
    for part in (*map(str, places), "xml", "no_receipt", "not_json", "<x>[/red]"):
        assert part in shown.stdout
    assert "\x1b" not in shown.stdout
    assert "quarantine show" in shown.stderr
    told = json.loads(quarantine(cleared, "list", "--json").stdout)
    assert [item["id"] for item in told] == [str(place) for place in places[::-1]]
    assert told[2]["headers"] == {"content-type": "application/json"}
    assert [item["reason"] for item in json.loads(quarantine(cleared, "list", "--reason", "xml", "--json").stdout)] == [
        "xml"
    ]
    assert len(json.loads(quarantine(cleared, "list", "--limit", "2", "--json").stdout)) == 2
    assert "there are more" in quarantine(cleared, "list", "--limit", "2").stderr


def test_an_empty_quarantine_says_so(cleared: Database) -> None:
    ran = quarantine(cleared, "list")
    assert (ran.returncode, ran.stdout) == (0, "")
    assert "nothing" in ran.stderr
    assert json.loads(quarantine(cleared, "list", "--json").stdout) == []
    assert "nothing" in quarantine(cleared, "replay", "--all").stdout


def test_one_body_is_shown_whole_with_its_headers(cleared: Database) -> None:
    raw = b"<deliveryInfo>" + b"\n<x>[/bold]</x>" * 100 + b"\n<last/>"
    (place,) = keep(cleared, (raw, "xml"))
    shown = quarantine(cleared, "show", str(place))
    assert shown.returncode == 0, shown.stderr
    for part in (str(place), "Switch the notification to JSON", "content-type: application/json", "<last/>", "once"):
        assert part in shown.stdout
    assert f"--dry-run {place}" in shown.stderr
    assert json.loads(quarantine(cleared, "show", str(place), "--json").stdout)["body"] == raw.decode()


def test_a_dry_run_tells_and_writes_nothing_and_a_replay_does_it(cleared: Database) -> None:
    (place,) = keep(cleared, (delivered("t-cli"), "reader_failed"))
    counts = cleared.counts()
    would = quarantine(cleared, "replay", "--dry-run", str(place))
    assert would.returncode == 0, would.stderr
    for part in ("would become", "sms Delivered", "applied", "new ", "delivered"):
        assert part in would.stdout
    assert "nothing was written" in would.stderr
    assert cleared.counts() == counts
    done = json.loads(quarantine(cleared, "replay", str(place), "--json").stdout)
    assert (done["result"], done["receipts"][0]["result"]) == ("applied", "applied")
    assert cleared.counts() == {
        **counts,
        **{table: counts[table] + 1 for table in ("message", "message_state", "message_key", "receipt", "change")},
        "intake": counts["intake"] + 1,
    }
    again = quarantine(cleared, "replay", str(place))
    assert "duplicate" in again.stdout
    assert "found by its key" in again.stdout
    assert "applied" in quarantine(cleared, "show", str(place)).stdout


def test_what_stays_says_where_to_read_on(cleared: Database) -> None:
    (place,) = keep(cleared, (b"<x/>", "xml"))
    ran = quarantine(cleared, "replay", str(place))
    assert (ran.returncode, "unreadable" in ran.stdout) == (0, True)
    assert "docs/quarantine.md" in ran.stderr


def test_all_of_a_reason_are_replayed_and_what_was_applied_is_left_out_next_time(cleared: Database) -> None:
    good = [(delivered(f"t-all-{n}"), "reader_failed") for n in range(120)]
    keep(cleared, *good, (b"<x/>", "reader_failed"), (b"<y/>", "xml"))
    counts = cleared.counts()
    options = ("replay", "--all", "--reason", "reader_failed")
    would = json.loads(quarantine(cleared, *options, "--dry-run", "--json").stdout)
    expected = {"bodies": {"applied": 120, "not_applied": 1}, "receipts": {"applied": 120, "unreadable": 1}}
    assert would == {"dry_run": True, **expected}
    assert cleared.counts() == counts
    shown = quarantine(cleared, *options)
    assert shown.returncode == 0, shown.stderr
    assert "120" in shown.stdout
    assert "--replayed not_applied" in shown.stderr
    left = json.loads(quarantine(cleared, *options, "--json").stdout)
    assert left["bodies"] == {"not_applied": 1}
    assert cleared.value("select count(*) from quarantine where replay_result is null") == 1, "of another reason"

    async def books() -> None:
        connection = await connect(cleared.dsn, "tests")
        await assert_books_balance(connection)
        await connection.close()

    run(books())


def test_at_a_terminal_there_is_a_bar_and_elsewhere_none(cleared: Database) -> None:
    keep(cleared, *((delivered(f"t-bar-{n}"), "reader_failed") for n in range(5)))
    assert "replaying" not in quarantine(cleared, "replay", "--all", "--dry-run").stderr
    ours, theirs = pty.openpty()
    ran = subprocess.run(
        [*receiver_command(), "quarantine", "replay", "--all", "--dry-run"],
        env=environment_of(RECEIVER_DATABASE_URL=cleared.dsn) | {"TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=theirs,
        timeout=60,
        check=False,
    )
    os.close(theirs)
    said = os.read(ours, 65536)
    os.close(ours)
    assert ran.returncode == 0
    assert b"replaying" in said


def test_another_tenant_s_bodies_are_its_own(cleared: Database) -> None:
    (place,) = keep(cleared, (b"<x/>", "xml"), tenant="clinic")
    one_sentence(quarantine(cleared, "show", str(place)), str(place), "quarantine list")
    assert json.loads(quarantine(cleared, "list", "--json").stdout) == []
    told = json.loads(quarantine(cleared, "list", "--tenant", "clinic", "--json").stdout)
    assert [item["id"] for item in told] == [str(place)]


def test_what_can_not_work_is_one_sentence(cleared: Database) -> None:
    nowhere = f"20260101-{'0' * 32}"
    one_sentence(quarantine(cleared, "show", "x"), "no id", "quarantine list", code=2)
    one_sentence(quarantine(cleared, "show", nowhere), nowhere, "quarantine list")
    one_sentence(quarantine(cleared, "replay", nowhere), nowhere)
    one_sentence(quarantine(cleared, "replay"), "--all", code=2)
    one_sentence(quarantine(cleared, "replay", nowhere, "--all"), "not both", code=2)
    one_sentence(quarantine(cleared, "replay", nowhere, "--reason", "xml"), "--reason", code=2)
    one_sentence(quarantine(cleared, "replay", "--all", "--believe"), "--reason forged", code=2)
    one_sentence(quarantine(cleared, "list", "--tenant", "nobody"), "nobody", "default", code=2)
    one_sentence(quarantine(cleared, "list", "--replayed", "perhaps"), "perhaps", code=2)
    away = command("quarantine", "list", DATABASE_URL="postgresql://127.0.0.1:9/receiver")
    one_sentence(away, "does not answer")
