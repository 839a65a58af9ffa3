"""From one scrape to a day of samples, a minute apart: as OpenMetrics text, for promtool to make blocks of.

Names, types and labels are those of the scrape. What counts messages takes the course of the day; any other counter
and histogram rises to the value that it has in the scrape, and a gauge has had it all day.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import Final

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from receiver.messages.lattice import State
from tests.panels.day import CLASSES, MINUTES, Send

POINTS: Final = MINUTES + 1
DAY, LATER = 86_400, 3 * 3600  # seconds
OF_THE_DAY: Final = {"job": "receiver", "instance": "receiver-1:8000"}
Labels = tuple[tuple[str, str], ...]
Rises = dict[tuple[str, Labels], list[float]]
"""By how much a series rose in the minute before each point."""

OUTCOME: Final = {
    State.DELIVERED: "delivered",
    State.UNDELIVERED: "failed",
    State.FAILED: "failed",
    State.SUBMITTED: None,
}
TIMES: Final = ("receiver_accepted_seconds", "receiver_submitted_seconds", "receiver_delivery_seconds")
LAG: Final = "receiver_receipt_lag_seconds"


def families(text: str) -> dict[str, Metric]:
    """A scrape by the names of its metrics, a counter's with `_total`."""
    found = text_string_to_metric_families(text)
    return {one.name + ("_total" if one.type == "counter" else ""): one for one in found}


def rises(sends: Sequence[Send], bounds: Mapping[str, Sequence[str]]) -> Rises:
    """How the metrics that count messages rose in the day; `bounds` are the `le` of each histogram."""
    found: Rises = defaultdict(lambda: [0.0] * POINTS)

    def count(name: str, send: Send, **labels: str) -> None:
        found[name, tuple(sorted(labels.items()))][send.minute + 1] += 1

    for send in sends:
        line = {"tenant": send.tenant, "channel": send.channel.word}
        steps = [("queued", "own"), ("accepted", "answer"), ("submitted", "push")]
        outcomes = [("accepted", "answer")]
        told, outcome = 1, OUTCOME[send.state]
        if outcome is not None:
            steps.append((send.state.word, "push"))
            outcomes.append((outcome, "push"))
            told = 2
        for state, feed in steps:
            count("receiver_messages_total", send, **line, state=state, feed=feed)
        for came, feed in outcomes:
            count("receiver_outcomes_total", send, **line, country=send.country, outcome=came, feed=feed)
            count("receiver_sender_outcomes_total", send, **line, sender=send.sender, outcome=came, feed=feed)
        if send.code is not None:
            code = {"code": send.code, "class": CLASSES[send.code]}
            count("receiver_failures_total", send, **line, **code, feed="push")
        for _ in range(told):
            count("receiver_receipts_total", send, **line, result="applied", feed="push")
        for name, seconds in _times(send):
            labels = {"channel": line["channel"]} if name == LAG else line
            _observe(found, name, bounds[name], send, seconds, labels)
    return found


def _times(send: Send) -> Iterator[tuple[str, float]]:
    yield TIMES[0], (send.accepted - send.born).total_seconds()
    yield TIMES[1], (send.submitted - send.accepted).total_seconds()
    yield LAG, 0.0
    if send.state is State.DELIVERED:
        yield TIMES[2], (send.ended - send.accepted).total_seconds()
    if send.state is not State.SUBMITTED:
        yield LAG, send.lag.total_seconds()


def _observe(
    found: Rises, name: str, bounds: Sequence[str], send: Send, seconds: float, labels: Mapping[str, str]
) -> None:
    own = tuple(sorted(labels.items()))
    found[f"{name}_count", own][send.minute + 1] += 1
    found[f"{name}_sum", own][send.minute + 1] += seconds
    for bound in bounds:
        found[f"{name}_bucket", tuple(sorted((*own, ("le", bound))))][send.minute + 1] += seconds <= float(bound)


def bounds_of(scrape: Mapping[str, Metric]) -> dict[str, list[str]]:
    """The `le` of each histogram of the scrape that has series, in order."""
    found: dict[str, list[str]] = {}
    for name, family in scrape.items():
        if family.type == "histogram":
            spelled = dict.fromkeys(sample.labels["le"] for sample in family.samples if "le" in sample.labels)
            found[name] = list(spelled)
    return found


def write(file: Path, scrape: Mapping[str, Metric], of_the_day: Rises, begin: datetime, named: Set[str]) -> int:
    """The day of every series of the scrape and of the day's that is `named`; returns how many series there are."""
    begun = int(begin.timestamp())
    times = [f" {begun + 60 * minute}\n" for minute in range(POINTS)]
    by_family: dict[str, dict[tuple[str, Labels], Sequence[float]]] = {name: {} for name in scrape}
    owner = {series: name for name in scrape for series in (name, f"{name}_bucket", f"{name}_count", f"{name}_sum")}
    for (name, labels), risen in of_the_day.items():
        by_family[owner[name]][name, labels] = list(accumulate(risen))
    for name, family in scrape.items():
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            if not sample.name.endswith("_created"):
                by_family[name].setdefault((sample.name, labels), _plausible(sample.value, family.type))
    total = 0
    with file.open("w", encoding="utf-8") as out:
        for name, series in by_family.items():
            out.write(f"# TYPE {name.removesuffix('_total')} {scrape[name].type}\n")
            for (own, labels), values in series.items():
                if own not in named:
                    continue
                head = f"{own}{{{_spelled((*labels, *OF_THE_DAY.items()))}}} "
                out.write("".join(f"{head}{value:.15g}{at}" for value, at in zip(values, times, strict=True)))
                total += 1
        head = f"up{{{_spelled(OF_THE_DAY.items())}}} 1"
        out.write("# TYPE up gauge\n" + "".join(head + at for at in times) + "# EOF\n")
    return total


def write_again(
    file: Path, found: Iterable[tuple[Mapping[str, str], Sequence[tuple[float, str]]]], begin: datetime, days: int
) -> None:
    """Samples that Prometheus gave of the day, moved back: what the days before it were like.

    Each of them is the day but for its first hours, and the bad hour comes three hours later.
    """
    begun = int(begin.timestamp())
    lines = [
        f"{labels['__name__']}{{{_spelled((k, v) for k, v in labels.items() if k != '__name__')}}} {value} {moved}\n"
        for labels, values in found
        for back in range(days, 0, -1)
        for at, value in values
        for moved in [int(at) + LATER - back * DAY]
        if begun - back * DAY <= moved < begun - (back - 1) * DAY
    ]
    file.write_text("".join(lines) + "# EOF\n", encoding="utf-8")


def _plausible(value: float, sort: str) -> Sequence[float]:
    """A gauge as it is; anything else rises to its value, more by day than by night."""
    if sort not in ("counter", "histogram") or not value:
        return [value] * POINTS
    return [value * (one - 0.1 * math.sin(2 * math.pi * one)) for one in (n / MINUTES for n in range(POINTS))]


def _spelled(labels: Iterable[tuple[str, str]]) -> str:
    quoted = ((name, value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")) for name, value in labels)
    return ",".join(f'{name}="{value}"' for name, value in quoted)
