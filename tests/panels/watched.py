"""The whole: the day in Postgres and in a real Prometheus, the service beside it, and who asks both as Grafana does."""

import math
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx2
import yaml

from grafana.queries import FOLDER, expressions, filled_sql, selectors
from grafana.rules import rules
from receiver.database.pool import connect
from receiver.database.reader import make_reader
from tests.alerts.watchers import prometheus
from tests.panels import course, history
from tests.panels.day import MINUTES, TENANTS, Send, day
from tests.panels.living import Living, living
from tests.support import Database, run
from tests.tools import need

RULES: Final = FOLDER / "alerts" / "receiver.rules.yml"
RECORDED: Final = re.compile(r"\b\w+:receiver_\w+:\w+")
NOBODY: Final = "http://127.0.0.1:9"
STEP: Final = 300  # seconds: a panel of 288 points
FINE: Final = 120  # seconds, where it matters when something begins
LONGEST_BLOCK: Final = "--max-block-duration=64h"  # promtool reads the whole file for each block
# What the rules compare with other days is asked of the days before, too.
OTHER_DAYS: Final = ("tenant_channel_class:receiver_failures:share", "tenant_channel:receiver_final:hour")
Series = dict[str, Any]


@dataclass(frozen=True)
class Watched:
    """The day, and whom it is asked of."""

    database: Database
    role: str
    sends: Sequence[Send]
    begin: datetime
    living: Living
    prometheus: httpx2.Client

    @property
    def end(self) -> datetime:
        return self.begin + timedelta(minutes=MINUTES)

    def at_once(self, expr: str, at: datetime | None = None) -> list[Series]:
        """What a panel is given that asks once, at the end of its time range. Fails for an error."""
        return self._asked("query", query=expr, time=(at or self.end).timestamp())

    def over_the_day(self, expr: str, step: int = STEP) -> list[Series]:
        """What a panel is given that draws the day."""
        begin, end = self.begin.timestamp(), self.end.timestamp()
        return self._asked("query_range", query=expr, start=begin, end=end, step=step)

    def figures(self, expr: str, label: str, at: datetime | None = None) -> dict[str, float]:
        """The values by one label."""
        return {one["metric"].get(label, ""): float(one["value"][1]) for one in self.at_once(expr, at)}

    def rows(
        self, statement: str, chosen: Mapping[str, Sequence[str]], begin: datetime | None = None
    ) -> tuple[list[str], list[asyncpg.Record]]:
        """Columns and rows, in the role that `receiver sql-role` makes."""
        text = filled_sql(statement, chosen, begin or self.begin, self.end)

        async def work() -> tuple[list[str], list[asyncpg.Record]]:
            connection = await connect(self.database.dsn, "tests")
            try:
                await connection.execute(f'set session authorization "{self.role}"')
                prepared = await connection.prepare(text)
                return [one.name for one in prepared.get_attributes()], await prepared.fetch()
            finally:
                await connection.close()

        return run(work())

    def _asked(self, kind: str, **parameters: Any) -> list[Series]:
        body = self.prometheus.post(f"/api/v1/{kind}", data=parameters).json()
        assert body["status"] == "success", f"{body.get('error')}: {parameters['query']}"
        assert not body.get("warnings"), body["warnings"]
        found: list[Series] = body["data"]["result"]
        return found


def has_data(found: Sequence[Series]) -> bool:
    """Whether one sample at least is a number."""
    values = (pair[1] for one in found for pair in one.get("values") or [one["value"]])
    return any(not math.isnan(float(value)) for value in values)


@contextmanager
def watched(database: Database, folder: Path) -> Iterator[Watched]:
    """All of it, running, and ended in the end."""
    for program in ("prometheus", "promtool"):
        need(program)
    begin = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=MINUTES)
    sends = day(begin)
    history.write(database, sends)
    with ExitStack() as running:
        role = running.enter_context(_reader(database))
        states = {name: Counter(send.state.word for send in sends if send.tenant == name) for name in TENANTS}
        service = running.enter_context(living(database, folder, states))
        watcher = running.enter_context(_prometheus(folder, service, sends, begin))
        yield Watched(database, role, sends, begin, service, watcher)


@contextmanager
def _prometheus(folder: Path, service: Living, sends: Sequence[Send], begin: datetime) -> Iterator[httpx2.Client]:
    """First without rules, to make their series of the day; then with rules, days before, and the live service."""
    named = {metric for _, expr in expressions() for metric, _ in selectors(expr)}
    samples, before, recording = folder / "day.om", folder / "before.om", folder / "recording.yml"
    course.write(samples, service.scrape, course.rises(sends, course.bounds_of(service.scrape)), begin, named)
    _blocks(folder, "openmetrics", LONGEST_BLOCK, samples, folder / "prometheus")
    samples.unlink()
    recording.write_text(yaml.safe_dump({"groups": [{"name": "day", "rules": recorded_at_once()}]}))
    none = folder / "none.yml"
    none.write_text("groups: []\n")
    first, last = int(begin.timestamp()), int(begin.timestamp()) + MINUTES * 60
    with prometheus(folder, rules=none, target=service.receiver.url, alertmanager=NOBODY) as raw:
        span = (f"--start={first}", f"--end={last}", f"--url={raw.base_url}", f"--output-dir={folder / 'prometheus'}")
        _blocks(folder, "rules", *span, f"--eval-interval={FINE}s", recording)
        inlined = {rule["record"]: rule["expr"] for rule in recorded_at_once()}
        found = []
        for name in OTHER_DAYS:
            asked = {"query": inlined[name], "start": first + 3600, "end": last, "step": 60}
            result = raw.post("/api/v1/query_range", data=asked).raise_for_status().json()["data"]["result"]
            found += [({"__name__": name, **one["metric"]}, one["values"]) for one in result]
    course.write_again(before, found, begin, days=2)
    _blocks(folder, "openmetrics", LONGEST_BLOCK, before, folder / "prometheus")
    calm = folder / "receiver.rules.yml"
    document = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    calm.write_text(yaml.safe_dump({"groups": [{**group, "interval": "15s"} for group in document["groups"]]}))
    with prometheus(folder, rules=calm, target=service.receiver.url, alertmanager=NOBODY) as watcher:
        yield watcher


def _blocks(folder: Path, kind: str, *arguments: object) -> None:
    command = [need("promtool"), "tsdb", "create-blocks-from", "--quiet", kind, *map(str, arguments)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=folder)
    assert made.returncode == 0, made.stdout + made.stderr


def recorded_at_once() -> list[dict[str, str]]:
    """The recording rules, each without the others: what they take from one another stands there in its place.

    Those that look back at what others recorded are left out: that takes more days than one.
    """
    known = {rule["record"]: rule["expr"] for group in rules()["groups"] for rule in group["rules"] if "record" in rule}
    alone = {name: expr for name, expr in known.items() if not re.search(rf"{RECORDED.pattern}\s+offset", expr)}
    return [{"record": name, "expr": inlined(expr, alone)} for name, expr in alone.items()]


def inlined(expr: str, known: Mapping[str, str]) -> str:
    """`expr` with each recorded name replaced by what is recorded under it."""
    while set(RECORDED.findall(expr)) & known.keys():
        expr = RECORDED.sub(lambda found: f"({known[found[0]]})" if found[0] in known else found[0], expr)
    return expr


@contextmanager
def _reader(database: Database) -> Iterator[str]:
    role = f"reader of {database.name}"

    async def make() -> None:
        connection = await connect(database.dsn, "tests")
        try:
            await make_reader(connection, role)
        finally:
            await connection.close()

    run(make())
    try:
        yield role
    finally:
        database.fetch(f'drop owned by "{role}"')
        database.fetch(f'drop role "{role}"')
