"""Every question of every panel, variable and rule is asked of a day, and answered with the figures of the tables."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import pytest

from grafana.queries import expressions, filled, selectors, statements
from tests.panels.day import BAD, BAD_COUNTRY, BAD_TENANT, TENANTS
from tests.panels.living import TRIAL
from tests.panels.questions import Grafana, Question, alerts, dashboards, parts, questions, variables
from tests.panels.silence import NO_SERIES, OF_ONE, PANELS, TROUBLE, WOKEN
from tests.panels.watched import FINE, RECORDED, Watched, has_data, inlined, recorded_at_once, watched
from tests.support import cloned

IN_PROMQL, IN_SQL = questions("expr"), questions("rawSql")
ALERTS, RECORDING = dict(alerts()), {rule["record"]: rule["expr"] for rule in recorded_at_once()}
# Nobody is judged by the first minutes, of which the rules have seen nothing yet.
LOOKED: Final = 30 * 60
EXACT: Final = 1e-6  # both ends of the windows are samples
FAILED: Final = "state in ('refused', 'invalid', 'not_verified', 'undelivered', 'failed', 'bounced')"
OF_THE_DAY: Final = "tenant in ('default', 'shop')"
# The tenant whose dashboard it is when only one is chosen: the trial's has had a little of everything.
ONE: Final = {"delivery": BAD_TENANT, "intake": TRIAL, "sending": TRIAL}


@pytest.fixture(scope="module")
def seen(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("panels")
    with cloned(postgres, template, "panels") as database, watched(database, folder) as made:
        yield made


@pytest.fixture(scope="module")
def grafana(seen: Watched) -> Grafana:
    return Grafana(seen)


def by_place(asked: list[Question]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("question", asked, ids=[one.where for one in asked])


@by_place(IN_PROMQL)
def test_a_panel_has_data_where_data_exist(grafana: Grafana, question: Question) -> None:
    assert has_data(grafana.ask(question)) is (question.where not in PANELS), PANELS.get(question.where)
    alone = grafana.ask(question, ONE[question.dashboard])
    assert has_data(alone) is (question.where not in PANELS | OF_ONE), (PANELS | OF_ONE).get(question.where)


def test_a_variable_offers_what_there_is(seen: Watched, grafana: Grafana) -> None:
    for name in dashboards():
        for variable in variables(name):
            offered = grafana.values(variable, grafana.chosen(name))
            wanted = {"tenant": {*TENANTS, TRIAL}, "channel": {"sms", "whatsapp"}}[variable["name"]]
            assert wanted <= set(offered), (name, variable["name"])
    [statement] = [text for where, text in statements() if "variable" in where]
    assert {row[0] for row in seen.rows(statement, {})[1]} == {*TENANTS, TRIAL}


@pytest.mark.parametrize("name", sorted(RECORDING))
def test_a_recording_rule_has_data_all_day(seen: Watched, name: str) -> None:
    assert has_data(seen.over_the_day(name)), "the series that was recorded"
    assert has_data(seen.at_once(RECORDING[name])), "what it is recorded from"


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_an_alert_is_silent_on_a_good_day_and_every_part_of_it_has_data(seen: Watched, alert: str) -> None:
    whole = alone(ALERTS[alert])
    found = [one for one in seen.over_the_day(whole, FINE) if any(at >= looked(seen) for at, _ in one["values"])]
    for part in sorted(parts(ALERTS[alert])):
        assert has_data(seen.over_the_day(alone(part))) is (part not in TROUBLE), part
    if alert not in WOKEN:
        assert found == []
        return
    [one] = found
    assert WOKEN[alert].items() <= one["metric"].items()
    begin = seen.begin + timedelta(minutes=BAD.start)
    minutes = [(at - begin.timestamp()) / 60 for at, _ in one["values"] if at >= looked(seen)]
    assert 0 < minutes[0] < 45
    assert minutes[-1] - len(BAD) < 60


def alone(expr: str) -> str:
    """`expr` without the recorded series that look back at other days: those were not recorded all day."""
    looking_back = {name: text for name, text in recorded_expressions().items() if name not in RECORDING}
    return inlined(expr, looking_back)


def recorded_expressions() -> dict[str, str]:
    """What is recorded under each name."""
    found = {where.rpartition("rules.yml: ")[2]: expr for where, expr in expressions() if "rules.yml" in where}
    return {name: expr for name, expr in found.items() if RECORDED.fullmatch(name)}


def looked(seen: Watched) -> float:
    return seen.begin.timestamp() + LOOKED


def test_prometheus_works_through_the_rules_without_an_error(seen: Watched) -> None:
    groups = seen.prometheus.get("/api/v1/rules").json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == len(ALERTS) + len(recorded_expressions())
    assert [rule["lastError"] for rule in rules if rule.get("lastError")] == []


def test_every_metric_and_label_named_is_in_the_scrape_of_the_service(seen: Watched) -> None:
    """A metric's labels are those of its series; of what a service that nothing befell has none, the list tells."""
    labels: dict[str, set[str]] = {}
    for family in seen.living.scrape.values():
        for sample in family.samples:
            labels.setdefault(sample.name, {"job", "instance"}).update(sample.labels)
    recorded = {name: set(name.partition(":")[0].split("_")) for name in recorded_expressions()}
    named = [(where, *one) for where, expr in expressions() for one in selectors(expr)]
    assert {metric for _, metric, _ in named} - labels.keys() - recorded.keys() == NO_SERIES.keys()
    for where, metric, asked in named:
        if metric not in NO_SERIES:
            assert asked <= (labels | recorded)[metric], where


NAMES: Final = f"""
select id::text as message, destination, correlationid, transid, callback_data as callback, reason_code as code
  from receiver_v1.messages where tenant = '{BAD_TENANT}' and reason_code = '7203' order by id desc limit 1
"""


@by_place(IN_SQL)
def test_a_statement_gives_rows_with_the_columns_that_the_panel_speaks_of(seen: Watched, question: Question) -> None:
    one: dict[str, str] = dict(seen.database.fetch(NAMES)[0])
    statement = question.target["rawSql"]
    nothing = {"tenant": [*TENANTS, TRIAL], "channel": ["sms", "whatsapp"], **{box: [""] for box in one}}
    boxes = [box for box in one if f"${{{box}:" in statement]
    for chosen in [{box: [one[box]]} for box in boxes] or [{}]:
        columns, rows = seen.rows(statement, nothing | chosen)
        assert rows, chosen
        if "id" in columns:
            assert one["message"] in {row["id"] for row in rows}, chosen
        spoken_of_are_in(question, columns)


def spoken_of_are_in(question: Question, columns: list[str]) -> None:
    for override in question.panel["fieldConfig"]["overrides"]:
        assert override["matcher"]["options"] in columns
    assert len(set(columns)) == len(columns)
    if question.target["format"] == "time_series":
        assert columns[0] == "time"


def sql(seen: Watched, text: str) -> dict[Any, Any]:
    """A query of two columns, as a mapping."""
    return {row[0]: row[1] for row in seen.database.fetch(text)}


def of(expected: dict[Any, Any]) -> Any:
    return pytest.approx({key: float(value) for key, value in expected.items()}, rel=EXACT)


def test_shares_and_counts_on_the_panels_are_those_of_the_tables(seen: Watched, grafana: Grafana) -> None:
    share = (
        f"count(*) filter (where state = 'delivered')::float8 / count(*) filter (where state = 'delivered' or {FAILED})"
    )
    day = f"from receiver_v1.messages where {OF_THE_DAY}"
    [overall] = seen.at_once(grafana.expr("How many in a hundred were delivered?", *TENANTS))
    assert float(overall["value"][1]) == pytest.approx(seen.database.value(f"select {share} {day}"), rel=EXACT)
    for title, label, column in (
        ("Which tenant is delivered worst?", "tenant", "tenant"),
        ("Which country is delivered worst?", "country", "country"),
        ("Which sender is delivered worst?", "sender", "sender"),
    ):
        shown = seen.figures(grafana.expr(title, *TENANTS), label)
        assert shown == of(sql(seen, f"select {column}, {share} {day} group by 1")), title
    failed = seen.figures(grafana.expr("Whose fault are the failures?", *TENANTS, window="1d"), "class")
    assert failed == of(sql(seen, f"select reason_class, count(*) {day} and {FAILED} group by 1"))
    codes = seen.figures(grafana.expr("Which codes do the failures bear?", *TENANTS), "code")
    assert codes == of(sql(seen, f"select reason_code, count(*) {day} and {FAILED} group by 1"))
    for title, condition in (
        ("How many messages failed?", FAILED),
        ("How many messages did the platform accept?", "accepted_at is not null"),
    ):
        [one] = seen.at_once(grafana.expr(title, *TENANTS))
        count = seen.database.value(f"select count(*) {day} and {condition}")
        assert float(one["value"][1]) == pytest.approx(count, rel=EXACT), title


def test_each_hour_of_the_cohorts_is_that_of_the_tables_and_of_the_counters(seen: Watched) -> None:
    [question] = [one for one in IN_SQL if one.panel["title"] == "What became of the messages of each hour?"]
    _, rows = seen.rows(question.target["rawSql"], {"tenant": TENANTS, "channel": ["sms", "whatsapp"]})
    tables = sql(
        seen,
        "select date_trunc('hour', created_at, 'UTC'),"
        f" array[count(*) filter (where state = 'delivered'), count(*) filter (where {FAILED}),"
        f" count(*) filter (where not final)] from receiver_v1.messages where {OF_THE_DAY} group by 1",
    )
    assert len(rows) >= 23
    for row in rows:
        assert [row["delivered"], row["failed"], row["open"]] == tables[row["time"]], row["time"]
    for row in rows[1:-1]:
        grown = 'sum by (outcome) (increase(receiver_outcomes_total{tenant=~"default|shop",feed="push"}[1h]))'
        counted = seen.figures(grown, "outcome", row["time"] + timedelta(hours=1))
        assert [counted["delivered"], counted["failed"]] == pytest.approx([row["delivered"], row["failed"]], rel=EXACT)


def test_what_the_service_counts_itself_is_what_the_tables_have(seen: Watched) -> None:
    told: dict[tuple[str, ...], float] = {}
    for sample in seen.living.scrape["receiver_outcomes_total"].samples:
        if sample.labels["tenant"] in TENANTS and sample.labels["outcome"] in ("delivered", "failed"):
            key = tuple(sample.labels[name] for name in ("tenant", "channel", "country", "outcome"))
            told[key] = told.get(key, 0) + sample.value
    stored = {
        tuple(row)[:4]: float(row["n"])
        for row in seen.database.fetch(
            f"select tenant, channel, country, case when {FAILED} then 'failed' else state end, count(*) as n"
            f" from receiver_v1.messages where {OF_THE_DAY} and (state = 'delivered' or {FAILED}) group by 1, 2, 3, 4"
        )
    }
    assert {key: value for key, value in told.items() if value} == stored


def test_the_newest_mature_hour_is_that_of_the_tables(seen: Watched, grafana: Grafana) -> None:
    title = "How did the newest hour end that is mature?"
    [hour, delivered] = [seen.at_once(grafana.expr(title, *TENANTS, place=place)) for place in (0, 1)]
    assert len(hour) == len(delivered) == 3
    for one in delivered:
        line = one["metric"]
        [at] = [float(other["value"][1]) / 1000 for other in hour if other["metric"] == line]
        stored = seen.database.value(
            "select count(*) from receiver_v1.messages where tenant = $1 and channel = $2 and state = 'delivered'"
            " and created_at >= to_timestamp($3) and created_at < to_timestamp($3) + interval '1 hour'",
            line["tenant"],
            line["channel"],
            at,
        )
        assert float(one["value"][1]) == stored > 0, line


def test_the_bad_hour_is_seen_where_it_should_be(seen: Watched, grafana: Grafana) -> None:
    begin, end = (seen.begin + timedelta(minutes=minute) for minute in (BAD.start, BAD.stop))
    moved = seen.figures(grafana.expr("Which country moved most?", window="1h"), "country", end)
    assert min(moved, key=lambda country: moved[country]) == BAD_COUNTRY
    assert moved.pop(BAD_COUNTRY) < -0.5
    assert all(abs(other) < 0.1 for other in moved.values())
    [line] = [
        one
        for one in seen.over_the_day(grafana.expr("Which channel delivers worse than usual?", BAD_TENANT), 60)
        if one["metric"]["channel"] == "sms"
    ]
    worst, at = min((float(value), at) for at, value in line["values"])
    assert worst < 0.6
    assert begin.timestamp() < at <= end.timestamp()
    fault = seen.over_the_day(grafana.expr("Whose fault are the failures?", BAD_TENANT), 60)
    [temporary] = [one["values"] for one in fault if one["metric"]["class"] == "temporary"]
    shown = [at for at, value in temporary if float(value) > 0]
    assert begin.timestamp() < shown[0] <= shown[-1] < end.timestamp() + 30 * 60
    [question] = [one for one in IN_SQL if one.panel["title"] == "What became of the messages of each hour?"]
    _, rows = seen.rows(question.target["rawSql"], {"tenant": [BAD_TENANT], "channel": ["sms"]})
    worst_hours = sorted(rows, key=lambda row: int(row["failed"]))[-2:]
    assert all(begin - timedelta(hours=1) <= row["time"] <= end for row in worst_hours if row["failed"] > 12)


def test_whoever_looks_at_the_day_before_it_began_sees_nothing(seen: Watched, grafana: Grafana) -> None:
    expr = filled(IN_PROMQL[0].target["expr"], grafana.chosen(IN_PROMQL[0].dashboard))
    assert not has_data(seen.at_once(expr, seen.begin - timedelta(minutes=1)))
