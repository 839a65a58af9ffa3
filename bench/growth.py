"""What size costs: `python -m bench.growth [--millions 1,5,20]`.

Two databases on one Postgres: an empty one, and one with so many messages and twice as many receipts of the past sixty
days. Ingest into both in turns, also right after a checkpoint; the look-ups; a scrape. A million messages take some
3 GB, which are given back at the end.
"""

import argparse
import asyncio
import contextlib
import shutil
import statistics
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from bench.costs import Postgres
from bench.ingest import Bench, Server
from bench.issued import Issued
from bench.lookups import BY, LookUps, look_up, scans
from bench.preload import fill, make_weeks
from bench.pressure import scrape_millis
from bench.report import Section, Verdict, steps
from bench.stage import migrated, pre_size_log, stage, until_calm
from bench.wrk import require_wrk
from tests.support import Database, receiver_process

OF_EMPTY, LOOK_UP, PAGE, SCRAPE = 0.75, 3.0, 20.0, 20.0  # times, and milliseconds
BYTES, SPARE = 3_400, 8e9  # of disk: a message with its receipts; the write-ahead log and what is told meanwhile
# What background duties count whole meanwhile, of which ingest knows nothing: what is awaited (every 20 seconds, a
# million at most) and the ledger against the receipts (once a day, and first when the process has started).
COUNTED = ("awaited", "intake_", "push_count")
NOTHING = partial(int)
TOLD_LATE = 2.0  # seconds after which Postgres's counters say what busy connections did


@dataclass
class Size:
    """What was found with so many messages."""

    messages: int
    gigabytes: float
    minutes: float
    rates: dict[str, float] = field(default_factory=dict)
    looked: LookUps = field(default_factory=lambda: LookUps({}, {}, []))
    scrape: float = 0.0
    scanned: list[str] = field(default_factory=list)

    def of_empty(self, which: str) -> float:
        """The rate, of that of the empty database."""
        return self.rates[which] / self.rates["empty"]


def measure(millions: list[float], seconds: float, rounds: int) -> list[Section]:
    """Runs it for each size, the smaller ones first. Raises proof.NotTrue when something answered is not there."""
    require_wrk()
    found: list[Size] = []
    skipped: list[str] = []
    with contextlib.ExitStack() as stack:
        step = stack.enter_context(steps("growth", round(max(millions) * 1_000_000)))
        database, folder = stack.enter_context(stage())
        asyncio.run(pre_size_log(database.dsn))
        empty = asyncio.run(migrated(database.server, "bench_empty"))
        weeks = asyncio.run(make_weeks(database.dsn, datetime.now(UTC) - timedelta(minutes=1)))
        benches = {
            "full": _bench(stack, database, folder / "full", seconds),
            "empty": _bench(stack, empty, folder / "empty", seconds),
        }
        done, sample = 0, list[Issued]()
        tenant = benches["full"][0].tenant
        for number in (int(m * 1_000_000) for m in sorted(millions)):
            missing = (number - done) * BYTES + SPARE - shutil.disk_usage(folder).free
            if missing > 0:
                skipped.append(f"{number:,} messages left out: the disk lacks {missing / 1e9:.0f} GB for them.")
                continue
            step(f"filling up to {number:,} messages")
            began = time.monotonic()
            sample += asyncio.run(fill(database.dsn, tenant, weeks, done, number, step.done))
            done = number
            bytes_of = database.value("select pg_database_size(current_database())")
            size = Size(number, bytes_of / 1e9, (time.monotonic() - began) / 60)
            step(f"ingest with {number:,} messages")
            size.rates, size.scanned = _rates(benches, rounds)
            step(f"look-ups with {number:,} messages")
            asyncio.run(until_calm(database.dsn))
            size.looked = asyncio.run(look_up(database.dsn, tenant, sample, weeks[0].begin, weeks[-1].end))
            url = f"http://127.0.0.1:{benches['full'][1].port}"
            size.scrape = statistics.median(scrape_millis(url) for _ in range(5))
            found.append(size)
    sections = [_ingest(found), _look_ups(found)]
    sections[0].notes += skipped
    return sections


def _bench(stack: contextlib.ExitStack, database: Database, folder: Path, seconds: float) -> tuple[Bench, Server]:
    folder.mkdir()
    receiver = stack.enter_context(receiver_process(database, folder))
    server = Server(int(receiver.url.rpartition(":")[2]), receiver.process.pid)
    postgres = asyncio.run(Postgres.of(database.dsn))
    return Bench(database, folder, postgres, database.tenant(), seconds), server


def _rates(benches: dict[str, tuple[Bench, Server]], rounds: int) -> tuple[dict[str, float], list[str]]:
    """Receipts/s of each in turns, medians; and the large tables that were read from end to end by another turn."""
    rates: dict[str, list[float]] = {"empty": [], "full": [], "after a checkpoint": []}
    for _ in range(rounds):
        for which, taken in rates.items():
            bench, server = benches["empty" if which == "empty" else "full"]
            bench.before = partial(bench.database.fetch, "checkpoint") if which == "after a checkpoint" else NOTHING
            bench.turn("ours", server, "issued")
            taken.append(server.runs["issued"][-1].load.rate)
    scanned: list[str] = []
    bench, server = benches["full"]
    for variant in ("issued", "observed"):
        counts: list[dict[str, int]] = []
        bench.before = bench.after = partial(_count_scans, bench.database, counts)
        bench.turn("ours", server, variant)
        bench.before = bench.after = NOTHING
        before, after = counts[0], counts[-1]
        more = [table for table, n in after.items() if n > before.get(table, 0) and not table.startswith(COUNTED)]
        scanned += [f"{table} by ingest, {variant}" for table in more]
    return {which: statistics.median(taken) for which, taken in rates.items()}, sorted(scanned)


def _count_scans(database: Database, counts: list[dict[str, int]]) -> None:
    time.sleep(TOLD_LATE)
    counts.append(asyncio.run(scans(database.dsn)))


def _ingest(sizes: list[Size]) -> Section:
    heads = ("messages", "receipts", "GB", "minutes to fill", "empty, receipts/s", "full, of it")
    section = Section("Growth: ingest", (*heads, "right after a checkpoint, of it", "scrape ms"))
    for size in sizes:
        section.rows.append(
            [
                f"{size.messages:,}",
                f"{2 * size.messages:,}",
                f"{size.gigabytes:.1f}",
                f"{size.minutes:.1f}",
                f"{size.rates['empty']:,.0f}",
                f"{size.of_empty('full'):.2f}",
                f"{size.of_empty('after a checkpoint'):.2f}",
                f"{size.scrape:.1f}",
            ]
        )
        for which in ("full", "after a checkpoint"):
            what = f"growth: ingest with {size.messages:,} messages, {which}"
            section.verdicts.append(Verdict(what, size.of_empty(which), OF_EMPTY, True, " of empty"))
        section.verdicts.append(Verdict(f"scrape with {size.messages:,} messages", size.scrape, SCRAPE, False, " ms"))
    return section


def _look_ups(sizes: list[Size]) -> Section:
    heads = ("messages", *BY, "slowest page of 100, first / again")
    section = Section("Growth: look-ups, median / p99 ms in the database", heads)
    for size in sizes:
        first, again = (max(took) for took in zip(*size.looked.page.values(), strict=True))
        pages = ", ".join(f"{state} {took[0]:.1f} / {took[1]:.1f}" for state, took in size.looked.page.items())
        section.rows.append(
            [f"{size.messages:,}", *("{:.1f} / {:.1f}".format(*size.looked.by[kind]) for kind in BY), pages]
        )
        worst = max(p99 for _, p99 in size.looked.by.values())
        section.verdicts.append(Verdict(f"look-ups with {size.messages:,} messages", worst, LOOK_UP, False, " ms"))
        for slowest, which in ((first, "read first"), (again, "read again")):
            what = f"a page with {size.messages:,} messages, {which}"
            section.verdicts.append(Verdict(what, slowest, PAGE, False, " ms"))
        read = size.looked.scans + size.scanned
        what = f"large partitions read from end to end with {size.messages:,} messages"
        section.verdicts.append(Verdict(what, len(read), 0, False))
        section.notes += [f"Read from end to end with {size.messages:,} messages: {', '.join(read)}."] if read else []
    return section


def main() -> None:
    """Reads the command line and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", default="1,5,20")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    for section in measure([float(m) for m in chosen.millions.split(",")], chosen.seconds, chosen.rounds):
        section.print()


if __name__ == "__main__":
    main()
