"""States as numbers, facts as bits, and the fold: any order, any repetition, any split, the same belief."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.messages.lattice import (
    CEILING,
    NEGATIVE,
    NEGATIVE_STATES,
    POSITIVE,
    POSITIVE_STATES,
    RANK,
    Channel,
    Fact,
    Fold,
    State,
    clash,
    fold,
    is_final,
    reason_key,
)

FACTS = [fact for fact in Fact if fact is not Fact.NONE]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Said:
    """What the fold needs to know of a receipt."""

    fingerprint: bytes
    channel: Channel
    fact: Fact
    reason_key: bytes | None
    at: datetime
    leg: tuple[object, ...] | None


def said(
    fact: Fact, channel: Channel = Channel.SMS, *, number: int = 0, minute: int = 0, leg: str | None = "a"
) -> Said:
    print_ = bytes([number]) * 16
    key = reason_key(fact, number % 2 == 1, number % 3 == 0, print_)
    return Said(print_, channel, fact, key, NOON + timedelta(minutes=minute), (channel, leg) if leg else None)


# Stored numbers


def test_the_numbers_of_the_states_are_those_that_are_stored() -> None:
    assert {state.word: int(state) for state in State} == {
        "queued": 0,
        "uncertain": 5,
        "accepted": 10,
        "submitted": 20,
        "ended": 25,
        "no_receipt": 30,
        "cancelled": 40,
        "expired": 41,
        "refused": 42,
        "invalid": 43,
        "not_verified": 44,
        "undelivered": 45,
        "failed": 46,
        "delivered": 60,
        "bounced": 65,
        "read": 70,
    }


def test_the_bits_of_the_facts_are_those_that_are_stored() -> None:
    assert {fact.name: int(fact).bit_length() - 1 for fact in FACTS} == {
        "UNCERTAIN": 0,
        "ACCEPTED": 1,
        "SUBMITTED": 2,
        "ENDED": 3,
        "NO_RECEIPT": 4,
        "CANCELLED": 5,
        "EXPIRED": 6,
        "REFUSED": 7,
        "INVALID": 8,
        "NOT_VERIFIED": 9,
        "UNDELIVERED": 10,
        "DELIVERED": 11,
        "FAILED": 12,
        "READ": 13,
        "CLICKED": 14,
        "COMPLAINED": 15,
        "BOUNCED": 16,
        "UNKNOWN": 17,
        "NOTED": 18,
    }
    assert (int(POSITIVE), int(NEGATIVE)) == (10_240, 71_648)  # as fold_v1 names them


def test_the_numbers_of_the_channels_are_those_that_are_stored() -> None:
    assert {channel.word: int(channel) for channel in Channel} == {
        "other": 0,
        "sms": 1,
        "voice": 2,
        "push": 3,
        "rt": 4,
        "messenger": 5,
        "twitter": 6,
        "wechat": 7,
        "whatsapp": 8,
        "rcs": 9,
        "email": 10,
        "apple": 11,
        "mms": 12,
        "instagram": 13,
        "event": 14,
        "campaign": 15,
    }


def test_every_fact_has_a_rank_and_every_state_a_fact() -> None:
    assert set(RANK) == set(FACTS)
    assert set(RANK.values()) == set(State)
    assert {fact for fact in FACTS if RANK[fact] is State.QUEUED} == {
        Fact.CLICKED,
        Fact.COMPLAINED,
        Fact.UNKNOWN,
        Fact.NOTED,
    }
    assert all(RANK[fact].name == fact.name for fact in FACTS if RANK[fact] is not State.QUEUED)


def test_no_fact_is_both_positive_and_negative() -> None:
    assert not POSITIVE & NEGATIVE
    assert frozenset({State.DELIVERED, State.READ}) == POSITIVE_STATES
    assert {state.word for state in NEGATIVE_STATES} == {
        "cancelled",
        "expired",
        "refused",
        "invalid",
        "not_verified",
        "undelivered",
        "failed",
        "bounced",
    }


# Clashes


NORMAL = {
    (Channel.SMS, Fact.DELIVERED, Fact.UNDELIVERED),
    (Channel.OTHER, Fact.DELIVERED, Fact.UNDELIVERED),
    (Channel.MMS, Fact.DELIVERED, Fact.UNDELIVERED),
    (Channel.RCS, Fact.DELIVERED, Fact.UNDELIVERED),
    (Channel.RCS, Fact.READ, Fact.UNDELIVERED),
    (Channel.EMAIL, Fact.DELIVERED, Fact.BOUNCED),
}


@pytest.mark.parametrize("channel", Channel)
def test_a_positive_and_a_negative_fact_clash_unless_the_pair_is_normal(channel: Channel) -> None:
    for positive, negative in product((Fact.DELIVERED, Fact.READ), (f for f in FACTS if f & NEGATIVE)):
        for order in ((positive, negative), (negative, positive)):
            belief = fold(said(fact, channel, number=n) for n, fact in enumerate(order))
            assert belief.conflict is ((channel, positive, negative) not in NORMAL)


@pytest.mark.parametrize("fact", [fact for fact in FACTS if not fact & NEGATIVE])
def test_a_fact_that_is_not_negative_clashes_with_nothing(fact: Fact) -> None:
    assert all(clash(channel, fact) is Fact.NONE for channel in Channel)


def test_a_handset_that_comes_back_late_is_normal() -> None:
    belief = fold([said(Fact.UNDELIVERED, number=1), said(Fact.DELIVERED, number=2)])
    assert (belief.state, belief.conflict) == (State.DELIVERED, False)


def test_an_email_that_bounces_after_delivery_is_normal_and_bounced() -> None:
    belief = fold([said(Fact.DELIVERED, Channel.EMAIL, number=1), said(Fact.BOUNCED, Channel.EMAIL, number=2)])
    assert (belief.state, belief.conflict) == (State.BOUNCED, False)


def test_an_sms_that_failed_and_was_delivered_on_one_leg_is_a_conflict() -> None:
    assert fold([said(Fact.FAILED, number=1), said(Fact.DELIVERED, number=2)]).conflict


def test_failed_on_one_leg_and_delivered_on_another_is_no_conflict() -> None:
    belief = fold([said(Fact.FAILED, number=1, leg="a"), said(Fact.DELIVERED, number=2, leg="b")])
    assert (belief.state, belief.conflict) == (State.DELIVERED, False)
    fallen_back = [said(Fact.FAILED, Channel.RCS, number=1), said(Fact.DELIVERED, Channel.SMS, number=2)]
    assert not fold(fallen_back).conflict


def test_a_fact_of_no_leg_conflicts_with_nothing() -> None:
    assert not fold([said(Fact.FAILED, number=1, leg=None), said(Fact.DELIVERED, number=2)]).conflict


# Final states


@pytest.mark.parametrize("channel", Channel)
def test_a_negative_or_positive_state_is_final_on_every_channel(channel: Channel) -> None:
    assert all(is_final(state, channel) for state in NEGATIVE_STATES | POSITIVE_STATES)


@pytest.mark.parametrize("channel", Channel)
def test_no_receipt_is_not_final_on_any_channel(channel: Channel) -> None:
    assert not is_final(State.NO_RECEIPT, channel)


@pytest.mark.parametrize("channel", Channel)
def test_what_is_on_its_way_is_final_only_at_the_ceiling_of_its_channel(channel: Channel) -> None:
    final = {s.word for s in State if s < State.NO_RECEIPT and is_final(s, channel)}
    expected = {
        Channel.APPLE: {"submitted", "ended"},
        Channel.CAMPAIGN: {"accepted", "submitted", "ended"},
        Channel.EVENT: {"accepted", "submitted", "ended"},
    }
    assert final == expected.get(channel, set())


def test_the_ceilings_are_the_documented_ones() -> None:
    assert {
        Channel.APPLE: State.SUBMITTED,
        Channel.CAMPAIGN: State.ACCEPTED,
        Channel.EVENT: State.ACCEPTED,
    } == CEILING


# The order of reasons


def test_only_a_negative_fact_has_a_reason() -> None:
    for fact in FACTS:
        assert (reason_key(fact, True, True, b"x" * 16) is not None) == bool(fact & NEGATIVE)


def test_reasons_are_ordered_by_rank_then_code_then_class_then_fingerprint() -> None:
    low, high = b"\x00" * 16, b"\xff" * 16
    ascending = [
        reason_key(Fact.UNDELIVERED, False, False, low),
        reason_key(Fact.UNDELIVERED, False, False, high),
        reason_key(Fact.UNDELIVERED, False, True, low),
        reason_key(Fact.UNDELIVERED, True, False, low),
        reason_key(Fact.UNDELIVERED, True, True, low),
        reason_key(Fact.UNDELIVERED, True, True, high),
        reason_key(Fact.FAILED, False, False, low),
        reason_key(Fact.BOUNCED, False, False, low),
    ]
    keys = [key for key in ascending if key is not None]
    assert keys == sorted(set(keys))
    assert {len(key) for key in ascending if key} == {19}


def test_a_duplicate_failure_without_a_code_does_not_wipe_the_known_reason() -> None:
    known = Said(b"\x01" * 16, Channel.SMS, Fact.FAILED, reason_key(Fact.FAILED, True, True, b"\x01" * 16), NOON, None)
    bare = Said(b"\xff" * 16, Channel.SMS, Fact.FAILED, reason_key(Fact.FAILED, False, False, b"\xff" * 16), NOON, None)
    assert fold([known, bare]).reason_key == fold([bare, known]).reason_key == known.reason_key


# The fold


@st.composite
def life(draw: st.DrawFn) -> list[Said]:
    """Receipts of one message; one fingerprint is one receipt."""
    channel = draw(st.sampled_from(Channel))
    return [
        said(
            draw(st.sampled_from(FACTS)),
            draw(st.sampled_from([channel, channel, Channel.SMS])),
            number=number,
            minute=draw(st.integers(0, 5)),
            leg=draw(st.sampled_from(["a", "b", None])),
        )
        for number in range(draw(st.integers(0, 12)))
    ]


def merged(first: Fold, second: Fold) -> Fold:
    """Two beliefs from receipts that they do not share, joined as the row of a message is: all but the conflict."""
    return Fold(
        state=max(first.state, second.state),
        facts=first.facts | second.facts,
        reason_key=max(first.reason_key or b"", second.reason_key or b"") or None,
        clicks=first.clicks + second.clicks,
        complaints=first.complaints + second.complaints,
        times={
            name: min(belief.times[name] for belief in (first, second) if name in belief.times)
            for name in first.times.keys() | second.times.keys()
        },
        last_times={
            name: max(belief.last_times[name] for belief in (first, second) if name in belief.last_times)
            for name in first.last_times.keys() | second.last_times.keys()
        },
    )


@given(life(), st.data())
@settings(deadline=None)
def test_order_and_repetition_do_not_count(receipts: list[Said], data: st.DataObject) -> None:
    again = data.draw(st.lists(st.sampled_from(receipts), max_size=8)) if receipts else []
    told: Sequence[Said] = data.draw(st.permutations([*receipts, *again]))
    assert fold(told) == fold(receipts)


@given(life(), st.data())
@settings(deadline=None)
def test_beliefs_from_two_halves_join_to_the_belief_from_all(receipts: list[Said], data: st.DataObject) -> None:
    first = data.draw(st.sets(st.integers(0, 12)))
    halves = [[r for n, r in enumerate(receipts) if (n in first) is half] for half in (True, False)]
    joined, whole = merged(fold(halves[0]), fold(halves[1])), fold(receipts)
    joined.conflict = whole.conflict  # which takes all receipts of a leg, and so reads the stored ones
    assert joined == whole


@given(life())
@settings(deadline=None)
def test_no_further_receipt_lowers_a_state_or_takes_a_fact_back(receipts: list[Said]) -> None:
    beliefs = [fold(receipts[:count]) for count in range(len(receipts) + 1)]
    for before, after in pairwise(beliefs):
        assert after.state >= before.state
        assert before.facts & ~after.facts == Fact.NONE
        assert after.conflict >= before.conflict
        assert (after.reason_key or b"") >= (before.reason_key or b"")
        assert all(after.times[name] <= at for name, at in before.times.items())


def test_of_nothing_nothing_is_believed() -> None:
    assert fold([]) == Fold(State.QUEUED, Fact.NONE, None, False, 0, 0, {})


def test_a_late_submitted_does_not_overwrite_delivered_but_tells_its_time() -> None:
    belief = fold([said(Fact.DELIVERED, number=1, minute=5), said(Fact.SUBMITTED, number=2, minute=3)])
    assert belief.state is State.DELIVERED
    assert belief.times == {
        "delivered_at": NOON + timedelta(minutes=5),
        "submitted_at": NOON + timedelta(minutes=3),
    }


def test_clicks_and_complaints_are_counted_and_change_no_state() -> None:
    clicks = [said(Fact.CLICKED, number=n) for n in range(3)]
    belief = fold([*clicks, said(Fact.COMPLAINED, number=9), said(Fact.UNKNOWN, number=10)])
    assert (belief.state, belief.clicks, belief.complaints) == (State.QUEUED, 3, 1)


def test_a_final_receipt_overrides_no_receipt() -> None:
    for fact in (Fact.DELIVERED, Fact.UNDELIVERED, Fact.FAILED):
        assert fold([said(Fact.NO_RECEIPT, number=1), said(fact, number=2)]).state is RANK[fact]
