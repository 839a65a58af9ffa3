"""A scrape of a running service: what the page lists, figures that SQL confirms, and no need of the database."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from receiver.access.tokens import NotifyTokens
from tests.sending.platforms import Platform, queued, receipt, recording_platform, refused, sms, tell
from tests.support import Receiver, cloned, eventually, receiver_process

NUMBERS = ("447700900101", "447700900102", "4915112345678")
WAITING = ("447700900201", "447700900202")
POOLS = """
select substr(application_name, 10) as pool, count(*)::float8 as open from pg_stat_activity
 where datname = current_database() and application_name like 'receiver %' group by 1
"""
LEVELS = ("warning", "error", "critical")


def page() -> dict[str, tuple[str, frozenset[str]]]:
    """Type and labels of every metric that docs/metrics.md lists."""
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(receiver_\w+)` \| (\w+) \| ([^|]*)\|", text, re.MULTILINE)
    return {name: (sort, frozenset(re.findall(r"\w+", labels))) for name, sort, labels in rows}


@dataclass
class Scraped:
    """A service that has sent, heard, been put off and been lied to."""

    receiver: Receiver
    api: httpx2.Client
    platform: Platform

    def families(self) -> dict[str, Metric]:
        """By the name that the page has."""
        answer = self.api.get("/metrics")
        assert answer.status_code == 200
        suffix = {"counter": "_total"}
        return {f.name + suffix.get(f.type, ""): f for f in text_string_to_metric_families(answer.text)}

    def value(self, name: str, **labels: str) -> float | None:
        """The value of one series."""
        for family in self.families().values():
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return sample.value
        return None


@pytest.fixture(scope="module")
def scraped(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    folder = tmp_path_factory.mktemp("scraped")
    with (
        cloned(postgres, template, "scraped") as database,
        recording_platform() as platform,
        receiver_process(database, folder, platform_url=platform.url, RECEIVER_SPOOL_MB="64") as receiver,
        receiver.client(database.key()) as api,
    ):
        platform.reply = lambda call: queued(*(f"T-{number}" for number in call.numbers))
        ids = [m["id"] for n in NUMBERS for m in api.post("/v1/messages", json=sms(n)).json()["messages"]]
        eventually(lambda: {api.get(f"/v1/messages/{one}").json()["state"] for one in ids} == {"accepted"})
        url = receiver.notify_url()
        for number, status in zip(NUMBERS, ("Delivered", "Undelivered", "Submitted"), strict=True):
            assert (
                tell(url, receipt(status, "7207" if status == "Undelivered" else "", number, transid=f"T-{number}"))
                == 200
            )
        assert api.post(f"/notify/{NotifyTokens('another').sign('default')}").status_code == 401
        assert api.post(url, content=b"<xml/>").status_code == 200
        platform.reply = lambda _: refused("7020")
        assert api.post("/v1/messages", json=sms(*WAITING)).status_code == 202
        eventually(lambda: len(platform.calls) > len(NUMBERS))
        yield Scraped(receiver, api, platform)


def test_names_types_and_labels_are_those_of_the_page(scraped: Scraped) -> None:
    listed = page()
    families = eventually(
        lambda: (
            found
            if "receiver_state_messages" in (found := scraped.families()) and found["receiver_state_messages"].samples
            else None
        ),
        40,
    )
    assert families.keys() == listed.keys()
    with_series = set()
    for name, family in families.items():
        sort, labels = listed[name]
        assert family.type == {"info": "gauge"}.get(sort, sort), name
        for sample in family.samples:
            assert set(sample.labels) - ({"le"} if sort == "histogram" else set()) == labels, name
            with_series.add(name)
    without_labels = {name for name, (_, labels) in listed.items() if not labels}
    assert without_labels <= with_series
    assert len(with_series) > len(listed) * 0.6, "too few have series: the labels were hardly compared"


def test_outcomes_times_and_calls_are_those_of_the_database(scraped: Scraped) -> None:
    database = scraped.receiver.database
    eventually(
        lambda: scraped.value(
            "receiver_outcomes_total", tenant="default", channel="sms", country="GB", outcome="failed", feed="push"
        )
    )
    by_state = {
        row["state"]: row["n"]
        for row in database.fetch("select state, count(*)::float8 as n from message_state where state <> 0 group by 1")
    }
    outcomes = scraped.families()["receiver_outcomes_total"].samples
    assert sum(s.value for s in outcomes if s.labels["outcome"] == "delivered") == by_state[60] == 1
    assert sum(s.value for s in outcomes if s.labels["outcome"] == "failed") == by_state[45] == 1
    assert sum(s.value for s in outcomes if s.labels["outcome"] == "accepted") == len(NUMBERS)
    assert sum(s.value for s in outcomes if s.labels["country"] == "DE") == 1
    labels = {"channel": "sms", "tenant": "default"}
    assert scraped.value("receiver_accepted_seconds_count", **labels) == len(NUMBERS)
    assert scraped.value("receiver_delivery_seconds_count", **labels) == 1
    assert scraped.value("receiver_submitted_seconds_count", **labels) == 1
    assert scraped.value("receiver_receipt_lag_seconds_count", channel="sms") == len(NUMBERS)
    calls = sum(s.value for s in scraped.families()["receiver_submissions_total"].samples)
    assert scraped.value("receiver_platform_call_seconds_count", tenant="default") == calls >= 4
    later = scraped.value("receiver_submissions_total", outcome="later", tenant="default")
    assert scraped.value("receiver_throttled_total", tenant="default") == later


def test_the_oldest_in_the_outbox_has_waited_since_it_was_handed_in(scraped: Scraped) -> None:
    ages = "select max(extract(epoch from now() - born_at_v1(submission_id)))::float8 from outbox"
    eventually(lambda: (scraped.value("receiver_outbox_oldest_seconds", tenant="default") or 0) > 0)
    waits = scraped.receiver.database.value(ages)
    told = scraped.value("receiver_outbox_oldest_seconds", tenant="default")
    assert told is not None
    assert waits - 12 < told < waits + 1  # it is measured every 5 seconds


def test_bounds_are_told_beside_what_they_bound(scraped: Scraped) -> None:
    assert scraped.value("receiver_spool_limit_bytes") == 64 * 1024 * 1024
    eventually(lambda: scraped.value("receiver_quarantine_limit_bytes") == 256 * 1024 * 1024, 70)


def test_connections_are_those_that_postgres_sees(scraped: Scraped) -> None:
    def told() -> dict[str, float]:
        found: dict[str, float] = {}
        for sample in scraped.families()["receiver_pool_connections"].samples:
            assert sample.labels["use"] in ("busy", "idle")
            found[sample.labels["pool"]] = found.get(sample.labels["pool"], 0) + sample.value
        return {pool: number for pool, number in found.items() if number}

    def seen() -> dict[str, float]:
        return {row["pool"]: row["open"] for row in scraped.receiver.database.fetch(POOLS) if row["pool"] != "tests"}

    eventually(lambda: told() == seen())
    limits = {s.labels["pool"]: s.value for s in scraped.families()["receiver_pool_limit"].samples}
    assert all(limits[pool] >= number for pool, number in told().items())
    assert limits["receipts"] == 1


def test_lines_of_the_log_are_counted_by_level(scraped: Scraped) -> None:
    def lines() -> dict[str, int]:
        text = scraped.receiver.log.read_text()
        return {level: len(re.findall(f'"level": "{level}"', text)) for level in LEVELS}

    assert lines()["warning"] > 0, "the lane was slowed down: there is a line"
    eventually(lambda: {level: scraped.value("receiver_log_events_total", level=level) for level in LEVELS} == lines())


def test_a_scrape_needs_no_database(scraped: Scraped) -> None:
    """Closed to everybody, it is missed by whoever asks it; the figures go on, as fast as before."""
    database = scraped.receiver.database
    closed = f"alter database {database.name} allow_connections {{}}"
    other = type(database)(database.server, "postgres")

    def scrape_seconds() -> float:
        began = time.perf_counter()
        scraped.families()
        return time.perf_counter() - began

    eventually(lambda: scraped.value("receiver_database_up") == 1)
    before = min(scrape_seconds() for _ in range(5))
    other.fetch(closed.format("false"))
    other.fetch("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", database.name)
    try:
        eventually(lambda: scraped.value("receiver_database_up") == 0)
        assert scraped.api.get("/v1/messages?limit=1").status_code == 503
        during = [scrape_seconds() for _ in range(5)]
        assert min(during) < before * 5 + 0.05
        assert scraped.value("receiver_accepted_seconds_count", channel="sms", tenant="default") == len(NUMBERS)
    finally:
        other.fetch(closed.format("true"))
    eventually(lambda: scraped.value("receiver_database_up") == 1, 30)
