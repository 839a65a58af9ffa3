"""A storm: the hostile sandbox tells over all channels into two receivers; afterwards both ledgers agree."""

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from receiver.database.pool import connect
from receiver.ids import TenantId
from receiver.sandbox.channels import FAMILIES
from tests.journey.storm import (
    KINDS,
    Group,
    Kept,
    Platform,
    believed,
    groups_of,
    hostile_platform,
    kept,
    truth,
)
from tests.receipts.tellings import assert_books_balance
from tests.support import Database, Receiver, cloned, eventually, receiver_process, run

SEED = int(os.environ.get("RECEIVER_TEST_SEED", "1"))
SPEED = 0.01  # a try after 60 s comes after 0.6 s
SUBMISSIONS, MADE_UP = 150, 8_400  # some 400 sms that are really sent, and enough others for ENOUGH
ENOUGH = 20_000  # receipts told
STORM_SECONDS = 90.0
CLOCKS = timedelta(milliseconds=5)  # between the sandbox's and the receivers' reading of one machine's clock


@dataclass
class Storm:
    """Both ledgers, after everything was told and both receivers have ended."""

    database: Database
    tenant: TenantId
    issued: set[UUID]
    ledger: dict[str, Any]
    groups: list[Group]
    kept: Kept
    intake: dict[str, int]


def send(receivers: list[Receiver], key: str) -> set[UUID]:
    """Sends sms, in submissions of one to five, through the receivers in turn; their ids."""
    roll, issued = random.Random(SEED), set()
    clients = [receiver.client(key) for receiver in receivers]
    for place in range(SUBMISSIONS):
        numbers = roll.sample(range(100, 1_000), roll.randint(1, 5))
        body = {
            "deliverychannel": "sms",
            "channels": {"sms": {"text": "Your parcel is on its way"}},
            "destination": [{"msisdn": [f"447700900{number}"]} for number in numbers],
            "callbackData": f"basket {place}",
        }
        answer = clients[place % len(clients)].post("/v1/messages", json=body)
        assert answer.status_code == 202, answer.text
        issued |= {UUID(message["id"]) for message in answer.json()["messages"]}
    for client in clients:
        client.close()
    return issued


def quiet(database: Database, platform: Platform) -> bool:
    """Whether nothing is left to be sent or told."""
    if platform.ledger()["receipts"]["pending"]:
        return False
    return int(database.value("select count(*) from outbox")) == 0 and not platform.ledger()["receipts"]["pending"]


@pytest.fixture(scope="module")
def storm(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storm]:
    folder = tmp_path_factory.mktemp("storm")
    with (
        cloned(postgres, template, "storm") as database,
        hostile_platform(folder, seed=SEED, speed=SPEED) as platform,
    ):
        with (
            receiver_process(database, folder, platform_url=platform.url) as one,
            receiver_process(database, folder, platform_url=platform.url) as other,
        ):
            key = database.key()
            platform.tell([one.notify_url(), other.notify_url()], MADE_UP)
            issued = send([one, other], key)
            eventually(lambda: quiet(database, platform), STORM_SECONDS, 0.2)
        # both have ended, and have stored what they had in hand
        assert (one.process.returncode, other.process.returncode) == (0, 0)
        assert "Traceback" not in one.log.read_text() + other.log.read_text()
        tenant = database.tenant()
        groups = [group for message in platform.messages() for group in groups_of(message, issued, tenant)]
        sums = database.fetch(
            "select sum(received)::int as received, sum(applied)::int as applied, sum(duplicate)::int as duplicate,"
            " sum(quarantined)::int as quarantined, sum(forged)::int as forged, sum(late)::int as late from intake"
        )[0]
        yield Storm(database, tenant, issued, platform.ledger(), groups, kept(database), dict(sums))


def test_the_storm_was_one(storm: Storm) -> None:
    assert storm.ledger["receipts"]["told"] >= ENOUGH
    assert storm.ledger["receipts"]["dropped"] == 0
    assert set(storm.ledger["answers"]) == {"200", "not_sent", "not_read"}
    assert storm.ledger["submissions"] == {"1001": SUBMISSIONS}
    assert set(storm.ledger["channels"]) == set(FAMILIES)
    for trouble in ("lost", "repeated", "reordered", "early", "forged", "truncated", "xml", "oneapi", "wrapped"):
        assert storm.ledger["troubles"][trouble] > 0, trouble


def test_both_ledgers_agree(storm: Storm) -> None:
    told, intake = storm.ledger["receiver"], storm.intake
    slack = told["unanswered"]  # sent, and hung up before the answer: nobody knows
    counted = {
        "receipts": intake["applied"] + intake["duplicate"],
        "forged": intake["forged"],
        "unreadable": intake["quarantined"],
    }
    least = {**told, "receipts": told["distinct"] + told["repeated"]}
    for kind in KINDS:
        assert least[kind] <= counted[kind] <= least[kind] + slack[kind], (kind, told, intake)
    assert intake["late"] == 0
    assert told["distinct"] <= intake["applied"] <= told["distinct"] + told["unknown"]
    quarantine = {
        row["forged"]: row["told"]
        for row in storm.database.fetch(
            "select reason = 'forged' as forged, sum(told)::int as told from quarantine group by 1"
        )
    }
    assert quarantine == {True: intake["forged"], False: intake["quarantined"]}


def test_nothing_acknowledged_is_missing_and_nothing_is_there_that_was_not_told(storm: Storm) -> None:
    there = set(storm.kept.home)
    by_outcome: dict[str, set[bytes]] = {"acknowledged": set(), "unknown": set(), "untold": set()}
    for group in storm.groups:
        for fingerprint, (_, entry) in group.told.items():
            by_outcome[entry["outcome"]].add(fingerprint)
    assert not by_outcome["acknowledged"] - there
    assert not by_outcome["untold"] & there
    assert there <= by_outcome["acknowledged"] | by_outcome["unknown"]
    assert len(by_outcome["acknowledged"]) == storm.ledger["receiver"]["distinct"]
    assert storm.intake["applied"] == len(there)


def test_each_receipt_is_in_the_one_message_that_it_belongs_to(storm: Storm) -> None:
    homes: dict[UUID, tuple[str, str]] = {}
    for group in storm.groups:
        found = {home for fingerprint in group.told for home in storm.kept.home.get(fingerprint, [])}
        assert len(found) <= 1, (group.name, found, [entry["told"] for _, entry in group.told.values()])
        for home in found:
            assert homes.setdefault(home, group.name) == group.name, [entry["told"] for _, entry in group.told.values()]
    for fingerprint, found_in in storm.kept.home.items():
        assert len(found_in) == 1, fingerprint


def test_every_belief_is_the_plain_fold_of_what_was_told(storm: Storm) -> None:
    checked = 0
    for group in storm.groups:
        identity = _home(group, storm)
        if identity is None:
            continue
        heard = storm.kept.heard.get(identity, {})
        assert set(heard) <= set(group.told)
        expected = truth(group, heard, storm.kept.own.get(identity, []))
        assert believed(storm.kept.states[identity]) == expected, [entry["told"] for _, entry in group.told.values()]
        checked += 1
    assert checked == len(storm.kept.states)


def _home(group: Group, storm: Storm) -> UUID | None:
    """The message of a group: the one that we issued, else the one that was observed; None where nothing came in."""
    for fingerprint in group.told:
        if fingerprint in storm.kept.home:
            return storm.kept.home[fingerprint][0]
    return next((one for one in storm.issued if str(one) == group.message["correlationid"]), None)


def test_receipts_of_messages_that_were_sent_reach_those_messages(storm: Storm) -> None:
    sent = {str(identity): identity for identity in storm.issued}
    groups = {group.message["correlationid"]: group for group in storm.groups if group.message["correlationid"] in sent}
    assert set(groups) == set(sent)
    for correlationid, group in groups.items():
        assert _home(group, storm) == sent[correlationid], [entry["told"] for _, entry in group.told.values()]
        assert storm.kept.states[sent[correlationid]]["accepted_at"] is not None


def test_a_receipt_without_a_time_happened_when_it_was_first_heard_of(storm: Storm) -> None:
    without = 0
    for group in storm.groups:
        identity = _home(group, storm)
        for fingerprint, heard in (storm.kept.heard.get(identity, {}) if identity else {}).items():
            told, entry = group.told[fingerprint]
            if told.told_at is not None:
                continue
            without += 1
            assert heard >= datetime.fromtimestamp(entry["sent_at"], UTC) - CLOCKS
            if entry["answered_at"] is not None:
                assert heard <= datetime.fromtimestamp(entry["answered_at"], UTC) + CLOCKS
    assert without > 100


def test_the_books_balance_after_the_storm(storm: Storm) -> None:
    async def main() -> None:
        connection = await connect(storm.database.dsn, "tests")
        try:
            await assert_books_balance(connection)
        finally:
            await connection.close()

    run(main())
