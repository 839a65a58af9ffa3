"""The folder of the spool: whose file is whose, by locks that die with their process; orphans; what was set aside."""

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from receiver.receipts.spool_file import UNBORN, fsync_folder

SPOOL, LOCK, BROKEN = ".spool", ".lock", ".broken"
BESIDE = ("", "-wal", "-shm")  # what SQLite keeps in the folder for one file


@dataclass
class Claim:
    """The right to one spool file, for as long as this process lives or until it is given back."""

    folder: Path
    identity: UUID
    descriptor: int

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self.folder / f"{self.identity}{SPOOL}"

    def give_back(self) -> None:
        """Anybody may have it now."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def remove(self) -> None:
        """Removes the file, which must hold nothing, and gives it back. Raises OSError."""
        try:
            for suffix in BESIDE:
                for path in (self.path, self.path.with_suffix(UNBORN)):
                    Path(f"{path}{suffix}").unlink(missing_ok=True)
            self._unlock()
        finally:
            self.give_back()

    def set_aside(self) -> None:
        """Renames a damaged file, so that nobody takes it for a spool again, and gives it back. Raises OSError."""
        try:
            for suffix in BESIDE:
                with contextlib.suppress(FileNotFoundError):
                    os.rename(f"{self.path}{suffix}", self.folder / f"{self.identity}{BROKEN}{suffix}")
            fsync_folder(self.folder)
            self._unlock()
        finally:
            self.give_back()

    def _unlock(self) -> None:
        (self.folder / f"{self.identity}{LOCK}").unlink(missing_ok=True)


def make(folder: Path) -> None:
    """Makes the folder, which only we may look into. Raises OSError."""
    missing = [one for one in folder.parents if not one.exists()]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)
    for made in (folder, *missing):  # a name that is not durable takes all below it along
        fsync_folder(made.parent)


def claim(folder: Path, identity: UUID) -> Claim | None:
    """The right to a file, or None while somebody else has it. Raises OSError."""
    lock = folder / f"{identity}{LOCK}"
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino != lock.stat().st_ino:
            raise FileNotFoundError  # its holder removed it while we opened it
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat()}
        with contextlib.suppress(OSError):  # only for people; and a full disk is emptied by whoever gets the lock
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(holder).encode(), 0)
    except (BlockingIOError, FileNotFoundError):
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return Claim(folder, identity, descriptor)


def holder_of(folder: Path, identity: UUID) -> dict[str, object] | None:
    """The living process that has a file (`pid`, `host`, `since`); None for an orphan. Raises OSError."""
    try:
        descriptor = os.open(folder / f"{identity}{LOCK}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        try:
            said = json.loads(os.read(descriptor, 4096) or b"{}")
        except ValueError:
            said = {}
        return said if isinstance(said, dict) else {}
    finally:
        os.close(descriptor)


def files(folder: Path) -> list[UUID]:
    """The spool files in the folder, those of the living and of the dead. Raises OSError."""
    return sorted(_named(folder, SPOOL))


def set_aside(folder: Path) -> list[Path]:
    """The damaged files that were set aside. Raises OSError."""
    return sorted(folder / f"{identity}{BROKEN}" for identity in _named(folder, BROKEN))


def tidy(folder: Path) -> None:
    """Removes locks whose file is gone: their process died while it removed both. Raises OSError."""
    for identity in _named(folder, LOCK):
        if not (folder / f"{identity}{SPOOL}").exists():
            held = claim(folder, identity)
            if held is not None and not held.path.exists():
                held.remove()
            elif held is not None:
                held.give_back()


def bytes_on_disk(folder: Path) -> int:
    """What all spool files take. Raises OSError."""
    total = 0
    for entry in os.scandir(folder):
        if f"{SPOOL}" in entry.name:
            with contextlib.suppress(FileNotFoundError):
                total += entry.stat().st_size
    return total


def _named(folder: Path, suffix: str) -> Iterator[UUID]:
    for entry in os.scandir(folder):
        if entry.name.endswith(suffix):
            with contextlib.suppress(ValueError):
                yield UUID(entry.name.removesuffix(suffix))
