"""What the doctor says of this machine's disk: where receipts wait, and whether any more could."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from receiver.doctor.check import Disk, Installation, Result
from receiver.ids import new_id
from receiver.receipts.spool import Spool
from tests.doctor.examining import assert_says, installation, verdict, verdicts
from tests.receipts.spooling import INSTALLATION, arrival
from tests.support import now, run

NOWHERE = "postgresql://nobody@127.0.0.1:9/nothing"
MEGABYTE = 1024 * 1024


@pytest.fixture
def one(tmp_path: Path) -> Installation:
    """An installation without a database."""
    (tmp_path / "spool").mkdir()
    return installation(NOWHERE, tmp_path, SPOOL_MB="16")


def folder_of(one: Installation) -> Path:
    folder = one.chosen.spool
    assert folder is not None
    return folder


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Who is root may write anywhere: for a while we are not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_good_folder_is_measured_and_left_as_it_was(one: Installation) -> None:
    assert_says(verdict(one, "spool folder"), Result.OK, "writes to the disk a second")
    assert list(folder_of(one).iterdir()) == []


def test_a_folder_that_is_not_there_is_not_made(one: Installation) -> None:
    folder_of(one).rmdir()
    assert_says(verdict(one, "spool folder"), Result.OK, "is not there yet")
    assert not folder_of(one).exists()


def test_a_folder_that_is_none(one: Installation) -> None:
    folder_of(one).rmdir()
    folder_of(one).write_text("a file")
    assert_says(verdict(one, "spool folder"), Result.FAILURE, "can't be written: Not a directory")


def test_a_folder_in_which_we_may_not_write() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "spool").mkdir()
        folder.chmod(0o755)
        (folder / "spool").chmod(0o555)
        one = installation(NOWHERE, folder)
        with as_nobody():
            said = verdict(one, "spool folder")
        assert_says(said, Result.FAILURE, "can't be written: Permission denied")


def test_a_folder_that_is_full(one: Installation) -> None:
    with (folder_of(one) / f"{uuid4()}.spool").open("wb") as file:
        file.truncate(16 * MEGABYTE)
    assert_says(verdict(one, "spool folder"), Result.FAILURE, "is full: 16 MB of 16")


def test_no_folder_at_all(tmp_path: Path) -> None:
    one = installation(NOWHERE, tmp_path, SPOOL="off")
    assert_says(verdict(one, "spool folder"), Result.WARNING, "there is none")
    assert verdict(one, "spool").result is Result.SKIPPED


def test_receipts_that_wait(one: Installation) -> None:
    """Of a living process, and then of a dead one."""

    async def main() -> None:
        spool = Spool(folder_of(one), 16 * MEGABYTE, [INSTALLATION])
        await spool.open()
        await spool.append(new_id(), [arrival(1), arrival(2)])
        came = arrival(1).received_at
        one.now = lambda: came + timedelta(seconds=60)
        assert_says((await asyncio.to_thread(verdicts, one, "spool"))[0], Result.OK, "2 receipts wait")
        one.now = lambda: came + timedelta(minutes=30)
        said = (await asyncio.to_thread(verdicts, one, "spool"))[0]
        assert_says(said, Result.FAILURE, "2 receipts wait, the oldest for 30 minutes")
        await spool.close()

    run(main())
    one.now = now
    assert_says(verdict(one, "spool"), Result.WARNING, "2 receipts wait in files that no living process has")


def test_files_that_are_damaged_or_no_spool(one: Installation) -> None:
    assert_says(verdict(one, "spool"), Result.OK, "nothing waits")
    (folder_of(one) / f"{uuid4()}.broken").touch()
    assert_says(verdict(one, "spool"), Result.WARNING, "1 damaged files")


@pytest.mark.parametrize(
    ("free", "result", "words"),
    [
        (10_000, Result.OK, "9.8 GB of 97.7 are free"),
        (3_000, Result.WARNING, "2.9 GB"),
        (15, Result.FAILURE, "0.0 GB"),
    ],
)
def test_a_disk_that_fills(one: Installation, free: int, result: Result, words: str) -> None:
    one.room = lambda folder: Disk(100_000 * MEGABYTE, free * MEGABYTE)
    assert_says(verdict(one, "disk space"), result, words)


def test_a_disk_with_less_room_than_the_spool_may_take(tmp_path: Path) -> None:
    one = installation(NOWHERE, tmp_path, SPOOL_MB="5000")
    one.room = lambda folder: Disk(10_000 * MEGABYTE, 4_000 * MEGABYTE)
    assert_says(verdict(one, "disk space"), Result.WARNING, "less than RECEIVER_SPOOL_MB")
