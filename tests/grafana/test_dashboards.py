"""The committed dashboards are what their sources make, and someone on call can read them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from grafana import build
from grafana.queries import panels

NAMES = sorted(build.DASHBOARDS)


def committed(name: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((build.FOLDER / name).read_text(encoding="utf-8"))
    return made


PANELS = [pytest.param(panel, id=f"{name}: {panel['title']}") for name in NAMES for panel in panels(committed(name))]


def test_the_committed_files_are_what_the_sources_make() -> None:
    assert build.drifted() == [], "run `python grafana/build.py`"


def test_check_names_the_drifted_the_missing_and_the_orphaned_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--folder", str(tmp_path)]
    assert build.main(["--check", *asked]) == 1
    assert "delivery.json" in capsys.readouterr().err

    assert build.main(asked) == 0
    assert build.main(["--check", *asked]) == 0

    (tmp_path / "orphan.json").write_text("{}", encoding="utf-8")
    path = tmp_path / "delivery.json"
    path.write_text(path.read_text(encoding="utf-8").replace("95 %", "96 %"), encoding="utf-8")
    capsys.readouterr()
    assert build.main(["--check", *asked]) == 1
    told = capsys.readouterr().err
    assert "delivery.json" in told
    assert "orphan.json" in told

    assert build.main(asked) == 0
    assert build.main(["--check", *asked]) == 0
    assert not (tmp_path / "orphan.json").exists()


@pytest.mark.parametrize("panel", PANELS)
def test_every_panel_says_what_it_shows_and_in_which_unit(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert len(panel["description"]) > 80
    assert panel["targets"]


@pytest.mark.parametrize("panel", PANELS)
def test_every_panel_and_query_asks_the_chosen_data_source(panel: dict[str, Any]) -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    assert panel["datasource"] == chosen
    assert [target["datasource"] for target in panel["targets"]] == [chosen] * len(panel["targets"])


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_has_a_stable_uid_and_no_id_of_one_grafana(name: str) -> None:
    made = committed(name)
    assert re.fullmatch(r"receiver-[a-z-]{1,31}", made["uid"])
    assert made.get("id") is None
    assert len(list(panels(made))) <= 12


def test_uids_and_titles_are_not_given_twice() -> None:
    made = [committed(name) for name in NAMES]
    assert len({one["uid"] for one in made}) == len(made)
    assert len({one["title"] for one in made}) == len(made)


@pytest.mark.parametrize("name", NAMES)
def test_data_source_tenant_and_channel_can_be_chosen(name: str) -> None:
    variables = {variable["name"]: variable for variable in committed(name)["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["tenant"]["query"] == "label_values(receiver_messages_total, tenant)"
    for chosen in ("tenant", "channel"):
        assert variables[chosen]["multi"]
        assert variables[chosen]["includeAll"]
        assert variables[chosen]["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize("name", NAMES)
def test_every_variable_that_a_query_names_is_there(name: str) -> None:
    made = committed(name)
    known = {variable["name"] for variable in made["templating"]["list"]}
    for panel in panels(made):
        for target in panel["targets"]:
            named = set(re.findall(r"\$\{?(\w+)", target["expr"])) - {"__range", "__rate_interval", "__interval"}
            assert named <= known, panel["title"]
