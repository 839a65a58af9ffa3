"""What we send to v2, to Custom Event and to Webex Campaign, and how each of their answers is understood."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.platform.apis import Api
from receiver.platform.calls import LONGEST_WAIT, answer_of, call_of, is_queued
from receiver.platform.codes import ANSWER_CODES
from receiver.platform.wire import Answer, AnswerItem, Outcome, Recipient, Trouble
from tests.receipts.reading import sample

FIRST, SECOND = (UUID(int=n) for n in (1, 2))
RECIPIENTS = [Recipient(FIRST, "msisdn", "447700900001"), Recipient(SECOND, "firefox_pushid", "a@b")]
NOTIFYURL = "https://ours.example/notify/t"
Judged = tuple[Outcome, Trouble | None]
LATER_CREDENTIALS: Judged = (Outcome.LATER, Trouble.CREDENTIALS)
REFUSED: Judged = (Outcome.REFUSED, None)
UNCERTAIN: Judged = (Outcome.UNCERTAIN, None)


def judged(answer: Answer) -> Judged:
    return answer.outcome, answer.trouble


def read(api: Api, body: Any, status: int = 200) -> Answer:
    return answer_of(api, status, json.dumps(body).encode())


# What is sent


def test_v2_has_the_body_of_v1_in_its_own_spelling() -> None:
    content = {"deliverychannel": "sms", "channels": {"sms": {"text": "x"}}, "callbackData": "kept", "priority": "3"}
    call = call_of(Api.MESSAGING_V2, json.dumps(content).encode(), RECIPIENTS, NOTIFYURL)
    assert call.path == "/v2/messages"
    assert json.loads(call.body) == content | {
        "destination": [
            {"msisdn": ["447700900001"], "correlationId": str(FIRST)},
            {"firefox_pushid": ["a@b"], "correlationId": str(SECOND)},
        ],
        "notifyUrl": NOTIFYURL,
    }


@pytest.mark.parametrize("api", [Api.MESSAGING, Api.MESSAGING_V2])
def test_no_id_and_no_address_of_the_client_goes_out_in_either_spelling(api: Api) -> None:
    theirs = {"correlationid": "a", "correlationId": "b", "notifyurl": "c", "notifyUrl": "d"}
    sent = json.loads(call_of(api, json.dumps(theirs).encode(), RECIPIENTS, NOTIFYURL).body)
    assert len(sent) == 2
    assert NOTIFYURL in sent.values()


def test_each_event_gets_our_id_in_order_and_keeps_what_else_it_holds() -> None:
    content = {
        "expiry": "2030-04-12T18:51:19",
        "notifyurl": "theirs",
        "events": [
            {"evtid": "1201", "correlationid": "evt-1", "parameters": {"a": None, "b": [1, {"c": "é"}]}},
            {"evtid": 1202, "unknown": True},
        ],
    }
    call = call_of(Api.EVENTS, json.dumps(content).encode(), RECIPIENTS, NOTIFYURL)
    assert call.path == "/resources/v1/events/externalevent"
    assert json.loads(call.body) == {
        "expiry": "2030-04-12T18:51:19",
        "notifyurl": NOTIFYURL,
        "events": [
            {"evtid": "1201", "correlationid": str(FIRST), "parameters": {"a": None, "b": [1, {"c": "é"}]}},
            {"evtid": 1202, "unknown": True, "correlationid": str(SECOND)},
        ],
    }


def test_events_that_are_not_as_many_as_the_messages_are_not_sent() -> None:
    with pytest.raises(ValueError, match="longer"):
        call_of(Api.EVENTS, b'{"events":[{"evtid":"1"}]}', RECIPIENTS, NOTIFYURL)


NUMBERS = b'{"z": 1.0, "a":1e400,"n":12345678901234567890123, "e": "\\u00e9" }'


def test_what_the_client_wrote_goes_out_to_the_byte() -> None:
    """Reading and writing it anew would turn 1.0 into 1, and lose what no float holds."""
    for api in (Api.MESSAGING, Api.MESSAGING_V2):
        assert NUMBERS in call_of(api, b'{"message":%b}' % NUMBERS, RECIPIENTS, NOTIFYURL).body
    event = b'{"events":[{"parameters":%b}]}' % NUMBERS
    assert NUMBERS in call_of(Api.EVENTS, event, RECIPIENTS[:1], NOTIFYURL).body


def test_a_campaign_event_goes_out_as_it_is() -> None:
    content = sample("campaign-event", "requests")
    call = call_of(Api.CAMPAIGN, content, RECIPIENTS[:1], NOTIFYURL)
    assert (call.path, call.body) == ("/imicampaignapi/resources/v3/events", content)


def test_a_call_shows_no_body_where_it_is_named() -> None:
    assert "447700900001" not in repr(call_of(Api.MESSAGING, b"{}", RECIPIENTS, NOTIFYURL))


# Custom Event

EVENTS: dict[str, Judged] = {
    "1002": (Outcome.ACCEPTED, None),
    "7000": REFUSED,
    "7001": LATER_CREDENTIALS,
    "7004": REFUSED,
    "7005": (Outcome.LATER, Trouble.FAULT),
    "7020": (Outcome.LATER, Trouble.THROTTLED),
    "7025": REFUSED,
    "7027": REFUSED,
    # not in the documents of this API
    "1001": UNCERTAIN,
    "1003": UNCERTAIN,
    "7002": LATER_CREDENTIALS,
    "7006": (Outcome.LATER, Trouble.FAULT),
    "7007": LATER_CREDENTIALS,
    "4242": REFUSED,
}


@pytest.mark.parametrize("code", EVENTS)
@pytest.mark.parametrize("status", [200, 400, 500])
def test_the_code_decides_of_an_event_by_its_own_table(code: str, status: int) -> None:
    assert judged(read(Api.EVENTS, {"response": {"code": code}}, status)) == EVENTS[code]
    assert judged(read(Api.EVENTS, {"response": [{"code": int(code)}]}, status)) == EVENTS[code]


def test_every_code_of_the_events_table_is_walked() -> None:
    assert set(EVENTS) - {"1001", "1003", "4242"} == set(ANSWER_CODES["events"])


def test_a_queued_event_has_its_transid() -> None:
    answer = answer_of(Api.EVENTS, 200, sample("event-queued", "answers"))
    assert answer.items == (AnswerItem("1002", "5d0c1f0c-6d8a-4a2b-8a0e-3c4b16f0a9d2", "Queued"),)
    assert answer.outcome is Outcome.ACCEPTED


def test_an_event_without_its_mandatory_parameters_is_refused() -> None:
    answer = answer_of(Api.EVENTS, 200, sample("event-custom-parameters-missing", "answers"))
    assert (answer.outcome, answer.code) == (Outcome.REFUSED, "7025")


def test_of_several_events_each_is_judged_by_its_own_item() -> None:
    answer = read(Api.EVENTS, {"response": [{"code": "7004"}, {"code": "1002", "transid": "t"}, {"code": "1001"}]})
    assert answer.outcome is Outcome.ACCEPTED
    assert [is_queued(Api.EVENTS, item) for item in answer.items] == [False, True, False]


# Messaging v2


def test_v2_accepts_with_201_and_its_message_id_is_the_transid_of_all() -> None:
    answer = answer_of(Api.MESSAGING_V2, 201, sample("messaging-v2-queued-http-201", "answers"))
    assert judged(answer) == (Outcome.ACCEPTED, None)
    assert answer.items == (AnswerItem("", "0b1f6a52-7a0e-4b40-9d3a-52f6ce21f1b7", "queued"),)
    assert is_queued(Api.MESSAGING_V2, answer.items[0])


def test_v2_refuses_with_400_and_its_code() -> None:
    answer = answer_of(Api.MESSAGING_V2, 400, sample("messaging-v2-refused-http-400", "answers"))
    assert judged(answer) == REFUSED
    assert answer.items == (AnswerItem("7004", None, "Invalid parameters"),)


V2_STATUSES: dict[int, Judged] = {
    200: UNCERTAIN,
    201: UNCERTAIN,
    302: UNCERTAIN,
    400: REFUSED,
    401: LATER_CREDENTIALS,
    403: LATER_CREDENTIALS,
    404: (Outcome.LATER, Trouble.UNREACHABLE),
    429: (Outcome.LATER, Trouble.THROTTLED),
    500: UNCERTAIN,
    502: UNCERTAIN,
    503: UNCERTAIN,
}


@pytest.mark.parametrize("status", V2_STATUSES)
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"messageId":""}', b'{"code":"4242"}'])
def test_v2_is_judged_by_its_status_where_no_code_is_known(status: int, body: bytes) -> None:
    assert judged(answer_of(Api.MESSAGING_V2, status, body)) == V2_STATUSES[status]


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_a_known_code_of_v2_decides_under_any_error(status: int) -> None:
    for code, expected in {
        "7001": LATER_CREDENTIALS,
        "7002": LATER_CREDENTIALS,
        "7007": LATER_CREDENTIALS,
        "7006": (Outcome.LATER, Trouble.FAULT),
        "7020": (Outcome.LATER, Trouble.THROTTLED),
        "7000": REFUSED,
        "7003": REFUSED,
        "7004": REFUSED,
        "7005": REFUSED,
        "7009": REFUSED,
        "1001": UNCERTAIN,  # an error that says queued
    }.items():
        assert judged(read(Api.MESSAGING_V2, {"code": code, "message": "m"}, status)) == expected, code


def test_an_unknown_code_of_v2_is_kept() -> None:
    answer = read(Api.MESSAGING_V2, {"code": 4242, "message": "odd"}, 400)
    assert answer.items == (AnswerItem("4242", None, "odd"),)
    assert read(Api.MESSAGING_V2, {"code": 4242, "message": "odd"}, 503).code == "4242"


# Webex Campaign

CAMPAIGN: dict[str, Judged] = {
    "1001": REFUSED,
    "1002": REFUSED,
    "1003": REFUSED,
    "401": LATER_CREDENTIALS,
    "430": LATER_CREDENTIALS,
    "498": LATER_CREDENTIALS,
    "403": LATER_CREDENTIALS,
    "404": (Outcome.LATER, Trouble.UNREACHABLE),
    "405": (Outcome.LATER, Trouble.UNREACHABLE),
    "429": (Outcome.LATER, Trouble.THROTTLED),
    "499": REFUSED,
    "500": UNCERTAIN,
    "502": UNCERTAIN,
}


@pytest.mark.parametrize("code", CAMPAIGN)
@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_a_campaign_event_is_judged_by_its_body_whatever_the_http_status(code: str, status: int) -> None:
    answer = read(Api.CAMPAIGN, {"code": int(code), "description": "why"}, status)
    assert judged(answer) == CAMPAIGN[code]
    assert (answer.code, answer.description) == (code, "why")
    assert judged(read(Api.CAMPAIGN, {"code": code}, status)) == CAMPAIGN[code]


@pytest.mark.parametrize("code", [code for code in CAMPAIGN if len(code) == 3])
@pytest.mark.parametrize("body", [b"", b"<html>", b"null", b'{"description":"x"}'])
def test_a_row_of_the_campaign_list_means_the_same_as_an_http_status(code: str, body: bytes) -> None:
    assert judged(answer_of(Api.CAMPAIGN, int(code), body)) == CAMPAIGN[code]


def test_every_code_of_the_campaign_table_is_walked() -> None:
    assert set(CAMPAIGN) == set(ANSWER_CODES["campaign"])


@pytest.mark.parametrize("status", [200, 201, 401, 500, 502])
def test_a_transaction_id_accepts_a_campaign_event(status: int) -> None:
    answer = answer_of(Api.CAMPAIGN, status, sample("campaign-accepted", "answers"))
    assert answer.outcome is Outcome.ACCEPTED
    assert answer.items == (AnswerItem("", "evt_123", None),)
    assert is_queued(Api.CAMPAIGN, answer.items[0])


def test_the_documented_refusals_of_campaign() -> None:
    refused = answer_of(Api.CAMPAIGN, 500, sample("campaign-refused", "answers"))
    assert (judged(refused), refused.code) == (REFUSED, "1001")
    fault = answer_of(Api.CAMPAIGN, 200, sample("campaign-internal-error-http-200", "answers"))
    assert (judged(fault), fault.code) == (UNCERTAIN, "500")


def test_a_code_refuses_beside_a_transaction_id_only_where_it_is_known() -> None:
    assert judged(read(Api.CAMPAIGN, {"transaction-id": "t", "code": 1002})) == REFUSED
    assert judged(read(Api.CAMPAIGN, {"transaction-id": "t", "code": 0})) == UNCERTAIN
    assert judged(read(Api.CAMPAIGN, {"code": 4242})) == REFUSED
    assert judged(answer_of(Api.CAMPAIGN, 200, b"ok")) == UNCERTAIN


# All answers


@pytest.mark.parametrize("api", Api)
def test_the_wait_that_is_asked_for_is_read(api: Api) -> None:
    waits = {"0": 0.0, "17": 17.0, " 30 ": 30.0, "3601": LONGEST_WAIT, "9" * 99: LONGEST_WAIT}
    for text, seconds in waits.items():
        answer = answer_of(api, 429, b"", text)
        assert (judged(answer), answer.retry_after) == ((Outcome.LATER, Trouble.THROTTLED), seconds)
    assert answer_of(api, 429, b"").retry_after is None


def test_a_wait_may_be_a_date() -> None:
    def wait(ahead: timedelta) -> float:
        text = format_datetime(datetime.now(UTC) + ahead, usegmt=True)
        seconds = answer_of(Api.MESSAGING, 429, b"", text).retry_after
        assert seconds is not None
        return seconds

    assert 110 < wait(timedelta(minutes=2)) <= 120
    assert wait(timedelta(days=2)) == LONGEST_WAIT
    assert wait(timedelta(minutes=-2)) == 0.0


@pytest.mark.parametrize("text", ["", "soon", "-5", "1.5", "²", "١", "\0", "Mon, 99 Foo", "x" * 10_000])
def test_a_wait_that_can_not_be_read_is_none(text: str) -> None:
    assert answer_of(Api.MESSAGING, 429, b"", text).retry_after is None


FIELDS = ["response", "code", "transid", "description", "messageId", "message", "status", "transaction-id"]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["1001", "1002", "7001", "7006", "401", "500", "\0"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=12,
)
BODIES = st.one_of(st.binary(), JSON.map(lambda value: json.dumps(value).encode()))


@given(st.sampled_from(Api), st.integers(100, 599), BODIES, st.none() | st.text())
@settings(max_examples=500, deadline=None)
def test_any_answer_of_any_api_has_an_outcome_and_texts_that_can_be_stored(
    api: Api, status: int, body: bytes, retry_after: str | None
) -> None:
    answer = answer_of(api, status, body, retry_after)
    assert answer.outcome in (Outcome.ACCEPTED, Outcome.REFUSED, Outcome.LATER, Outcome.UNCERTAIN)
    assert (answer.outcome is Outcome.LATER) == (answer.trouble is not None)
    assert (answer.outcome is Outcome.ACCEPTED) == any(is_queued(api, item) for item in answer.items)
    assert answer.retry_after is None or 0 <= answer.retry_after <= LONGEST_WAIT
    assert answer.raw == body
    texts = [answer.description, *(text for i in answer.items for text in (i.code, i.transid, i.description))]
    for text in filter(None, texts):
        assert "\0" not in text
        text.encode()
