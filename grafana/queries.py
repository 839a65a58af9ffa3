"""Every question that dashboards and alert rules ask, in PromQL and in SQL, and the metrics and labels it names."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import promql_parser as promql
import yaml

FOLDER = Path(__file__).resolve().parent

_LABEL_VALUES = re.compile(r"label_values\(\s*(?P<selector>.+?)\s*,\s*(?P<label>\w+)\s*\)", re.DOTALL)
_VARIABLE = re.compile(r"\$\{(?P<braced>\w+)(?::(?P<form>\w+))?\}|\$(?P<bare>\w+)")
# Where a variable stands for a duration: after the bracket of a range, the colon of a step, or offset.
_DURATION = re.compile(r"(?P<before>[\[:]|\boffset\s+)\$(?:\{\w+\}|\w+)")
_MACRO = re.compile(r"\$__time(?P<name>Filter|From|To)\((?P<column>[^)]*)\)")


def expressions() -> list[tuple[str, str]]:
    """(where, PromQL) of every panel, every variable and every rule, as the committed files have them.

    A variable's `label_values(selector, label)` is given as `group by (label) (selector)`. Raises ValueError
    for a variable's query of another kind.
    """
    asked = ((where, target["expr"]) for where, target in _targets() if "expr" in target)
    return [*asked, *_in_variables(), *_in_rules()]


def statements() -> list[tuple[str, str]]:
    """(where, SQL) of every panel and every variable, with Grafana's variables and macros in it: see `filled_sql`."""
    asked = [(where, target["rawSql"]) for where, target in _targets() if "rawSql" in target]
    return [*asked, *_variables("grafana-postgresql-datasource")]


def filled(expr: str, chosen: Mapping[str, str]) -> str:
    """PromQL as Grafana sends it: each variable by its text in `chosen` (`__range`, `__rate_interval` too).

    A choice of several is a regular expression's alternatives. Raises KeyError for a variable that is not in `chosen`.
    """
    return _VARIABLE.sub(lambda found: chosen[found["braced"] or found["bare"]], expr)


def filled_sql(text: str, chosen: Mapping[str, Sequence[str]], begin: datetime, end: datetime) -> str:
    """SQL as Grafana sends it: each variable's values as literals with a comma between, the macros by the time range.

    A text box has one value, which may be empty. Raises KeyError for a variable that is not in `chosen`, and ValueError
    for one that stands there without the format that quotes it.
    """

    def literals(found: re.Match[str]) -> str:
        if found["form"] != "sqlstring":
            raise ValueError(f"{found[0]} is not quoted")
        return ",".join("'" + value.replace("'", "''") + "'" for value in chosen[found["braced"]])

    def time(found: re.Match[str]) -> str:
        first, last = (f"'{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}'" for at in (begin, end))
        return {"From": first, "To": last, "Filter": f"{found['column']} BETWEEN {first} AND {last}"}[found["name"]]

    return _MACRO.sub(time, _VARIABLE.sub(lambda found: found[0] if found["bare"] else literals(found), text))


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


def _dashboards() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted((FOLDER / "dashboards").glob("*.json")):
        yield f"dashboards/{path.name}", json.loads(path.read_text(encoding="utf-8"))


def _targets() -> Iterator[tuple[str, dict[str, Any]]]:
    for where, made in _dashboards():
        for panel in panels(made):
            for target in panel.get("targets", []):
                yield f"{where}: {panel['title']} ({target['refId']})", target


def _variables(source: str) -> Iterator[tuple[str, str]]:
    """(where, query) of the variables that a data source of that type fills."""
    for where, made in _dashboards():
        for variable in made["templating"]["list"]:
            if variable["type"] == "query" and variable["datasource"]["type"] == source:
                yield f"{where}: variable {variable['name']}", variable["query"]


def _in_variables() -> Iterator[tuple[str, str]]:
    for where, text in _variables("prometheus"):
        parts = _LABEL_VALUES.fullmatch(text)
        if parts is None:
            raise ValueError(f"{where} is not label_values(selector, label): {text}")
        yield where, f"group by ({parts['label']}) ({parts['selector']})"


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
            left, right = _sides(node, above)
            yield from _selectors(node.lhs, left)
            yield from _selectors(node.rhs, right)
        case promql.Call():
            for argument in node.args:
                yield from _selectors(argument, above)
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            yield from _selectors(node.expr, above)
        case promql.NumberLiteral() | promql.StringLiteral():
            pass
        case _:
            raise ValueError(f"an expression of an unknown kind: {node!r}")


def _sides(node: promql.BinaryExpr, above: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
    """The labels that each side of an operator must have: those by which it joins, and where its labels are carried on,
    those that are asked for above.
    """
    modifier = node.modifier
    matching = modifier.matching if modifier else None
    joined = frozenset(matching.labels if matching else ())
    joined |= frozenset(modifier.group_labels or () if modifier else ())
    both = above | joined
    if str(node.op) in ("and", "unless"):
        return both, joined  # the right side only tells which of the left one stay
    if modifier and matching and matching.type == promql.LabelModifierType.Include:
        only = modifier.card == promql.VectorMatchCardinality.OneToMany
        return (joined, both) if only else (both, joined)
    return both, both


def _alternatives(matcher: promql.Matcher) -> list[str]:
    exact = matcher.op in (promql.MatchOp.Equal, promql.MatchOp.NotEqual)
    return [matcher.value] if exact else matcher.value.split("|")
