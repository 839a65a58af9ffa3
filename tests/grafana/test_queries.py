"""Dashboards and rules ask in PromQL for what the service exposes, and for nothing else."""

import json
from pathlib import Path

import pytest
import yaml

from grafana import build
from grafana.queries import FOLDER, expressions, filled, matched, panels, plain, selectors
from grafana.rules.asking import FINAL
from tests.grafana.exposed import METRICS, VALUES

EXPRESSIONS = expressions()


def recorded() -> dict[str, frozenset[str]]:
    """The series that the rules record: their names begin with their labels, as `tenant_channel:…`."""
    groups = [
        group
        for path in (FOLDER / "alerts").glob("*.rules.yml")
        for group in yaml.safe_load(path.read_text())["groups"]
    ]
    names = [rule["record"] for group in groups for rule in group["rules"] if "record" in rule]
    return {name: frozenset(name.partition(":")[0].split("_")) for name in names}


KNOWN = METRICS | recorded() | {"up": frozenset({"instance", "job"})}
ALL = pytest.mark.parametrize(
    ("where", "expr"), EXPRESSIONS, ids=[f"{number} {where}" for number, (where, _) in enumerate(EXPRESSIONS)]
)


def test_panels_variables_and_rules_are_all_looked_at() -> None:
    places = [where for where, _ in EXPRESSIONS]
    assert any(where.startswith("dashboards/delivery.json: How") for where in places)
    assert any(where.startswith("dashboards/sending.json: Whose lane") for where in places)
    assert "dashboards/delivery.json: variable channel" in places
    assert "dashboards/intake.json: variable tenant" in places
    assert "alerts/receiver.rules.yml: ReceiverReceiptsSilent" in places


@ALL
def test_every_metric_and_label_is_one_that_the_service_exposes(where: str, expr: str) -> None:
    found = selectors(expr)
    assert found, f"{where} names no metric"
    for metric, labels in found:
        assert metric in KNOWN, f"{where} asks for {metric}"
        assert labels <= KNOWN[metric], f"{where} asks {metric} for {sorted(labels - KNOWN[metric])}"


@ALL
def test_every_state_class_and_result_asked_for_exists(where: str, expr: str) -> None:
    for _, label, value in matched(expr):
        assert value in VALUES.get(label, {value}), f"{where} asks for {label}={value}"


@ALL
def test_only_a_count_is_made_up_where_there_is_none(where: str, expr: str) -> None:
    if "vector(" not in expr:
        return
    count, made_up = expr.rsplit(" or ", 1)
    assert made_up == "vector(0)", where
    assert count.startswith(("sum(increase(", "sum(rate(", "sum(max by", "count(")), where
    assert "/" not in count, where


@pytest.mark.parametrize("name", sorted(build.DASHBOARDS))
def test_no_share_time_or_age_is_made_up(name: str) -> None:
    for panel in panels(json.loads((build.FOLDER / name).read_text(encoding="utf-8"))):
        if panel["fieldConfig"]["defaults"]["unit"] in ("percentunit", "s"):
            assert not any("vector(" in target.get("expr", "") for target in panel["targets"]), panel["title"]


@pytest.mark.parametrize("path", sorted((FOLDER / "dashboards").glob("*.json")), ids=lambda path: path.name)
def test_the_states_of_the_dashboards_are_those_of_the_lattice(path: Path) -> None:
    asked = {
        value
        for where, expr in EXPRESSIONS
        if path.name in where
        for _, label, value in matched(expr)
        if label == "state"
    }
    assert asked <= VALUES["state"]
    if path.name == "delivery.json":
        assert {*FINAL.split("|")} <= asked


@pytest.mark.parametrize(
    ("expr", "found"),
    [
        ("up", {("up", frozenset())}),
        ('{__name__="up", a="1"}', {("up", frozenset({"a"}))}),
        ('sum by (a) (rate(x{b=~"1|2"}[$window] offset $__range))', {("x", frozenset({"a", "b"}))}),
        ("x / on (a) group_left (b) y", {("x", frozenset({"a", "b"})), ("y", frozenset({"a", "b"}))}),
        ("sum by (t) (x * on (a) y)", {("x", frozenset({"a", "t"})), ("y", frozenset({"a"}))}),
        ("sum by (t) (y * on (a) group_right () x)", {("x", frozenset({"a", "t"})), ("y", frozenset({"a"}))}),
        (
            "sum by (t) (x unless on (a) y or z)",
            {("x", frozenset({"a", "t"})), ("y", frozenset({"a"})), ("z", frozenset({"t"}))},
        ),
        ("sum without (c) (x) unless (-y)", {("x", frozenset({"c"})), ("y", frozenset())}),
        ("max_over_time(sum(x)[1h:$__interval])", {("x", frozenset())}),
        ('topk(scalar(y), x{a="$a", b=~"${b:regex}"})', {("x", frozenset({"a", "b"})), ("y", frozenset())}),
        ("1 + vector(0)", set()),
    ],
)
def test_selectors_are_found_wherever_they_stand(expr: str, found: set[tuple[str, frozenset[str]]]) -> None:
    assert selectors(expr) == found


def test_values_of_grafana_variables_are_not_taken_for_values() -> None:
    assert matched('x{a="1", b=~"2|3", c=~"$c", d!="4"}') == {
        ("x", "a", "1"),
        ("x", "b", "2"),
        ("x", "b", "3"),
        ("x", "d", "4"),
    }


def test_a_range_or_step_or_offset_by_variable_becomes_a_duration() -> None:
    assert plain('x{a="$a"}[$__rate_interval:${step}] offset $w') == 'x{a="x"}[5m:5m] offset 5m'


def test_variables_are_filled_as_grafana_does() -> None:
    chosen = {"a": "one|two", "__range": "21600s", "w": "1h"}
    expr = 'sum(increase(x{a=~"$a"}[$__range] offset ${w}))'
    assert filled(expr, chosen) == 'sum(increase(x{a=~"one|two"}[21600s] offset 1h))'
    with pytest.raises(KeyError):
        filled("x[$other]", chosen)


@pytest.mark.parametrize("expr", ["sum(", '{a="1"}', '{__name__=~"x.*"}'])
def test_what_names_no_single_metric_or_is_no_promql_is_refused(expr: str) -> None:
    with pytest.raises(ValueError):
        selectors(expr)
