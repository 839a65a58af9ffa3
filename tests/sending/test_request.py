"""What a client may ask: every broken rule is named, nothing that is JSON makes the check fail."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.platform.apis import Api
from receiver.sending.destinations import ID_TYPES
from receiver.sending.request import Request, check
from tests.sending import asking
from tests.sending.asking import HALF, JSON, changed_in_one_place, check_what_was_checked, sample
from tests.sending.platforms import sms

NUMBER = "447700900001"
CODES = {"7003", "7004", "7009"}
ODD_PRIORITIES: list[Any] = [None, "", "4", 0, "high", True, 3.0, [3], 10**400]
SAMPLES = [
    sample(f"{name}.json")
    for name in ("appmessaging", "push", "sms-documented-minimum", "sms-template", "sms", "voice-callflow", "wechat")
]


def broken(body: Any) -> dict[str, str]:
    """Pointer and code of each broken rule."""
    return asking.broken(check(body))


def good(body: Any) -> Request:
    return asking.good(check(body))


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
        "destination": [{"msisdn": [5.5], "correlationid": "ü" * 26}, {"pigeonid": ["1"]}, {}, 5],
        "correlationid": "x" * 51,
        "callbackData": "y" * 2_001,
        "expiry": "tomorrow",
        "notifyurl": "example.com",
        "route": "FASTEST",
        "message": {"parameters": []},
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
        "/route": "7004",
        "/message/template": "7003",
        "/message/parameters": "7004",
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
        ({"deliverychannel": "SMS"}, {"/deliverychannel": "7004"}),
        ({"deliverychannel": "voice"}, {"/channels/voice": "7003"}),
        ({"deliverychannel": ["sms"]}, {"/deliverychannel": "7004"}),
        ({"deliverychannel": {}}, {"/deliverychannel": "7004"}),
        ({"channels": {}}, {"/channels/sms": "7003"}),
        ({"channels": "sms"}, {"/channels": "7004"}),
        ({"message": []}, {"/message": "7004"}),
        ({"message": {"template": True}}, {"/message/template": "7003"}),
        ({"message": {"template": "a\0b"}}, {"/message/template": "7004"}),
        ({"destination": []}, {"/destination": "7003"}),
        ({"destination": {}}, {"/destination": "7004"}),
        ({"destination": "447700900001"}, {"/destination": "7004"}),
        ({"destination": [{"msisdn": []}]}, {"/destination/0/msisdn": "7003"}),
        ({"destination": [{"msisdn": None}]}, {"/destination/0/msisdn": "7003"}),
        ({"destination": [{"msisdn": "447700900001"}]}, {"/destination/0/msisdn": "7004"}),
        ({"destination": [{"msisdn": {}}]}, {"/destination/0/msisdn": "7004"}),
        ({"destination": [{"msisdn": [""]}]}, {"/destination/0/msisdn/0": "7003"}),
        ({"destination": [{"msisdn": [None]}]}, {"/destination/0/msisdn/0": "7003"}),
        ({"destination": [{"msisdn": [["1"]]}]}, {"/destination/0/msisdn/0": "7004"}),
        ({"destination": [{"msisdn": [True]}]}, {"/destination/0/msisdn/0": "7004"}),
        ({"destination": [{"msisdn": [1.5]}]}, {"/destination/0/msisdn/0": "7004"}),
        ({"destination": [{"customerid": ["x" * 1_025]}]}, {"/destination/0/customerid/0": "7004"}),
        ({"destination": [{"customerid": ["x" + HALF]}]}, {"/destination/0/customerid/0": "7004"}),
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
        ({"correlationid": HALF}, {"/correlationid": "7004"}),
        ({"callbackData": HALF}, {"/callbackData": "7004"}),
        ({"message": {"template": HALF}}, {"/message/template": "7004"}),
        ({"expiry": HALF}, {"/expiry": "7004"}),
        ({"extras": [1, {"a~b": HALF}]}, {"/extras/1/a~0b": "7004"}),
        ({HALF: 1}, {"/?": "7004"}),
        ({"extras": 10**5_000}, {"/extras": "7004"}),
        ({"route": ["IMMD"]}, {"/route": "7004"}),
        ({"route": "immd"}, {"/route": "7004"}),
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


NUMBERS = st.sampled_from(["447700900001", "+44 7700 900001", "x", "", "\0", "0044", "tel:+4477", "push-1@key-1"])
ENTRY = st.dictionaries(
    st.sampled_from([*ID_TYPES, "correlationid", "other", ""]), st.lists(NUMBERS | JSON, max_size=3) | JSON, max_size=3
)
BLOCK = st.dictionaries(
    st.sampled_from(
        ["text", "type", "body", "senderid", "callflowid", "media", "ios", "android", "fb", "wa", "wechat"]
    ),
    JSON | NUMBERS | st.dictionaries(st.sampled_from(["text", "priority", "attachment"]), JSON | NUMBERS, max_size=3),
    max_size=4,
)


def field_of(known: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return known | JSON


BODY = st.fixed_dictionaries(
    {},
    optional={
        "deliverychannel": field_of(st.sampled_from(["sms", "voice", "push", "rt", "fb", "wa", "wechat", "pigeon"])),
        "channels": field_of(
            st.dictionaries(
                st.sampled_from(["sms", "voice", "push", "appmessaging", "OTT-Messaging", "smartlinks"]),
                field_of(BLOCK | st.lists(st.dictionaries(st.sampled_from(["linkid", "validity"]), JSON), max_size=3)),
                max_size=6,
            )
        ),
        "destination": field_of(st.lists(field_of(ENTRY), max_size=4)),
        "message": field_of(st.fixed_dictionaries({}, optional={"template": JSON, "parameters": JSON})),
        "correlationid": JSON,
        "callbackData": JSON,
        "expiry": field_of(st.sampled_from(["2030-04-12T13:00:19.456Z", "2015-04-12T18:30:19.456+5:30", "9999999999"])),
        "priority": JSON,
        "route": JSON,
        "notifyurl": field_of(st.from_regex(r"https?://[^/]+/", fullmatch=True)),
        "extras": JSON,
    },
)


@settings(max_examples=500, deadline=None)
@given(BODY | JSON)
def test_whatever_is_json_gives_a_request_or_the_rules_that_it_breaks(body: Any) -> None:
    check_what_was_checked(check(body), CODES)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(SAMPLES).flatmap(changed_in_one_place))
def test_a_good_request_changed_in_one_place_gives_a_request_or_the_rules_that_it_breaks(body: Any) -> None:
    check_what_was_checked(check(body), CODES)


@pytest.mark.parametrize("encode", [str, int])
def test_a_number_may_be_spelled_in_many_ways(encode: Callable[[str], Any]) -> None:
    request = good(sms() | {"destination": [{"msisdn": [encode(NUMBER), "+44 7700 900001", "00447700900001"]}]})
    assert {message.normalised for message in request.messages} == {NUMBER}


# ---- destinations


@pytest.mark.parametrize("id_type", ID_TYPES)
@pytest.mark.parametrize("body", SAMPLES, ids=lambda body: body["deliverychannel"])
def test_any_id_type_goes_with_any_channel(body: dict[str, Any], id_type: str) -> None:
    value = "447700900001" if id_type == "msisdn" else "push-1@key-1"
    [message] = good(body | {"destination": [{id_type: [value]}]}).messages
    assert (message.id_type, message.value) == (id_type, value)


def test_there_are_eleven_id_types() -> None:
    assert len(ID_TYPES) == 11


@pytest.mark.parametrize("number", ["60777", 60777, "112"])
def test_a_number_may_be_short(number: Any) -> None:
    assert good(sms() | {"destination": [{"msisdn": [number]}]}).messages[0].value == str(number)


@pytest.mark.parametrize("value", ["push-1", "@key", "push-1@", "@"])
def test_a_firefox_pushid_has_its_key(value: str) -> None:
    body = sample("push.json") | {"destination": [{"firefox_pushid": ["push-1@key-1", value]}]}
    assert broken(body) == {"/destination/0/firefox_pushid/1": "7004"}


def test_ten_thousand_values_pass_and_one_more_does_not() -> None:
    values = [str(447700000000 + n) for n in range(10_001)]
    assert len(good(sms() | {"destination": [{"msisdn": values[:10_000]}]}).messages) == 10_000
    assert broken(sms() | {"destination": [{"msisdn": values}]}) == {"/destination": "7009"}


def test_the_same_recipient_may_be_asked_for_twice() -> None:
    assert [m.value for m in good(sms(NUMBER, NUMBER)).messages] == [NUMBER, NUMBER]


# ---- the other fields


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("2030-04-12T13:00:19.456Z", datetime(2030, 4, 12, 13, 0, 19, 456_000, UTC)),
        ("2030-04-12T18:30:19.456+5:30", datetime(2030, 4, 12, 13, 0, 19, 456_000, UTC)),
        ("2030-04-12T18:30:19.456+05:30", datetime(2030, 4, 12, 13, 0, 19, 456_000, UTC)),
        ("2030-04-12T13:00:19", datetime(2030, 4, 12, 13, 0, 19, 0, UTC)),
        ("", None),
        (None, None),
    ],
)
def test_an_expiry_is_read_in_all_documented_spellings_and_sent_as_given(told: Any, expected: datetime | None) -> None:
    request = good(sms(NUMBER, expiry=told))
    assert request.expires_at == expected
    assert msgspec.json.decode(request.content)["expiry"] == told


@pytest.mark.parametrize(
    ("told", "priority"),
    [("1", 1), ("2", 2), ("3", 3), (1, 1), (2, 2), (3, 3)] + [(odd, 2) for odd in ODD_PRIORITIES],
)
def test_a_priority_that_is_none_falls_back(told: Any, priority: int) -> None:
    assert good(sms(NUMBER, priority=told)).priority == priority


@pytest.mark.parametrize("route", ["IMMD", "LCGD", "LCBE", "", None])
def test_a_documented_route_is_sent_as_given(route: Any) -> None:
    assert msgspec.json.decode(good(sms(NUMBER, route=route)).content)["route"] == route


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/receipts?a=1#b",
        "http://127.0.0.1:8080/",
        "HTTPS://Example.com",
        "https://[2001:db8::1]:8443/x",
        "https://example.com/" + "x" * 2_028,
        "https://example.com/@user",
    ],
)
def test_a_notifyurl_of_the_client_s_own_is_kept_and_not_sent(url: str) -> None:
    request = good(sms(NUMBER, notifyurl=url))
    assert request.notifyurl == url
    assert "notifyurl" not in msgspec.json.decode(request.content)


@pytest.mark.parametrize("url", ["", None])
def test_an_empty_notifyurl_is_none(url: Any) -> None:
    request = good(sms(NUMBER, notifyurl=url))
    assert request.notifyurl is None
    assert "notifyurl" not in msgspec.json.decode(request.content)


@pytest.mark.parametrize(
    "url",
    [
        "example.com",
        "//example.com/",
        "ftp://example.com/",
        "https:example.com",
        "https://",
        "https:///path",
        "https://:443/",
        "https://user:secret@example.com/",
        "https://user@example.com/",
        "https://@example.com/",
        "https://example.com\\@evil.example/",
        "https://example.com/\0",
        "https://example.com/\n",
        " https://example.com/",
        "https://example.com/a b",
        "https://exa\tmple.com/",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:port/",
        "https://[::1/",
        "https://example.com/\x9f",
        "https://example.com/" + HALF,
        "https://example.com/" + "x" * 2_029,
        5,
        True,
        ["https://example.com/"],
        {},
    ],
)
def test_a_notifyurl_that_is_no_address_is_wrong(url: Any) -> None:
    assert broken(sms(NUMBER, notifyurl=url)) == {"/notifyurl": "7004"}


def test_a_body_that_is_nested_too_deeply_is_refused() -> None:
    def nested(levels: int) -> Any:
        value: Any = "x"
        for _ in range(levels):
            value = [value]
        return value

    assert good(sms(NUMBER, extras=nested(99)))
    for levels in (100, 5_000):
        assert broken(sms(NUMBER, extras=nested(levels))) == {"": "7004"}


def test_what_a_request_asks_for_is_sent_by_messaging() -> None:
    assert good(sms(NUMBER)).api is Api.MESSAGING
