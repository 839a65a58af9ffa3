"""The spool on the disk: what it took is there, in order, whatever befalls the process, the file or the disk."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from receiver.ids import new_id
from receiver.receipts import spool as spool_module
from receiver.receipts import spool_file, spool_folder
from receiver.receipts.arrival import Arrival
from receiver.receipts.spool import NotSpooled, Spool
from receiver.receipts.spool_held import installation_of
from tests.receipts.spooling import INSTALLATION, MOST, arrival, filled

ROOT = Path(__file__).parent.parent.parent


async def emptied(spool: Spool) -> list[bytes]:
    """Takes over what there is, and takes out everything; the bodies in the order in which they came out."""
    await spool.adopt()
    bodies = []
    while found := await spool.oldest():
        held, unit = found
        bodies += [one.body for one in unit.arrivals]
        await spool.drained(held, unit)
    return bodies


def with_spool(folder: Path, work: Callable[[Spool], Awaitable[None]], most: int = MOST) -> None:
    async def wrapped() -> None:
        spool = Spool(folder, most, [INSTALLATION])
        await spool.open()
        try:
            await work(spool)
        finally:
            await spool.close()

    asyncio.run(wrapped())


def copied(living: Path, folder: Path) -> None:
    """Copies a spool as it is on the disk, without its lock."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for file in living.iterdir():
        if not file.name.endswith((".lock", "-shm")):
            shutil.copy(file, folder)


def left_behind(folder: Path, *units: list[Arrival]) -> None:
    """A folder as a process leaves it that was killed: the files as they are on the disk, and nobody's lock."""

    async def work() -> None:
        living = folder.parent / "living"
        spool = await filled(living, *units)
        copied(living, folder)
        await spool.close()
        shutil.rmtree(living)

    asyncio.run(work())


def bodies(*numbers: int) -> list[bytes]:
    return [arrival(n).body for n in numbers]


async def takes(spool: Spool, one: Arrival) -> bool:
    try:
        await spool.append(new_id(), [one])
    except NotSpooled:
        return False
    return True


def the_file(folder: Path) -> Path:
    [file] = folder.glob("*.spool")
    return file


def modes(folder: Path) -> list[int]:
    return [path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())]


def test_what_was_appended_comes_out_unit_by_unit_as_it_came(tmp_path: Path) -> None:
    folder, keys = tmp_path / "a" / "spool", [new_id(), new_id()]

    async def work(spool: Spool) -> None:
        await spool.append(keys[0], [arrival(1), arrival(2)], apart=True)
        await spool.append(keys[1], [arrival(3)])
        assert spool.bodies == 3
        first = await spool.oldest()
        assert first is not None
        assert (first[1].key, [a.body for a in first[1].arrivals]) == (keys[0], bodies(1, 2))
        came = first[1].arrivals[0]
        assert (came.tenant, came.received_at, came.submission_id) == ("default", arrival(1).received_at, None)
        assert came.kept_headers() == '{"user-agent": "platform"}'
        await spool.drained(*first)
        second = await spool.oldest()
        assert second is not None
        assert second[1].key == keys[1]
        assert modes(folder) == [0o700] + [0o600] * 4

    with_spool(folder, work)
    assert len(spool_folder.files(folder)) == 1


def test_small_units_come_out_together_but_one_that_may_be_in_already_comes_alone(tmp_path: Path) -> None:
    folder = tmp_path / "spool"

    async def work(spool: Spool) -> None:
        keys = [new_id() for _ in range(6)]
        for number, key in enumerate(keys[:3]):
            await spool.append(key, [arrival(number)])
        await spool.append(keys[3], [arrival(3)], apart=True)
        for number, key in enumerate(keys[4:], 4):
            await spool.append(key, [arrival(number)])
        for number in range(6, 400):
            await spool.append(keys[5], [arrival(number)])  # a key's unit is never cut in two
        taken = []
        while (found := await spool.oldest()) is not None:
            taken.append((found[1].key, len(found[1].arrivals)))
            await spool.drained(*found)
        assert taken == [(keys[0], 3), (keys[3], 1), (keys[4], 396)]

    with_spool(folder, work)


def test_what_the_disk_refuses_to_take_out_is_taken_out_later(tmp_path: Path) -> None:
    folder = tmp_path / "spool"

    async def work(spool: Spool) -> None:
        await spool.append(new_id(), [arrival(1)])
        found = await spool.oldest()
        assert found is not None
        with contextlib.closing(sqlite3.connect(found[0].file.path, isolation_level=None)) as other:
            other.execute("begin immediate")
            await spool.drained(*found)
            other.execute("rollback")
            assert (spool.bodies, other.execute("select count(*) from arrival").fetchone()) == (0, (1,))
            assert await spool.oldest() is None, "it is known to be done all the same"
            await spool.look()
            assert other.execute("select count(*) from arrival").fetchone() == (0,)

    with_spool(folder, work)


def test_a_spool_that_holds_nothing_leaves_nothing(tmp_path: Path) -> None:
    async def work(spool: Spool) -> None:
        await spool.append(new_id(), [arrival(1)])
        assert await emptied(spool) == bodies(1)
        assert (spool.bodies, spool.bytes, spool.age) == (0, 0, 0)

    with_spool(tmp_path, work)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_comes_out_first_and_its_file_goes(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    left_behind(folder, [arrival(1), arrival(2)], [arrival(5)])

    async def work(spool: Spool) -> None:
        await spool.append(new_id(), [arrival(3)])
        assert await emptied(spool) == bodies(1, 2, 3, 5)
        assert len(spool_folder.files(folder)) == 1

    with_spool(folder, work)


def test_the_file_of_the_living_is_left_alone_and_the_file_of_another_installation_too(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    left_behind(folder, [arrival(9)])

    async def work() -> None:
        other = Spool(folder, MOST, [installation_of("the secret of somebody else")])
        await other.open()
        await other.append(new_id(), [arrival(1)])
        assert await emptied(other) == bodies(1)
        assert any("another RECEIVER_SECRET" in warning for warning in other.warnings())
        mine = await filled(folder, [arrival(2)])
        await other.append(new_id(), [arrival(3)])
        assert await emptied(mine) == bodies(2, 9)
        assert await emptied(other) == bodies(3)
        await mine.close()
        await other.close()

    asyncio.run(work())


def test_over_its_size_the_spool_says_so_and_takes_again_when_it_is_drained(tmp_path: Path) -> None:
    async def work(spool: Spool) -> None:
        large = arrival(1)._replace(body=b"x" * 100_000)
        taken = 0
        while await takes(spool, large):
            taken += 1
        assert 5 < taken < 20
        with pytest.raises(NotSpooled, match="full"):
            await spool.append(new_id(), [large])
        await spool.adopt()
        assert not spool.can_take()
        assert any("full" in warning for warning in spool.warnings())
        assert len(await emptied(spool)) == taken
        await spool.adopt()
        assert spool.can_take()
        await spool.append(new_id(), [large])

    with_spool(tmp_path, work, most=2 * 1024 * 1024)


FILL = """
import asyncio, resource, sys
from pathlib import Path
from receiver.ids import new_id
from receiver.receipts.spool import NotSpooled
from tests.receipts.spooling import arrival, filled

async def main():
    spool = await filled(Path(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    refused = 0
    for number in range(40):
        try:
            await spool.append(new_id(), [arrival(number)._replace(body=b"%d " % number + b"x" * 30_000)])
            print(number, flush=True)
        except NotSpooled:
            refused += 1
            assert not spool.can_take()
    assert refused
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await spool.look()
    assert spool.can_take(), spool.warnings()
    await spool.append(new_id(), [arrival(100)._replace(body=b"100 ")])
    print(100, flush=True)
    import os; os._exit(0)

asyncio.run(main())
"""


def test_a_full_disk_is_never_told_as_stored_and_costs_nothing_of_what_was(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    stored = done.stdout.split()
    assert len(stored) > 5

    async def work(spool: Spool) -> None:
        there = {body.split(b" ")[0].decode() for body in await emptied(spool)}
        assert set(stored) <= there

    with_spool(tmp_path, work)


RETURN = """
import asyncio, resource, sys
from pathlib import Path
from receiver.receipts.spool import Spool
from tests.receipts.spooling import INSTALLATION, MOST
from tests.receipts.test_spool import emptied

async def main():
    spool = Spool(Path(sys.argv[1]), MOST, [INSTALLATION])
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    await spool.open()
    await spool.look()
    assert not spool.can_take()
    assert any("can't be opened" in warning for warning in spool.warnings()), spool.warnings()
    assert await emptied(spool) == []
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await spool.look()
    assert spool.can_take(), spool.warnings()
    print(len(await emptied(spool)))
    await spool.close()

asyncio.run(main())
"""


def test_an_orphan_that_cant_be_opened_for_want_of_room_waits_for_it_and_is_not_set_aside(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    left_behind(folder, *([arrival(n)] for n in range(30)))
    done = subprocess.run(
        [sys.executable, "-c", RETURN, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["30"]
    assert list(folder.iterdir()) == []


def cut_in_half(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def cut_to_nothing(file: Path) -> None:
    os.truncate(file, 0)


def cut_after_a_byte(file: Path) -> None:
    os.truncate(file, 1)


def overwritten(file: Path) -> None:
    """A page in the middle, as a torn write leaves it."""
    with file.open("r+b") as open_file:
        open_file.seek(file.stat().st_size // 2 // 4096 * 4096)
        open_file.write(b"\xa5" * 4096)


def no_database(file: Path) -> None:
    file.write_bytes(b"this is no database" * 1000)


def bytes_changed(file: Path, body: bytes = b"spool-20") -> None:
    """In a body, where SQLite does not look."""
    raw = file.read_bytes()
    assert body in raw
    file.write_bytes(raw.replace(body, b"spool-99"))


@pytest.mark.parametrize(
    "damage",
    [cut_in_half, cut_to_nothing, cut_after_a_byte, overwritten, no_database, bytes_changed],
    ids=lambda d: d.__name__,
)
def test_a_damaged_file_is_set_aside_and_what_can_be_read_is_kept(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    folder = tmp_path / "spool"
    numbers = range(1, 200)
    left_behind(folder, *([arrival(n)] for n in numbers))
    with_spool(folder, lambda spool: spool.adopt())  # the log beside it goes into the file
    damage(the_file(folder))

    async def work(spool: Spool) -> None:
        await spool.append(new_id(), [arrival(1000)])
        found = await emptied(spool)
        assert bodies(1000)[0] in found
        assert set(found) < set(bodies(*numbers, 1000))
        if damage in (overwritten, bytes_changed):
            assert len(found) > 150
        assert any("set aside" in warning for warning in spool.warnings())
        await spool.append(new_id(), [arrival(1001)])
        assert await emptied(spool) == bodies(1001)

    with_spool(folder, work)
    assert len(spool_folder.set_aside(folder)) == 1
    assert spool_folder.files(folder) == []


def test_of_a_damaged_file_all_that_can_be_read_comes_out_behind_however_many_that_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_file, "MOST_LOST", 10)
    folder = tmp_path / "spool"
    left_behind(folder, *([arrival(n)] for n in range(1, 100)))
    with contextlib.closing(sqlite3.connect(the_file(folder), isolation_level=None)) as database:
        database.execute("delete from arrival where seq <= 30 or seq between 50 and 65")
    bytes_changed(the_file(folder), b"spool-40")

    async def work(spool: Spool) -> None:
        assert await emptied(spool) == bodies(*range(31, 40), *range(41, 50), *range(66, 100))

    with_spool(folder, work)
    assert len(spool_folder.set_aside(folder)) == 1


def test_a_torn_log_costs_what_was_torn_and_no_start(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    left_behind(folder, *([arrival(n)] for n in range(1, 50)))
    [log] = folder.glob("*.spool-wal")
    os.truncate(log, log.stat().st_size - 2000)

    async def work(spool: Spool) -> None:
        assert await emptied(spool) == bodies(*range(1, 49))

    with_spool(folder, work)


def test_the_own_file_broken_in_use_is_replaced_and_the_next_receipts_are_taken(tmp_path: Path) -> None:
    async def work(spool: Spool) -> None:
        for number in range(1, 400):
            await spool.append(new_id(), [arrival(number)._replace(body=b"x" * 5000)])
        no_database(the_file(tmp_path))
        for number in range(500, 510):
            await spool.append(new_id(), [arrival(number)])
        found = await emptied(spool)
        assert set(bodies(*range(500, 510))) <= set(found)

    with_spool(tmp_path, work)


def remove_the_file(folder: Path) -> None:
    for path in folder.glob("*.spool"):
        path.unlink()


def remove_the_log(folder: Path) -> None:
    for path in folder.glob("*.spool-wal"):
        path.unlink()


def remove_all(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def move_it_away(folder: Path) -> None:
    folder.rename(folder.parent / "elsewhere")
    folder.mkdir()


@pytest.mark.parametrize(
    "remove", [remove_the_file, remove_the_log, remove_all, shutil.rmtree, move_it_away], ids=lambda r: r.__name__
)
def test_what_is_taken_after_somebody_removed_the_file_is_found_by_the_next_process(
    tmp_path: Path, remove: Callable[[Path], None]
) -> None:
    folder = tmp_path / "spool"

    async def work(spool: Spool) -> None:
        await spool.append(new_id(), [arrival(1)])
        remove(folder)
        await spool.append(new_id(), [arrival(2)])
        assert spool.can_take()
        copied(folder, tmp_path / "copy")
        with_the_copy = Spool(tmp_path / "copy", MOST, [INSTALLATION])
        assert bodies(2)[0] in await emptied(with_the_copy)
        assert sorted(await emptied(spool)) == bodies(1, 2)  # while it lives, it has the first one too
        await with_the_copy.close()

    with_spool(folder, work)


def test_of_many_orphans_some_are_taken_at_a_time_the_oldest_first(tmp_path: Path) -> None:
    async def fill() -> None:
        for number in range(100):
            spool = await filled(tmp_path, [arrival(number)])
            await spool.close()

    async def work(spool: Spool) -> None:
        await spool.adopt()
        assert spool.bodies == spool_module.MOST_TAKEN
        assert any(f"{100 - spool_module.MOST_TAKEN} more" in warning for warning in spool.warnings())
        assert await emptied(spool) == bodies(*range(100))
        assert spool.warnings() == []

    asyncio.run(fill())
    with_spool(tmp_path, work)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cant_be_made_is_a_warning_and_nothing_is_taken(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def work(spool: Spool) -> None:
        assert not spool.can_take()
        assert any("can't be used" in warning for warning in spool.warnings())
        with pytest.raises(NotSpooled):
            await spool.append(new_id(), [arrival(1)])
        await spool.look()

    with_spool(tmp_path / "file" / "spool", work)


def test_locks_without_a_file_are_removed(tmp_path: Path) -> None:
    (tmp_path / f"{new_id()}.lock").touch()
    with_spool(tmp_path, lambda spool: spool.adopt())
    assert list(tmp_path.iterdir()) == []
