"""docs/upgrade.md: an embedded Postgres is carried into a new cluster by the very block of the page."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from receiver.database.embedded import find_binaries, visiting
from receiver.database.migrate import migrate
from tests.database.restoring import program, reports_by, shown, sql_role, takes_up_where_it_was, tell
from tests.support import SECRET, Database, environment_of, free_port, receiver_command, receiver_process, run

ROLE = "metabase"
MIGRATED = "receiver migrate"
KEPT = ("tenant", "api_key", "message", "message_state", "message_key", "receipt", "change", "intake")
ENDS_WHAT_IT_STARTED = "trap 'kill $(jobs -p) || : ; wait' EXIT"  # also when a line in between fails
BINARIES = find_binaries()  # those that the command itself finds


def block(ports: dict[str, int]) -> str:
    """The page's block on ports of our own, without its last command, which serves until it is ended."""
    text = shown("upgrade.md", "Carry them over").rstrip()
    assert text.endswith(f"\n{MIGRATED} && receiver serve")
    assert set(re.findall(r"\b8\d{3}\b", text)) == set(ports)
    for shown_port, port in ports.items():
        text = text.replace(shown_port, str(port))
    return text.removesuffix(" && receiver serve")


def commands(place: Path) -> str:
    """A PATH on which `receiver` is this checkout's, and Postgres's programs are those of the embedded server."""
    place.mkdir()
    (place / "receiver").write_text(f'#!/bin/sh\nexec {" ".join(receiver_command())} "$@"\n')
    (place / "receiver").chmod(0o755)
    folders = {program(name, BINARIES).parent for name in ("pg_dump", "pg_restore", "psql")}
    return ":".join([str(place), *map(str, folders), os.environ["PATH"]])


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl: apt-get install curl")
def test_the_pages_block_carries_an_embedded_postgres_into_a_new_cluster(folder: Path, tmp_path: Path) -> None:
    with visiting(folder) as cluster:
        before = Database(cluster.dsn, "receiver")
        run(migrate(before.dsn))
        (folder / "secret").write_text(SECRET)
        key = before.key("read")
        sql_role(ROLE, before)
        with receiver_process(before, tmp_path) as receiver:
            tell(receiver.notify_url(), "told before")
        counts = before.counts()
        kept = {table: counts[table] for table in KEPT}
    (folder / "spool").mkdir()
    (folder / "spool" / "kept").touch()

    ports = {"8000": free_port(), "8009": free_port()}
    settings = environment_of(
        RECEIVER_DATA_DIR=str(folder),
        RECEIVER_PORT=str(ports["8000"]),
        RECEIVER_PUBLIC_URL="https://receipts.example.com",
        PATH=commands(tmp_path / "bin"),
        no_proxy="*",
    )
    words = ["bash", "-e", "-c", f"{ENDS_WHAT_IT_STARTED}\n{block(ports)}"]
    ran = subprocess.run(words, env=settings, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr

    assert (folder.with_name("data.old") / "postgres" / "PG_VERSION").exists()
    assert (folder / "secret").read_text() == SECRET
    assert (folder / "spool" / "kept").exists()
    with visiting(folder) as cluster:
        after = Database(cluster.dsn, "receiver")
        assert not after.value("select exists (select from pg_roles where rolname = $1)", ROLE)
        counts = after.counts()
        assert {table: counts[table] for table in KEPT} == kept
        sql_role(ROLE, after)
        assert reports_by(ROLE, after) == 1
        with receiver_process(after, tmp_path) as receiver:
            takes_up_where_it_was(after, receiver.notify_url(), "told before")
            with receiver.client(key) as client:
                found = client.get("/v1/messages", params={"transid": "told before"}).json()["messages"]
        assert [message["state"] for message in found] == ["delivered"]
