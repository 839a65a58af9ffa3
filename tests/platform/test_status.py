"""What the transaction status says, read from whatever the platform may answer."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.messages.lattice import Channel, Fact
from receiver.platform.status import (
    LARGEST_KEPT,
    MOST_ENTRIES,
    Entry,
    Result,
    answer_of,
    entry_of,
    fact_of_status,
    path_of,
)
from receiver.platform.wire import LONGEST_TEXT

SAMPLE = Path(__file__).parent.parent / "samples/answers/transaction-status.json"
DOCUMENTED = {
    "transactionid": "t-1",
    "channel": "SMS",
    "from": "VM-CONNECT",
    "to": "447700900001",
    "status": "failed",
    "date_created": "Mon, 16 Aug 2010 03:45:01 UTC",
    "last_updated": "Mon, 16 Aug 2010 03:45:03 UTC",
    "error_code": "7207",
    "error_message": "out of coverage",
}


def body(value: object) -> bytes:
    return json.dumps(value).encode()


def one(value: dict[str, Any]) -> Entry:
    """The entry of an answer that holds it alone."""
    answer = answer_of(200, body([value]))
    assert answer.result is Result.ANSWERED
    [entry] = answer.entries
    return entry


def test_the_documented_answer_is_read() -> None:
    [entry] = answer_of(200, SAMPLE.read_bytes()).entries
    assert (entry.transid, entry.channel, entry.to) == ("8026899a-bed4-4ea4-b1cd-eef98829dbd1", "SMS", "447700900001")
    assert (entry.status, entry.error_code, entry.error_message) == ("delivered", "", "")
    assert (entry.date_created, entry.last_updated) == (
        "Mon, 16 Aug 2010 03:45:01 UTC",
        "Mon, 16 Aug 2010 03:45:03 UTC",
    )


def test_what_was_sent_is_not_kept_with_the_answer() -> None:
    [entry] = answer_of(200, SAMPLE.read_bytes()).entries
    assert b"request JSON" not in entry.raw
    assert json.loads(entry.raw)["clientid"] == "412"
    assert b"secret" not in one({**DOCUMENTED, "Body": {"text": "secret"}}).raw


def test_an_entry_keeps_its_own_bytes() -> None:
    first, second = b'{ "status":"sent", "to" : "1" }', b'{"status":"delivered","to":"2","x":1.50}'
    answer = answer_of(200, b"[" + first + b", " + second + b"]")
    assert [entry.raw for entry in answer.entries] == [first, second]


def test_an_entry_too_large_is_kept_by_its_known_fields() -> None:
    entry = one({**DOCUMENTED, "novel": "x" * LARGEST_KEPT})
    assert len(entry.raw) < LARGEST_KEPT
    assert json.loads(entry.raw) == {k: v for k, v in DOCUMENTED.items() if k != "from"}


@pytest.mark.parametrize("wrapped", [
    DOCUMENTED,
    [DOCUMENTED],
    {"response": [DOCUMENTED]},
    {"response": DOCUMENTED},
    [{"transactionId": "t-1", "Channel": "SMS", "TO": 447700900001, "STATUS": "failed", "errorCode": 7207,
      "errorMessage": "out of coverage"}],
    [{"transid": " t-1 ", "channel": "SMS", "destination": 447700900001.0, "status": "failed", "error-code": 7207.0,
      "error_message": "out of coverage"}],
], ids=["bare", "list", "envelope of a list", "envelope", "other spellings", "other names"])  # fmt: skip
def test_the_answer_is_read_however_it_is_wrapped_and_spelled(wrapped: object) -> None:
    [entry] = answer_of(200, body(wrapped)).entries
    assert (entry.transid, entry.to, entry.status) == ("t-1", "447700900001", "failed")
    assert (entry.error_code, entry.error_message) == ("7207", "out of coverage")


@pytest.mark.parametrize("code", ["7020", 7020], ids=["text", "number"])
@pytest.mark.parametrize("status", [200, 400, 429])
def test_a_throttled_answer_is_known_by_its_code_whatever_its_http_status(status: int, code: object) -> None:
    answer = answer_of(status, body({"response": {"code": code, "description": "max"}}), "7")
    assert (answer.result, answer.retry_after) == (Result.THROTTLED, 7.0)


@pytest.mark.parametrize(
    ("status", "said", "result"),
    [
        (429, b"<html>slow down</html>", Result.THROTTLED),
        (200, body({"response": [{"code": "7020"}]}), Result.THROTTLED),
        (429, body({"code": "7020", "message": "max"}), Result.THROTTLED),
        (200, body({"response": {"code": "7001", "description": "Authentication failed."}}), Result.REFUSED),
        (400, body({"response": {"code": "7002"}}), Result.REFUSED),
        (200, body({"response": {"code": "7007"}}), Result.REFUSED),
        (401, b"", Result.REFUSED),
        (403, b"no", Result.REFUSED),
        (200, b"[]", Result.UNKNOWN),
        (200, body({"response": []}), Result.UNKNOWN),
        (404, b"<html>", Result.UNKNOWN),
        (404, body({"response": {"code": "7001"}}), Result.REFUSED),
        (400, b"", Result.UNKNOWN),
        (410, b"gone", Result.UNKNOWN),
        (422, b"{}", Result.UNKNOWN),
        (400, body({"response": {"code": "7004", "description": "Invalid parameters"}}), Result.UNKNOWN),
        (200, body({"response": {"code": "7003"}}), Result.UNKNOWN),
        (400, body({"response": {"code": "7006"}}), Result.FAULT),
        (200, body({"response": {"code": "7006"}}), Result.FAULT),
        (500, b"", Result.FAULT),
        (503, body([DOCUMENTED]), Result.FAULT),
        (302, b"", Result.FAULT),
        (200, b"", Result.FAULT),
        (200, b"OK", Result.FAULT),
        (200, b"{}", Result.FAULT),
        (200, b"null", Result.FAULT),
        (200, b'["delivered"]', Result.FAULT),
        (200, body([{"transactionid": "t-1", "status": ""}]), Result.FAULT),
        (200, body([DOCUMENTED])[:-10], Result.FAULT),
        (200, b"[" * 100_000, Result.FAULT),
        (200, b"[" + b'{"status":"sent"},' * MOST_ENTRIES + b'{"status":"sent"}]', Result.FAULT),
    ],
)
def test_each_trouble_is_told_from_the_others(status: int, said: bytes, result: Result) -> None:
    answer = answer_of(status, said)
    assert (answer.result, answer.entries) == (result, ())


def test_of_an_answer_all_entries_that_can_be_read_are_read() -> None:
    answer = answer_of(200, body([1, DOCUMENTED, {"nothing": 1}, None, {**DOCUMENTED, "to": "2"}]))
    assert [entry.to for entry in answer.entries] == ["447700900001", "2"]


def test_what_is_nested_as_deep_as_can_be_read_is_no_fault_of_the_reader() -> None:
    read = 0
    for depth in range(900, 1000):  # somewhere there what can be read can't be written any more
        nested = b"[" * depth + b"]" * depth
        answer = answer_of(200, b'[{"status":"delivered","to":"1","body":"secret","x":' + nested + b"}]")
        read += len(answer.entries)
        for entry in answer.entries:
            again = entry_of(entry.raw)
            assert again is not None
            assert (again.status, again.to) == ("delivered", "1")
            assert b"secret" not in entry.raw
    assert 0 < read < 100


def test_only_a_list_shows_that_what_answered_knows_the_question() -> None:
    assert answer_of(200, b"[]").is_list
    assert answer_of(200, body([DOCUMENTED])).is_list
    assert not answer_of(404, b"[]").is_list
    assert not answer_of(200, body({"response": {"code": "7004"}})).is_list


def test_texts_are_such_that_postgres_can_hold_them() -> None:
    raw = b'[{"status":"fai\\u0000led","to":"\\ud800 1","error_message":"' + b"x" * 1000 + b'","transactionid":"a\nb"}]'
    [entry] = answer_of(200, raw).entries
    assert (entry.status, entry.to, entry.transid) == ("fai\ufffdled", "? 1", "a\nb")
    assert len(entry.error_message) == LONGEST_TEXT
    entry.to.encode()


def test_an_error_code_of_zero_says_that_there_is_none() -> None:
    assert one({**DOCUMENTED, "status": "delivered", "error_code": 0}).error_code == ""


def test_what_an_entry_leaves_out_stands_in_its_bytes_too() -> None:
    short = one({"status": "delivered", "error_code": "7207"})
    whole = short.with_what_we_asked_for("t-9", "sms", "447700900009")
    assert (whole.transid, whole.channel, whole.to) == ("t-9", "sms", "447700900009")
    assert entry_of(whole.raw) == whole
    full = one(DOCUMENTED)
    assert full.with_what_we_asked_for("t-9", "voice", "1") is full


@pytest.mark.parametrize(
    ("channel", "status", "fact"),
    [
        (Channel.SMS, "queued", Fact.ACCEPTED),
        (Channel.SMS, "sent", Fact.SUBMITTED),
        (Channel.SMS, "delivered", Fact.DELIVERED),
        (Channel.SMS, "expired", Fact.UNDELIVERED),
        (Channel.SMS, "failed", Fact.UNDELIVERED),
        (Channel.SMS, "Failed", Fact.UNDELIVERED),
        (Channel.OTHER, "failed", Fact.UNDELIVERED),
        (Channel.VOICE, "failed", Fact.UNDELIVERED),
        (Channel.WHATSAPP, "failed", Fact.FAILED),
        (Channel.EMAIL, "failed", Fact.FAILED),
        (Channel.MMS, "failed", Fact.FAILED),
        (Channel.VOICE, "queued", Fact.ACCEPTED),
        (Channel.VOICE, "sent", Fact.SUBMITTED),
        (Channel.VOICE, "answered", Fact.DELIVERED),
        (Channel.VOICE, "no answer", Fact.UNDELIVERED),
        (Channel.VOICE, "rejected", Fact.UNDELIVERED),
        (Channel.VOICE, "busy", Fact.UNDELIVERED),
        (Channel.VOICE, "others", Fact.ENDED),
        (Channel.SMS, "teleported", Fact.UNKNOWN),
        (Channel.SMS, "", Fact.UNKNOWN),
    ],
)
def test_each_status_proves_what_the_same_word_proves_in_a_receipt_but_for_failed_and_others(
    channel: Channel, status: str, fact: Fact
) -> None:
    assert fact_of_status(channel, status) is fact


def test_a_transid_is_quoted_whatever_is_in_it() -> None:
    assert path_of("3f09-ä_0") == "/resources/v1/messaging/status/3f09-%C3%A4_0"
    assert path_of("../a?b#c d\n") == "/resources/v1/messaging/status/..%2Fa%3Fb%23c%20d%0A"
    assert path_of("\ud800") == "/resources/v1/messaging/status/%3F"


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from([*DOCUMENTED, "response", "code", "body", "x"]) | st.text(), inner, max_size=6
        )
    ),
    max_leaves=12,
)


@given(st.integers(100, 599), st.binary() | JSON.map(body), st.none() | st.text(max_size=20))
def test_no_answer_breaks_the_reader_and_what_it_reads_is_read_again_from_its_bytes(
    status: int, said: bytes, retry_after: str | None
) -> None:
    answer = answer_of(status, said, retry_after)
    assert bool(answer.entries) == (answer.result is Result.ANSWERED)
    for entry in answer.entries:
        assert entry_of(entry.raw) == entry
        whole = entry.with_what_we_asked_for("t", "sms", "1")
        again = entry_of(whole.raw)
        assert again == whole
        assert "\0" not in "".join(str(text) for name, text in vars(whole).items() if name != "raw")
