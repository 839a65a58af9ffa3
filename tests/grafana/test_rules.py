"""The alert rules parse, say what to do, and are proven both to fire and to stay silent."""

import subprocess
from typing import Any

import promql_parser
import pytest
import yaml

from grafana.queries import FOLDER
from tests.tools import need

ALERTS = FOLDER / "alerts"
FILES = sorted(path.name for path in ALERTS.glob("*.rules.yml"))


def read(name: str) -> Any:
    return yaml.safe_load((ALERTS / name).read_text(encoding="utf-8"))


RULES = [
    pytest.param(rule, id=rule["alert"]) for name in FILES for group in read(name)["groups"] for rule in group["rules"]
]


def cases(alert: str) -> list[dict[str, Any]]:
    """Every check of `alert` in the files for promtool."""
    return [
        check
        for path in ALERTS.glob("*.rules.test.yml")
        for test in read(path.name)["tests"]
        for check in test["alert_rule_test"]
        if check["alertname"] == alert
    ]


def test_there_are_rules() -> None:
    assert FILES


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_promql_and_waits(rule: dict[str, Any]) -> None:
    promql_parser.parse(rule["expr"])
    assert rule["for"]


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_tells_how_bad_what_how_much_and_where_to_read(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert "$labels.tenant" in rule["annotations"]["summary"] or "tenant" not in rule["expr"]
    assert "$value" in rule["annotations"]["description"]
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks.md#{rule['alert'].lower()}"


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_proven_to_fire_and_to_stay_silent(rule: dict[str, Any]) -> None:
    told = [bool(check["exp_alerts"]) for check in cases(rule["alert"])]
    assert True in told
    assert False in told


@pytest.mark.parametrize("name", FILES)
def test_promtool_accepts_the_rules_and_their_proofs(name: str) -> None:
    promtool = need("promtool")
    proofs = name.replace(".rules.yml", ".rules.test.yml")
    for command in (["check", "rules", name], ["test", "rules", proofs]):
        run = subprocess.run([promtool, *command], cwd=ALERTS, capture_output=True, text=True, timeout=60, check=False)
        assert run.returncode == 0, run.stdout + run.stderr


def test_provisioning_names_the_dashboards_and_a_data_source() -> None:
    provisioning = FOLDER / "provisioning"
    sources = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text(encoding="utf-8"))
    boards = yaml.safe_load((provisioning / "dashboards" / "receiver.yml").read_text(encoding="utf-8"))
    assert [source["type"] for source in sources["datasources"]] == ["prometheus"]
    assert [provider["folderUid"] for provider in boards["providers"]] == ["receiver"]
