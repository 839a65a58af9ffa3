"""What we send to the platform, and how each of its answers is understood."""

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.platform.wire import (
    LONGEST_TEXT,
    Answer,
    AnswerItem,
    Outcome,
    Recipient,
    messaging_answer,
    messaging_body,
)
from tests.receipts.reading import sample

QUEUED = {"code": "1001", "transid": "t-1", "description": "Queued"}


def answer(response: Any, status: int = 200) -> Answer:
    return messaging_answer(status, json.dumps({"response": response}).encode())


# What is sent


def test_every_recipient_gets_an_entry_with_our_id_and_our_notifyurl() -> None:
    content = json.dumps({"deliverychannel": "sms", "destination": [{"msisdn": ["1"]}], "notifyurl": "theirs"}).encode()
    first, second = (UUID(int=n) for n in (1, 2))
    recipients = [Recipient(first, "msisdn", "447700900001"), Recipient(second, "email", "x@example.com")]
    assert json.loads(messaging_body(content, recipients, "https://ours.example/notify/t")) == {
        "deliverychannel": "sms",
        "destination": [
            {"msisdn": ["447700900001"], "correlationid": "00000000-0000-0000-0000-000000000001"},
            {"email": ["x@example.com"], "correlationid": "00000000-0000-0000-0000-000000000002"},
        ],
        "notifyurl": "https://ours.example/notify/t",
    }


# The documented answers


def test_queued_is_accepted_with_its_transid() -> None:
    read = messaging_answer(200, sample("messaging-queued", "answers"))
    item = AnswerItem("1001", "3f09295d-9eb3-4c9e-8ee8-a3272e5f00c1", "Queued")
    assert read == Answer(Outcome.ACCEPTED, (item,), 200)
    assert read.code == "1001"


@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_a_refused_key_is_the_trouble_of_the_lane_under_any_http_status(status: int) -> None:
    read = messaging_answer(status, sample("messaging-authentication-failed-http-200", "answers"))
    item = AnswerItem("7001", "7670c9a8-131f-4166-ac30-17f6109340d6", "Authentication failed.")
    assert read == Answer(Outcome.LATER, (item,), status, "Authentication failed.")


@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_refused_body_is_refused_under_any_http_status(status: int) -> None:
    read = messaging_answer(status, sample("messaging-invalid-json-http-200", "answers"))
    item = AnswerItem("7000", "2b2c0bfb-4396-444a-880d-44ee007c130f", "Invalid JSON")
    assert read == Answer(Outcome.REFUSED, (item,), status, "Invalid JSON")


@pytest.mark.parametrize("name", ["campaign-accepted", "campaign-refused", "transaction-status"])
def test_the_answer_of_another_api_is_no_answer_of_this_one(name: str) -> None:
    read = messaging_answer(200, sample(name, "answers"))
    assert (read.outcome, read.items) == (Outcome.UNCERTAIN, ())


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("1001", Outcome.ACCEPTED),
        ("7000", Outcome.REFUSED),
        ("7001", Outcome.LATER),
        ("7002", Outcome.LATER),
        ("7003", Outcome.REFUSED),
        ("7004", Outcome.REFUSED),
        ("7005", Outcome.REFUSED),
        ("7006", Outcome.LATER),
        ("7007", Outcome.LATER),
        ("7009", Outcome.REFUSED),
        ("7020", Outcome.LATER),
        ("4242", Outcome.REFUSED),
        ("1002", Outcome.REFUSED),
    ],
)
def test_the_code_decides(code: str, outcome: Outcome) -> None:
    assert answer({"code": code}).outcome is outcome
    assert answer([{"code": code}], 500).outcome is outcome
    assert answer({"code": int(code)}).outcome is outcome


# Odd answers


def test_numbers_are_taken_where_texts_are_expected() -> None:
    assert answer([{"code": 1001, "transid": 5, "description": 7}]).items == (AnswerItem("1001", "5", "7"),)


def test_an_array_with_mixed_codes_is_accepted_and_keeps_each_item_in_order() -> None:
    read = answer([{"code": "7004", "description": "Invalid"}, QUEUED])
    assert read.outcome is Outcome.ACCEPTED
    assert [item.code for item in read.items] == ["7004", "1001"]
    assert read.code == "7004"


def test_an_array_of_refusals_is_judged_by_its_first() -> None:
    assert answer([{"code": "7004", "description": "a"}, {"code": "7006"}]).outcome is Outcome.REFUSED
    assert answer([{"code": "7006"}, {"code": "7004"}]).outcome is Outcome.LATER


@pytest.mark.parametrize("response", [[], {}, None, "1001", 1001, [None], [[QUEUED]], {"code": ""}, {"code": None}])
def test_an_envelope_without_a_code_leaves_it_uncertain(response: Any) -> None:
    assert answer(response).outcome is Outcome.UNCERTAIN
    assert answer(response).items == ()


@pytest.mark.parametrize("code", [True, 1001.5, ["1001"], {"code": "1001"}])
def test_what_is_neither_a_text_nor_a_number_is_no_code(code: Any) -> None:
    assert answer({"code": code}).outcome is Outcome.UNCERTAIN


def test_an_entry_that_says_nothing_keeps_its_place() -> None:
    assert [item.transid for item in answer([QUEUED, {}, 5, QUEUED]).items] == ["t-1", None, None, "t-1"]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.UNCERTAIN),
        (201, Outcome.UNCERTAIN),
        (302, Outcome.UNCERTAIN),
        (400, Outcome.REFUSED),
        (401, Outcome.LATER),
        (403, Outcome.LATER),
        (404, Outcome.LATER),
        (413, Outcome.REFUSED),
        (429, Outcome.LATER),
        (500, Outcome.UNCERTAIN),
        (502, Outcome.UNCERTAIN),
        (503, Outcome.UNCERTAIN),
        (504, Outcome.UNCERTAIN),
    ],
)
@pytest.mark.parametrize(
    "body", [b"", b"<html>Bad Gateway</html>", b"\xff\x00", b"[" * 20_000, b"null", b'{"code":"7001"}']
)
def test_without_a_code_the_http_status_decides(status: int, outcome: Outcome, body: bytes) -> None:
    read = messaging_answer(status, body)
    assert read.outcome is outcome
    assert read.http_status == status
    assert (read.description or "").startswith(f"HTTP {status} without a code")
    assert "\0" not in (read.description or "")


def test_a_refusal_without_a_code_bears_the_http_status_as_one() -> None:
    assert messaging_answer(413, b"").code == "HTTP 413"
    assert messaging_answer(401, b"").code is None


def test_texts_of_an_answer_are_bounded_and_hold_no_nul() -> None:
    (item,) = answer({"code": "70\x0004", "transid": "x" * 10_000, "description": " a\0b "}).items
    assert item == AnswerItem("70\ufffd04", "x" * LONGEST_TEXT, "a\ufffdb")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["1001", "7006"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["response", "code", "transid", "description"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.integers(100, 599), st.one_of(st.binary(), JSON.map(lambda value: json.dumps(value).encode())))
@settings(max_examples=300, deadline=None)
def test_reading_an_answer_never_raises_and_its_texts_can_be_stored(status: int, body: bytes) -> None:
    read = messaging_answer(status, body)
    texts = [read.description, *(text for i in read.items for text in (i.code, i.transid, i.description))]
    for text in filter(None, texts):
        assert "\0" not in text
        text.encode()
    assert (read.outcome is Outcome.ACCEPTED) == any(item.code == "1001" for item in read.items)
