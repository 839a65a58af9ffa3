"""The door of statistics: what it takes, what it refuses, and whose figures it tells."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.queries.test_search import reply
from tests.sending.platforms import receipt, recording_platform, sms, tell
from tests.support import cloned, eventually, receiver_process

PATH = "/v1/stats/delivery"
NUMBER, OTHER = "447700400001", "447700400002"


@pytest.fixture(scope="module")
def api(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    folder: Path = tmp_path_factory.mktemp("statistics")
    config = folder / "receiver.toml"
    with recording_platform() as platform:
        platform.reply = reply
        config.write_text(f"[tenant.other]\nplatform_url = '{platform.url}'\nplatform_key = 'x'\n")
        with (
            cloned(postgres, template, "statistics") as database,
            receiver_process(database, folder, platform_url=platform.url, RECEIVER_CONFIG=str(config)) as receiver,
            receiver.client(database.key()) as api,
            receiver.client(database.key(tenant="other")) as stranger,
        ):
            assert api.post("/v1/messages", json=sms(NUMBER, OTHER)).status_code == 202
            assert stranger.post("/v1/messages", json=sms(NUMBER)).status_code == 202
            eventually(lambda: _accepted(api) == 2)
            assert tell(receiver.notify_url(), receipt("Delivered", "7500", NUMBER, transid=f"T-{NUMBER}")) == 200
            yield api


def _accepted(api: httpx2.Client) -> int:
    return sum(group["accepted"] for group in api.get(PATH).json()["groups"])


def _delivered(api: httpx2.Client) -> int:
    return sum(group["delivered"] for group in api.get(PATH).json()["groups"])


def test_what_is_sent_and_told_is_in_the_figures_within_seconds(api: httpx2.Client) -> None:
    eventually(lambda: _delivered(api) == 1)
    answer = api.get(PATH, params={"by": "day,channel,tenant,country", "origin": "issued"}).json()
    (group,) = answer["groups"]
    assert (group["channel"], group["tenant"], group["messages"]) == ("sms", "default", 2), "not the stranger's"
    assert group["confirmed_rate"] == {"value": 1.0, "numerator": 1, "denominator": 1}
    assert group["latency"]["accepted"]["messages"] == 2
    assert answer["latency_error"] == 0.05
    assert answer["as_of"] > answer["kept_from"]
    assert "sender" not in group, "what was not asked for is not there"


def test_metrics_tell_how_far_the_statistics_are_behind(api: httpx2.Client) -> None:
    lines = dict(line.rsplit(" ", 1) for line in api.get("/metrics").text.splitlines() if not line.startswith("#"))
    assert 0 <= float(lines["receiver_statistics_behind_seconds"]) < 15
    assert float(lines["receiver_statistics_changes_total"]) > 0


DAY, LATER = "2026-01-01T00:00:00Z", "2026-05-01T00:00:00Z"


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("by=week", ["by"]),
        ("by=hour,day", ["by"]),
        ("by=sender,carrier", ["by"]),
        ("by=sender&carrier=EE", ["carrier"]),
        ("sender=a&template=b", ["template"]),
        ("channel=fax&origin=nobody", ["channel", "origin"]),
        ("country=England", ["country"]),
        ("latency=perhaps", ["latency"]),
        ("latency=true&latency=false", ["latency"]),
        ("from=yesterday", ["from"]),
        ("from=2026-01-01T00:00:00", ["from"]),
        (f"from={LATER}&to={DAY}", ["to", "from"]),
        ("from=2999-01-01T00:00:00Z", ["from"]),
        ("from=2020-01-01T00:00:00Z", ["from"]),
        (f"from={DAY}&to={LATER}&by=hour", ["from"]),
        ("to=1970-01-02T00:00:00Z", ["to"]),
        ("sender=%00", ["sender"]),
        ("by=", ["by"]),
        ("group=day", ["group"]),
        ("limit=-1", ["limit"]),
        ("&".join(f"sender={n}" for n in range(1_000)), [""]),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_what_it_does_not_take_is_named(api: httpx2.Client, query: str, named: list[str]) -> None:
    answer = api.get(f"{PATH}?{query}")
    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == named


def test_the_longest_range_is_taken(api: httpx2.Client) -> None:
    assert api.get(PATH, params={"from": "2025-01-01T00:00:00Z", "to": "2026-02-05T00:00:00Z"}).status_code == 200
    query = {"from": DAY, "to": "2026-04-11T00:00:00Z", "by": "hour"}
    assert api.get(PATH, params=query).json()["groups"] == []
