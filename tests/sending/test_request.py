"""What a client may ask: every broken rule is named, nothing that is JSON makes the check fail."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.sending.request import ID_TYPES, Request, check
from receiver.web import FieldError
from tests.sending.platforms import sms

NUMBER = "447700900001"


def broken(body: Any) -> dict[str, str]:
    """Pointer and code of each broken rule."""
    errors = check(body)
    assert isinstance(errors, list), errors
    assert all(error.detail for error in errors)
    return {error.pointer: error.code for error in errors}


def good(body: Any) -> Request:
    request = check(body)
    assert isinstance(request, Request), request
    return request


def without(name: str) -> dict[str, Any]:
    return {k: v for k, v in sms(NUMBER).items() if k != name}


@pytest.mark.parametrize("body", [None, [], "text", 1, True, 1.5, [{}]])
def test_a_body_that_is_no_object_is_refused_as_a_whole(body: Any) -> None:
    assert broken(body) == {"": "7004"}


def test_an_empty_object_is_told_everything_that_it_lacks() -> None:
    assert broken({}) == {"/deliverychannel": "7003", "/channels": "7003", "/destination": "7003"}


def test_every_broken_field_is_named_in_one_answer() -> None:
    body = {
        "deliverychannel": "pigeon",
        "channels": [],
        "destination": [{"msisdn": ["not a number"], "correlationid": "ü" * 26}, {"pigeonid": ["1"]}, {}, 5],
        "correlationid": "x" * 51,
        "callbackData": "y" * 2_001,
        "expiry": "tomorrow",
        "notifyurl": "https://example.com/",
        "message": {"parameters": {}},
    }
    assert broken(body) == {
        "/deliverychannel": "7004",
        "/channels": "7004",
        "/destination/0/correlationid": "7004",
        "/destination/0/msisdn/0": "7004",
        "/destination/1/pigeonid": "7004",
        "/destination/2": "7003",
        "/destination/3": "7004",
        "/correlationid": "7004",
        "/callbackData": "7004",
        "/expiry": "7004",
        "/notifyurl": "7004",
        "/message/template": "7003",
    }


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("x" * 50, True),
        ("x" * 51, False),
        ("ü" * 25, True),
        ("ü" * 25 + "x", False),
        ("😀" * 12, True),
        ("😀" * 13, False),
    ],
)
def test_a_correlationid_is_measured_in_bytes(text: str, kept: bool) -> None:
    request, entry = sms(NUMBER, correlationid=text), sms(NUMBER)
    entry["destination"][0]["correlationid"] = text
    if kept:
        assert good(request).messages[0].correlationid == text
        assert good(entry).messages[0].correlationid == text
    else:
        assert broken(request) == {"/correlationid": "7004"}
        assert broken(entry) == {"/destination/0/correlationid": "7004"}


def test_an_entry_overrides_the_correlationid_of_the_request() -> None:
    body = sms("447700900001", "447700900002", correlationid="all")
    body["destination"][1]["correlationid"] = "its own"
    assert [m.correlationid for m in good(body).messages] == ["all", "its own"]


def test_a_thousand_entries_pass_and_one_more_does_not() -> None:
    numbers = [str(447700000000 + n) for n in range(1_001)]
    assert len(good(sms(*numbers[:1_000])).messages) == 1_000
    assert broken(sms(*numbers)) == {"/destination": "7009"}


def test_the_entries_are_counted_and_not_their_values() -> None:
    body = sms() | {"destination": [{"msisdn": [str(447700000000 + n) for n in range(1_001)]}]}
    assert len(good(body).messages) == 1_001


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"deliverychannel": "voice"}, {"/deliverychannel": "7004"}),
        ({"deliverychannel": ["sms"]}, {"/deliverychannel": "7004"}),
        ({"deliverychannel": {}}, {"/deliverychannel": "7004"}),
        ({"channels": {}}, {"/channels/sms": "7003"}),
        ({"channels": "sms"}, {"/channels": "7004"}),
        ({"channels": {"sms": []}}, {"/channels/sms": "7004"}),
        ({"channels": {"sms": {}}}, {"/channels/sms/text": "7003"}),
        ({"channels": {"sms": {"text": 5}}}, {"/channels/sms/text": "7004"}),
        ({"channels": {"sms": {"text": "x" * 1_025}}}, {"/channels/sms/text": "7004"}),
        ({"channels": {"sms": {"text": "x", "senderid": 5}}}, {"/channels/sms/senderid": "7004"}),
        ({"channels": {"sms": {"text": "x", "senderid": "a\0"}}}, {"/channels/sms/senderid": "7004"}),
        ({"channels": {"sms": {"text": "x", "type": "5"}}}, {"/channels/sms/type": "7004"}),
        ({"channels": {"sms": {"text": "x", "type": []}}}, {"/channels/sms/type": "7004"}),
        ({"channels": {"sms": {"type": "3"}}}, {"/channels/sms/body": "7003"}),
        ({"channels": {"sms": {"type": "3", "body": "zz"}}}, {"/channels/sms/body": "7004"}),
        ({"channels": {"sms": {"type": 3, "body": " "}}}, {"/channels/sms/body": "7004"}),
        ({"message": []}, {"/message": "7004"}),
        ({"message": {"template": True}}, {"/message/template": "7003"}),
        ({"message": {"template": "a\0b"}}, {"/message/template": "7004"}),
        ({"destination": []}, {"/destination": "7003"}),
        ({"destination": {}}, {"/destination": "7004"}),
        ({"destination": "447700900001"}, {"/destination": "7004"}),
        ({"destination": [{"msisdn": []}]}, {"/destination/0/msisdn": "7003"}),
        ({"destination": [{"msisdn": "447700900001"}]}, {"/destination/0/msisdn": "7003"}),
        ({"destination": [{"msisdn": [""]}]}, {"/destination/0/msisdn/0": "7003"}),
        ({"destination": [{"msisdn": [None]}]}, {"/destination/0/msisdn/0": "7003"}),
        ({"destination": [{"msisdn": [[]]}]}, {"/destination/0/msisdn/0": "7003"}),
        ({"destination": [{"msisdn": ["4477\0"]}]}, {"/destination/0/msisdn/0": "7004"}),
        ({"destination": [{"email": ["a\0@example.com"]}]}, {"/destination/0/email/0": "7004"}),
        ({"destination": [{"email": ["a@example.com"], "msisdn": [NUMBER]}]}, {"/destination/0": "7004"}),
        ({"destination": [{"correlationid": "x"}]}, {"/destination/0": "7003"}),
        ({"destination": [{"a/b~c": ["x"]}]}, {"/destination/0/a~1b~0c": "7004"}),
        ({"destination": [{"msisdn": [NUMBER], "correlationid": 5}]}, {"/destination/0/correlationid": "7004"}),
        ({"correlationid": []}, {"/correlationid": "7004"}),
        ({"correlationid": "a\0b"}, {"/correlationid": "7004"}),
        ({"callbackData": {}}, {"/callbackData": "7004"}),
        ({"callbackData": "a\0b"}, {"/callbackData": "7004"}),
        ({"expiry": 5}, {"/expiry": "7004"}),
        ({"notifyurl": None}, {"/notifyurl": "7004"}),
        ({"notifyurl": ""}, {"/notifyurl": "7004"}),
    ],
)
def test_a_broken_rule_is_told_where_and_with_the_platform_s_code(
    change: dict[str, Any], expected: dict[str, str]
) -> None:
    assert broken(sms(NUMBER) | change) == expected


@pytest.mark.parametrize("name", ["deliverychannel", "channels", "destination"])
def test_a_mandatory_field_that_is_missing_is_7003(name: str) -> None:
    assert broken(without(name))[f"/{name}"] == "7003"


def test_a_template_needs_no_text() -> None:
    for block in ({}, {"type": "1"}, {"type": "3"}):
        request = good(sms(NUMBER, message={"template": 4711}, channels={"sms": block}))
        assert request.template == "4711"


def test_a_callback_of_2000_wide_characters_passes() -> None:
    assert good(sms(NUMBER, callbackData="😀" * 2_000)).callback_data == "😀" * 2_000


def test_the_content_holds_what_every_recipient_gets_and_no_id_of_the_client() -> None:
    body = sms(NUMBER, correlationid="mine", callbackData="data", route="LCGD", extras={"a": [1, None]})
    content = msgspec.json.decode(good(body).content)
    assert content == {k: v for k, v in body.items() if k not in ("destination", "correlationid")}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=60),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
NUMBERS = st.sampled_from(["447700900001", "+44 7700 900001", "x", "", "\0", "0044", "tel:+4477"])
ENTRY = st.dictionaries(
    st.sampled_from([*ID_TYPES, "correlationid", "other", ""]), st.lists(NUMBERS | JSON, max_size=3) | JSON, max_size=3
)
SMS = st.dictionaries(st.sampled_from(["text", "type", "body", "senderid", "media-path"]), JSON | NUMBERS, max_size=4)


def field_of(known: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return known | JSON


BODY = st.fixed_dictionaries(
    {},
    optional={
        "deliverychannel": field_of(st.sampled_from(["sms", "voice", "pigeon"])),
        "channels": field_of(st.fixed_dictionaries({}, optional={"sms": field_of(SMS), "voice": JSON})),
        "destination": field_of(st.lists(field_of(ENTRY), max_size=4)),
        "message": field_of(st.fixed_dictionaries({}, optional={"template": JSON, "parameters": JSON})),
        "correlationid": JSON,
        "callbackData": JSON,
        "expiry": field_of(st.sampled_from(["2030-04-12T13:00:19.456Z", "2015-04-12T18:30:19.456+5:30", "9999999999"])),
        "priority": JSON,
        "notifyurl": JSON,
        "extras": JSON,
    },
)


@settings(max_examples=500, deadline=None)
@given(BODY | JSON)
def test_whatever_is_json_gives_a_request_or_the_rules_that_it_breaks(body: Any) -> None:
    checked = check(msgspec.json.decode(msgspec.json.encode(body)))
    if isinstance(checked, Request):
        assert checked.messages
        assert msgspec.json.decode(checked.content)["deliverychannel"] == "sms"
        texts = [checked.callback_data, checked.sender, checked.template]
        texts += [text for message in checked.messages for text in (message.value, message.correlationid)]
        assert not any("\0" in text for text in texts if text), "Postgres takes no NUL"
        return
    assert checked
    assert all(isinstance(error, FieldError) and error.code in ("7003", "7004", "7009") for error in checked)


@pytest.mark.parametrize("encode", [str, int])
def test_a_number_may_be_spelled_in_many_ways(encode: Callable[[str], Any]) -> None:
    request = good(sms() | {"destination": [{"msisdn": [encode(NUMBER), "+44 7700 900001", "00447700900001"]}]})
    assert {message.normalised for message in request.messages} == {NUMBER}
