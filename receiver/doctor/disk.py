"""This machine's disk: whether the spool can take receipts and how fast, what waits there, how much room is left."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

from receiver.doctor.check import Installation, Verdict, failure, ok, skipped, warning
from receiver.receipts import spool_folder
from receiver.receipts.spool_file import SpoolFile

WRITES, WRITE_BYTES, LONGEST = 50, 4096, 3.0
SLOW = 50.0  # a second: a group waits for one, and 256 receipts wait for a group
NEARLY_FULL = 0.95
OLD_SECONDS = 300
LITTLE, NEARLY_NOTHING = 0.05, 64 * 1024 * 1024


async def spool_folder_check(installation: Installation) -> Sequence[Verdict]:
    """Whether receipts could go to the spool now, and how fast the disk is."""
    chosen = installation.chosen
    if chosen.spool is None:
        cure = "Set RECEIVER_SPOOL to a folder on a disk that lasts."
        return [warning("there is none: receipts are answered 503 while Postgres is away", cure)]
    return [await asyncio.to_thread(_try_folder, chosen.spool, chosen.spool_mb * 1024 * 1024)]


def _try_folder(folder: Path, most: int) -> Verdict:
    there = os.path.lexists(folder)
    place = folder if there else _nearest(folder)
    cure = "Give it to the user who runs the receiver (run doctor as that user), or set RECEIVER_SPOOL."
    try:
        size = spool_folder.bytes_on_disk(folder) if there else 0
        rate = _fsyncs_a_second(place)
    except OSError as error:
        return failure(f"{folder} can't be written: {error.strerror or type(error).__name__}", cure)
    if size > most * NEARLY_FULL:
        what = f"{folder} is full: {size // 2**20} MB of {most // 2**20}"
        return failure(what, "Bring Postgres back, so that it drains; raise RECEIVER_SPOOL_MB until then.")
    said = f"{folder} takes {rate:.0f} writes to the disk a second"
    if rate < SLOW:
        return warning(f"{said}: in an outage receipts wait for it", "Move RECEIVER_SPOOL to a faster disk.")
    return ok(
        said if there else f"{folder} is not there yet, `serve` makes it; its disk takes {rate:.0f} writes a second"
    )


def _fsyncs_a_second(folder: Path) -> float:
    """How many small writes a second come to rest on the disk. Leaves nothing behind. Raises OSError."""
    with NamedTemporaryFile(dir=folder, prefix="doctor-", suffix=".tmp") as file:
        began, done = time.perf_counter(), 0
        while done < WRITES and time.perf_counter() - began < LONGEST:
            file.write(os.urandom(WRITE_BYTES))
            file.flush()
            os.fsync(file.fileno())
            done += 1
        return done / (time.perf_counter() - began)


async def spool_depth(installation: Installation) -> Sequence[Verdict]:
    """What waits on this machine's disk, and whether a living process has it."""
    folder = installation.chosen.spool
    if folder is None or _nearest(folder) != folder:
        return [skipped("there is no spool folder")]
    try:
        return await asyncio.to_thread(_waiting, folder, installation.now().timestamp())
    except OSError as error:
        return [skipped(f"{folder} can't be read: {error.strerror}")]


def _waiting(folder: Path, now: float) -> list[Verdict]:
    found, held, orphaned, unread, age = [], 0, 0, 0, 0.0
    for file, is_held in _files(folder):
        if file is None:
            unread += 1
            continue
        age = max(age, now - file.oldest.timestamp() if file.oldest else 0.0)
        held, orphaned = (held + file.bodies, orphaned) if is_held else (held, orphaned + file.bodies)
        file.close()
    if orphaned:
        cure = "Start the receiver on this machine: it drains them. Or run `receiver spool drain`."
        found.append(warning(f"{orphaned} receipts wait in files that no living process has", cure))
    if held and age > OLD_SECONDS:
        cure = "Bring Postgres back; docs/runbooks.md, ReceiverSpoolFilling. Do not remove the folder."
        found.append(failure(f"{held} receipts wait, the oldest for {age / 60:.0f} minutes", cure))
    if aside := len(spool_folder.set_aside(folder)):
        cure = "docs/deploy.md, The spool, says what can still be had of them; then move them away."
        found.append(warning(f"{aside} damaged files were set aside in {folder}", cure))
    if unread:
        cure = "Run doctor as the user who runs the receiver."
        found.append(warning(f"{unread} files in {folder} can't be read", cure))
    return found or [ok(f"{held} receipts wait" if held else "nothing waits")]


def _files(folder: Path) -> Iterator[tuple[SpoolFile | None, bool]]:
    """Each file, None where it can't be read, and whether a living process has it."""
    for identity in spool_folder.files(folder):
        try:
            is_held = spool_folder.holder_of(folder, identity) is not None
            yield SpoolFile(folder / f"{identity}{spool_folder.SPOOL}", read_only=True), is_held
        except (sqlite3.Error, OSError):
            yield None, False


async def disk_space(installation: Installation) -> Sequence[Verdict]:
    """Whether the disks of the spool and of an embedded Postgres have room."""
    chosen = installation.chosen
    wanted = [(chosen.spool, "the spool", _allowed(installation)), (chosen.data_dir, "the data folder", 0)]
    found = []
    for folder, what, most in wanted:
        if folder is None:
            continue
        room = installation.room(_nearest(folder))
        said = f"{room.free / 2**30:.1f} GB of {room.total / 2**30:.1f} are free for {what} ({folder})"
        if room.free < NEARLY_NOTHING:
            found.append(failure(said, "Make room now: receipts that find none are answered 503."))
        elif room.free < max(room.total * LITTLE, most):
            why = ", less than RECEIVER_SPOOL_MB" if room.free < most else ""
            found.append(warning(said + why, "Make room, or move the folder; docs/sizing.md says how much is needed."))
        else:
            found.append(ok(said))
    return found or [skipped("there is neither a spool nor a data folder")]


def _allowed(installation: Installation) -> int:
    """How many bytes the spool may still take."""
    folder, most = installation.chosen.spool, installation.chosen.spool_mb * 1024 * 1024
    try:
        return most - spool_folder.bytes_on_disk(folder) if folder is not None and os.path.isdir(folder) else most
    except OSError:  # the check of the folder says so
        return most


def _nearest(folder: Path) -> Path:
    """The folder itself, or the nearest above it that is there."""
    return next(one for one in (folder, *folder.parents) if os.path.isdir(one))  # False where we may not look
