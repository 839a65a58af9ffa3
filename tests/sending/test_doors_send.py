"""Events and campaign events beside messages: what is committed, what is refused, and the children of an event."""

import json
from typing import Any
from uuid import UUID

import pytest

from receiver.messages.lattice import Channel
from receiver.platform.apis import Api
from tests.receipts.tellings import body
from tests.sending.doors import Doors, with_doors
from tests.sending.platforms import sms
from tests.support import Database

NUMBER = "447700900001"
EVENTS: dict[str, Any] = {
    "events": [
        {"evtid": "late", "correlationid": "order-1", "parameters": {"n": 1, "deep": [{"x": None}]}},
        {"evtid": "late", "correlationid": "order-2"},
    ],
    "expiry": "2099-01-01T00:00:00",
}
CAMPAIGN: dict[str, Any] = {"event-id": "birthday", "event-key": "+44 7700 900001", "event-params": {"name": "Ada"}}


def test_events_are_committed_one_message_each_in_one_submission(database: Database) -> None:
    async def work(doors: Doors) -> None:
        answer = await doors.post("/v1/events", EVENTS)
        assert answer.status_code == 202
        told = answer.json()
        assert set(told) == {"batch_id", "messages"}
        assert [{k: m[k] for k in ("destination", "correlationid", "state")} for m in told["messages"]] == [
            {"destination": "late", "correlationid": "order-1", "state": "queued"},
            {"destination": "late", "correlationid": "order-2", "state": "queued"},
        ]
        [submission] = await doors.rows("select * from submission")
        assert (submission["api"], submission["batch_id"]) == (Api.EVENTS, UUID(told["batch_id"]))
        assert json.loads(submission["content"])["events"] == EVENTS["events"]
        assert await doors.value("select count(*) from outbox") == 1
        found = await doors.get(told["messages"][1]["id"])
        assert (found["channel"], found["destination_type"], found["children"]) == ("event", "event", [])

    with_doors(database, work)


def test_a_campaign_event_says_what_its_ceiling_is_and_is_found_by_its_key(database: Database) -> None:
    async def work(doors: Doors) -> None:
        answer = await doors.post("/v1/campaign-events", CAMPAIGN)
        assert answer.status_code == 202
        told = answer.json()
        assert told["ceiling"] == "accepted"
        assert "no receipts" in told["note"]
        [message] = told["messages"]
        assert (message["destination"], message["state"]) == ("+44 7700 900001", "queued")
        found = await doors.api.get("/v1/messages", params={"destination": NUMBER})
        assert [m["id"] for m in found.json()["messages"]] == [message["id"]]
        assert await doors.value("select api from submission") == Api.CAMPAIGN

    with_doors(database, work)


@pytest.mark.parametrize(
    ("path", "wrong", "pointer", "code"),
    [
        ("/v1/events", {"events": []}, "/events", "7025"),
        ("/v1/events", {"events": [{"evtid": "x"}] * 1_001}, "/events", "7004"),
        ("/v1/campaign-events", {"event-id": "x"}, "/event-key", "1002"),
        ("/v1/campaign-events", CAMPAIGN | {"event-params": {"a": "NULL"}}, "/event-params/a", "1001"),
    ],
)
def test_what_breaks_a_rule_is_named_and_nothing_is_written(
    database: Database, path: str, wrong: dict[str, Any], pointer: str, code: str
) -> None:
    async def work(doors: Doors) -> None:
        before = await doors.counts()
        answer = await doors.post(path, wrong)
        assert (answer.status_code, answer.json()["code"]) == (422, "rule_broken")
        assert [(e["pointer"], e["code"]) for e in answer.json()["errors"]] == [(pointer, code)]
        assert await doors.counts() == before

    with_doors(database, work)


@pytest.mark.parametrize(
    ("path", "asked", "missing"),
    [
        ("/v1/messages", sms(NUMBER), "RECEIVER_PLATFORM_KEY"),
        ("/v1/events", EVENTS, "RECEIVER_PLATFORM_KEY"),
        ("/v1/campaign-events", CAMPAIGN, "RECEIVER_CAMPAIGN_TOKEN"),
    ],
)
def test_a_tenant_without_the_credentials_of_a_door_can_not_send_there(
    database: Database, path: str, asked: dict[str, Any], missing: str
) -> None:
    async def work(doors: Doors) -> None:
        before = await doors.counts()
        for headers in ({}, {"idempotency_key": "k"}):
            answer = await doors.post(path, asked, **headers)
            assert (answer.status_code, answer.json()["code"]) == (422, "tenant_cannot_send")
            [error] = answer.json()["errors"]
            assert error["code"] == "7007"
            assert missing in error["detail"]
        assert await doors.counts() == before

    with_doors(database, work, **{missing: ""})


@pytest.mark.parametrize(("path", "asked"), [("/v1/messages", sms(NUMBER)), ("/v1/events", EVENTS)])
def test_the_clients_own_notifyurl_is_kept_with_the_submission(
    database: Database, path: str, asked: dict[str, Any]
) -> None:
    async def work(doors: Doors) -> None:
        url = "https://shop.example/receipts?a=1"
        answer = await doors.post(path, asked | {"notifyurl": url})
        assert answer.status_code == 202
        assert await doors.value("select notifyurl from submission") == url
        assert await doors.value("select forwards from tenant where id = $1", doors.tenant)

    with_doors(database, work)


@pytest.mark.parametrize("url", ["http://shop.example/receipts", "https://127.0.0.1/receipts", "https://10.1.2.3/"])
def test_a_notifyurl_that_may_never_be_told_is_refused(database: Database, url: str) -> None:
    async def work(doors: Doors) -> None:
        before = await doors.counts()
        answer = await doors.post("/v1/messages", sms(NUMBER, notifyurl=url))
        assert (answer.status_code, answer.json()["code"]) == (422, "rule_broken")
        assert [(e["pointer"], e["code"]) for e in answer.json()["errors"]] == [("/notifyurl", "7004")]
        assert await doors.counts() == before

    with_doors(database, work)


def test_a_tenant_that_uses_messaging_v2_has_its_messages_sent_there(database: Database) -> None:
    async def work(doors: Doors) -> None:
        assert (await doors.post("/v1/messages", sms(NUMBER))).status_code == 202
        assert (await doors.post("/v1/events", EVENTS)).status_code == 202
        assert [r["api"] for r in await doors.rows("select api from submission order by id")] == [
            Api.MESSAGING_V2,
            Api.EVENTS,
        ]

    with_doors(database, work, RECEIVER_PLATFORM_API="v2")


def test_the_children_of_an_event_are_listed_with_their_states(database: Database) -> None:
    def told(channel: str, status: str, destination: str, subtid: str = "") -> bytes:
        info = {"deliveryChannel": channel, "deliveryStatus": status, "destination": destination, "code": ""}
        raw = json.loads(body(info, "T-1"))
        raw["deliveryInfoNotification"]["subtid"] = subtid
        return json.dumps(raw).encode()

    async def work(doors: Doors) -> None:
        [event] = (await doors.post("/v1/events", {"events": [{"evtid": "late"}]})).json()["messages"]
        [other] = (await doors.post("/v1/events", {"events": [{"evtid": "late"}]})).json()["messages"]
        submission = await doors.submission_of(event["id"])
        for raw in (
            told("SMS", "Delivered", NUMBER, "node-1"),
            told("SMS", "Submitted", NUMBER, "node-2"),
            told("email", "Bounced", "ada@example.org"),
        ):
            await doors.tell(raw, submission)
        children = (await doors.get(event["id"]))["children"]
        assert [{k: v for k, v in child.items() if k != "id"} for child in children] == [
            {"channel": "sms", "destination": NUMBER, "subtid": "node-1", "state": "delivered"},
            {"channel": "sms", "destination": NUMBER, "subtid": "node-2", "state": "submitted"},
            {"channel": "email", "destination": "ada@example.org", "subtid": None, "state": "bounced"},
        ]
        assert (await doors.get(children[0]["id"]))["state"] == "delivered"
        assert (await doors.get(other["id"]))["children"] == []
        stranger = await doors.api.get(f"/v1/messages/{event['id']}", headers=doors.as_tenant("other"))
        assert stranger.status_code == 404
        assert await doors.value("select channel from message where id = $1", UUID(event["id"])) == Channel.EVENT

    with_doors(database, work, "other")
