"""Recording what somebody else sent: its receipts join it, whichever way the transids came, and nothing is sent."""

import asyncio
import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from receiver.messages.lattice import State
from tests.receipts.tellings import body
from tests.sending.doors import Doors, with_doors
from tests.sending.platforms import sms
from tests.support import Database, now

ONE, TWO, THREE = "447700900001", "447700900002", "447700900003"


def answer(*transids: str, code: str = "1001") -> dict[str, Any]:
    return {"response": [{"code": code, "transid": transid, "description": "Queued"} for transid in transids]}


def refusal(code: str, description: str = "no") -> dict[str, Any]:
    return {"response": {"code": code, "description": description, "transid": "T-refused"}}


def told(status: str, number: str, transid: str, subtid: str = "", correlationid: str = "") -> bytes:
    info = {"deliveryChannel": "SMS", "deliveryStatus": status, "destination": number, "code": ""}
    raw = json.loads(body(info, transid, correlationid))
    raw["deliveryInfoNotification"]["subtid"] = subtid
    return json.dumps(raw).encode()


async def recorded(doors: Doors, request: dict[str, Any], reply: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    found = await doors.post("/v1/messages/sent", {"request": request, "answer": reply, **more})
    assert found.status_code == 201, found.text
    messages: list[dict[str, Any]] = found.json()["messages"]
    return messages


def test_a_recorded_message_is_kept_with_its_ids_and_nothing_is_sent(database: Database) -> None:
    async def work(doors: Doors) -> None:
        at = now() - timedelta(minutes=5)
        request = sms(ONE, correlationid="order-1", callbackData="shop 7", notifyurl="http://10.0.0.1/theirs")
        [message] = await recorded(doors, request, answer("T-1"), sent_at=at.isoformat())
        assert (message["destination"], message["correlationid"], message["state"]) == (ONE, "order-1", "accepted")
        found = await doors.get(message["id"])
        assert (found["origin"], found["state"], found["transid"]) == ("recorded", "accepted", "T-1")
        assert (found["sent_correlationid"], found["callbackData"]) == ("order-1", "shop 7")
        assert found["sent_at"] == found["accepted_at"] == at.isoformat().replace("+00:00", "Z")
        assert [(a["outcome"], a["code"]) for a in found["attempts"]] == [("accepted", "1001")]
        listed = await doors.api.get("/v1/messages", params={"origin": "recorded", "transid": "t-1"})
        assert [m["id"] for m in listed.json()["messages"]] == [message["id"]]
        assert await doors.value("select count(*) from outbox") == 0
        assert await doors.value("select count(*) from submission where content is not null") == 0
        assert await doors.value("select count(*) from submission where notifyurl is not null") == 0

    with_doors(database, work)


TWO_VALUES = [{"msisdn": [ONE]}, {"msisdn": [TWO, THREE]}]


@pytest.mark.parametrize(
    ("destination", "transids", "by_number"),
    [
        (TWO_VALUES, ["T"], {ONE: "T", TWO: "T", THREE: "T"}),
        (TWO_VALUES, ["A", "B"], {ONE: "A", TWO: "B", THREE: "B"}),
        (TWO_VALUES, ["A", "B", "C"], {ONE: "A", TWO: "B", THREE: "C"}),
        (TWO_VALUES, ["T_0", "T_1", "T_2"], {ONE: "T_0", TWO: "T_1", THREE: "T_2"}),
        (TWO_VALUES, ["T"], {ONE: "T_10977_1", TWO: "T_10977_2", THREE: "T_10977_3"}),
    ],
    ids=["one a request", "one an entry", "one a value", "suffixed", "suffixed in the receipts alone"],
)
def test_receipts_join_whichever_way_the_transids_came(
    database: Database, destination: list[dict[str, Any]], transids: list[str], by_number: dict[str, str]
) -> None:
    async def work(doors: Doors) -> None:
        messages = await recorded(doors, sms() | {"destination": destination}, answer(*transids))
        statuses = {ONE: "Delivered", TWO: "Undelivered", THREE: "Submitted"}
        for number, transid in by_number.items():
            await doors.tell(told(statuses[number], f"+{number}", transid))
        states = {message["destination"]: (await doors.state(message["id"])).word for message in messages}
        assert states == {number: status.lower() for number, status in statuses.items()}
        assert await doors.value("select count(*) from message where origin <> 3") == 0

    with_doors(database, work)


def test_the_node_of_a_flow_that_tells_does_not_matter(database: Database) -> None:
    async def work(doors: Doors) -> None:
        [message] = await recorded(doors, sms(ONE), answer("T-1"))
        await doors.tell(told("Submitted", ONE, "T-1", subtid="node-1"))
        await doors.tell(told("Delivered", ONE, "T-1", subtid="node-2"))
        assert await doors.state(message["id"]) is State.DELIVERED
        assert await doors.value("select count(*) from message") == 1

    with_doors(database, work)


@pytest.mark.parametrize("subtid", ["", "node-1"])
def test_what_was_observed_before_is_merged_into_it(database: Database, subtid: str) -> None:
    async def work(doors: Doors) -> None:
        await doors.tell(told("Submitted", ONE, "T-1", subtid, correlationid="order-1"))
        await doors.tell(told("Delivered", ONE, "T-1", subtid, correlationid="order-1"))
        observed = await doors.value("select id from message")
        messages = await recorded(doors, sms(ONE, TWO, correlationid="order-1"), answer("T-1"))
        assert [m["state"] for m in messages] == ["accepted", "accepted"], "what the answer proves"
        assert [await doors.state(m["id"]) for m in messages] == [State.DELIVERED, State.ACCEPTED]
        found = await doors.get(str(observed))
        assert (found["id"], found["merged_from"]) == (messages[0]["id"], str(observed))
        assert sorted(entry["feed"] for entry in found["timeline"]) == ["answer", "push", "push"]

    with_doors(database, work)


def test_a_number_alone_joins_nothing(database: Database) -> None:
    async def work(doors: Doors) -> None:
        [message] = await recorded(doors, sms(ONE, correlationid="order-1"), answer("T-1"))
        await doors.tell(told("Delivered", ONE, "T-2", correlationid="order-1"))
        await doors.tell(told("Delivered", TWO, "T-1"))
        assert await doors.state(message["id"]) is State.ACCEPTED
        assert await doors.value("select count(*) from message where origin = 2") == 2

    with_doors(database, work)


def test_a_receipt_of_another_submission_is_forged(database: Database) -> None:
    async def work(doors: Doors) -> None:
        [message] = await recorded(doors, sms(ONE), answer("T-1"))
        sent = (await doors.post("/v1/messages", sms(TWO, THREE))).json()["messages"][0]["id"]
        await doors.tell(told("Delivered", ONE, "T-1"), await doors.submission_of(sent))
        assert await doors.state(message["id"]) is State.ACCEPTED
        assert await doors.value("select reason from quarantine") == "forged"

    with_doors(database, work)


@pytest.mark.parametrize("code", ["7004", "7006", "7001", "7020"])
def test_a_refused_send_is_recorded_as_refused_with_its_reason(database: Database, code: str) -> None:
    async def work(doors: Doors) -> None:
        messages = await recorded(doors, sms(ONE, TWO), refusal(code))
        assert [m["state"] for m in messages] == ["refused", "refused"]
        found = await doors.get(messages[1]["id"])
        assert (found["state"], found["reason"]["code"]) == ("refused", code)
        assert await doors.value("select count(*) from message_key") == 0
        assert await doors.value("select count(*) from outbox") == 0

    with_doors(database, work)


def test_of_a_mixed_answer_each_entry_has_its_own_state(database: Database) -> None:
    async def work(doors: Doors) -> None:
        items = [*answer("A")["response"], {"code": "7004", "description": "Invalid"}, {"transid": "C"}]
        messages = await recorded(doors, sms(ONE, TWO, THREE), {"response": items})
        assert [m["state"] for m in messages] == ["accepted", "refused", "uncertain"]
        assert [(await doors.state(m["id"])).word for m in messages] == ["accepted", "refused", "uncertain"]

    with_doors(database, work)


def test_the_same_send_told_twice_is_recorded_once(database: Database) -> None:
    async def work(doors: Doors) -> None:
        await recorded(doors, sms(ONE, TWO), answer("T-1"))
        after = await doors.counts()
        for request in (sms(ONE, TWO), sms(TWO)):
            again = await doors.post("/v1/messages/sent", {"request": request, "answer": answer("t-1_7")})
            assert (again.status_code, again.json()["code"]) == (409, "already_recorded")
        assert await doors.counts() == after
        # the same transid for another recipient is another message of that call
        await recorded(doors, sms(THREE), answer("T-1"))

    with_doors(database, work)


def test_of_two_that_record_one_send_at_once_one_succeeds(database: Database) -> None:
    async def work(doors: Doors) -> None:
        for n in range(10):
            told_of = {"request": sms(ONE, TWO), "answer": answer(f"T{n}x")}
            answers = await asyncio.gather(*(doors.post("/v1/messages/sent", told_of) for _ in range(4)))
            assert sorted(a.status_code for a in answers) == [201, 409, 409, 409]
        assert await doors.value("select count(*) from message") == 20

    with_doors(database, work)


def test_receipts_that_race_the_record_find_it_all_the_same(database: Database) -> None:
    async def work(doors: Doors) -> None:
        for n in range(15):
            told_of = {"request": sms(ONE, TWO), "answer": answer(f"T{n}x")}
            made, *_ = await asyncio.gather(
                doors.post("/v1/messages/sent", told_of), doors.tell(told("Delivered", ONE, f"T{n}x", "node"))
            )
            one, two = made.json()["messages"]
            assert (await doors.state(one["id"]), await doors.state(two["id"])) == (State.DELIVERED, State.ACCEPTED)

    with_doors(database, work)


def test_another_tenants_transids_are_nobodys_business(database: Database) -> None:
    async def work(doors: Doors) -> None:
        told_of = {"request": sms(ONE), "answer": answer("T-1")}
        theirs = await doors.api.post("/v1/messages/sent", json=told_of, headers=doors.as_tenant("other"))
        assert theirs.status_code == 201, "one that listens needs no credentials"
        [ours] = await recorded(doors, sms(ONE), answer("T-1"))
        await doors.tell(told("Delivered", ONE, "T-1"))
        assert await doors.state(ours["id"]) is State.DELIVERED
        assert await doors.state(theirs.json()["messages"][0]["id"]) is State.ACCEPTED

    with_doors(database, work, "other")


GOOD = {"request": sms(ONE), "answer": answer("T-1")}


@pytest.mark.parametrize(
    ("wrong", "errors"),
    [
        ([], {("", "7004")}),
        ({}, {("/request", "7004"), ("/answer", "7003")}),
        (GOOD | {"answer": None}, {("/answer", "7003")}),
        (GOOD | {"answer": {"response": []}}, {("/answer", "7004")}),
        (GOOD | {"answer": {"response": [{"transid": "T"}]}}, {("/answer", "7004")}),
        (GOOD | {"answer": "queued"}, {("/answer", "7004")}),
        (GOOD | {"sent_at": "yesterday"}, {("/sent_at", "7004")}),
        (GOOD | {"sent_at": "2026-01-01T00:00:00"}, {("/sent_at", "7004")}),
        (GOOD | {"sent_at": 7}, {("/sent_at", "7004")}),
        (
            GOOD | {"request": {**sms(ONE), "destination": [{"msisdn": [["x"]]}]}},
            {("/request/destination/0/msisdn/0", "7004")},
        ),
    ],
)
def test_what_can_not_be_recorded_is_named(database: Database, wrong: Any, errors: set[tuple[str, str]]) -> None:
    async def work(doors: Doors) -> None:
        before = await doors.counts()
        found = await doors.post("/v1/messages/sent", wrong)
        assert (found.status_code, found.json()["code"]) == (422, "rule_broken")
        assert {(e["pointer"], e["code"]) for e in found.json()["errors"]} == errors
        assert await doors.counts() == before

    with_doors(database, work)


def test_an_answer_is_refused_however_deep_it_is_nested(database: Database) -> None:
    async def work(doors: Doors) -> None:
        for depth in range(100, 1_100, 25):
            content = f'{{"request": {json.dumps(sms(ONE))}, "answer": {"[" * depth}{"]" * depth}}}'
            found = await doors.api.post("/v1/messages/sent", content=content)
            assert (found.status_code, found.json()["code"]) in ((422, "rule_broken"), (400, "not_json")), depth

    with_doors(database, work)


def test_a_send_that_is_told_to_be_in_the_future_was_made_now(database: Database) -> None:
    async def work(doors: Doors) -> None:
        later = (now() + timedelta(hours=1)).isoformat()
        [message] = await recorded(doors, sms(ONE), answer("T-1"), sent_at=later)
        accepted = await doors.value("select accepted_at from message_state where id = $1", UUID(message["id"]))
        assert accepted <= now()

    with_doors(database, work)
