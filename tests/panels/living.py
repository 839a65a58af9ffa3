"""The service on the day's database, with real traffic of a tenant of its own: whose scrape gives the names."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2
from prometheus_client import Metric

from receiver.access.tokens import NotifyTokens
from tests.forwarding.clients import answering, client_server
from tests.panels.course import families
from tests.sending.platforms import Call, Platform, Reply, queued, receipt, recording_platform, refused, sms, tell
from tests.support import PLATFORM_KEY, SECRET, Database, Receiver, eventually, receiver_process

TRIAL: Final = "trial"
REFUSED, BUSY, LOST = "447700900301", "447700900302", "447700900303"
TAKEN: Final = ("447700900101", "447700900102", "4915112345678", "34600123456")
# One process does all duties; what it has not taken yet would look like a trouble that lasts all day.
WELL: Final = ("receiver_probe_up", "receiver_database_up", "receiver_duty_held")
# What is measured or done now and then, in a series of which it is known that it has been.
AWAITED: Final = (
    *("receiver_state_messages", "receiver_mature_messages", "receiver_overdue_messages", "receiver_quarantine_bodies"),
    *("receiver_push_completeness_ratio", "receiver_ledger_difference", "receiver_probe_seconds"),
    *("receiver_statistics_behind_seconds", "receiver_walk_behind_seconds", "receiver_partition_days_ahead"),
    *("receiver_quarantine_limit_bytes", "receiver_forwards_total", "receiver_failure_notices_total"),
    *("receiver_polls_total", "receiver_poll_paused", "receiver_throttled_total", "receiver_outbox_messages"),
    *("receiver_sender_outcomes_total", "receiver_outcomes_total", "receiver_mature_hour_timestamp_seconds"),
    *("receiver_forward_queue", "receiver_forward_oldest_seconds"),
)


@dataclass(frozen=True)
class Living:
    """The service, and what it answered to /metrics at last."""

    receiver: Receiver
    scrape: dict[str, Metric]


@contextmanager
def living(database: Database, folder: Path, states: Mapping[str, Mapping[str, int]]) -> Iterator[Living]:
    """It runs until the end; it has been used, and has measured what it measures.

    `states` are how many messages of each tenant are in which state: it must have seen them all.
    """
    with recording_platform() as platform, client_server() as client:
        client.answers["/failures"] = answering(503)  # so there is one that waits to go on
        config = folder / "tenants.toml"
        own = f'platform_url = "{platform.url}"\nplatform_key = "{PLATFORM_KEY}"\n'
        extra = f'forward_to = "{client.url}/receipts"\nfailure_url = "{client.url}/failures"\n'
        extra += 'signature_secret = "a signature for tests"\nfailure_also = "observed"\nforward_allow = "127.0.0.1"\n'
        config.write_text("".join(f"[tenant.{name}]\n{own}" for name in states) + f"[tenant.{TRIAL}]\n{own}{extra}")
        key = database.key(tenant=TRIAL)
        with (
            receiver_process(
                database,
                folder,
                platform_url=platform.url,
                RECEIVER_CONFIG=str(config),
                RECEIVER_PROBE_SECONDS="1",
                RECEIVER_PLATFORM_TIMEOUT="1",
            ) as receiver,
            receiver.client(key) as api,
        ):
            eventually(lambda: database.value("select count(*) from noticed"))  # of what was before, nobody is told
            _use(receiver, api, platform)
            yield Living(receiver, _scraped(api, states))


def _use(receiver: Receiver, api: httpx2.Client, platform: Platform) -> None:
    """A little of all that happens to a service."""

    def reply(call: Call) -> Reply:
        words = {REFUSED: refused("7102"), BUSY: refused("7020"), LOST: None}
        return words.get(call.numbers[0], queued(*(f"T-{number}" for number in call.numbers)))

    platform.reply = reply
    for number in (*TAKEN, REFUSED, LOST, BUSY):
        assert api.post("/v1/messages", json=sms(number)).status_code == 202
    eventually(lambda: len(platform.calls) > len(TAKEN))
    url = receiver.notify_url(TRIAL)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    told = (("Submitted", "7501"), ("Delivered", "7500"), ("Undelivered", "7207"), ("Teleported", ""))
    for number, (status, code) in zip(TAKEN, told, strict=True):
        for _ in range(2):
            body = receipt(status, code, number, transid=f"T-{number}", stamp=stamp)
            assert tell(url, body) == 200
    assert api.post(url, content=b"<xml/>").status_code == 200
    assert api.post(f"/notify/{NotifyTokens(SECRET + ' of others').sign(TRIAL)}").status_code == 401
    assert api.get("/v1/messages", params={"state": "delivered"}).status_code == 200
    assert api.get("/v1/messages", headers={"authorization": "Bearer nobody"}).status_code == 401


def _scraped(api: httpx2.Client, states: Mapping[str, Mapping[str, int]]) -> dict[str, Metric]:
    """The scrape once all that is measured by and by has a value."""
    missing: list[str] = []

    def whole() -> dict[str, Metric] | None:
        found = families(api.get("/metrics").text)
        missing[:] = [
            name for name in AWAITED if not any(sample.value == sample.value for sample in found[name].samples)
        ]
        missing.extend(name for name in WELL if any(sample.value != 1 for sample in found[name].samples))
        missing.extend(tenant for tenant in states if _states(found, tenant) != states[tenant])
        return None if missing else found

    try:
        scrape: dict[str, Metric] = eventually(whole, seconds=45, every=0.5)
    except AssertionError:
        raise AssertionError(f"never measured: {missing}") from None
    return scrape


def _states(scrape: Mapping[str, Metric], tenant: str) -> Counter[str]:
    """How many messages of a tenant the service knows in each state."""
    counted: Counter[str] = Counter()
    for sample in scrape["receiver_state_messages"].samples:
        if sample.labels["tenant"] == tenant and sample.value:
            counted[sample.labels["state"]] += int(sample.value)
    return counted
