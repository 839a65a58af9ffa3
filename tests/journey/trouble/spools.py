"""What waits in spool folders, seen from outside: in the files of the living and of the dead."""

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

from receiver.receipts import spool_folder
from receiver.receipts.spool_file import SpoolFile


def bodies_in(folder: Path) -> int:
    """Bodies that wait in a folder."""
    return _bodies(folder, spool_folder.files(folder)) if folder.exists() else 0


def bodies_held(folder: Path, pid: int) -> int:
    """Those of them that a process has in its hands."""
    return _bodies(folder, (one for one in spool_folder.files(folder) if _holder(folder, one) == pid))


def _bodies(folder: Path, identities: Iterable[UUID]) -> int:
    bodies = 0
    for identity in identities:
        try:
            spool = SpoolFile(folder / f"{identity}{spool_folder.SPOOL}", read_only=True)
        except sqlite3.OperationalError:
            continue  # removed meanwhile: it was empty
        bodies += spool.bodies
        spool.close()
    return bodies


def _holder(folder: Path, identity: UUID) -> object:
    return (spool_folder.holder_of(folder, identity) or {}).get("pid")
