"""What happens at twice the rate that can be sustained: `python -m bench.pressure [--seconds 180]`.

Open loop over as many connections as it takes: what the receiver can't take in time it must refuse at once, with 503
and Retry-After, without growing. At the end all that was answered 200 is there.
"""

import argparse
import asyncio
import contextlib
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from urllib.request import urlopen

from bench import proof
from bench.costs import memory
from bench.issued import Issued, issue
from bench.latency import port_of, sustainable
from bench.open_loop import Outcome, Plan, launch, outcome
from bench.report import Section, Verdict, steps
from bench.stage import pre_size_log, stage
from bench.wrk import require_wrk
from receiver.access.tokens import NotifyTokens
from tests.support import SECRET, Database, Receiver, receiver_process

MESSAGES = 20_000
CONNECTIONS = 10_000  # more than the receipts that may wait
MOST_GROWTH, MOST_MEGABYTES = 20.0, 150.0
# The time stamp goes between these two: each telling is one of its own.
HEAD = b'{"deliveryInfoNotification":{"deliveryInfo":{"timeStamp":"'
TAIL = (
    '","Description":"Delivered","code":"7500","deliveryChannel":"SMS","destination":"%s","destinationType":"msisdn",'
    '"deliveryStatus":"Delivered"},"subtid":"","transid":"%s","callbackData":"","correlationid":"%s"}}'
)


@dataclass
class Memory:
    """Megabytes of a process second by second, and how long a scrape takes."""

    megabytes: list[float] = field(default_factory=list)
    scrapes: list[float] = field(default_factory=list)

    def watch(self, receiver: Receiver, load: "Popen[bytes]") -> None:
        """Looks once a second until the load has ended. Raises RuntimeError when the receiver ended before."""
        while load.poll() is None and receiver.process.poll() is None:
            self.megabytes.append(memory(receiver.process.pid))
            if len(self.megabytes) % 5 == 0:
                with contextlib.suppress(OSError):  # of a receiver that has just ended
                    self.scrapes.append(scrape_millis(receiver.url))
            time.sleep(1)
        if load.poll() != 0:
            load.kill()
            raise RuntimeError(f"the receiver did not stand it: {receiver.log.read_text()[-4000:]}")

    def growth(self) -> float:
        """From the end of the first third to the end: the most of each last tenth."""
        third, tenth = len(self.megabytes) // 3, max(len(self.megabytes) // 10, 1)
        return max(self.megabytes[-tenth:]) - max(self.megabytes[max(third - tenth, 0) : third + 1])


def scrape_millis(url: str) -> float:
    """How long GET /metrics takes, in milliseconds."""
    began = time.perf_counter()
    with urlopen(f"{url}/metrics", timeout=60) as answer:
        answer.read()
    return (time.perf_counter() - began) * 1000


def parts_of(issued: list[Issued]) -> list[bytes]:
    """What the open loop makes requests of: path, what stands before the time stamp, what behind it."""
    tokens = NotifyTokens(SECRET)
    made = []
    for m in issued:
        path = f"/notify/{tokens.sign('default', m.submission)}"
        made.append(b"\n".join((path.encode(), HEAD, (TAIL % (m.destination, m.transid, m.id)).encode())))
    return made


def write_parts(file: Path, parts: list[bytes]) -> None:
    """In the form that the open loop reads."""
    file.write_bytes(b"".join(b"%08d" % len(part) + part for part in parts))


def measure(seconds: float, rate: float | None = None) -> Section:
    """Runs it. Raises proof.NotTrue when something that was answered 200 is not there."""
    require_wrk()
    with contextlib.ExitStack() as stack:
        step = stack.enter_context(steps("pressure", 2))
        database, folder = stack.enter_context(stage())
        asyncio.run(pre_size_log(database.dsn))
        receiver = stack.enter_context(receiver_process(database, folder))
        tenant = database.tenant()
        step("the rate that can be sustained")
        sustained = rate or statistics.median(sustainable(database, receiver, tenant, folder, 3) for _ in range(3))
        step.done()
        step("twice of it")
        write_parts(folder / "parts", parts_of(asyncio.run(issue(database.dsn, tenant, MESSAGES))))
        before = database.value("select count(*) from receipt where feed = 1")
        number = int(sustained * 2 * seconds)
        plan = Plan(port_of(receiver), sustained * 2, number, CONNECTIONS, str(folder / "parts"), False)
        seen = Memory()
        process = launch(plan, folder)
        seen.watch(receiver, process)
        found = outcome(process, folder)
        stored = _stored(database, before, len(found.of(200)))
        most = memory(receiver.process.pid, "VmHWM")
        step.done()
    return _section(found, stored, seen, most, sustained)


def _stored(database: Database, before: int, good: int) -> int:
    """How many were stored since; what went to the spool has a while to come out of it."""
    until = time.monotonic() + proof.SPOOLED
    while True:
        stored = int(database.value("select count(*) from receipt where feed = 1")) - before
        if stored >= good or time.monotonic() > until:
            return stored
        time.sleep(1)


def _section(found: Outcome, stored: int, seen: Memory, most: float, sustained: float) -> Section:
    statuses = found.statuses()
    good, refused, strange = statuses[200], statuses[503], set(statuses) - {200, 503, 0}
    proof.demand(not strange, f"answers that are neither 200 nor a 503 with Retry-After: {dict(statuses)}")
    proof.demand(good <= stored <= len(found.status), f"{stored} receipts, {good} were answered 200")
    lasted = max(found.sent()) - found.due[0]
    heads = ("sent/s", "taken/s", "answered 200", "answered 503", "no answer", "never sent", "p99 of 503, ms")
    section = Section(
        "Pressure: twice the sustainable rate", (*heads, "p99 of 200, ms", "growth MB", "most MB", "scrape ms")
    )
    section.rows.append(
        [
            f"{len(found.sent()) / lasted:,.0f}",
            f"{good / lasted:,.0f}",
            f"{good:,}",
            f"{refused:,}",
            f"{statuses[0] - found.never_sent():,}",
            f"{found.never_sent():,}",
            *(f"{millis[int(len(millis) * 0.99)]:,.0f}" if (millis := found.of_door(s)) else "" for s in (503, 200)),
            f"{seen.growth():.1f}",
            f"{most:.0f}",
            f"{statistics.median(seen.scrapes):.0f}" if seen.scrapes else "",
        ]
    )
    section.notes.append(
        f"{sustained:,.0f} receipts/s can be sustained by 64 connections; here {CONNECTIONS:,} were open. Growth is"
        f" from the end of the first third to the end of {lasted:.0f} s. All {good:,} answered 200 are stored."
    )
    section.verdicts = [Verdict("pressure: growth of memory", seen.growth(), MOST_GROWTH, False, " MB")]
    return section


def main() -> None:
    """Reads the command line and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--sustained", type=float, default=None, help="Receipts/s; measured when left out.")
    chosen = parser.parse_args()
    measure(chosen.seconds, chosen.sustained).print()


if __name__ == "__main__":
    main()
