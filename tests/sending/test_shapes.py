"""Each shape of the documents, through each door to a platform that records: compared field by field."""

import copy
import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.sending.asking import REQUESTS
from tests.sending.platforms import Call, Platform, Reply, queued, recording_platform
from tests.sending.shapes import CAMPAIGN, CAMPAIGN_SHAPES, EVENT_SHAPES, EVENTS, MESSAGING_SHAPES, Body
from tests.support import PLATFORM_KEY, Database, Receiver, cloned, eventually, receiver_process

TOKEN = "a campaign token for tests only"
MARK = "x-mark"  # a field that nobody knows: it tells which request a call was made for

_by_mark: defaultdict[str, list[Call]] = defaultdict(list)


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    with recording_platform() as platform:
        yield platform


@pytest.fixture(scope="module")
def receiver(
    postgres: str, template: str, platform: Platform, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Receiver]:
    with (
        cloned(postgres, template, "shapes") as database,
        receiver_process(
            database,
            tmp_path_factory.mktemp("shapes"),
            platform_url=platform.url,
            RECEIVER_CAMPAIGN_URL=platform.url,
            RECEIVER_CAMPAIGN_TOKEN=TOKEN,
        ) as receiver,
    ):
        platform.take = _taken  # type: ignore[method-assign]
        yield receiver


@pytest.fixture(scope="module")
def api(receiver: Receiver) -> Iterator[httpx2.Client]:
    with receiver.client(receiver.database.key()) as client:
        yield client


def _taken(call: Call) -> Reply:
    _by_mark[call.body[MARK]].append(call)
    if "events" in call.body:
        return 200, json.dumps(
            {"response": [{"code": "1002", "transid": str(uuid4()), "description": "Queued"}]}
        ).encode()
    return queued(str(uuid4())) if "destination" in call.body else (200, b'{"transaction-id":"t-1"}')


def calls_of(mark: str, entries: int) -> list[Call]:
    """The calls for a marked request, in the order in which they came, once they bear so many entries."""

    def found() -> list[Call] | None:
        calls = list(_by_mark[mark])
        borne = sum(len(call.body.get("destination") or call.body.get("events") or [None]) for call in calls)
        return calls if borne >= entries else None

    calls: list[Call] = eventually(found)
    return calls


def expanded(body: Body) -> list[tuple[str, Any]]:
    """Each value of each entry, with its id type."""
    return [
        (key, value)
        for entry in body["destination"]
        for key, values in entry.items()
        if key != "correlationid"
        for value in values
    ]


def only(body: Body, *but: str) -> Body:
    return {name: value for name, value in body.items() if name not in but}


def check_messaging(receiver: Receiver, calls: list[Call], body: Body, ids: list[str]) -> None:
    """What of a Messaging request is ours to say is ours; all else is as it was written, field by field."""
    ours = ("destination", "correlationid", "notifyurl")
    entries = [entry for call in calls for entry in call.body["destination"]]
    expected = [{key: [value], "correlationid": i} for (key, value), i in zip(expanded(body), ids, strict=True)]
    assert entries == expected
    for call in calls:
        assert list(only(call.body, *ours)) == list(only(body, *ours)), "the fields, in the client's order"
        for name, value in only(body, *ours).items():
            assert call.body[name] == value, name
        assert "correlationid" not in call.body
        assert call.body["notifyurl"].startswith(f"{receiver.url}/notify/")


def check_events(receiver: Receiver, calls: list[Call], body: Body, ids: list[str]) -> None:
    """As check_messaging, of events."""
    (call,) = calls
    assert only(call.body, "events", "notifyurl") == only(body, "events", "notifyurl")
    assert call.body["notifyurl"].startswith(f"{receiver.url}/notify/")
    for told, event, identity in zip(call.body["events"], body["events"], ids, strict=True):
        assert told == {**event, "correlationid": identity}


def marked(shape: Body) -> tuple[Body, str]:
    mark = str(uuid4())
    return copy.deepcopy(shape) | {MARK: mark}, mark


def accepted(answer: httpx2.Response) -> list[str]:
    assert answer.status_code == 202, answer.text
    return [message["id"] for message in answer.json()["messages"]]


def dropped_in(receiver: Receiver, path: str, body: Body) -> Any:
    """Handed in as a client of the platform does, which knows no door of ours; the platform's word comes back."""
    answer = httpx2.post(receiver.url + path, json=body, headers={"key": PLATFORM_KEY}, timeout=20, trust_env=False)
    assert answer.status_code == 200, answer.text
    (item,) = answer.json()["response"]
    return item["code"]


def ids_of(database: Database, call: Call) -> list[str]:
    """The ids of the messages that a call was made for, as they are stored."""
    told = [entry["correlationid"] for entry in call.body.get("destination") or call.body["events"]]
    rows = database.fetch("select id from message where id = any($1::uuid[]) order by id", told)
    return [str(row["id"]) for row in rows]


def test_no_sample_of_the_documents_is_left_out() -> None:
    names = {path.name for path in REQUESTS.glob("*.json")}
    assert names == {n for n in names if n in MESSAGING_SHAPES} | EVENTS | CAMPAIGN
    assert {n for n in EVENT_SHAPES if n.endswith(".json")} == EVENTS
    assert {n for n in CAMPAIGN_SHAPES if n.endswith(".json")} == CAMPAIGN


@pytest.mark.parametrize("name", MESSAGING_SHAPES)
def test_a_messaging_request_reaches_the_platform_as_it_was_written(
    name: str, receiver: Receiver, api: httpx2.Client
) -> None:
    body, mark = marked(MESSAGING_SHAPES[name])
    ids = accepted(api.post("/v1/messages", json=body))
    check_messaging(receiver, calls_of(mark, len(expanded(body))), body, ids)


@pytest.mark.parametrize("name", MESSAGING_SHAPES)
def test_a_messaging_request_that_is_dropped_in_reaches_the_platform_as_it_was_written(
    name: str, receiver: Receiver
) -> None:
    body, mark = marked(MESSAGING_SHAPES[name])
    assert dropped_in(receiver, "/resources/v1/messaging", body) == "1001"
    calls = calls_of(mark, len(expanded(body)))
    check_messaging(receiver, calls, body, [i for call in calls for i in ids_of(receiver.database, call)])


@pytest.mark.parametrize("name", EVENT_SHAPES)
def test_events_reach_the_platform_as_they_were_written(name: str, receiver: Receiver, api: httpx2.Client) -> None:
    body, mark = marked(EVENT_SHAPES[name])
    ids = accepted(api.post("/v1/events", json=body))
    check_events(receiver, calls_of(mark, len(body["events"])), body, ids)


@pytest.mark.parametrize("name", EVENT_SHAPES)
def test_events_that_are_dropped_in_reach_the_platform_as_they_were_written(name: str, receiver: Receiver) -> None:
    body, mark = marked(EVENT_SHAPES[name])
    assert dropped_in(receiver, "/resources/v1/events/externalevent", body) == "1002"
    calls = calls_of(mark, len(body["events"]))
    check_events(receiver, calls, body, ids_of(receiver.database, calls[0]))


@pytest.mark.parametrize("name", CAMPAIGN_SHAPES)
def test_a_campaign_event_reaches_the_platform_to_the_byte(name: str, api: httpx2.Client) -> None:
    body, mark = marked(CAMPAIGN_SHAPES[name])
    accepted(api.post("/v1/campaign-events", json=body))
    (call,) = calls_of(mark, 1)
    assert call.body == body
    assert list(call.body) == list(body)
    assert call.headers["authorization"] == f"Bearer {TOKEN}"
    assert "key" not in call.headers


NUMBERS = b'{"price":12.10,"big":1E+2,"long":0.12345678901234567890,"id":100000000000000000000000001,"far":1e400}'
WITH_NUMBERS = [
    (
        "/v1/messages",
        b'{"deliverychannel":"sms","channels":{"sms":{}},"message":{"template":"1138","parameters":%s},'
        b'"destination":[{"customerid":["cust-9"]}],"x-mark":"%s"}',
    ),
    ("/v1/events", b'{"events":[{"evtid":"1201","parameters":%s}],"x-mark":"%s"}'),
    ("/v1/campaign-events", b'{"event-id":"e-1","event-key":"k-1","event-params":%s,"x-mark":"%s"}'),
]


@pytest.mark.parametrize(("path", "body"), WITH_NUMBERS, ids=[path for path, _ in WITH_NUMBERS])
def test_a_number_reaches_the_platform_as_it_was_written(path: str, body: bytes, api: httpx2.Client) -> None:
    mark = str(uuid4())
    accepted(api.post(path, content=body % (NUMBERS, mark.encode())))
    (call,) = calls_of(mark, 1)
    assert NUMBERS in call.raw
