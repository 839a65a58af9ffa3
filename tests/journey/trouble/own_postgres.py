"""A Postgres of the trouble's own: killed, stopped, frozen and restarted without harm to other tests."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from receiver.database.embedded import visiting
from receiver.database.migrate import migrate
from receiver.database.partitions import ensure_weeks
from receiver.database.pool import connect
from receiver.database.postgres_process import SOCKET, read_postmaster
from tests.conftest import BINARIES
from tests.support import Database, eventually, now, run


class OwnPostgres:
    """A server in `folder`, which everybody may pass through. Its database `receiver` is migrated: a template."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running = ExitStack()
        self._frozen: list[int] = []
        self.dsn = ""

    def start(self) -> None:
        """Returns when it answers."""
        self.dsn = self._running.enter_context(visiting(self._folder, binaries=_binaries())).dsn

    def revive(self) -> None:
        """Starts it unless it lives: trouble that failed may have left it dead."""
        self.thaw()
        if not self.lives:
            self._running.close()
            self.start()

    def stop(self) -> None:
        """Stops it politely; nothing happens when it does not run."""
        self.thaw()
        self._running.close()

    def kill(self) -> None:
        """kill -9: all of its processes, with no time for any of them to notice the others' death."""
        self._send(signal.SIGSTOP)
        self._send(signal.SIGKILL)
        self._frozen = []
        # Asked to stop while it is dying, it would be waited for by a process that can't reap it.
        eventually(lambda: not self.lives)
        self._running.close()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, and nothing moves."""
        self._frozen = self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        for pid in self._frozen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._frozen = []

    @property
    def lives(self) -> bool:
        """Whether it has processes."""
        return bool(self._processes())

    @property
    def socket(self) -> Path:
        """Where it listens while it runs."""
        return self._folder / "socket" / SOCKET

    @property
    def password(self) -> str:
        return urlsplit(self.dsn).password or ""

    def _send(self, number: signal.Signals) -> list[int]:
        """To the postmaster first, so that it bears no more; then to its children. The processes that heard it."""
        heard: list[int] = []
        for pid in self._processes()[:1] if number is signal.SIGSTOP else []:
            os.kill(pid, number)
        for pid in self._processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)
                heard.append(pid)
        return heard

    def _processes(self) -> list[int]:
        """The postmaster that lives, and its children."""
        found = read_postmaster(self._folder / "postgres")
        parents = dict(_parents())
        if found is None or found.pid not in parents:
            return []
        return [found.pid, *(pid for pid, parent in parents.items() if parent == found.pid)]


def _parents() -> Iterator[tuple[int, int]]:
    """Every process that lives, and its parent."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            state, parent = (entry / "stat").read_text().rpartition(") ")[2].split()[:2]
            if state != "Z":
                yield int(entry.name), int(parent)


def _binaries() -> Path | None:
    return Path(BINARIES) if BINARIES else None


@contextmanager
def own_postgres(folder: Path) -> Iterator[OwnPostgres]:
    """A running one, with its template. `folder` is made."""
    folder.parent.chmod(0o755)
    postgres = OwnPostgres(folder)
    postgres.start()
    try:
        run(_prepare(postgres.dsn))
        yield postgres
    finally:
        postgres.stop()


async def _prepare(dsn: str) -> None:
    await migrate(dsn)
    connection = await connect(dsn, "tests")
    await ensure_weeks(connection, now())
    await connection.close()


def clone(postgres: OwnPostgres, name: str) -> Database:
    """A migrated database of that name."""
    run(_clone(postgres.dsn, name))
    return Database(postgres.dsn, name)


async def _clone(dsn: str, name: str) -> None:
    admin = await connect(dsn.replace("/receiver?", "/postgres?"), "tests")
    await admin.execute(f'create database "{name}" template receiver')
    await admin.close()
