"""The alert rules parse, say what to do, stand in the documentation, and are proven to fire and to stay silent."""

import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from starlette.datastructures import QueryParams

from grafana import build
from grafana.queries import FOLDER, selectors
from grafana.rules import groups, recorded, rules, text
from grafana.rules.shapes import Alert
from receiver.queries.statistics_asked import Asked, read_asked
from tests.grafana.exposed import METRICS
from tests.test_docs import table
from tests.tools import need

ALERTS = FOLDER / "alerts"
FILE = ALERTS / "receiver.rules.yml"
ALERTMANAGER = FOLDER / "alertmanager" / "alertmanager.yml"
PROOFS = sorted(path.name for path in ALERTS.glob("*.rules.test.yml"))


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


EVERY = [rule for group in read(FILE)["groups"] for rule in group["rules"]]
RULES = [pytest.param(rule, id=f"{n} {rule['alert']}") for n, rule in enumerate(EVERY) if "alert" in rule]
MADE = [rule for group in groups() for rule in group.rules if isinstance(rule, Alert)]


def checks(name: str) -> list[dict[str, Any]]:
    """Every check in a file for promtool."""
    return [check for test in read(ALERTS / name)["tests"] for check in test["alert_rule_test"]]


def proofs(rule: dict[str, Any]) -> list[bool]:
    """Whether this very rule, with its own severity and marks, must fire, in every check of its alert."""
    return [
        any(rule["labels"].items() <= expected["exp_labels"].items() for expected in check["exp_alerts"])
        for name in PROOFS
        for check in checks(name)
        if check["alertname"] == rule["alert"]
    ]


def test_the_file_is_as_its_source_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not build.rules_drifted(), "run `python grafana/build.py`"
    file = tmp_path / "receiver.rules.yml"
    file.write_text(text().replace("0.25", "0.26"), encoding="utf-8")
    asked = ["--folder", str(tmp_path / "dashboards"), "--rules", str(file)]
    assert build.main(["--check", *asked]) == 1
    assert "receiver.rules.yml" in capsys.readouterr().err
    assert build.main(asked) == 0
    assert build.main(["--check", *asked]) == 0
    assert read(FILE) == rules()


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_promql_and_waits(rule: dict[str, Any]) -> None:
    promql_parser.parse(rule["expr"])
    assert rule["for"]


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_tells_how_bad_what_how_much_and_where_to_read(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert "$labels.tenant" in rule["annotations"]["summary"] or "tenant" not in rule["expr"]
    assert "$value" in rule["annotations"]["description"] or "| query" in rule["annotations"]["description"]
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks.md#{rule['alert'].lower()}"


@pytest.mark.parametrize("rule", RULES)
def test_the_figures_in_its_texts_are_of_series_that_exist(rule: dict[str, Any]) -> None:
    for query in re.findall(r'printf "(max\(.*?\))"', rule["annotations"]["description"]):
        for metric, labels in selectors(query.replace("%q", '"x"')):
            assert labels <= METRICS[metric], query


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_proven_to_fire_and_to_stay_silent(rule: dict[str, Any]) -> None:
    assert set(proofs(rule)) == {True, False}


@pytest.mark.parametrize("scale", [1.0, 60.0])
def test_promtool_accepts_the_rules(scale: float, tmp_path: Path) -> None:
    file = tmp_path / "receiver.rules.yml"
    file.write_text(text(scale), encoding="utf-8")
    promtool(tmp_path, "check", "rules", file.name)


@pytest.mark.parametrize("name", PROOFS)
def test_promtool_accepts_the_proofs(name: str, tmp_path: Path) -> None:
    # A proof is run on the alerts that it names and on what is recorded for them: all of them cost minutes.
    named = {check["alertname"] for check in checks(name)}
    kept = [
        group | {"rules": [rule for rule in group["rules"] if rule.get("alert", "") in {*named, ""}]}
        for group in read(FILE)["groups"]
        if named & {rule.get("alert") for rule in group["rules"]}
    ]
    (tmp_path / FILE.name).write_text(yaml.safe_dump({"groups": kept}), encoding="utf-8")
    shutil.copy(ALERTS / name, tmp_path)
    promtool(tmp_path, "test", "rules", name)


def promtool(folder: Path, *command: str) -> None:
    """It must be content."""
    program = need("promtool")
    run = subprocess.run([program, *command], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_documentation_tells_of_every_alert_and_how_bad_it_is() -> None:
    told = {re.sub(r"\[(\w+)\].*", r"\1", row[0]): row[2] for row in table("metrics.md", "alert")}
    made: dict[str, str] = {}
    for alert in MADE:
        severities = [*made.get(alert.name, "").split(", "), alert.severity]
        made[alert.name] = ", ".join(dict.fromkeys(one for one in severities if one))
    assert told == made
    assert list(told) == list(made)


def test_every_runbook_says_what_who_how_to_look_and_how_to_mend() -> None:
    pages = (FOLDER.parent / "docs" / "runbooks.md").read_text(encoding="utf-8").split("\n## ")[1:]
    assert len(pages) == len({alert.name for alert in MADE})
    for page in pages:
        found = re.findall(r"^\*\*(.+?)\*\*", page, re.MULTILINE)
        wanted = ["What it means.", "Who is hurt.", "How to look.", "How to mend.", "It was wrong."]
        assert [part for part in found if part in wanted] == wanted, page[:40]


def test_the_statistics_that_runbooks_ask_for_are_given() -> None:
    page = (FOLDER.parent / "docs" / "runbooks.md").read_text(encoding="utf-8")
    asked = re.findall(r"receiver stats --by (\S+)", page)
    assert asked
    for by in asked:
        assert isinstance(read_asked(QueryParams({"by": by}), lambda: datetime.now(UTC)), Asked), by


def test_a_recorded_series_is_named_by_the_labels_that_it_keeps() -> None:
    for name, labels in recorded().items():
        assert set(name.partition(":")[0].split("_")) == labels


def test_no_range_of_short_times_is_too_short_for_some_scrapes() -> None:
    ranges = [int(found) for found in re.findall(r"\[(\d+)s\]", text(600))]
    assert min(ranges) == 8
    assert "[1s]" in text(600, floor_seconds=0)


@pytest.mark.parametrize(("scale", "bound"), [(1, "300.0"), (60, "5.0"), (30, "10.0"), (300, "1.0")])
def test_short_times_ask_for_a_bound_that_the_histogram_has(scale: float, bound: str) -> None:
    assert f'receiver_delivery_seconds_bucket{{channel="sms",le="{bound}"}}' in text(scale)


def test_every_bound_is_one_of_the_histogram() -> None:
    from grafana.rules.clock import BUCKETS
    from receiver.metrics.times import DELIVERY_BUCKETS

    assert [float(bound) for bound in BUCKETS] == list(DELIVERY_BUCKETS)


def test_amtool_accepts_the_example() -> None:
    amtool = need("amtool")
    run = subprocess.run(
        [amtool, "check-config", str(ALERTMANAGER)], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def names(matchers: list[str]) -> list[Alert]:
    """The alerts that all of an inhibition's matchers let through, by their name and what they add."""
    found = MADE
    for matcher in matchers:
        label, sign, value = re.fullmatch(r'(\w+)(=~|!=|=)"(.*)"', matcher).groups()  # type: ignore[union-attr]
        found = [
            alert
            for alert in found
            if bool(re.fullmatch(value, {"alertname": alert.name, **alert.document()["labels"]}.get(label, "")))
            == (sign != "!=")
        ]
    return found


def test_causes_and_consequences_share_the_labels_by_which_they_are_matched() -> None:
    for rule in read(ALERTMANAGER)["inhibit_rules"]:
        causes, consequences = names(rule["source_matchers"]), names(rule["target_matchers"])
        assert causes, rule
        assert consequences, rule
        if rule["source_matchers"][0].startswith("alertname"):
            asked = set(rule.get("equal", ()))
            assert all(asked <= set(cause.labels) for cause in causes), rule
            assert any(asked <= set(consequence.labels) for consequence in consequences), rule


@pytest.mark.parametrize(
    ("cause", "consequences"),
    [
        ("ReceiverRouteFailing", {"ReceiverDeliveryFailuresHigh", "ReceiverDeliveryBudgetBurning"}),
        ("ReceiverCredentialsRefused", {"ReceiverLaneStopped", "ReceiverOutboxOld"}),
        ("ReceiverDatabaseAway", {"ReceiverSpoolFilling", "ReceiverOutboxOld", "ReceiverDutyNotHeld"}),
        ("ReceiverUnreachable", {"ReceiverReceiptsSilent"}),
    ],
)
def test_a_cause_mutes_its_consequences_and_never_a_loss(cause: str, consequences: set[str]) -> None:
    muted = {
        alert.name
        for rule in read(ALERTMANAGER)["inhibit_rules"]
        if cause in {alert.name for alert in names(rule["source_matchers"])}
        and rule["source_matchers"][0].startswith("alertname")
        for alert in names(rule["target_matchers"])
        if alert.name != cause  # what holds for all processes mutes the same of each
    }
    assert consequences <= muted
    assert not muted & {"ReceiverReceiptsLost", "ReceiverLedgerDiffers", "ReceiverDown"}


def test_provisioning_names_the_dashboards_and_a_data_source() -> None:
    provisioning = FOLDER / "provisioning"
    sources = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text(encoding="utf-8"))
    boards = yaml.safe_load((provisioning / "dashboards" / "receiver.yml").read_text(encoding="utf-8"))
    assert "prometheus" in [source["type"] for source in sources["datasources"]]
    assert [provider["folderUid"] for provider in boards["providers"]] == ["receiver"]
