"""Trouble under load, each kind once: every receipt answered 200 is there exactly once, and the books balance.

`make kill N=20` mixes them at random for many rounds. RECEIVER_TEST_SEED repeats a failure.
"""

import os
import random
import signal
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.journey.trouble import troubles
from tests.journey.trouble.disks import POSTGRES_MEGABYTES, small_disk, why_not
from tests.journey.trouble.own_postgres import OwnPostgres, own_postgres
from tests.journey.trouble.plays import play
from tests.journey.trouble.stage import Stage, stage
from tests.journey.trouble.troubles import Trouble

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds Postgres's processes in /proc")
SEED = int(os.environ.get("RECEIVER_TEST_SEED") or random.randrange(2**31))
# Each play pays for a start and an end of its own: so many troubles share a few.
KILLS: list[Trouble] = [
    troubles.kill_a_receiver,
    troubles.kill_postgres,
    troubles.kill_a_receiver_that_spools,
    troubles.restart_both_postgres_first,
    troubles.restart_both_receiver_first,
]
HANGS_AND_CUTS: list[Trouble] = [
    partial(troubles.freeze_postgres, seconds=(3, 4)),
    partial(troubles.cut_connections, more=0),
    partial(troubles.freeze_the_way, seconds=(2.2, 3)),
]
STOPS: list[Trouble] = [
    troubles.terminate_a_receiver,
    troubles.terminate_a_receiver_twice,
    troubles.kill_one_for_good,
]
FULL_DISKS: list[Trouble] = [troubles.fill_the_disk_of_postgres, troubles.fill_the_disk_of_the_spool]


@pytest.fixture(autouse=True)
def _tell_the_seed() -> None:
    print(f"RECEIVER_TEST_SEED={SEED}")  # pytest shows it beside a failure


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPostgres]:
    with own_postgres(tmp_path_factory.mktemp("server") / "data") as postgres:
        yield postgres


def seed_of(name: str) -> int:
    """A seed of its own for each play."""
    return zlib.crc32(f"{SEED}/{name}".encode())


def test_kills_and_restarts_lose_nothing_that_was_answered_200(server: OwnPostgres, tmp_path: Path) -> None:
    with stage(tmp_path, server, "kills", seed_of("kills")) as found:
        found.service()
        print(play(found, KILLS, seed_of("kills"), pause=0.06))


def test_hangs_and_cuts_lose_nothing_that_was_answered_200(server: OwnPostgres, tmp_path: Path) -> None:
    with stage(tmp_path, server, "hangs", seed_of("hangs")) as found:
        found.service()
        print(play(found, HANGS_AND_CUTS, seed_of("hangs")))


def test_of_two_receivers_one_stops_and_one_dies_and_nothing_is_lost(server: OwnPostgres, tmp_path: Path) -> None:
    with stage(tmp_path, server, "stops", seed_of("stops")) as found:
        for _ in range(2):
            found.service("a spool for both")
        print(play(found, STOPS, seed_of("stops")))
        ends = [end for service in found.services for end in service.ends]
        assert ends.count(-signal.SIGKILL) == 1, "what it had spooled, the other drained"


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_full_disks_lose_nothing_that_was_answered_200(tmp_path: Path) -> None:
    with ExitStack() as stack:
        # short, or its socket lies elsewhere, and somewhere else after each restart
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="disk-"))) / "postgres"
        postgres_disk = stack.enter_context(small_disk(place, POSTGRES_MEGABYTES))
        spool_disk = stack.enter_context(small_disk(tmp_path / "spool", 16))
        postgres = stack.enter_context(own_postgres(place / "data"))
        found: Stage = stack.enter_context(stage(tmp_path, postgres, "disks", seed_of("disks")))
        found.postgres_disk, found.spool_disk = postgres_disk, spool_disk
        found.service()
        print(play(found, FULL_DISKS, seed_of("disks")))
