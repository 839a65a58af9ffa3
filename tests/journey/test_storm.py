"""A storm: the hostile sandbox tells over all channels into two receivers; afterwards both ledgers agree."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from receiver.database.pool import connect
from receiver.messages.lattice import RANK, Fact, State, fold
from receiver.sandbox.channels import FAMILIES
from tests.journey.course import CALM, KILLS, LONGEST_CALL, Storm, run_storm
from tests.journey.storm import KINDS, Group, believed, truth
from tests.receipts.tellings import assert_books_balance
from tests.support import cloned, run

SEED = int(os.environ.get("RECEIVER_TEST_SEED", "1"))
CALL = timedelta(seconds=LONGEST_CALL)
CLOCKS = timedelta(milliseconds=5)  # between the sandbox's and the receivers' reading of one machine's clock


@pytest.fixture(scope="module", params=[CALM, KILLS], ids=lambda course: course.name)
def storm(
    request: pytest.FixtureRequest, postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Storm]:
    course = request.param
    with cloned(postgres, template, f"storm_{course.name}") as database:
        yield run_storm(course, database, tmp_path_factory.mktemp(course.name), SEED)


def test_the_storm_was_one(storm: Storm) -> None:
    receipts, kills = storm.ledger["receipts"], storm.course.kills
    assert receipts["told"] >= storm.course.enough
    assert receipts["dropped"] == 0
    assert set(storm.ledger["answers"]) == {"200", "not_sent", "not_read"} | ({"unreachable"} if kills else set())
    assert Counter(storm.ends) == Counter({0: 2, -signal.SIGKILL: kills})
    assert "Traceback" not in storm.logs
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
    for identity in _never_called(storm):
        assert believed(storm.kept.states[identity])[0] == fold(storm.kept.own[identity])
        checked += 1
    assert checked == len(storm.kept.states)


def _home(group: Group, storm: Storm) -> UUID | None:
    """The message of a group: the one that we issued, else the one that was observed; None where nothing came in."""
    for fingerprint in group.told:
        if fingerprint in storm.kept.home:
            return storm.kept.home[fingerprint][0]
    return next((one for one in storm.issued if str(one) == group.message["correlationid"]), None)


def _called(storm: Storm) -> Counter[UUID]:
    """How often the platform was given each message that was accepted, by its own books."""
    known = {str(identity): identity for identity in storm.issued}
    names = [group.message["correlationid"] for group in storm.groups]
    return Counter(known[name] for name in names if name in known)


def _never_called(storm: Storm) -> set[UUID]:
    return set(storm.issued) - set(_called(storm))


def test_every_message_that_was_accepted_is_there_and_went_to_the_platform_once_at_most(storm: Storm) -> None:
    batches = storm.database.fetch("select distinct batch_id, callback_data from message where origin = 1")
    assert storm.sent.batches <= {row["batch_id"] for row in batches}
    unheard = {row["callback_data"] for row in batches if row["batch_id"] not in storm.sent.batches}
    assert unheard <= storm.sent.unheard
    called = _called(storm)
    assert set(called.values()) == {1}
    assert storm.ledger["submissions"] == {"1001": len({storm.issued[identity] for identity in called})}
    if not storm.course.kills:
        assert storm.sent.unheard == set()
        assert set(called) == set(storm.issued)


def test_receipts_of_messages_that_were_sent_reach_those_messages(storm: Storm) -> None:
    for group in storm.groups:
        sent = next((one for one in storm.issued if str(one) == group.message["correlationid"]), None)
        if sent is not None:
            assert _home(group, storm) == sent, [entry["told"] for _, entry in group.told.values()]


def test_only_what_was_in_flight_at_a_kill_is_uncertain_and_a_receipt_ends_that(storm: Storm) -> None:
    sent_at = {
        row["id"]: row["sent_at"]
        for row in storm.database.fetch(
            "select m.id, s.sent_at from message m join submission s on s.id = m.submission_id"
        )
    }
    last_words = {identity: [own.fact for own in storm.kept.own[identity]] for identity in storm.issued}
    in_flight = {identity for identity, facts in last_words.items() if facts == [Fact.UNCERTAIN]}
    assert {tuple(last_words[identity]) for identity in set(storm.issued) - in_flight} == {(Fact.ACCEPTED,)}
    assert _never_called(storm) <= in_flight
    assert storm.course.kills or not in_flight
    for identity in in_flight:
        assert any(CALL > killed_at - sent_at[identity] > -CLOCKS for killed_at in storm.killed_at)
        told = [RANK[fact] for fact in storm.kept.facts.get(identity, [])]
        assert storm.kept.states[identity]["state"] == max([State.UNCERTAIN, *told])
    resolved = {one for one in in_flight if storm.kept.states[one]["state"] > State.UNCERTAIN}
    assert resolved == {
        one for one in in_flight if any(RANK[fact] > State.UNCERTAIN for fact in storm.kept.facts.get(one, []))
    }


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
    assert without > storm.course.enough / 200


def test_the_books_balance_after_the_storm(storm: Storm) -> None:
    async def main() -> None:
        connection = await connect(storm.database.dsn, "tests")
        try:
            await assert_books_balance(connection)
        finally:
            await connection.close()

    run(main())
