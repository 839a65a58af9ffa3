"""What the pages on backups and upgrades say, run: Postgres's programs, and what a restored database must be."""

import os
import re
import subprocess
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import httpx2
import pytest

from receiver.database.embedded import find_binaries
from receiver.database.pool import connect
from tests.conftest import BINARIES
from tests.receipts.tellings import assert_books_balance, body
from tests.support import Database, environment_of, receiver_command, run

DOCS = Path(__file__).parents[2] / "docs"
PROGRAMS = find_binaries(Path(BINARIES) if BINARIES else None)


def shown(page: str, behind: str) -> str:
    """The first shell block of `page` behind a piece of its text."""
    text = (DOCS / page).read_text(encoding="utf-8")
    assert text.count(behind) == 1, behind
    block = re.search(r"^```sh\n(.*?)^```", text.partition(behind)[2], re.MULTILINE | re.DOTALL)
    assert block is not None, behind
    return block[1]


def program(name: str, folder: Path = PROGRAMS) -> Path:
    """One of Postgres's programs, of the server's own version; skips the test where it is missing, but not under CI."""
    if not (folder / name).is_file():
        reason = f"{folder} has no {name}: apt-get install postgresql-client, of the server's version"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return folder / name


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
    """Runs a program of Postgres; it must go well and say nothing."""
    done = subprocess.run(words, env=environment(dsn), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done


def sql_role(role: str, database: Database) -> None:
    """`receiver sql-role`, which must make the role anew."""
    words = [*receiver_command(), "sql-role", role]
    variables = environment_of(RECEIVER_DATABASE_URL=database.dsn)
    done = subprocess.run(words, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, f"{role} reads the views in receiver_v1\n"), done.stderr


def reports_by(role: str, database: Database) -> int:
    """How many messages a role for reports sees in the view."""

    async def work() -> int:
        connection = await connect(database.dsn, "tests")
        try:
            await connection.execute(f'set role "{role}"')
            return int(await connection.fetchval("select count(*) from receiver_v1.messages"))
        finally:
            await connection.close()

    return run(work())


def tell(url: str, transid: str) -> None:
    """A receipt, which must be taken."""
    info = {"deliveryChannel": "SMS", "deliveryStatus": "Delivered", "destination": "447700900001"}
    assert httpx2.post(url, content=body(info, transid), trust_env=False, timeout=20).status_code == 200


async def books(dsn: str) -> None:
    """The ledger must balance."""
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
