"""A storm of losses: the platform drops a tenth of all receipts for ever. Asked for and imported, nothing is missing.

The sandbox knows the truth: every receipt of every message, told or lost.
"""

import json
import math
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx2
import pytest

from receiver.database.pool import connect
from receiver.messages.lattice import NEGATIVE, POSITIVE, Channel, Fact, State, fold
from receiver.messages.told import Feed, Told
from receiver.platform.codes import channel_of
from receiver.receipts.receipt import Source, read
from tests.journey.storm import Platform
from tests.receipts.tellings import assert_books_balance
from tests.sending.platforms import sandbox_platform
from tests.support import (
    PLATFORM_KEY,
    SECRET,
    Database,
    Receiver,
    cloned,
    environment_of,
    eventually,
    receiver_command,
    receiver_process,
    run,
)

SEED = int(os.environ.get("RECEIVER_TEST_SEED", "5"))
LOST = 0.1
BLOCKS: dict[str, tuple[str, dict[str, Any]]] = {
    "sms": ("msisdn", {"text": "Your parcel is on its way"}),
    "voice": ("msisdn", {"callflowid": "7"}),
    "wa": ("msisdn", {"text": "Your parcel is on its way"}),
    "push": ("customerid", {"pushref": "1", "android": {"title": "Parcel", "text": "It is on its way"}}),
    "rt": ("customerid", {"senderid": "1", "text": "Your parcel is on its way"}),
}
EACH = 120  # messages of each channel
SOON = ",".join(f"{channel.word}=5s" for channel in Channel)


@dataclass
class After:
    """What there is when everything was told, asked for and imported, and what the figures said before the import."""

    database: Database
    receiver: Receiver
    key: str
    platform: Platform
    messages: list[dict[str, Any]]
    completeness: dict[str, float]
    first: dict[str, Any]
    again: dict[str, Any]
    asked: dict[UUID, list[Fact]]
    """What the reconciler was told, before the import."""

    def get(self, path: str) -> dict[str, Any]:
        with self.receiver.client(self.key) as api:
            found: dict[str, Any] = api.get(path).json()
            return found


def send_all(receiver: Receiver, key: str) -> None:
    with receiver.client(key) as api:
        for channel, (id_type, block) in BLOCKS.items():
            name = "OTT-Messaging" if channel == "wa" else "appmessaging" if channel == "rt" else channel
            content = {"wa": block} if channel == "wa" else block
            values = [f"4477009{n:05}" if id_type == "msisdn" else f"customer-{n}" for n in range(100, 100 + EACH)]
            body = {"deliverychannel": channel, "channels": {name: content}, "destination": [{id_type: values}]}
            answer = api.post("/v1/messages", json=body)
            assert answer.status_code == 202, answer.text


def told_of(message: dict[str, Any], tenant: Any) -> list[Told]:
    """All receipts of a message, lost or not, as our reader reads them."""
    told = []
    for entry in message["receipts"]:
        reading = read(entry["told"].encode(), Source(tenant, None, datetime.now(UTC)))
        assert (len(reading.receipts), reading.rejects) == (1, []), entry["told"]
        told += reading.receipts
    return told


def is_final(told: Told) -> bool:
    return bool(told.fact & (POSITIVE | NEGATIVE))


def completeness(receiver: Receiver) -> dict[str, float]:
    with receiver.client() as api:
        text = api.get("/metrics").text
    found = re.findall(r'^receiver_push_completeness_ratio\{channel="(\w+)"\} (\S+)$', text, re.MULTILINE)
    return {channel: float(ratio) for channel, ratio in found}


def counted(database: Database) -> int:
    return int(database.value("select coalesce(sum(pushed + missed), 0) from push_count"))


@pytest.fixture(scope="module")
def after(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[After]:
    folder = tmp_path_factory.mktemp("losses")
    with (
        cloned(postgres, template, "losses") as database,
        sandbox_platform(lose=LOST, seed=SEED, speed=0.002) as sandbox,
        httpx2.Client(base_url=sandbox.url, trust_env=False, timeout=60) as http,
        receiver_process(
            database,
            folder,
            platform_url=sandbox.url,
            RECEIVER_USUAL_TIMES=SOON,
            RECEIVER_POLLS_PER_MINUTE="6000",
        ) as receiver,
    ):
        platform, key = Platform(sandbox.url, http), database.key("send", "read", "content", "admin")
        send_all(receiver, key)
        number = EACH * len(BLOCKS)
        eventually(lambda: database.value("select count(*) from message_state where state > 5") == number, 60)
        eventually(lambda: platform.ledger()["receipts"]["pending"] == 0, 60)
        messages = list(platform.messages())
        assert len(messages) == number
        tenant = database.tenant()
        due = {UUID(m["correlationid"]) for m in messages if any(map(is_final, told_of(m, tenant)))}
        eventually(lambda: counted(database) == len(due), 90, 0.5)
        lost = {m["correlationid"] for m in messages if m["final_told"] is False}
        assert len(lost) >= 20
        due_by_channel = Counter(channel_of(m["channel"]).word for m in messages if UUID(m["correlationid"]) in due)
        eventually(lambda: completeness(receiver).keys() == due_by_channel.keys(), 60, 0.5)
        wanted = {
            channel: 1
            - sum(channel_of(m["channel"]).word == channel for m in messages if m["final_told"] is False) / of
            for channel, of in due_by_channel.items()
        }
        eventually(lambda: all(math.isclose(completeness(receiver)[c], wanted[c]) for c in wanted), 60, 0.5)
        asked: dict[UUID, list[Fact]] = {}
        for row in database.fetch("select message_id, fact from receipt where feed = $1", int(Feed.POLL)):
            asked.setdefault(row["message_id"], []).append(Fact(row["fact"]))
        with receiver.client(key) as api:
            export = http.get("/sandbox/export").content
            first, again = (api.post("/v1/imports", content=export).json() for _ in range(2))
        yield After(database, receiver, key, platform, messages, completeness(receiver), first, again, asked)


def test_what_was_asked_for_is_what_happened(after: After) -> None:
    tenant = after.database.tenant()
    found = 0
    for message in after.messages:
        told, asked = told_of(message, tenant), after.asked.get(UUID(message["correlationid"]), [])
        happened = fold(told)
        for fact in asked:
            if fact & POSITIVE:
                assert happened.facts & POSITIVE, message
            if fact & NEGATIVE:
                assert happened.facts & NEGATIVE, message
        if message["final_told"] is False and any(map(is_final, told)):
            assert any(fact & (POSITIVE | NEGATIVE) for fact in asked), message
            found += 1
    assert found >= 20


def test_every_state_is_the_truth(after: After) -> None:
    tenant = after.database.tenant()
    rows = {row["id"]: row for row in after.database.fetch("select * from message_state where merged_into is null")}
    assert len(rows) == len(after.messages), "a poll or an import made messages up"
    for message in after.messages:
        identity = UUID(message["correlationid"])
        truth = fold(told_of(message, tenant)).state
        # nothing is told of a silent one, but the platform says when asked that it has been sent
        asked = after.asked.get(identity, [])
        least = State.SUBMITTED if Fact.SUBMITTED in asked else State.ACCEPTED
        assert State(rows[identity]["state"]) is max(least, truth), (message, asked)


def test_the_completeness_is_what_was_told_of_what_is_final(after: After) -> None:
    assert len(after.completeness) == len(BLOCKS)
    assert 0 < sum(1 - ratio for ratio in after.completeness.values()) < len(BLOCKS) / 2


def test_both_ledgers_agree(after: After) -> None:
    receipts, told = after.platform.ledger()["receipts"], after.platform.ledger()["receiver"]
    ledger = after.get("/v1/ledger")
    assert ledger["balanced"] is True
    feeds = {feed["feed"]: feed for feed in ledger["feeds"]}
    assert feeds["push"]["applied"] == told["distinct"]
    assert feeds["push"]["received"] == receipts["told"]
    assert (after.first["received"], after.first["applied"]) == (receipts["lost"], receipts["lost"])
    assert (after.again["received"], after.again["duplicate"]) == (receipts["lost"], receipts["lost"])
    assert feeds["import"]["applied"] == receipts["lost"]
    run(books(after.database))


async def books(database: Database) -> None:
    connection = await connect(database.dsn, "test")
    await assert_books_balance(connection)
    await connection.close()


def doctor(after: After, **settings: str) -> tuple[int, dict[str, Any]]:
    environment = {
        "RECEIVER_DATABASE_URL": after.database.dsn,
        "RECEIVER_PUBLIC_URL": after.receiver.url,
        "RECEIVER_PLATFORM_URL": after.platform.url,
        "RECEIVER_PLATFORM_KEY": PLATFORM_KEY,
        "RECEIVER_SECRET": SECRET,
        "RECEIVER_SPOOL": str(after.receiver.log.parent / f"spool-{after.database.name}"),
        **settings,
    }
    done = subprocess.run(
        [*receiver_command(), "doctor", "--json"], env=environment_of(**environment), capture_output=True, timeout=60
    )
    return done.returncode, {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def test_the_doctor_is_content_until_something_is_broken_on_purpose(after: After) -> None:
    code, checks = doctor(after)
    assert code == 0, [check for check in checks.values() if check["result"] == "failure"]
    one = "select message_id, fingerprint from receipt where feed = 1 limit 1"
    after.database.fetch(f"delete from receipt where (message_id, fingerprint) = ({one})")
    code, checks = doctor(after, RECEIVER_PLATFORM_KEY="wrong")
    failed = {name for name, check in checks.items() if check["result"] == "failure"}
    assert (code, failed) == (1, {"platform", "receipts counted"})
