"""The rules in short times and the example for Alertmanager: its own tools take both, and they speak of each other."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana.rules import rules
from tests.alerts.shortened import ALERTMANAGER, seconds, write_alertmanager, write_rules
from tests.alerts.stack import SCALE
from tests.tools import need

ALERTS: dict[str, str] = {
    rule["alert"]: rule["labels"]["severity"]
    for group in rules()["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
EXAMPLE: dict[str, Any] = yaml.safe_load(ALERTMANAGER.read_text(encoding="utf-8"))


def told(*command: str) -> str:
    """What a program says; it must be content."""
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.mark.parametrize("scale", [1.0, SCALE])
def test_promtool_accepts_the_rules_in_any_times(scale: float, tmp_path: Path) -> None:
    file = tmp_path / "receiver.rules.yml"
    write_rules(file, scale)
    assert "SUCCESS" in told(need("promtool"), "check", "rules", str(file))


def test_amtool_accepts_the_example_and_what_is_made_of_it(tmp_path: Path) -> None:
    amtool, made = need("amtool"), tmp_path / "alertmanager.yml"
    write_alertmanager(made, SCALE, "http://127.0.0.1:1/")
    for file in (ALERTMANAGER, made):
        assert "SUCCESS" in told(amtool, "check-config", str(file))


def test_short_times_change_nothing_but_times_and_addresses(tmp_path: Path) -> None:
    made = tmp_path / "alertmanager.yml"
    write_alertmanager(made, SCALE, "http://127.0.0.1:1/")
    short = yaml.safe_load(made.read_text())
    assert short["inhibit_rules"] == EXAMPLE["inhibit_rules"]
    assert [one["name"] for one in short["receivers"]] == [one["name"] for one in EXAMPLE["receivers"]]
    assert short["route"]["group_by"] == EXAMPLE["route"]["group_by"]
    assert seconds(short["route"]["group_interval"]) * SCALE == seconds(EXAMPLE["route"]["group_interval"])


def test_what_is_critical_goes_elsewhere_than_what_can_wait() -> None:
    amtool = need("amtool")
    reached: dict[str, set[str]] = {"critical": set(), "warning": set()}
    for alert, severity in ALERTS.items():
        labels = [f"alertname={alert}", f"severity={severity}", "tenant=shop", "channel=sms"]
        routed = told(amtool, "config", "routes", "test", f"--config.file={ALERTMANAGER}", *labels)
        reached[severity].add(routed.strip())
    assert all(len(receivers) == 1 for receivers in reached.values()), reached
    assert reached["critical"].isdisjoint(reached["warning"])


def test_inhibition_names_alerts_that_exist() -> None:
    matchers = [
        matcher
        for rule in EXAMPLE["inhibit_rules"]
        for matcher in (*rule["source_matchers"], *rule["target_matchers"])
        if matcher.startswith("alertname")
    ]
    named = {name for matcher in matchers for name in re.findall(r"Receiver\w+", matcher)}
    assert named
    assert named <= set(ALERTS)
