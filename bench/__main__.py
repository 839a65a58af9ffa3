"""All measurements, `python -m bench`: the short form, `--full` the long one, with growth.

At the end stands what was demanded and what was found. It ends with 1 only when something was wrong: a measurement that
failed, or a database that did not hold what was answered. A rate that was missed is told in the table.
"""

import argparse
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from bench import growth, ingest, latency, pressure, readers, statistics, streams
from bench.report import Section, Verdict, print_verdicts
from bench.wrk import require_wrk


@dataclass(frozen=True)
class Form:
    """How long everything takes: arguments of the sending benches, seconds and rounds of the others."""

    sending: tuple[str, ...]
    ingest: tuple[float, int]
    latency: float
    pressure: float
    millions: tuple[float, ...]
    growth: tuple[float, int]
    readers: tuple[int, float, int]  # messages, seconds, rounds
    statistics: int = 0  # rounds; it takes most of a minute to fill the roll-ups


SHORT = Form(
    (
        "accepting --rounds 2 --seconds 1",
        "dispatch --calls 1200",
        "dispatch --entries 1000 --calls 12",
        "to_the_door --quiet 100 --busy 600",
    ),
    ingest=(2.0, 2),
    latency=12.0,
    pressure=20.0,
    millions=(0.1,),
    growth=(1.0, 3),
    readers=(100_000, 2.0, 2),
)
FULL = Form(
    ("accepting", "dispatch", "dispatch --entries 1000 --calls 30", "to_the_door"),
    ingest=(5.0, 5),
    latency=60.0,
    pressure=180.0,
    millions=(1.0, 5.0, 20.0),
    growth=(5.0, 3),
    readers=(1_000_000, 5.0, 5),
    statistics=10,
)


@dataclass
class Course:
    """What was found so far."""

    verdicts: list[Verdict] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def sending(self, words: str) -> None:
        """Runs one of the benches of sending; they print for themselves."""
        print(f"\n### bench.{words}\n", flush=True)
        if subprocess.run(
            [sys.executable, "-m", f"bench.{words.split()[0]}", *words.split()[1:]], check=False
        ).returncode:
            self.failed.append(words)

    def measure(self, name: str, work: Callable[[], list[Section]]) -> list[Section]:
        """Runs one of the others and prints what it found."""
        try:
            sections = work()
        except Exception:
            traceback.print_exc()
            self.failed.append(name)
            return []
        for section in sections:
            section.print()
            self.verdicts += section.verdicts
        return sections


def main() -> None:
    """Runs one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--millions", help="The sizes of the growth, such as 1,5.")
    chosen = parser.parse_args()
    require_wrk()
    form, course, began = FULL if chosen.full else SHORT, Course(), time.monotonic()
    millions = [float(m) for m in chosen.millions.split(",")] if chosen.millions else list(form.millions)
    found = course.measure("ingest", lambda: [ingest.measure(*form.ingest)])
    rate = found[0].figures["sustained"] if found else None
    course.measure("latency", lambda: [latency.measure(form.latency, rate)])
    course.measure("pressure", lambda: [pressure.measure(form.pressure, rate)])
    course.measure("growth", lambda: growth.measure(millions, *form.growth))
    course.measure("readers", lambda: [readers.measure(*form.readers)])
    course.measure("streams", lambda: [streams.measure(1_000, 5_000, 8.0, 20)])
    if form.statistics:
        course.measure("statistics", lambda: [statistics.measure(form.statistics)])
    for words in form.sending:
        course.sending(words)
    print(f"\n### What was demanded ({(time.monotonic() - began) / 60:.1f} minutes)\n")
    print_verdicts(course.verdicts)
    if course.failed:
        print(f"\nFAILED: {', '.join(course.failed)}", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
