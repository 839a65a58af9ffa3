"""What a client may ask of Webex Campaign: one message, whose recipient is the event key, and params without nulls."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.messages.lattice import Channel
from receiver.platform.apis import Api
from receiver.sending.campaign import check_campaign
from receiver.sending.destinations import Asked
from receiver.sending.request import Request
from tests.sending import asking
from tests.sending.asking import HALF, JSON, changed_in_one_place, check_what_was_checked, sample

SAMPLE = sample("campaign-event.json")
CODES = {"1001", "1002"}


def broken(body: Any) -> dict[str, str]:
    return asking.broken(check_campaign(body))


def good(body: Any) -> Request:
    return asking.good(check_campaign(body))


def test_the_documented_request_passes() -> None:
    request = good(SAMPLE)
    assert (request.api, request.channel) == (Api.CAMPAIGN, Channel.CAMPAIGN)
    assert request.messages == (Asked("event-key", "44839382928", "44839382928", None),)
    assert msgspec.json.decode(request.content) == SAMPLE
    assert (request.expires_at, request.callback_data, request.notifyurl) == (None, None, None)


@pytest.mark.parametrize(
    ("key", "value", "normalised"),
    [
        ("Jo@Example.com", "Jo@Example.com", "jo@example.com"),
        ("+44 7700 900001", "+44 7700 900001", "447700900001"),
        (447700900001, "447700900001", "447700900001"),
        (" Device-A ", "Device-A", "Device-A"),
    ],
)
def test_the_event_key_is_found_as_a_destination_and_sent_as_given(key: Any, value: str, normalised: str) -> None:
    request = good(SAMPLE | {"event-key": key})
    assert request.messages == (Asked("event-key", value, normalised, None),)
    assert msgspec.json.decode(request.content)["event-key"] == key


def test_event_params_may_be_left_out_but_not_null() -> None:
    assert good({"event-id": "evt_1", "event-key": "1"})
    assert good({"event-id": 1, "event-key": "1", "event-params": {}})
    assert broken({"event-id": "evt_1", "event-key": "1", "event-params": None}) == {"/event-params": "1001"}


@pytest.mark.parametrize("body", [None, [], "text", 1, True, [{}]])
def test_a_body_that_is_no_object_is_refused_as_a_whole(body: Any) -> None:
    assert broken(body) == {"": "1001"}


def test_every_offending_param_is_named() -> None:
    params: dict[str, Any] = {
        "good": "nullable",
        "": "",
        "a": None,
        "b": "NULL",
        "c/d~e": "null",
        "zero": 0,
        "no": False,
        "list": [],
    }
    assert broken({"event-id": "", "event-params": params}) == {
        "/event-id": "1002",
        "/event-key": "1002",
        "/event-params/a": "1001",
        "/event-params/b": "1001",
        "/event-params/c~1d~0e": "1001",
    }


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"event-key": None}, {"/event-key": "1002"}),
        ({"event-key": "  "}, {"/event-key": "1002"}),
        ({"event-key": ["a"]}, {"/event-key": "1001"}),
        ({"event-key": True}, {"/event-key": "1001"}),
        ({"event-key": "a\0"}, {"/event-key": "1001"}),
        ({"event-key": HALF}, {"/event-key": "1001"}),
        ({"event-key": "x" * 1_025}, {"/event-key": "1001"}),
        ({"event-id": {"a": 1}}, {"/event-id": "1001"}),
        ({"event-params": []}, {"/event-params": "1001"}),
        ({"event-params": "null"}, {"/event-params": "1001"}),
        ({"event-params": {"a": HALF}}, {"/event-params/a": "1001"}),
    ],
)
def test_a_broken_rule_is_told_where_and_with_the_campaign_s_code(
    change: dict[str, Any], expected: dict[str, str]
) -> None:
    assert broken(SAMPLE | change) == expected


def test_400_params_pass_and_one_more_does_not() -> None:
    params = {f"p{n}": "x" for n in range(401)}
    assert broken(SAMPLE | {"event-params": params}) == {"/event-params": "1001"}
    del params["p0"]
    assert good(SAMPLE | {"event-params": params})


def test_the_params_are_measured_in_bytes_of_their_json() -> None:
    frame = len('{"a":""}')
    for text in ("x" * (24 * 1_024 - frame), "ü" * ((24 * 1_024 - frame) // 2)):
        assert good(SAMPLE | {"event-params": {"a": text}})
        assert broken(SAMPLE | {"event-params": {"a": text + "x"}}) == {"/event-params": "1001"}


@settings(max_examples=300, deadline=None)
@given(JSON | st.fixed_dictionaries({"event-id": JSON, "event-key": JSON}, optional={"event-params": JSON}))
def test_whatever_is_json_gives_a_request_or_the_rules_that_it_breaks(body: Any) -> None:
    check_what_was_checked(check_campaign(body), CODES)


@settings(max_examples=300, deadline=None)
@given(changed_in_one_place(SAMPLE))
def test_a_good_request_changed_in_one_place_gives_a_request_or_the_rules_that_it_breaks(body: Any) -> None:
    check_what_was_checked(check_campaign(body), CODES)
