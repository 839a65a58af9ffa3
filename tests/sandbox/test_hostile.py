"""The hostile profile: what is drawn, how often, and that each receipt can still be read and joined."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import httpx2
import pytest

from receiver.ids import TenantId
from receiver.receipts.receipt import Source, read
from receiver.sandbox import channels, crowd, hostile, script, spelling
from receiver.sandbox.crowd import Wanted
from receiver.sandbox.hostile import Plan, Victim
from receiver.sandbox.parcel import Fault, Kind
from receiver.sandbox.receipt import Message
from receiver.sandbox.wrapping import WRAPPERS

URL, OTHER_URL = httpx2.URL("http://127.0.0.1/notify/a"), httpx2.URL("http://127.0.0.1/notify/b")
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
SOURCE = Source(TenantId(1), None, AT)
MANY = 4_000
WANTED = Wanted((URL,), MANY, 1, tuple(channels.FAMILIES), "hostile")


def plan_of(
    number: int, seed: int = 1, notifyurl: httpx2.URL | None = None, victims: Sequence[Victim] = ()
) -> tuple[Message, Plan]:
    roll = random.Random(f"{seed}/{number}")
    to = replace(crowd.person(WANTED, number, roll), transid=f"{number:08x}-0000-4000-8000-00000000000a")
    dice = [roll.random() for _ in range(script.DICE)]
    fate = channels.draw(to.channel, hostile.FATES, dice)
    steps = list(zip(script.pace(fate, dice, 1.0), fate.steps, strict=True))
    return to, hostile.plan(to, steps, AT, roll, notifyurl=notifyurl, victims=victims)


@pytest.fixture(scope="module")
def plans() -> list[tuple[Message, Plan]]:
    return [plan_of(number) for number in range(MANY)]


def bodies(plan: Plan) -> Iterator[tuple[bytes, tuple[Fault, ...], float]]:
    for parcel in plan.parcels:
        yield parcel.body(), parcel.faults, parcel.offset


def test_one_seed_draws_one_plan_and_another_seed_another() -> None:
    one, again, other = ([list(bodies(plan_of(n, seed)[1])) for n in range(200)] for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_who_else_is_told_changes_nothing_of_a_message() -> None:
    backwards = {number: list(bodies(plan_of(number)[1])) for number in reversed(range(100))}
    assert all(list(bodies(plan_of(number)[1])) == backwards[number] for number in range(100))


def test_every_receipt_can_be_read_in_every_wrapper_and_joins_its_message(plans: list[tuple[Message, Plan]]) -> None:
    seen: dict[bytes, object] = {}
    for to, plan in plans:
        keys: dict[str, set[tuple[bytes, bytes]]] = {}
        for parcel in plan.parcels:
            reading = read(parcel.body(), SOURCE)
            if parcel.tellings[0].kind is Kind.UNREADABLE:
                assert (reading.receipts, len(reading.rejects)) == ([], 1)
                continue
            assert (len(reading.receipts), reading.rejects) == (len(parcel.tellings), []), parcel.body()
            for telling, told in zip(parcel.tellings, reading.receipts, strict=True):
                [alone] = read(telling.plain(), SOURCE).receipts
                assert told.fingerprint == alone.fingerprint, parcel.body()
                assert seen.setdefault(told.fingerprint, telling) is telling, "two receipts of one content"
                keys.setdefault(telling.subtid, set()).add((told.transid_key, told.leg_key))
        assert all(len(found) == 1 for found in keys.values()), (to, keys)


def test_each_trouble_of_a_body_occurs_at_its_share(plans: list[tuple[Message, Plan]]) -> None:
    counts = Counter(name for _, plan in plans for name in plan.troubles)
    receipts = sum(len({t for p in plan.parcels for t in p.tellings if t.kind is Kind.RECEIPT}) for _, plan in plans)
    assert receipts > 8_000
    for name, share in hostile.OF_BODIES.items():
        # a receipt that is bundled with the one before has no body of its own; the first can't be bundled
        least = 0.3 if name == "bundled" else 0.8
        assert least * share < counts[name] / receipts < 1.25 * share, name
    for name, share in spelling.SHARES.items():
        assert 0 < counts[name] / receipts < 1.25 * share, name
    for name in ("status_spelling", "stamp_spelling", "unknown_field", "template", "transid_spelling"):
        # those that always find something to change, but for the receipts in OneAPI's spelling
        assert counts[name] / receipts > 0.8 * spelling.SHARES[name] * 0.95, name


def test_each_trouble_of_a_message_occurs_at_its_share(plans: list[tuple[Message, Plan]]) -> None:
    counts = Counter(name for _, plan in plans for name in plan.troubles)
    assert counts["unknown_status"] / MANY == pytest.approx(hostile.OF_MESSAGES["unknown_status"], rel=0.2)
    several = sum(len({t for p in plan.parcels for t in p.tellings}) > 1 for _, plan in plans)
    assert counts["reordered"] / several == pytest.approx(hostile.OF_MESSAGES["reordered"], rel=0.2)
    assert counts["early"] == counts["forged"] == 0, "only messages that were really sent have a submission"


def test_a_lost_receipt_is_not_sent_or_not_read_and_some_are_lost_again(plans: list[tuple[Message, Plan]]) -> None:
    faults = [parcel.faults for _, plan in plans for parcel in plan.parcels if parcel.faults]
    first = Counter(one[0] for one in faults)
    assert first[Fault.NOT_SENT] / len(faults) == pytest.approx(0.5, abs=0.1)
    assert Counter(first) == {Fault.NOT_SENT: first[Fault.NOT_SENT], Fault.NOT_READ: first[Fault.NOT_READ]}
    tries = Counter(map(len, faults))
    assert (min(tries), max(tries)) == (1, hostile.TRIES)
    assert tries[2] / len(faults) == pytest.approx(0.25 * 0.75, abs=0.06)


def test_a_repeated_receipt_is_the_same_byte_for_byte(plans: list[tuple[Message, Plan]]) -> None:
    repeated = rewrapped = 0
    for _, plan in plans:
        whole = [parcel for parcel in plan.parcels if parcel.tellings[0].kind is Kind.RECEIPT]
        by_telling: dict[object, set[bytes]] = {}
        for parcel in whole:
            by_telling.setdefault(parcel.tellings, set()).add(parcel.body())
        repeated += len(whole) - len({parcel.body() for parcel in whole})
        rewrapped += sum(len(found) > 1 for found in by_telling.values())
    counts = Counter(name for _, plan in plans for name in plan.troubles)
    assert repeated >= 0.9 * counts["repeated"]
    assert rewrapped >= 0.7 * counts["rewrapped"]


def test_every_wrapper_occurs(plans: list[tuple[Message, Plan]]) -> None:
    used = {parcel.wrap for _, plan in plans for parcel in plan.parcels}
    assert used >= set(WRAPPERS.values())


def test_messages_that_were_sent_are_told_early_and_forged_under_the_url_of_another_submission() -> None:
    victim = Victim(plan_of(0)[0], OTHER_URL)
    same = Victim(plan_of(1)[0], URL)
    found = [plan_of(number, 3, URL, (victim, same))[1] for number in range(1_000)]
    told = [plan for plan in found if plan.parcels]
    early = [plan for plan in told if plan.before_answer]
    assert len(early) / len(told) == pytest.approx(hostile.OF_MESSAGES["early"], rel=0.4)
    assert all(parcel.offset == 0 for plan in early for parcel in plan.parcels)
    forged = [t for plan in told for p in plan.parcels for t in p.tellings if t.kind is Kind.FORGED]
    assert len(forged) / len(told) == pytest.approx(hostile.OF_MESSAGES["forged"], rel=0.5)
    for telling in forged:
        [claim] = read(telling.plain(), SOURCE).receipts
        assert (claim.transid, claim.destination) == (victim.message.transid, victim.message.destination)
    assert not [t for t in plan_of(5, 3, URL, (same,))[1].troubles if t == "forged"]
