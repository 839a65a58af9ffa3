"""`make kill`: rounds of troubles mixed at random. Prints a line a round; ends with 1 at the first that fails."""

import argparse
import random
import shutil
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.journey.trouble import troubles
from tests.journey.trouble.disks import POSTGRES_MEGABYTES, small_disk, why_not
from tests.journey.trouble.load import PAUSE_SECONDS
from tests.journey.trouble.own_postgres import own_postgres
from tests.journey.trouble.plays import play
from tests.journey.trouble.stage import Stage, stage
from tests.journey.trouble.troubles import Trouble

SPOOL_MEGABYTES = 24
CASTS: Sequence[tuple[str, Sequence[str | None]]] = (
    ("one receiver", ["spool"]),
    ("one receiver", ["spool"]),
    ("one receiver without a spool", [None]),
    ("two receivers, one spool folder", ["spool", "spool"]),
    ("two receivers, a spool folder each", ["spool", "spool-2"]),
)
PAUSES = (0, PAUSE_SECONDS)  # as fast as it goes, or at a pace at which most of a group's life is waiting
FEWEST, MOST = 2, 4  # troubles in a round


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="make kill", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, help="of the first round; each next one has the next number")
    asked = parser.parse_args()
    first = asked.seed if asked.seed is not None else random.randrange(10**6)
    for number in range(asked.rounds):
        folder = Path(tempfile.mkdtemp(prefix="receiver-kill-"))
        folder.chmod(0o755)
        print(f"round {number + 1} of {asked.rounds}, seed {first + number}: ", end="", flush=True)
        try:
            _round(folder, first + number)
        except Exception:
            traceback.print_exc()
            print(f"FAILED: repeat it with make kill N=1 SEED={first + number}; logs are in {folder}", file=sys.stderr)
            return 1
        shutil.rmtree(folder)
    return 0


def _round(folder: Path, seed: int) -> None:
    """One round: who plays, on what, and which troubles befall; told in a line."""
    roll = random.Random(seed)
    whose, spools = roll.choice(CASTS)
    disks = why_not() is None and None not in spools and roll.random() < 0.5
    acts = _acts(roll, disks, spools)
    print(f"{whose}{', small disks' if disks else ''}: {', '.join(act.__name__ for act in acts)}", flush=True)
    with ExitStack() as stack:
        place = folder / "postgres"
        postgres_disk = stack.enter_context(small_disk(place, POSTGRES_MEGABYTES)) if disks else None
        spool_disk = stack.enter_context(small_disk(folder / "spool", SPOOL_MEGABYTES)) if disks else None
        place.mkdir(exist_ok=True)
        postgres = stack.enter_context(own_postgres(place / "data"))
        found: Stage = stack.enter_context(stage(folder, postgres, "play", seed))
        found.postgres_disk, found.spool_disk = postgres_disk, spool_disk
        for spool in spools:
            found.service(spool)
        print(f"    {play(found, acts, seed, roll.choice(PAUSES))}", flush=True)


def _acts(roll: random.Random, disks: bool, spools: Sequence[str | None]) -> Sequence[Trouble]:
    choice = troubles.WITHOUT_SPOOL if None in spools else troubles.ANYWHERE
    acts = roll.choices([*choice, *(troubles.ON_SMALL_DISKS * 2 if disks else ())], k=roll.randint(FEWEST, MOST))
    return [*acts, troubles.kill_one_for_good] if len(spools) > 1 else acts


if __name__ == "__main__":
    sys.exit(main())
