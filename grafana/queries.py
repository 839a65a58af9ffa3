"""Every PromQL expression that the dashboards and alert rules ask, and the metrics and labels it names."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import yaml

FOLDER = Path(__file__).resolve().parent

_LABEL_VALUES = re.compile(r"label_values\(\s*(?P<selector>.+?)\s*,\s*(?P<label>\w+)\s*\)", re.DOTALL)
_VARIABLE = re.compile(r"\$\{\w+(?::\w+)?\}|\$\w+")
# Where a variable stands for a duration: after the bracket of a range, the colon of a step, or offset.
_DURATION = re.compile(rf"(?P<before>[\[:]|\boffset\s+)(?:{_VARIABLE.pattern})")


def expressions() -> list[tuple[str, str]]:
    """(where, PromQL) of every panel, every variable and every rule, as the committed files have them.

    A variable's `label_values(selector, label)` is given as `group by (label) (selector)`. Raises ValueError
    for a variable's query of another kind.
    """
    return [*_in_dashboards(), *_in_rules()]


def plain(expr: str) -> str:
    """`expr` with Grafana's variables replaced, so that PromQL's own grammar reads it."""
    return _VARIABLE.sub("x", _DURATION.sub(r"\g<before>5m", expr))


def selectors(expr: str) -> set[tuple[str, frozenset[str]]]:
    """(metric, labels) of every selector in `expr`: labels that it matches, and those by which anything above
    it groups, joins or copies. Raises ValueError when `expr` can't be parsed or a selector names no metric.
    """
    return {(metric, labels) for metric, labels, _ in _selectors(promql.parse(plain(expr)), frozenset())}


def matched(expr: str) -> set[tuple[str, str, str]]:
    """(metric, label, value) of every value that a selector in `expr` asks for, a regular expression's
    alternatives one by one; without values that hold a variable of Grafana's.
    """
    return {
        (metric, matcher.name, value)
        for metric, _, matchers in _selectors(promql.parse(_DURATION.sub(r"\g<before>5m", expr)), frozenset())
        for matcher in matchers
        if matcher.name != "__name__" and "$" not in matcher.value
        for value in _alternatives(matcher)
    }


def _in_dashboards() -> Iterator[tuple[str, str]]:
    for path in sorted((FOLDER / "dashboards").glob("*.json")):
        where = f"dashboards/{path.name}"
        made = json.loads(path.read_text(encoding="utf-8"))
        for panel in panels(made):
            for target in panel.get("targets", []):
                yield f"{where}: {panel['title']} ({target['refId']})", target["expr"]
        for variable in made["templating"]["list"]:
            if variable["type"] == "query":
                name = f"{where}: variable {variable['name']}"
                parts = _LABEL_VALUES.fullmatch(variable["query"])
                if parts is None:
                    raise ValueError(f"{name} is not label_values(selector, label): {variable['query']}")
                yield name, f"group by ({parts['label']}) ({parts['selector']})"


def _in_rules() -> Iterator[tuple[str, str]]:
    for path in sorted((FOLDER / "alerts").glob("*.rules.yml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                yield f"alerts/{path.name}: {rule.get('alert') or rule['record']}", rule["expr"]


def panels(made: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The panels of a dashboard's JSON, those inside folded rows too, without the rows themselves."""
    for panel in made.get("panels", []):
        if panel["type"] == "row":
            yield from panels(panel)
        else:
            yield panel


def _selectors(node: promql.Expr, above: frozenset[str]) -> Iterator[tuple[str, frozenset[str], list[promql.Matcher]]]:
    match node:
        case promql.VectorSelector():
            matchers = [
                *node.matchers.matchers,
                *(one for group in node.matchers.or_matchers for one in group),
            ]
            named = [one for one in matchers if one.name == "__name__"]
            names = [node.name] if node.name else [one.value for one in named if one.op == promql.MatchOp.Equal]
            if len(names) != 1:
                raise ValueError(f"no single metric is named by {node}")
            yield names[0], above | {one.name for one in matchers} - {"__name__"}, matchers
        case promql.MatrixSelector():
            yield from _selectors(node.vector_selector, above)
        case promql.AggregateExpr():
            grouped = frozenset(node.modifier.labels if node.modifier else ())
            yield from _selectors(node.expr, above | grouped)
            if isinstance(node.param, promql.Expr):
                yield from _selectors(node.param, above)
        case promql.BinaryExpr():
            joined: frozenset[str] = frozenset()
            if node.modifier:
                joined = frozenset(node.modifier.matching.labels if node.modifier.matching else ())
                joined |= frozenset(node.modifier.group_labels or ())
            yield from _selectors(node.lhs, above | joined)
            yield from _selectors(node.rhs, above | joined)
        case promql.Call():
            for argument in node.args:
                yield from _selectors(argument, above)
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            yield from _selectors(node.expr, above)
        case promql.NumberLiteral() | promql.StringLiteral():
            pass
        case _:
            raise ValueError(f"an expression of an unknown kind: {node!r}")


def _alternatives(matcher: promql.Matcher) -> list[str]:
    exact = matcher.op in (promql.MatchOp.Equal, promql.MatchOp.NotEqual)
    return [matcher.value] if exact else matcher.value.split("|")
