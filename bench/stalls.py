"""What happened while answers were late: wait events of Postgres and the state of the process, sampled beside a run."""

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.open_loop import Outcome
from receiver.database.pool import connect

EVERY = 0.01  # seconds
STARVED = 3_000_000  # nanoseconds between two looks
WAITS = """
select backend_type || case when application_name like 'receiver%' then ' of ' || application_name else '' end as who,
       coalesce(wait_event_type || ' ' || wait_event, 'working') as event
  from pg_stat_activity
 where pid <> pg_backend_pid() and (backend_type <> 'client backend' or state = 'active')
   and wait_event_type is distinct from 'Activity' and wait_event_type is distinct from 'Client'
"""
CHECKPOINTS = "select num_timed + num_requested from pg_stat_checkpointer"


@dataclass
class Watch:
    """Samples: when, and what was seen."""

    samples: list[tuple[float, list[str]]] = field(default_factory=list)
    checkpoints: int = 0

    def at(self, begin: float, end: float) -> Counter[str]:
        """In how many samples between two times each thing was seen."""
        seen: Counter[str] = Counter()
        for moment, what in self.samples:
            if begin <= moment <= end:
                seen.update(set(what))
        return seen


@contextlib.contextmanager
def watching(dsn: str, pid: int) -> Iterator[Watch]:
    """Samples in a thread of its own while the block runs."""
    watch, stop = Watch(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_sample(dsn, _Process(pid), watch, stop)), name="stalls")
    thread.start()
    try:
        yield watch
    finally:
        stop.set()
        thread.join()


class _Process:
    """What the kernel says of the receiver's process."""

    def __init__(self, pid: int) -> None:
        self._schedule, self._stat = Path(f"/proc/{pid}/schedstat"), Path(f"/proc/{pid}/stat")
        self._waited = self._waits()

    def _waits(self) -> int:
        return int(self._schedule.read_text().split()[1])

    def seen(self) -> list[str]:
        """What holds now, and since the last look."""
        before, self._waited = self._waited, self._waits()
        seen = ["the receiver waits for a processor"] if self._waited - before > STARVED else []
        works = self._stat.read_text().rpartition(") ")[2][0] == "R"
        return [*seen, "the receiver works"] if works else seen


async def _sample(dsn: str, process: _Process, watch: Watch, stop: threading.Event) -> None:
    connection = await connect(dsn, "bench")
    before = await _checkpoints(dsn)
    while not stop.is_set():
        began = time.perf_counter()
        seen = [f"{row['who']}: {row['event']}" for row in await connection.fetch(WAITS)]
        seen += process.seen()
        watch.samples.append((time.perf_counter(), seen))
        await asyncio.sleep(max(EVERY - (time.perf_counter() - began), 0.001))
    await connection.close()
    watch.checkpoints = await _checkpoints(dsn) - before


async def _checkpoints(dsn: str) -> int:
    connection = await connect(dsn, "bench")
    try:
        return int(await connection.fetchval(CHECKPOINTS))
    except Exception:  # before Postgres 17 it is elsewhere
        return 0
    finally:
        await connection.close()


@dataclass(frozen=True)
class Stall:
    """A time in which answers were late."""

    begin: float
    end: float
    answers: int


def stalls_of(outcome: Outcome, millis: float) -> list[Stall]:
    """The times in which answers took longer than that, put together where they overlap."""
    late = sorted(
        (due, due + took / 1000) for due, took in zip(outcome.due, outcome.millis, strict=True) if took > millis
    )
    found: list[Stall] = []
    for begin, end in late:
        if found and begin <= found[-1].end:
            last = found.pop()
            found.append(Stall(last.begin, max(last.end, end), last.answers + 1))
        else:
            found.append(Stall(begin, end, 1))
    return found


def explain(stalls: list[Stall], watch: Watch) -> list[tuple[str, float, float]]:
    """What was seen in stalls more often than elsewhere: its share of the samples in stalls, and of all others."""
    inside: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    within = 0
    for moment, seen in watch.samples:
        in_one = any(stall.begin <= moment <= stall.end for stall in stalls)
        within += in_one
        (inside if in_one else whole).update(set(seen))
    elsewhere = len(watch.samples) - within
    if not within:
        return []
    shares = [(what, n / within, whole[what] / max(elsewhere, 1)) for what, n in inside.items()]
    return sorted(shares, key=lambda row: row[2] - row[1])[:6]
