"""The questions of dashboards and rules, with Grafana's variables replaced as Grafana does it."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from grafana.queries import FOLDER, filled, panels
from grafana.rules import rules
from tests.panels.watched import STEP, Series, Watched

# A day in a panel of 288 points, scraped once a minute: a rate looks back over a point and a scrape.
TIMES: Final = {"__range": "86400s", "__rate_interval": f"{STEP + 60}s", "__interval": f"{STEP}s", "window": "30m"}
SELECTOR: Final = re.compile(r"(?:\b\w+:)?\breceiver_\w+(?::\w+)?(?:\{[^}]*\})?")
_VALUES: Final = re.compile(r"label_values\((?P<selector>.+), *(?P<label>\w+)\)")


@dataclass(frozen=True)
class Question:
    """One query of a panel."""

    dashboard: str
    panel: dict[str, Any]
    target: dict[str, Any]

    @property
    def where(self) -> str:
        return f"{self.dashboard}: {self.panel['title']} ({self.target['refId']})"

    @property
    def once(self) -> bool:
        return bool(self.target.get("instant"))


def dashboards() -> dict[str, dict[str, Any]]:
    """The committed dashboards by name."""
    found = sorted((FOLDER / "dashboards").glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in found}


def questions(language: str) -> list[Question]:
    """Every query of every panel, in `expr` or in `rawSql`."""
    return [
        Question(name, panel, target)
        for name, made in dashboards().items()
        for panel in panels(made)
        for target in panel["targets"]
        if language in target
    ]


def variables(dashboard: str) -> list[dict[str, Any]]:
    """Those of its variables that Prometheus fills, in order: a later one may name an earlier one."""
    listed = dashboards()[dashboard]["templating"]["list"]
    return [one for one in listed if one["type"] == "query" and one["datasource"]["type"] == "prometheus"]


@dataclass
class Grafana:
    """Asks the day as a person in front of a dashboard does."""

    watched: Watched
    _chosen: dict[tuple[str, ...], dict[str, str]] = field(default_factory=dict)

    def chosen(self, dashboard: str, *tenants: str) -> dict[str, str]:
        """The variables where all is chosen, or some tenants, with the times."""
        key = (dashboard, *tenants)
        if key not in self._chosen:
            made = dict(TIMES)
            for variable in variables(dashboard):
                given = tenants if variable["name"] == "tenant" else ()
                made[variable["name"]] = _alternatives(given) if given else self._all(variable, made)
            self._chosen[key] = made
        return self._chosen[key]

    def ask(self, question: Question, *tenants: str) -> list[Series]:
        """What the panel is given for that query."""
        expr = filled(question.target["expr"], self.chosen(question.dashboard, *tenants))
        return self.watched.at_once(expr) if question.once else self.watched.over_the_day(expr)

    def expr(self, title: str, *tenants: str, place: int = 0, **times: str) -> str:
        """The query of the panel with that title, filled."""
        found = [one for one in questions("expr") if one.panel["title"] == title]
        return filled(found[place].target["expr"], self.chosen(found[place].dashboard, *tenants) | times)

    def values(self, variable: Mapping[str, Any], made: Mapping[str, str]) -> list[str]:
        """What a variable offers."""
        parts = _VALUES.fullmatch(variable["query"])
        assert parts is not None, variable["query"]
        asked: dict[str, str | float] = {
            "match[]": filled(parts["selector"], made),
            "start": self.watched.begin.timestamp(),
        }
        answer = self.watched.prometheus.get(f"/api/v1/label/{parts['label']}/values", params=asked).raise_for_status()
        found: list[str] = answer.json()["data"]
        return found

    def _all(self, variable: Mapping[str, Any], made: Mapping[str, str]) -> str:
        return str(variable.get("allValue") or _alternatives(tuple(self.values(variable, made))))


def _alternatives(several: tuple[str, ...]) -> str:
    return several[0] if len(several) == 1 else f"({'|'.join(several)})"


def alerts() -> Iterator[tuple[str, str]]:
    """(name and the labels that tell it from its sisters, expression) of each alert rule."""
    for group in rules()["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                marks = [value for name, value in sorted(rule["labels"].items())]
                yield " ".join([rule["alert"], *marks]), rule["expr"]


def parts(expr: str) -> set[str]:
    """Every selector that stands in an expression."""
    return set(SELECTOR.findall(expr))
