"""How long a receipt waits for its answer at half of the rate that can be sustained: `python -m bench.latency`.

Open loop with exponential pauses, measured from the time at which a receipt was meant to go out, in three turns, of
which the medians count. The files of the write-ahead log are made before. What takes longer than 20 ms is held against
the wait events of Postgres.
"""

import argparse
import asyncio
import contextlib
import statistics
from pathlib import Path
from typing import NamedTuple

from bench import bodies, proof
from bench.issued import issue
from bench.open_loop import Outcome, Plan, launch, outcome
from bench.report import Section, Verdict, steps
from bench.stage import pre_size_log, stage
from bench.stalls import Stall, Watch, explain, stalls_of, watching
from bench.wrk import Load, RanOut, drive, require_wrk, write_requests
from receiver.ids import TenantId, new_id
from tests.support import Database, Receiver, receiver_process

P50, P99 = 3.0, 25.0  # milliseconds
STALL = 20.0
CONNECTIONS = 64
TURNS, SHARES = 3, (0.5, 0.9, 0.99, 0.999)


class Turn(NamedTuple):
    """What was found in a part of the time, and what was seen beside it."""

    found: Outcome
    watch: Watch


def sustainable(
    database: Database, receiver: Receiver, tenant: TenantId, folder: Path, seconds: float, guess: float = 22_000
) -> float:
    """Receipts of issued messages a second that the receiver takes from 64 connections without a pause."""
    while True:
        issued = asyncio.run(issue(database.dsn, tenant, int(guess * seconds) // 2))
        requests = write_requests(folder, bodies.of_issued(issued))
        try:
            return drive(requests, port_of(receiver), seconds).rate
        except RanOut:
            guess *= 1.6


def port_of(receiver: Receiver) -> int:
    """Where it listens."""
    return int(receiver.url.rpartition(":")[2])


def measure(seconds: float, rate: float | None = None) -> Section:
    """Runs it. Raises proof.NotTrue when the database does not hold what was answered."""
    require_wrk()
    with contextlib.ExitStack() as stack:
        step = stack.enter_context(steps("latency", 1 + TURNS))
        database, folder = stack.enter_context(stage())
        asyncio.run(pre_size_log(database.dsn))
        receiver = stack.enter_context(receiver_process(database, folder))
        tenant = database.tenant()
        step("the rate that can be sustained" if rate is None else "warming up")
        # Of a process that has just begun, the first group waits for a connection and for its plans.
        found = [sustainable(database, receiver, tenant, folder, 3 if rate is None else 1) for _ in range(3)]
        sustained = rate or statistics.median(found)
        step.done()
        turns: list[Turn] = []
        for _ in range(TURNS):
            step("half of it")
            turns.append(_turn(database, receiver, tenant, folder, sustained / 2, seconds / TURNS))
            step.done()
    return _section(turns, sustained)


def _turn(database: Database, receiver: Receiver, tenant: TenantId, folder: Path, rate: float, seconds: float) -> Turn:
    number = int(rate * seconds)
    first = new_id()
    issued = asyncio.run(issue(database.dsn, tenant, number // 2 + 1))
    write_requests(folder, bodies.of_issued(issued), threads=1)
    plan = Plan(port_of(receiver), rate, number, CONNECTIONS, str(folder / "requests.0"), True)
    with watching(database.dsn, receiver.process.pid) as watch:
        found = outcome(launch(plan, folder), folder)
    load = Load(number, len(found.of(200)), number, seconds, 0, 0)
    asyncio.run(proof.prove(database.dsn, load, first))
    return Turn(found, watch)


def _section(turns: list[Turn], sustained: float) -> Section:
    for found, _ in turns:
        proof.demand(len(found.of(200)) == len(found.millis), f"answers: {dict(found.statuses())}")
    each = [found.of(200) for found, _ in turns]
    cuts = [statistics.median(_cut(millis, share) for millis in each) for share in SHARES]
    heads = ("receipts/s", "receipts", "p50 ms", "p90", "p99", "p99.9", "most")
    section = Section("Latency at half of the sustainable rate", heads)
    figures = [f"{figure:.1f}" for figure in (*cuts, max(millis[-1] for millis in each))]
    section.rows.append([f"{sustained / 2:,.0f}", f"{sum(map(len, each)):,}", *figures])
    section.verdicts = [
        Verdict("latency: p50", cuts[0], P50, False, " ms"),
        Verdict("latency: p99", cuts[2], P99, False, " ms"),
    ]
    stalls = [stall for found, _ in turns for stall in stalls_of(found, STALL)]
    samples = [sample for _, watch in turns for sample in watch.samples]
    seconds = sum(found.due[-1] - found.due[0] for found, _ in turns)
    section.notes = _causes(stalls, Watch(samples, sum(watch.checkpoints for _, watch in turns)), seconds)
    return section


def _cut(ordered: list[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def _causes(stalls: list[Stall], watch: Watch, seconds: float) -> list[str]:
    if not stalls:
        return [f"No answer took longer than {STALL:.0f} ms."]
    longest = max(stall.end - stall.begin for stall in stalls) * 1000
    notes = [
        f"{len(stalls)} stalls of more than {STALL:.0f} ms in {seconds:.0f} s ({watch.checkpoints} checkpoints), the"
        f" longest {longest:.0f} ms. Seen in them, and at other times:"
    ]
    for what, inside, elsewhere in explain(stalls, watch):
        notes.append(f"* {what}: {inside:.0%}, {elsewhere:.0%}")
    return ["\n".join(notes)]


def main() -> None:
    """Reads the command line and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--sustained", type=float, default=None, help="Receipts/s; measured when left out.")
    chosen = parser.parse_args()
    measure(chosen.seconds, chosen.sustained).print()


if __name__ == "__main__":
    main()
