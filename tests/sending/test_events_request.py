"""What a client may ask of Custom Event: one message an event, parameters unchanged, the event table's codes."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.messages.lattice import Channel
from receiver.platform.apis import Api
from receiver.sending.destinations import Asked
from receiver.sending.events import check_events
from receiver.sending.outbox import split
from receiver.sending.request import Request
from tests.sending import asking
from tests.sending.asking import HALF, JSON, changed_in_one_place, check_what_was_checked, sample

SAMPLE = sample("custom-event.json")
CODES = {"7025", "7004"}


def broken(body: Any) -> dict[str, str]:
    return asking.broken(check_events(body))


def good(body: Any) -> Request:
    return asking.good(check_events(body))


def test_the_documented_request_passes() -> None:
    request = good(SAMPLE)
    assert (request.api, request.channel) == (Api.EVENTS, Channel.EVENT)
    assert request.messages == (Asked("event", "1201", "0", "evt-1"),)
    assert request.expires_at == datetime(2030, 4, 12, 18, 51, 19, tzinfo=UTC), "no zone means UTC"
    assert msgspec.json.decode(request.content) == SAMPLE
    assert (request.callback_data, request.sender, request.template, request.notifyurl) == (None, None, None, None)


def test_the_content_is_the_body_with_its_events_in_order_and_without_the_notifyurl() -> None:
    events: list[dict[str, Any]] = [
        {"evtid": "b", "parameters": {"n": None, "f": 1.5, "deep": [{"ü": "NULL"}]}, "unknown": True},
        {"evtid": 7, "correlationid": ""},
        {"evtid": "b", "parameters": None, "correlationid": "x"},
    ]
    request = good({"events": events, "notifyurl": "https://example.com/", "extra": [1]})
    assert msgspec.json.decode(request.content) == {"events": events, "extra": [1]}
    assert [(m.value, m.correlationid) for m in request.messages] == [("b", None), ("7", None), ("b", "x")]
    assert request.notifyurl == "https://example.com/"


def test_events_of_one_evtid_go_out_in_one_submission() -> None:
    request = good({"events": [{"evtid": "1201"}] * 1_000})
    assert split(request.messages) == [list(range(1_000))]


def test_a_thousand_events_pass_and_one_more_does_not() -> None:
    assert len(good({"events": [{"evtid": "1"}] * 1_000}).messages) == 1_000
    assert broken({"events": [{"evtid": "1"}] * 1_001}) == {"/events": "7004"}


def test_an_evtid_of_1024_characters_passes() -> None:
    assert good({"events": [{"evtid": "x" * 1_024}]})


@pytest.mark.parametrize("body", [None, [], "text", 1, True, [{}]])
def test_a_body_that_is_no_object_is_refused_as_a_whole(body: Any) -> None:
    assert broken(body) == {"": "7004"}


def test_every_broken_field_is_named_in_one_answer() -> None:
    body = {
        "events": [
            {"evtid": "1"},
            {"parameters": []},
            "event",
            {"evtid": {}, "correlationid": "ü" * 26},
            {"evtid": ["1"], "correlationid": 5, "parameters": "text"},
            {"evtid": "a\0", "parameters": {"x/y": [HALF]}},
            {"evtid": "x" * 1_025},
        ],
        "expiry": "tomorrow",
        "notifyurl": "nowhere",
    }
    assert broken(body) == {
        "/events/1/evtid": "7025",
        "/events/1/parameters": "7004",
        "/events/2": "7004",
        "/events/3/evtid": "7025",
        "/events/3/correlationid": "7004",
        "/events/4/evtid": "7004",
        "/events/4/correlationid": "7004",
        "/events/4/parameters": "7004",
        "/events/5/evtid": "7004",
        "/events/5/parameters/x~1y/0": "7004",
        "/events/6/evtid": "7004",
        "/expiry": "7004",
        "/notifyurl": "7004",
    }


@pytest.mark.parametrize(
    ("events", "code"), [(None, "7025"), ([], "7025"), ("", "7025"), ({}, "7004"), ("1201", "7004"), (5, "7004")]
)
def test_events_are_mandatory_and_an_array(events: Any, code: str) -> None:
    assert broken({"events": events}) == {"/events": code}
    assert broken({}) == {"/events": "7025"}


@settings(max_examples=300, deadline=None)
@given(JSON | st.fixed_dictionaries({"events": st.lists(JSON | st.fixed_dictionaries({"evtid": JSON}), max_size=4)}))
def test_whatever_is_json_gives_a_request_or_the_rules_that_it_breaks(body: Any) -> None:
    check_what_was_checked(check_events(body), CODES)


@settings(max_examples=300, deadline=None)
@given(changed_in_one_place(SAMPLE))
def test_a_good_request_changed_in_one_place_gives_a_request_or_the_rules_that_it_breaks(body: Any) -> None:
    check_what_was_checked(check_events(body), CODES)
