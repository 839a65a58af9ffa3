"""The committed dashboards are what their sources make, and someone on call can read them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

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


PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}
POSTGRES = {"type": "grafana-postgresql-datasource", "uid": "${sql}"}
TYPES = {"stat", "timeseries", "bargauge", "heatmap", "table"}
# What is seen of a dashboard without scrolling, in rows of the grid: 30 px and a gap of 8. Grafana's own bars and the
# variables take 100 px at least, so this is rather too much than too little.
FOLD = (900 - 100) // (30 + 8)


@pytest.mark.parametrize("panel", PANELS)
def test_every_panel_is_a_question_with_a_unit_and_words_for_who_is_on_call(panel: dict[str, Any]) -> None:
    assert panel["title"].endswith("?")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert len(panel["description"]) > 120
    assert re.search(r"[Nn]ormal|[Ee]mpty|[Nn]one|: |should", panel["description"])
    assert panel["type"] in TYPES
    assert panel["targets"]


@pytest.mark.parametrize("panel", PANELS)
def test_every_panel_and_query_asks_a_chosen_data_source(panel: dict[str, Any]) -> None:
    chosen = POSTGRES if "rawSql" in panel["targets"][0] else PROMETHEUS
    assert panel["datasource"] == chosen
    assert [target["datasource"] for target in panel["targets"]] == [chosen] * len(panel["targets"])
    assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGH"[: len(panel["targets"])])


@pytest.mark.parametrize("panel", PANELS)
def test_a_question_is_asked_in_the_form_that_its_panel_reads(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        if "rawSql" in target:
            assert target["format"] == {"timeseries": "time_series", "table": "table"}[panel["type"]]
            assert target["rawQuery"] is True
            continue
        once = panel["type"] in ("stat", "bargauge", "table")
        assert target.get("instant", False) is once
        assert target.get("range", False) is not once
        assert target.get("format", "time_series") == {"table": "table", "heatmap": "heatmap"}.get(
            panel["type"], "time_series"
        )
    if panel["type"] == "table" and len(panel["targets"]) > 1:
        steps = [step["id"] for step in panel["transformations"]]
        assert steps == ["merge", "organize", "sortBy"]
        named = panel["transformations"][1]["options"]["renameByName"]
        assert sorted(named) == [f"Value #{target['refId']}" for target in panel["targets"]]


@pytest.mark.parametrize("panel", PANELS)
def test_what_is_said_of_a_column_is_said_of_one_that_is_there(panel: dict[str, Any]) -> None:
    if panel["type"] != "table":
        return
    columns: set[str] = set()
    for target in panel["targets"]:
        columns |= set(re.findall(r'(?:as |\.)"?([A-Za-z][\w ]*?)"?(?:,|\n)', target.get("rawSql", "")))
        columns |= set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", target.get("expr", "")))))
    for step in panel.get("transformations", []):
        columns |= set(step["options"].get("renameByName", {}).values())
    for override in panel["fieldConfig"]["overrides"]:
        assert override["matcher"]["id"] == "byName"
        assert override["matcher"]["options"] in columns, (override["matcher"], columns)


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_has_a_stable_uid_and_no_id_of_one_grafana(name: str) -> None:
    made = committed(name)
    assert re.fullmatch(r"receiver-[a-z-]{1,31}", made["uid"])
    assert made.get("id") is None
    uids = set(re.findall(r'"uid": "([^"]*)"', json.dumps(made)))
    assert uids <= {made["uid"], PROMETHEUS["uid"], POSTGRES["uid"]}


@pytest.mark.parametrize("name", NAMES)
def test_no_more_than_twelve_panels_are_seen_at_once(name: str) -> None:
    places = [panel["gridPos"] for panel in panels(committed(name))]
    assert len([place for place in places if place["y"] < FOLD]) <= 12
    cells = [(place["x"] + x, place["y"] + y) for place in places for x in range(place["w"]) for y in range(place["h"])]
    assert len(set(cells)) == len(cells), "panels lie upon each other"
    assert max(x for x, _ in cells) < 24


def test_uids_and_titles_are_not_given_twice() -> None:
    made = [committed(name) for name in NAMES]
    assert len({one["uid"] for one in made}) == len(made)
    assert len({one["title"] for one in made}) == len(made)
    for one in made:
        titles = [panel["title"] for panel in panels(one)]
        assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("name", NAMES)
def test_data_sources_and_tenant_can_be_chosen(name: str) -> None:
    made = committed(name)
    variables = {variable["name"]: variable for variable in made["templating"]["list"]}
    for source, kind in (("datasource", "prometheus"), ("sql", "grafana-postgresql-datasource")):
        assert (variables[source]["type"], variables[source]["query"]) == ("datasource", kind)
        asked = any(panel["datasource"]["uid"] == f"${{{source}}}" for panel in panels(made))
        assert (variables[source].get("hide", 0) == 0) is asked
    for variable in variables.values():
        if variable["type"] == "query":
            assert variable["multi"]
            assert variable["includeAll"]
            assert variable["datasource"] in (PROMETHEUS, POSTGRES)
            # In SQL all of it is a list of what there is: a text of our own would stand there without quotes.
            in_sql = f"${{{variable['name']}:sqlstring}}" in json.dumps(made)
            assert variable.get("allValue") == (None if in_sql or name == "delivery.json" else ".*")
    assert variables["tenant"]["type"] == "query"


@pytest.mark.parametrize("name", NAMES)
def test_every_variable_that_is_named_is_there(name: str) -> None:
    made = committed(name)
    known = {variable["name"] for variable in made["templating"]["list"]}
    own = {
        "__range",
        "__rate_interval",
        "__timeFilter",
        "__timeFrom",
        "__timeTo",
        "__url_time_range",
        "__all_variables",
    }
    own |= {"__all", "__field", "__value"}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(made))) - own <= known


def links(made: dict[str, Any]) -> list[str]:
    """The addresses of all links from panels, bars and cells."""
    found = [link["url"] for panel in panels(made) for link in panel.get("links", [])]
    for panel in panels(made):
        found += [link["url"] for link in panel["fieldConfig"]["defaults"].get("links", [])]
        for override in panel["fieldConfig"]["overrides"]:
            for one in override["properties"]:
                found += [link["url"] for link in one["value"]] if one["id"] == "links" else []
    return found


@pytest.mark.parametrize("name", NAMES)
def test_links_keep_the_time_range_and_what_is_chosen(name: str) -> None:
    made = committed(name)
    [to_sisters] = made["links"]
    assert to_sisters["keepTime"] is True
    assert to_sisters["includeVars"] is True
    uids = {committed(other)["uid"]: committed(other) for other in NAMES}
    assert links(made), "nothing leads from here to the detail"
    for url in links(made):
        path, _, asked = url.partition("?")
        assert path.removeprefix("/d/") in uids, url
        told = asked.split("&")
        assert "${__url_time_range}" in told
        kept = {"${__all_variables}"} if "${__all_variables}" in told else set()
        assert kept or {"${datasource:queryparam}", "${sql:queryparam}"} <= set(told), url
        there = {variable["name"] for variable in uids[path.removeprefix("/d/")]["templating"]["list"]}
        assert {one.partition("=")[0].removeprefix("var-") for one in told if one.startswith("var-")} <= there, url


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_what_grafana_11_6_writes_as_far_as_its_published_schema_tells(name: str) -> None:
    plugins.register_default_plugins()
    made = committed(name)
    read = json.loads(json.dumps(model.Dashboard.from_json(made), cls=JSONEncoder))
    for panel in read["panels"]:
        if panel["type"] == "heatmap":
            assert panel["fieldConfig"]["defaults"].pop("custom") == {}
    assert read == made


def test_provisioning_names_the_dashboards_and_the_data_sources() -> None:
    folder = build.FOLDER.parent / "provisioning"
    read = {path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in folder.rglob("*.yml")}
    sources = {one["type"]: one for name in read for one in read[name].get("datasources", [])}
    assert set(sources) == {"prometheus", "grafana-postgresql-datasource", "alertmanager"}
    assert sources["prometheus"]["jsonData"]["manageAlerts"] is True
    asked = sources["grafana-postgresql-datasource"]
    assert asked["user"] == "$RECEIVER_SQL_USER"
    assert asked["secureJsonData"] == {"password": "$RECEIVER_SQL_PASSWORD"}
    assert sources["alertmanager"]["jsonData"] == {"implementation": "prometheus", "handleGrafanaManagedAlerts": False}
    assert all("uid" not in one for one in sources.values())
    [boards] = read["receiver.yml"]["providers"]
    assert boards["folderUid"] == "receiver"
    assert boards["allowUiUpdates"] is False
