"""Whose an entry of the transaction status is, and which receipt it makes."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from receiver.ids import MessageId, SubmissionId, TenantId, destination_digest, new_id
from receiver.messages.lattice import Channel, Fact, State, clash, reason_key
from receiver.messages.told import Told
from receiver.platform.codes import Class
from receiver.platform.status import Entry, answer_of
from receiver.receipts.polled import Known, read, receipts_of
from receiver.receipts.receipt import read as read_pushed
from receiver.receipts.texts import Source

HEARD = datetime(2026, 3, 1, 12, tzinfo=UTC)
SOURCE = Source(TenantId(1), None, HEARD)
ISSUED, OBSERVED, RECORDED = 1, 2, 3


def known(destination: str, transid: str = "t-1", origin: int = ISSUED, **more: Any) -> Known:
    submission = None if origin == OBSERVED else SubmissionId(new_id())
    channel = more.pop("channel", Channel.SMS)
    key = destination_digest(destination)
    return Known(MessageId(new_id()), origin, submission, channel, destination, key, transid, **more)


def entry(to: str = "447700900001", status: str = "delivered", transid: str = "t-1", **more: str) -> Entry:
    said = {"transactionid": transid, "channel": "SMS", "to": to, "status": status, **more}
    [made] = answer_of(200, json.dumps([said]).encode()).entries
    return made


def whose(transid: str, entries: list[Entry], of: list[Known]) -> tuple[list[int | None], int]:
    """The place in `of` of the message of each entry that was joined, and how many were not."""
    joined, dropped = receipts_of(transid, entries, of, SOURCE)
    return [of.index(one.message) for one in joined], dropped


def told(made: Entry, of: Known | None = None, source: Source = SOURCE) -> Told:
    [one], dropped = receipts_of("t-1", [made], [of or known("447700900001")], source)
    assert dropped == 0
    return one.told


@pytest.mark.parametrize("to", ["+44 7700 900001", "tel:447700900001", "07700900001", "+", "customer-1", ""])
def test_one_entry_is_of_the_one_message_however_its_recipient_is_spelled(to: str) -> None:
    for origin in (ISSUED, RECORDED):
        assert whose("t-1", [entry(to)], [known("447700900001", origin=origin)]) == ([0], 0)


def test_another_phone_number_than_the_recorded_one_is_another_s() -> None:
    other = entry("447700999999")
    assert whose("t-1", [other], [known("447700900001", origin=RECORDED)]) == ([], 1)
    assert whose("t-1", [other], [known("447700900001", origin=ISSUED)]) == ([0], 0), "of what we sent all is known"


def test_a_customer_who_resolved_to_two_numbers_is_one_message() -> None:
    customer = known("customer-7")
    assert whose("t-1", [entry("447700900001"), entry("447700900002")], [customer]) == ([0, 0], 0)


def test_of_several_messages_under_one_transid_each_gets_its_own_recipient_s_entry() -> None:
    three = [known(f"44770090000{n}") for n in range(3)]
    entries = [entry("+447700900002"), entry("00447700900000"), entry("447700900001"), entry("447700999999")]
    assert whose("t-1", entries, three) == ([2, 0, 1], 1)


def test_a_recipient_beside_one_s_own_is_another_s() -> None:
    own, another = entry("447700900001"), entry("447700900002")
    for origin in (ISSUED, RECORDED, OBSERVED):
        assert whose("t-1", [own, another], [known("447700900001", origin=origin)]) == ([0], 1)


def test_of_a_recorded_message_others_of_its_call_may_not_have_been_recorded() -> None:
    several = [entry("447700900001"), entry("447700900002")]
    assert whose("t-1", several, [known("customer-1", origin=RECORDED)]) == ([], 2)
    assert whose("t-1", several[:1], [known("customer-1", origin=RECORDED)]) == ([0], 0)


def test_a_customer_s_number_that_a_receipt_has_told_before_tells_whose_an_entry_is() -> None:
    number = frozenset([destination_digest("447700900002")])
    both = [known("customer-1"), known("customer-2", told=number)]
    assert whose("t-1", [entry("+447700900002"), entry("447700900001")], both) == ([1], 1)
    assert whose("t-1", [entry("+447700900002")], [both[0], known("customer-3", told=number), both[1]]) == ([], 1)


def test_an_entry_without_a_recipient_among_several_is_nobody_s() -> None:
    assert whose("t-1", [entry(""), entry("447700900001")], [known("447700900001")]) == ([0], 1)
    assert whose("t-1", [entry("")], [known("447700900001"), known("447700900002")]) == ([], 1)


def test_suffixed_transids_of_one_request_are_told_apart() -> None:
    both = [known("customer-1", "t-1_0"), known("customer-2", "t-1_1")]
    assert whose("t-1_0", [entry(transid="t-1_0")], both) == ([0], 0)
    assert whose("t-1_0", [entry(transid="T-1_1"), entry(transid="t-1_0")], both) == ([1, 0], 0)
    assert whose("t-1_0", [entry(transid="t-1_2")], both) == ([], 1)


def test_the_request_s_transid_stands_for_the_one_that_was_asked_about() -> None:
    mine, other = known("447700900001", "t-1_0"), known("447700900002", "t-1_1")
    assert whose("t-1_0", [entry(transid="t-1")], [mine, other]) == ([0], 0)
    assert whose("t-1_0", [entry("447700900002", transid="t-1")], [mine, other]) == ([], 1)
    assert whose("t-1", [entry(transid="t-1_10977_22757")], [known("447700900001")]) == ([0], 0)


def test_an_entry_of_another_transid_is_nobody_s() -> None:
    assert whose("t-1", [entry(transid="t-2")], [known("447700900001")]) == ([], 1)
    assert whose("t-1", [entry(transid="")], [known("447700900001")]) == ([0], 0)


def test_of_an_observed_message_the_recipient_must_be_the_same() -> None:
    seen = known("447700900001", origin=OBSERVED)
    assert whose("t-1", [entry("+447700900001")], [seen]) == ([0], 0)
    assert whose("t-1", [entry("")], [seen]) == ([0], 0)
    assert whose("t-1", [entry("447700900002")], [seen]) == ([], 1)
    assert whose("t-1", [entry("447700900002"), entry("447700900001")], [seen]) == ([0], 1)


def test_messages_of_one_flow_to_one_recipient_are_told_apart_by_their_channel_or_not_at_all() -> None:
    sms = known("447700900001", origin=OBSERVED, is_child=True)
    voice = known("447700900001", origin=OBSERVED, is_child=True, channel=Channel.VOICE)
    called = replace(entry(), channel="voice")
    assert whose("t-1", [called], [sms, voice]) == ([1], 0)
    assert whose("t-1", [called], [sms]) == ([], 1)
    assert whose("t-1", [entry(), entry()], [sms, known("447700900001", origin=OBSERVED)]) == ([], 2)


def test_another_message_of_a_flow_to_the_same_recipient_of_which_nobody_told_lends_an_observed_one_no_fact() -> None:
    both = [entry(status="sent"), entry(status="delivered")]
    for is_child in (True, False):
        assert whose("t-1", both, [known("447700900001", origin=OBSERVED, is_child=is_child)]) == ([], 2)
    fallback = [replace(entry(status="failed"), channel="rcs"), entry()]
    assert whose("t-1", fallback, [known("447700900001", origin=OBSERVED)]) == ([0, 0], 0)
    assert whose("t-1", both, [known("447700900001")]) == ([0, 0], 0), "of what we sent all is known"


def test_an_entry_says_what_a_pushed_receipt_of_the_same_words_says() -> None:
    times = {"date_created": "Mon, 16 Aug 2010 03:45:01 UTC", "last_updated": "Mon, 16 Aug 2010 03:45:03 UTC"}
    polled = told(entry(status="expired", error_code="7208", error_message="late", **times))
    info = {"deliveryStatus": "expired", "deliveryChannel": "SMS", "code": "7208", "description": "late",
            "destination": "447700900001", "timeStamp": "2010-08-16T03:45:03Z"}  # fmt: skip
    notification = {"deliveryInfoNotification": {"deliveryInfo": info, "transid": "t-1"}}
    [pushed] = read_pushed(json.dumps(notification).encode(), SOURCE).receipts
    of_its_own = {"submission_id", "candidate", "fresh", "fingerprint", "reason_key", "raw"}
    same = [name for name in Told._fields if name not in of_its_own]
    assert [getattr(polled, name) for name in same] == [getattr(pushed, name) for name in same]
    assert (polled.reason_key or b"")[:3] == (pushed.reason_key or b"")[:3]


def test_failed_is_undelivered_where_the_channel_knows_that_word_with_its_reason() -> None:
    polled = told(entry(status="failed", error_code="7207"))
    assert (polled.fact, polled.rank, polled.status) == (Fact.UNDELIVERED, State.UNDELIVERED, "failed")
    assert polled.clash == clash(Channel.SMS, Fact.UNDELIVERED)
    assert polled.reason_key == reason_key(Fact.UNDELIVERED, True, True, polled.fingerprint)
    assert polled.reason_class == Class.TEMPORARY
    polled = told(replace(entry(status="failed"), channel="whatsapp"), known("447700900001", channel=Channel.WHATSAPP))
    assert (polled.fact, polled.rank) == (Fact.FAILED, State.FAILED)


@pytest.mark.parametrize(
    ("created", "updated", "at"),
    [
        ("Mon, 16 Aug 2010 03:45:01 UTC", "Mon, 16 Aug 2010 03:45:03 UTC", datetime(2010, 8, 16, 3, 45, 3, tzinfo=UTC)),
        ("Mon, 16 Aug 2010 03:45:09 UTC", "Mon, 16 Aug 2010 03:45:03 UTC", datetime(2010, 8, 16, 3, 45, 9, tzinfo=UTC)),
        ("yesterday", "2010-08-16 03:45:03", datetime(2010, 8, 16, 7, 45, 3, tzinfo=UTC)),
        ("Mon, 16 Aug 2010 03:45:01 UTC", "", None),
        ("", "never", None),
    ],
)
def test_it_happened_at_its_last_change_and_not_before_it_was_created(
    created: str, updated: str, at: datetime | None
) -> None:
    zone = SOURCE._replace(zone=ZoneInfo("America/New_York"))
    assert told(entry(date_created=created, last_updated=updated), source=zone).told_at == at


def test_the_same_answer_again_is_the_same_receipt_and_a_changed_one_is_not() -> None:
    base = entry(status="failed", error_code="7207", error_message="x", last_updated="2010-08-16 03:45:03")
    first = told(base).fingerprint
    assert told(replace(base, last_updated="2010-08-16 04:45:03", date_created="2010-08-16")).fingerprint == first
    for change in ({"status": "sent"}, {"to": "447700900002"}, {"channel": "voice"}, {"error_code": "7208"},
                   {"error_message": "y"}, {"transid": "T-1"}):  # fmt: skip
        assert told(replace(base, **change)).fingerprint != first, change  # type: ignore[arg-type]
    assert len(first) == 16


@pytest.mark.parametrize("said", [{}, {"to": ""}, {"channel": ""}, {"transactionid": ""}], ids=str)
def test_a_receipt_is_read_again_from_its_own_bytes(said: dict[str, str]) -> None:
    made = entry(**{"status": "failed", "error_code": "7207", **said})
    stored = told(made, known("447700900001", origin=RECORDED))
    [again] = read(stored.raw, SOURCE)
    of_the_join = {"submission_id", "candidate", "fresh"}
    same = [name for name in Told._fields if name not in of_the_join]
    assert [getattr(again, name) for name in same] == [getattr(stored, name) for name in same]
    assert (stored.channel, stored.destination, stored.transid) == (Channel.SMS, "447700900001", "t-1")


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"deliveryInfoNotification": {}}', b"\xff"])
def test_other_bytes_are_no_answer(raw: bytes) -> None:
    assert read(raw, SOURCE) == []
