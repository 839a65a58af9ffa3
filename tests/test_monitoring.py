"""deploy/monitoring/: what compose.yaml and its files name is there, and the tools accept the configurations."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from receiver.settings import SETTINGS
from tests.tools import need

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "deploy" / "monitoring"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def mounts(service: str) -> dict[str, str]:
    """Source by target."""
    found = {}
    for mount in SERVICES[service].get("volumes", ()):
        source, target, *mode = mount.split(":")
        assert mode == (["ro"] if source.startswith(".") else []), mount
        found[target] = source
    return found


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_what_a_service_mounts_and_waits_for_is_there(service: str) -> None:
    for source in mounts(service).values():
        assert (FOLDER / source).resolve().exists() if source.startswith(".") else source in COMPOSE["volumes"], source
    assert set(SERVICES[service].get("depends_on", ())) <= set(SERVICES)


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_images_are_pinned_and_ports_are_on_loopback(service: str) -> None:
    if service == "receiver":
        assert (FOLDER / SERVICES[service]["build"] / "Dockerfile").resolve() == ROOT / "Dockerfile"
    else:
        assert re.fullmatch(r"[\w./-]+:v?\d+(\.\d+)+", SERVICES[service]["image"])
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[service].get("ports", ()))


def test_the_receiver_gets_settings_that_it_has() -> None:
    names = {f"RECEIVER_{setting.name}" for setting in SETTINGS}
    assert set(SERVICES["receiver"]["environment"]) <= names


def test_what_has_to_be_in_the_file_of_secrets_is_put_there_by_the_first_lines() -> None:
    shown = (ROOT / "docs" / "monitoring.md").read_text().split("```")[1]
    wanted = set(re.findall(r"\$\{(\w+):\?\}", (FOLDER / "compose.yaml").read_text()))
    assert wanted
    made, written = re.findall(r"for name in ([A-Z_ ]+);", shown), re.findall(r"(\w+)=\S", shown)
    assert wanted <= {*made[0].split(), *written}
    assert len(shown.strip().splitlines()) <= 10, "ten lines"


def test_the_file_of_secrets_is_read_by_its_owner_alone_and_never_committed() -> None:
    shown = (ROOT / "docs" / "monitoring.md").read_text().split("```")[1]
    assert shown.index("umask 077") < shown.index("> .env")
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_prometheus_scrapes_the_receiver_and_tells_alertmanager_and_promtool_accepts_it(tmp_path: Path) -> None:
    mounted = mounts("prometheus")
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    [scrape] = config["scrape_configs"]
    targets = [*scrape["static_configs"][0]["targets"]]
    targets += config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    assert targets == ["receiver:8000", "alertmanager:9093"]
    assert scrape["job_name"] == "receiver"
    for target, source in mounted.items():
        if source.startswith("."):
            shutil.copy(FOLDER / source, tmp_path / Path(target).name)
    assert {f"/etc/prometheus/{file}" for file in config["rule_files"]} <= set(mounted)
    ended = subprocess.run(
        [need("promtool"), "check", "config", str(tmp_path / "prometheus.yml")], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert "1 rule files found" in ended.stdout


def test_amtool_accepts_the_configuration_of_alertmanager() -> None:
    source = mounts("alertmanager")["/etc/alertmanager/alertmanager.yml"]
    ended = subprocess.run(
        [need("amtool"), "check-config", str((FOLDER / source).resolve())], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr


def test_grafana_finds_the_dashboards_and_a_source_of_each_kind_that_they_ask() -> None:
    mounted = mounts("grafana")
    provider = yaml.safe_load((FOLDER / mounted["/etc/grafana/provisioning/dashboards/receiver.yml"]).read_text())
    [place] = provider["providers"]
    dashboards = (FOLDER / mounted[place["options"]["path"]]).resolve()
    asked = set()
    for file in dashboards.glob("*.json"):
        for variable in json.loads(file.read_text())["templating"]["list"]:
            if variable["type"] == "datasource":
                asked.add(variable["query"])
    sources = yaml.safe_load((FOLDER / "datasources.yml").read_text())["datasources"]
    assert asked
    assert asked <= {source["type"] for source in sources}
    for source in sources:
        host = urlsplit(source["url"] if "//" in source["url"] else f"//{source['url']}").hostname
        assert host in SERVICES
        for secret in source.get("secureJsonData", {}).values():
            assert secret.strip("${}") in SERVICES["grafana"]["environment"]


def test_the_interval_of_a_scrape_is_the_one_that_grafana_is_told() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    sources = yaml.safe_load((FOLDER / "datasources.yml").read_text())["datasources"]
    assert sources[0]["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
