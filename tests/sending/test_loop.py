"""The whole loop against the sandbox: six numbers, six fates, figures that count changes, logs that keep secrets."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from receiver.sandbox import magic
from tests.grafana.exposed import SERIES
from tests.sending.platforms import sandbox_platform, sms
from tests.support import PLATFORM_KEY, SECRET, Receiver, cloned, eventually, receiver_process

FATES = {
    magic.DELIVERED: "delivered",
    magic.UNDELIVERED: "undelivered",
    magic.FAILED: "failed",
    magic.SILENT: "accepted",
    magic.TWICE: "delivered",
    magic.EARLY: "delivered",
}

# What sending to them makes series of, at once or within 20 seconds; whatever else has any is compared as well.
TOUCHED = {
    *("receiver_messages_total", "receiver_failures_total", "receiver_receipts_total"),
    *("receiver_notify_responses_total", "receiver_notify_refusals_total", "receiver_notify_signatures_total"),
    *("receiver_accepted_seconds_bucket", "receiver_submitted_seconds_sum", "receiver_delivery_seconds_count"),
    *("receiver_receipt_lag_seconds_bucket", "receiver_outcomes_total", "receiver_sender_outcomes_total"),
    *("receiver_state_messages", "receiver_mature_hour_timestamp_seconds", "receiver_database_up"),
    *("receiver_outbox_messages", "receiver_outbox_oldest_seconds", "receiver_platform_call_seconds_bucket"),
    *("receiver_spool_limit_bytes", "receiver_quarantine_limit_bytes", "receiver_spool_oldest_seconds"),
    *("receiver_pool_connections", "receiver_pool_limit", "receiver_log_events_total", "receiver_ledger_difference"),
    *("receiver_duty_held", "receiver_build_info", "receiver_statistics_behind_seconds"),
}


@dataclass
class Played:
    """A receiver that has sent to all six, and heard all that there is to hear."""

    receiver: Receiver
    api: httpx2.Client
    key: str
    messages: dict[str, dict[str, Any]]
    notifyurl_tokens: list[str]


@pytest.fixture(scope="module")
def played(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    folder = tmp_path_factory.mktemp("loop")
    with (
        cloned(postgres, template, "loop") as database,
        sandbox_platform(speed=0.05) as platform,
        receiver_process(
            database, folder, platform_url=platform.url, RECEIVER_SIGNATURE_SECRET="a secret that is checked when used"
        ) as receiver,
    ):
        key = database.key()
        with receiver.client(key) as api:
            ids = {}
            for number in FATES:
                answer = api.post("/v1/messages", json=sms(number, correlationid=f"c-{number}"))
                assert answer.status_code == 202
                ids[number] = answer.json()["messages"][0]["id"]

            def told() -> dict[str, dict[str, Any]] | None:
                found = {number: api.get(f"/v1/messages/{identity}").json() for number, identity in ids.items()}
                reached = {number: message["state"] for number, message in found.items()} == FATES
                return found if reached and platform.sandbox.ledger.pending == 0 else None

            messages = eventually(told)
            tokens = [row["id"].hex for row in database.fetch("select id from submission")]
            yield Played(receiver, api, key, messages, tokens)


def scraped(played: Played) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Labels and values by the name of the sample."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(played.api.get("/metrics").text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def test_each_of_the_six_ends_in_its_state_with_its_reason_in_words(played: Played) -> None:
    reasons = {number: message["reason"] for number, message in played.messages.items()}
    assert reasons[magic.UNDELIVERED]["code"] == "7207"
    assert "coverage" in reasons[magic.UNDELIVERED]["text"]
    assert reasons[magic.UNDELIVERED]["class"] == "temporary"
    assert reasons[magic.FAILED]["code"] == "7101"
    assert "sender" in reasons[magic.FAILED]["text"].lower()
    assert reasons[magic.FAILED]["class"] == "configuration"
    assert [number for number, reason in reasons.items() if reason] == [magic.UNDELIVERED, magic.FAILED]
    assert [n for n, message in played.messages.items() if not message["final"]] == [magic.SILENT]
    assert not any(message["conflict"] for message in played.messages.values())


def test_a_message_tells_its_times_and_ids(played: Played) -> None:
    for number, message in played.messages.items():
        assert message["correlationid"] == f"c-{number}"
        assert message["sent_correlationid"] == message["id"]
        assert message["destination"] == number
        assert message["transid"]
        assert message["sent_at"]
        assert message["accepted_at"]
        assert bool(message["delivered_at"]) == (message["state"] == "delivered")
        assert bool(message["failed_at"]) == (message["state"] in ("undelivered", "failed"))


def test_told_before_the_answer_is_one_message_with_both(played: Played) -> None:
    message = played.messages[magic.EARLY]
    assert sorted(entry["feed"] for entry in message["timeline"]) == ["answer", "push", "push"]
    found = played.api.get("/v1/messages", params={"destination": magic.EARLY}).json()["messages"]
    assert [m["id"] for m in found] == [message["id"]]


def test_told_twice_counts_once(played: Played) -> None:
    assert len([e for e in played.messages[magic.TWICE]["timeline"] if e["feed"] == "push"]) == 2
    receipts = {labels["result"]: value for labels, value in scraped(played)["receiver_receipts_total"]}
    assert receipts == {"applied": 9.0, "duplicate": 2.0}
    states = {labels["state"]: value for labels, value in scraped(played)["receiver_messages_total"]}
    assert states["queued"] == 6
    assert states["delivered"] == 3
    assert (states["undelivered"], states["failed"]) == (1, 1)
    delivered = [value for labels, value in scraped(played)["receiver_delivery_seconds_count"]]
    assert delivered == [3.0]


def test_the_figures_have_the_names_and_labels_that_dashboards_use(played: Played) -> None:
    played.api.post("/notify/not-a-token")
    samples = eventually(lambda: found if (found := scraped(played)).keys() >= TOUCHED else None, 40)
    for name, found in samples.items():
        assert {frozenset(labels) for labels, _ in found} == {SERIES[name]}, name


def test_failures_are_counted_by_code_and_class(played: Played) -> None:
    found = {(labels["code"], labels["class"]): value for labels, value in scraped(played)["receiver_failures_total"]}
    assert found == {("7207", "temporary"): 1, ("7101", "configuration"): 1}


def test_the_outbox_is_empty_when_all_is_sent(played: Played) -> None:
    eventually(lambda: scraped(played)["receiver_outbox_messages"] == [({"tenant": "default"}, 0.0)])


def test_the_contents_are_gone_and_every_change_is_in_the_log(played: Played) -> None:
    database = played.receiver.database
    assert database.value("select count(*) from submission where content is not null") == 0
    states = database.fetch(
        "select s.state, (select new_state from change c where c.message_id = s.id order by seq desc limit 1) as last"
        " from message_state s"
    )
    assert all(row["state"] == row["last"] for row in states)


def test_the_log_of_a_run_holds_no_number_no_key_no_token_and_no_text(played: Played) -> None:
    played.api.get("/v1/messages", params={"destination": magic.FAILED})
    played.api.post("/v1/messages", json={"deliverychannel": "sms", "destination": [{"msisdn": ["447700900099"]}]})
    played.api.post("/notify/not-a-token", json={"msisdn": "447700900099"})
    httpx2.post(played.receiver.notify_url(), content=b"no json 447700900099", trust_env=False)
    log = played.receiver.log.read_text()
    tokens = [played.receiver.notify_url().rpartition("/")[2]]
    for secret in (SECRET, PLATFORM_KEY, played.key, played.key[-20:], "4477009", "not-a-token", *tokens, "parcel"):
        assert secret not in log
    assert "/notify/" not in log
    assert all(json.loads(line)["event"] for line in log.splitlines())
