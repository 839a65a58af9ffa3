"""What we send to Messaging v1, and how each of its answers is understood."""

import json
from typing import Any
from uuid import UUID

import pytest

from receiver.platform.apis import Api
from receiver.platform.calls import answer_of, call_of
from receiver.platform.wire import LONGEST_TEXT, Answer, AnswerItem, Outcome, Recipient, Trouble
from tests.receipts.reading import sample

QUEUED = {"code": "1001", "transid": "t-1", "description": "Queued"}


def read_v1(status: int, body: bytes) -> Answer:
    return answer_of(Api.MESSAGING, status, body)


def answer(response: Any, status: int = 200) -> Answer:
    return read_v1(status, json.dumps({"response": response}).encode())


# What is sent


def test_every_recipient_gets_an_entry_with_our_id_and_our_notifyurl() -> None:
    content = json.dumps({"deliverychannel": "sms", "destination": [{"msisdn": ["1"]}], "notifyurl": "theirs"}).encode()
    first, second = (UUID(int=n) for n in (1, 2))
    recipients = [Recipient(first, "msisdn", "447700900001"), Recipient(second, "email", "x@example.com")]
    call = call_of(Api.MESSAGING, content, recipients, "https://ours.example/notify/t")
    assert call.path == "/resources/v1/messaging"
    assert json.loads(call.body) == {
        "deliverychannel": "sms",
        "destination": [
            {"msisdn": ["447700900001"], "correlationid": "00000000-0000-0000-0000-000000000001"},
            {"email": ["x@example.com"], "correlationid": "00000000-0000-0000-0000-000000000002"},
        ],
        "notifyurl": "https://ours.example/notify/t",
    }


# The documented answers


def test_queued_is_accepted_with_its_transid() -> None:
    read = read_v1(200, sample("messaging-queued", "answers"))
    item = AnswerItem("1001", "3f09295d-9eb3-4c9e-8ee8-a3272e5f00c1", "Queued")
    assert read == Answer(Outcome.ACCEPTED, (item,), 200, raw=sample("messaging-queued", "answers"))
    assert read.code == "1001"


@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_a_refused_key_is_the_trouble_of_the_lane_under_any_http_status(status: int) -> None:
    body = sample("messaging-authentication-failed-http-200", "answers")
    read = read_v1(status, body)
    item = AnswerItem("7001", "7670c9a8-131f-4166-ac30-17f6109340d6", "Authentication failed.")
    assert read == Answer(Outcome.LATER, (item,), status, "Authentication failed.", Trouble.CREDENTIALS, raw=body)


@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_refused_body_is_refused_under_any_http_status(status: int) -> None:
    body = sample("messaging-invalid-json-http-200", "answers")
    read = read_v1(status, body)
    item = AnswerItem("7000", "2b2c0bfb-4396-444a-880d-44ee007c130f", "Invalid JSON")
    assert read == Answer(Outcome.REFUSED, (item,), status, "Invalid JSON", raw=body)


@pytest.mark.parametrize("name", ["campaign-accepted", "campaign-refused", "transaction-status"])
def test_the_answer_of_another_api_is_no_answer_of_this_one(name: str) -> None:
    read = read_v1(200, sample(name, "answers"))
    assert (read.outcome, read.items) == (Outcome.UNCERTAIN, ())


CODES = {
    "1001": (Outcome.ACCEPTED, None),
    "7000": (Outcome.REFUSED, None),
    "7001": (Outcome.LATER, Trouble.CREDENTIALS),
    "7002": (Outcome.LATER, Trouble.CREDENTIALS),
    "7003": (Outcome.REFUSED, None),
    "7004": (Outcome.REFUSED, None),
    "7005": (Outcome.REFUSED, None),
    "7006": (Outcome.LATER, Trouble.FAULT),
    "7007": (Outcome.LATER, Trouble.CREDENTIALS),
    "7009": (Outcome.REFUSED, None),
    "7020": (Outcome.LATER, Trouble.THROTTLED),
    "4242": (Outcome.REFUSED, None),
    "1002": (Outcome.UNCERTAIN, None),  # queued, in the words of another API
    "1003": (Outcome.UNCERTAIN, None),  # in no table, and it may be another kind of queued
}


@pytest.mark.parametrize("code", CODES)
def test_the_code_decides(code: str) -> None:
    for read in (answer({"code": code}), answer([{"code": code}], 500), answer({"code": int(code)}, 429)):
        assert (read.outcome, read.trouble) == CODES[code]


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


@pytest.mark.parametrize("first", ["7006", "7004"])
@pytest.mark.parametrize("other", [{}, {"code": "1002"}])
def test_what_is_tried_again_or_refused_was_surely_not_taken_for_any_recipient(first: str, other: Any) -> None:
    read = answer([{"code": first}, other])
    assert (read.outcome, read.trouble) == (Outcome.UNCERTAIN, None)


@pytest.mark.parametrize("response", [[], {}, None, "1001", 1001, [None], [[QUEUED]], {"code": ""}, {"code": None}])
def test_an_envelope_without_a_code_leaves_it_uncertain(response: Any) -> None:
    assert answer(response).outcome is Outcome.UNCERTAIN
    assert answer(response).items == ()


@pytest.mark.parametrize("code", [True, 1001.5, ["1001"], {"code": "1001"}])
def test_what_is_neither_a_text_nor_a_number_is_no_code(code: Any) -> None:
    assert answer({"code": code}).outcome is Outcome.UNCERTAIN


@pytest.mark.parametrize(
    "body",
    [
        b'\xef\xbb\xbf{"response":{"code":"7001","description":"no"}}',
        b'{"response":{"code":"7001","description":"refus\xe9"}}',
        b'{"response":{"code":"7001","description":"a\nb"}}',
        b'{"response":{"code":"7001","description":"\\ud83d"}}',
    ],
)
def test_what_json_forbids_hides_no_code(body: bytes) -> None:
    read = answer_of(Api.MESSAGING, 200, body)
    assert (read.outcome, read.trouble, read.code) == (Outcome.LATER, Trouble.CREDENTIALS, "7001")
    assert (read.description or "").encode("utf-8")


def test_an_entry_that_says_nothing_keeps_its_place() -> None:
    assert [item.transid for item in answer([QUEUED, {}, 5, QUEUED]).items] == ["t-1", None, None, "t-1"]


STATUSES = {
    200: (Outcome.UNCERTAIN, None),
    201: (Outcome.UNCERTAIN, None),
    302: (Outcome.UNCERTAIN, None),
    307: (Outcome.LATER, Trouble.UNREACHABLE),
    400: (Outcome.REFUSED, None),
    401: (Outcome.LATER, Trouble.CREDENTIALS),
    403: (Outcome.LATER, Trouble.CREDENTIALS),
    404: (Outcome.LATER, Trouble.UNREACHABLE),
    405: (Outcome.LATER, Trouble.UNREACHABLE),
    408: (Outcome.LATER, Trouble.UNREACHABLE),
    413: (Outcome.REFUSED, None),
    429: (Outcome.LATER, Trouble.THROTTLED),
    500: (Outcome.UNCERTAIN, None),
    502: (Outcome.UNCERTAIN, None),
    503: (Outcome.UNCERTAIN, None),
    504: (Outcome.UNCERTAIN, None),
}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Bad Gateway</html>",
        b"\xff\x00",
        b"[" * 20_000,
        b"null",
        b'{"code":"7001"}',
        b'{"response":{"code":' + b"1" * 5_000 + b"}}",
    ],
)
def test_without_a_code_the_http_status_decides(status: int, body: bytes) -> None:
    read = read_v1(status, body)
    assert (read.outcome, read.trouble) == STATUSES[status]
    assert (read.http_status, read.raw) == (status, body)
    assert (read.description or "").startswith(f"HTTP {status} without a code")
    assert "\0" not in (read.description or "")


def test_a_refusal_without_a_code_bears_the_http_status_as_one() -> None:
    assert read_v1(413, b"").code == "HTTP 413"
    assert read_v1(401, b"").code is None


def test_texts_of_an_answer_are_bounded_and_hold_no_nul() -> None:
    (item,) = answer({"code": "70\x0004", "transid": "x" * 10_000, "description": " a\0b "}).items
    assert item == AnswerItem("70\ufffd04", "x" * LONGEST_TEXT, "a\ufffdb")
