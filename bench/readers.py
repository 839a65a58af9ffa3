"""What readers cost the receipts: `python -m bench.readers [--messages 200000] [--seconds 5] [--rounds 5]`.

Ingest alone and ingest beside a storm of the costliest questions, in turns: searches that nothing matches, the largest
pages, the order of changes, exports, statistics, from clients that ask again as soon as they are answered. `--export`
measures one export of everything beside ingest instead, and how much memory it took.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import aiohttp

from bench.costs import Postgres, memory
from bench.ingest import Bench, Server
from bench.preload import fill, make_weeks
from bench.report import Section, Verdict, steps
from bench.stage import pre_size_log, stage
from bench.wrk import require_wrk
from tests.support import Receiver, receiver_process

LEAST = 0.8  # of the rate without readers
DAY = timedelta(days=1)
NOTHING = partial(int)
# Each is asked by one client, over and over.
QUESTIONS = (
    "/v1/messages?sender=nobody&limit=1000",
    "/v1/messages?state=submitted&limit=1000&total=true",
    "/v1/messages?final=false&country=GB&limit=1000",
    "/v1/messages?order=changed&sender=nobody&limit=1000",
    "/v1/messages?destination_end=0000&limit=1000&total=true",
    "/v1/messages?limit=1000&total=true",
    "/v1/messages/export",
    "/v1/messages/export?format=csv",
    "/v1/messages/export?sender=nobody",
    "/v1/stats/delivery?by=day,channel,tenant,country",
    "/v1/stats/delivery?by=hour,channel,country",
)


async def storm(url: str, key: str, until: asyncio.Event) -> Counter[str]:
    """Asks all of them until it is told to stop; how many answers there were, by status."""
    seen: Counter[str] = Counter()

    async def ask(session: aiohttp.ClientSession, path: str) -> None:
        while not until.is_set():
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(url + path) as answer:
                    async for _ in answer.content.iter_any():
                        if until.is_set():
                            break
                    seen[str(answer.status)] += 1

    headers = {"authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(
        headers=headers, timeout=aiohttp.ClientTimeout(None), auto_decompress=False
    ) as session:
        await asyncio.gather(*(ask(session, path) for path in QUESTIONS))
    return seen


async def _storm_until_told(url: str, key: str) -> None:
    """In a process of its own: until its input ends."""
    until = asyncio.Event()
    asking = asyncio.create_task(storm(url, key, until))
    await asyncio.to_thread(sys.stdin.read)
    until.set()
    await asyncio.wait({asking}, timeout=15)
    print(json.dumps(dict(asking.result()) if asking.done() else {}))


class Storm:
    """The storm around a turn."""

    def __init__(self, receiver: Receiver, key: str) -> None:
        self._words = [sys.executable, "-m", "bench.readers", "--storm", receiver.url, key]
        self._process: subprocess.Popen[str] | None = None
        self.seen: Counter[str] = Counter()

    def begin(self) -> None:
        """All ask; a moment later the load begins."""
        self._process = subprocess.Popen(self._words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        time.sleep(2)

    def end(self) -> None:
        """They stop."""
        if self._process:
            said, _ = self._process.communicate("", timeout=60)
            self.seen.update(json.loads(said or "{}"))
            self._process = None


@contextlib.contextmanager
def _full(messages: int, seconds: float) -> Iterator[tuple[Bench, Server, Receiver, str]]:
    """A receiver on a database with so many messages."""
    with contextlib.ExitStack() as stack:
        database, folder = stack.enter_context(stage())
        asyncio.run(pre_size_log(database.dsn))
        weeks = asyncio.run(make_weeks(database.dsn, datetime.now(UTC) - timedelta(minutes=1)))
        tenant = database.tenant()
        asyncio.run(fill(database.dsn, tenant, weeks, 0, messages, lambda _number: None))
        receiver = stack.enter_context(receiver_process(database, folder, RECEIVER_RATE_LIMIT="0"))
        server = Server(int(receiver.url.rpartition(":")[2]), receiver.process.pid)
        postgres = asyncio.run(Postgres.of(database.dsn))
        yield Bench(database, folder, postgres, tenant, seconds), server, receiver, database.key("read")


def measure(messages: int, seconds: float, rounds: int) -> Section:
    """Runs the turns. Raises proof.NotTrue when the database does not hold what was answered."""
    require_wrk()
    rates: dict[str, list[float]] = {"alone": [], "beside the storm": []}
    costs: dict[str, list[float]] = {"alone": [], "beside the storm": []}
    with steps("readers", rounds * 2 + 1) as step:
        step(f"filling up to {messages:,} messages")
        with _full(messages, seconds) as (bench, server, receiver, key):
            step.done()
            around = Storm(receiver, key)
            # Warm: readers plan once a connection, and there are as many connections as readers.
            bench.before, bench.after = around.begin, around.end
            bench.turn("ours", server, "issued")
            around.seen.clear()
            for number in range(rounds):
                for which, taken in rates.items():
                    step(f"round {number + 1}, {which}")
                    stormy = which != "alone"
                    bench.before, bench.after = (around.begin, around.end) if stormy else (NOTHING, NOTHING)
                    try:
                        bench.turn("ours", server, "issued")
                    finally:
                        around.end()
                    run = server.runs["issued"][-1]
                    taken.append(run.load.rate)
                    costs[which].append(run.server + run.postgres)
                    step.done()
            most = memory(receiver.process.pid, "VmHWM")
    section = _section(messages, rates, around.seen, most)
    section.notes.append(f"Processor us a receipt, here and in Postgres, of whatever it was for: {_turns(costs)}.")
    return section


def _section(messages: int, rates: dict[str, list[float]], seen: Counter[str], most: float) -> Section:
    alone, beside = (statistics.median(taken) for taken in rates.values())
    heads = (
        "messages",
        "alone, receipts/s",
        "beside the storm",
        "of it",
        "reads answered 200",
        "answered 503",
        "most MB",
    )
    section = Section("Readers: what a storm of the costliest questions costs the receipts", heads)
    figures = (f"{messages:,}", f"{alone:,.0f}", f"{beside:,.0f}", f"{beside / alone:.2f}")
    section.rows.append([*figures, f"{seen['200']:,}", f"{seen['503']:,}", f"{most:.0f}"])
    strange = {status: number for status, number in seen.items() if status not in ("200", "503")}
    section.notes.append(
        f"{len(QUESTIONS)} clients without a pause. Turns: {_turns(rates)}. Other answers: {strange or 'none'}."
    )
    section.verdicts = [Verdict("readers: ingest beside a storm, of ingest alone", beside / alone, LEAST)]
    return section


def _turns(rates: dict[str, list[float]]) -> str:
    return "; ".join(f"{which} {', '.join(f'{rate:,.0f}' for rate in taken)}" for which, taken in rates.items())


def measure_export(messages: int, seconds: float) -> Section:
    """One export of everything beside turns of ingest."""
    require_wrk()
    with _full(messages, seconds) as (bench, server, receiver, key):
        bench.turn("ours", server, "issued")
        before, began = memory(receiver.process.pid), time.monotonic()
        file = Path(bench.folder) / "export.ndjson"
        words = ["curl", "-sN", "--fail", "-o", str(file), "-H", f"authorization: Bearer {key}"]
        export = subprocess.Popen([*words, f"{receiver.url}/v1/messages/export"])
        turns = 0
        while export.poll() is None:
            bench.turn("ours", server, "issued")
            turns += 1
        took = time.monotonic() - began
        with file.open("rb") as exported:
            lines = sum(1 for _ in exported)
        rates = [run.load.rate for run in server.runs["issued"]]
        heads = ("messages", "exported", "seconds", "MB", "growth MB", "ended with", "ingest before", "beside")
        section = Section("An export of everything while receipts come", heads)
        growth = memory(receiver.process.pid, "VmHWM") - before
        figures = (f"{messages:,}", f"{lines:,}", f"{took:.0f}", f"{file.stat().st_size / 1e6:,.0f}", f"{growth:.1f}")
        section.rows.append(
            [*figures, str(export.returncode), f"{rates[0]:,.0f}", f"{statistics.median(rates[1:]):,.0f}"]
        )
        section.notes.append(f"{turns} turns of ingest of {seconds:g} s, with pauses in which their messages are made.")
        return section


def main() -> None:
    """Reads the command line and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--export", action="store_true")
    parser.add_argument("--storm", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.storm:
        asyncio.run(_storm_until_told(*chosen.storm))
    elif chosen.export:
        measure_export(chosen.messages, chosen.seconds).print()
    else:
        measure(chosen.messages, chosen.seconds, chosen.rounds).print()


if __name__ == "__main__":
    main()
