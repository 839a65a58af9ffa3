"""Dashboards and rules ask for what the service exposes, and for nothing else."""

import pytest

from grafana import parts
from grafana.queries import expressions, matched, plain, selectors
from tests.grafana.exposed import METRICS, VALUES

EXPRESSIONS = expressions()
ALL = pytest.mark.parametrize(
    ("where", "expr"), EXPRESSIONS, ids=[f"{number} {where}" for number, (where, _) in enumerate(EXPRESSIONS)]
)


def test_panels_variables_and_rules_are_all_looked_at() -> None:
    places = [where for where, _ in EXPRESSIONS]
    assert any(where.startswith("dashboards/delivery.json: How") for where in places)
    assert "dashboards/delivery.json: variable tenant" in places
    assert "dashboards/delivery.json: variable channel" in places
    assert "alerts/receiver.rules.yml: ReceiverReceiptsSilent" in places


@ALL
def test_every_metric_and_label_is_one_that_the_service_exposes(where: str, expr: str) -> None:
    found = selectors(expr)
    assert found, f"{where} names no metric"
    for metric, labels in found:
        assert metric in METRICS, f"{where} asks for {metric}"
        assert labels <= METRICS[metric], f"{where} asks {metric} for {sorted(labels - METRICS[metric])}"


@ALL
def test_every_state_class_and_result_asked_for_exists(where: str, expr: str) -> None:
    for _, label, value in matched(expr):
        assert value in VALUES.get(label, {value}), f"{where} asks for {label}={value}"


@ALL
def test_nothing_is_made_up_in_a_ratio(where: str, expr: str) -> None:
    assert not ("/" in expr and "vector(" in expr), where


def test_the_states_of_the_dashboards_and_of_the_rules_are_the_same() -> None:
    rule = dict(EXPRESSIONS)["alerts/receiver.rules.yml: ReceiverDeliveryFailuresHigh"]
    assert f'state=~"{parts.NEGATIVE}"' in rule
    assert f'state=~"{parts.FINAL}"' in rule


@pytest.mark.parametrize(
    ("expr", "found"),
    [
        ("up", {("up", frozenset())}),
        ('{__name__="up", a="1"}', {("up", frozenset({"a"}))}),
        ('sum by (a) (rate(x{b=~"1|2"}[$window] offset $__range))', {("x", frozenset({"a", "b"}))}),
        ("x / on (a) group_left (b) y", {("x", frozenset({"a", "b"})), ("y", frozenset({"a", "b"}))}),
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


@pytest.mark.parametrize("expr", ["sum(", '{a="1"}', '{__name__=~"x.*"}'])
def test_what_names_no_single_metric_or_is_no_promql_is_refused(expr: str) -> None:
    with pytest.raises(ValueError):
        selectors(expr)
