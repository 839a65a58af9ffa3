"""The other APIs of the platform: Messaging v2, Custom Event, Webex Campaign and the transaction status."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from receiver.sandbox import magic
from receiver.sandbox.channels import FAMILIES
from receiver.sandbox.scenario import CAMPAIGN, EVENTS, MESSAGING, STATUS, V2
from tests.sandbox import KEY, Stage, play
from tests.sandbox.test_answers import NUMBER, body

SAMPLES = Path(__file__).parent.parent / "samples"
BEARER = "Bearer c4mpaign"
CAMPAIGNS: dict[str, Any] = {"campaign_tokens": ("c4mpaign",)}


def event(children: object = None, **more: object) -> dict[str, Any]:
    parameters = {"name": "Jo"} if children is None else {"name": "Jo", "children": children}
    return {"evtid": "1201", "correlationid": "evt-1", "parameters": parameters} | more


async def fire(on: Stage, *events: dict[str, Any], **more: object) -> list[str]:
    """The transids that events were queued under."""
    answer = await on.call(EVENTS, {"events": list(events), "notifyurl": on.recorder.url, **more})
    response = answer.json()["response"]
    assert {(one["code"], one["description"]) for one in response} == {("1002", "Queued")}
    return [one["transid"] for one in response]


def legs(on: Stage) -> set[tuple[str, ...]]:
    """Transid, correlationid, subtid, channel and destination of each receipt."""
    found: set[tuple[str, ...]] = set()
    for one in on.recorder.notifications:
        info = one["deliveryInfo"]
        ids = one if "transid" in one else info
        found.add((ids["transid"], ids["correlationid"], ids["subtid"], info["deliveryChannel"], info["destination"]))
    return found


async def status_of(on: Stage, transid: str) -> list[dict[str, Any]]:
    answer = await on.client.get(f"{STATUS}/{transid}", headers={"key": KEY})
    assert answer.status_code == 200
    found: list[dict[str, Any]] = answer.json()
    return found


def test_messaging_v2_answers_201_and_its_message_id_is_the_transid_of_the_receipts() -> None:
    async def scene(on: Stage) -> None:
        request = body(
            destination=[{"msisdn": [magic.FAILED], "correlationId": "entry"}, {"msisdn": [magic.FAILED]}],
            correlationId="request",
            notifyUrl=on.recorder.url,
            callbackData="basket",
        )
        answer = await on.call(V2, request)
        assert answer.status_code == 201
        queued = answer.json()
        assert list(queued) == ["requestTimestamp", "messageId", "correlationId", "status"]
        assert (queued["correlationId"], queued["status"]) == ("request", "queued")
        assert datetime.fromisoformat(queued["requestTimestamp"]).tzinfo is not None
        await on.quiet()
        told = on.recorder.notifications
        assert {(one["transid"], one["callbackData"]) for one in told} == {(queued["messageId"], "basket")}
        assert {one["correlationid"] for one in told} == {"entry", "request"}
        assert (await on.ledger())["calls"] == {V2: {"1001": 1}}

    play(scene, transids="value")


def test_messaging_v2_does_not_read_the_spelling_of_v1() -> None:
    async def scene(on: Stage) -> None:
        answer = await on.call(V2, body(correlationid="mine", notifyurl=on.recorder.url))
        assert answer.json()["correlationId"] == ""
        assert (await on.ledger())["receipts"]["planned"] == 0

    play(scene)


def test_messaging_v2_refuses_under_400_with_code_and_message() -> None:
    async def scene(on: Stage) -> None:
        answer = await on.call(V2, body(route="FAST"))
        assert (answer.status_code, answer.json()) == (400, {"code": "7004", "message": "Invalid parameters: route"})
        assert (await on.call(V2, b"{")).json() == {"code": "7000", "message": "Invalid JSON"}

    play(scene)


def test_the_documented_custom_event_is_queued() -> None:
    async def scene(on: Stage) -> None:
        sample = (SAMPLES / "requests" / "custom-event.json").read_bytes()
        [queued] = (await on.call(EVENTS, sample)).json()["response"]
        assert list(queued) == ["code", "transid", "description"]
        assert queued["code"] == "1002"

    play(scene)


def test_the_children_of_an_event_share_its_ids_and_differ_in_channel_destination_and_subtid() -> None:
    async def scene(on: Stage) -> None:
        children = [f"sms/+{magic.DELIVERED}", f"sms/{magic.FAILED}/node-7", "email/jo@example.com", "twitter"]
        [transid] = await fire(on, event(children))
        await on.quiet()
        found = legs(on)
        assert {one[:2] for one in found} == {(transid, "evt-1")}
        told = {one[2:] for one in found}
        assert {one for one in told if one[1] != "twitter"} == {
            ("1", "SMS", magic.DELIVERED),
            ("node-7", "SMS", magic.FAILED),
            ("3", "email", "jo@example.com"),
        }
        [made_up] = [one for one in told if one[1] == "twitter"]
        assert made_up[0] == "4"
        assert made_up[2]

    play(scene, undelivered=0, failed=0)


@pytest.mark.parametrize(
    ("asked", "channels"),
    [
        (0, []),
        ("", None),
        ([], []),
        (None, ["sms"]),
        ("3", ["sms", "voice", "push"]),
        (15, [*FAMILIES, "sms"]),
        ("wa/447700900100, sms/447700900101", ["wa", "sms"]),
    ],
    ids=str,
)
def test_an_event_sends_as_many_children_as_its_parameter_says(asked: object, channels: list[str] | None) -> None:
    async def scene(on: Stage) -> None:
        if channels is None:
            answer = await on.call(EVENTS, {"events": [event(asked)]})
            assert answer.json()["response"]["code"] == "7004"
            return
        await fire(on, event(asked))
        [mine, *children] = await on.messages()
        assert (mine["channel"], mine["destination"], mine["correlationid"], mine["taken"]) == (
            "event",
            "1201",
            "evt-1",
            1,
        )
        assert [one["channel"] for one in children] == channels
        assert {one["correlationid"] for one in children} <= {"evt-1"}
        assert (await on.ledger())["taken"] == 1

    play(scene)


@pytest.mark.parametrize(("form", "answered"), [("request", 1), ("entry", 2), ("value", 2), ("suffixed", 1)])
def test_events_bear_the_transids_that_the_setting_says(form: str, answered: int) -> None:
    async def scene(on: Stage) -> None:
        child = f"sms/{magic.FAILED}"
        transids = await fire(on, event(child, correlationid="a"), event(child, correlationid="b"))
        assert len(set(transids)) == len(transids) == answered
        await on.quiet()
        borne = {one[1]: one[0] for one in legs(on)}
        expected = {
            "request": transids * 2,
            "entry": transids,
            "value": transids,
            "suffixed": [f"{transids[0]}_0", f"{transids[0]}_1"],
        }
        assert [borne["a"], borne["b"]] == expected[form]

    play(scene, transids=form)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (b"{", "7000"),
        ({}, "7004"),
        ({"events": []}, "7004"),
        ({"events": "1201"}, "7004"),
        ({"events": [{"correlationid": "a"}]}, "7004"),
        ({"events": [event(correlationid="é" * 26)]}, "7004"),
        ({"events": [event(parameters="x")]}, "7004"),
        ({"events": [event(["pigeon/1"])]}, "7004"),
        ({"events": [event(10_000), event(1)]}, "7004"),
        ({"events": [event()], "expiry": "tomorrow"}, "7004"),
        ({"events": [event()], "notifyurl": "ftp://127.0.0.1/"}, "7004"),
        ({"events": [event()], "expiry": "2030-04-12T18:51:19"}, "1002"),
        ({"events": [event()], "expiry": "2030-04-12T18:51:19.5+5:30"}, "1002"),
        ({"events": [event(0)] * 2_000}, "1002"),
    ],
    ids=lambda given: str(given)[:50],
)
def test_events_are_judged_by_their_own_table(request_: object, code: str) -> None:
    async def scene(on: Stage) -> None:
        response = (await on.call(EVENTS, request_)).json()["response"]
        assert (response[0] if isinstance(response, list) else response)["code"] == code

    play(scene)


def test_the_documented_campaign_event_is_answered_with_a_transaction_id_and_never_told() -> None:
    async def scene(on: Stage) -> None:
        sample = (SAMPLES / "requests" / "campaign-event.json").read_bytes()
        answer = await on.call(CAMPAIGN, sample, authorization=BEARER)
        assert (answer.status_code, list(answer.json())) == (200, ["transaction-id"])
        ledger = await on.ledger()
        assert (ledger["receipts"]["planned"], ledger["calls"]) == (0, {CAMPAIGN: {"accepted": 1}})
        [mine] = await on.messages()
        assert (mine["channel"], mine["destination"]) == ("campaign", "44839382928")

    play(scene, notifyurl="http://127.0.0.1:1/", **CAMPAIGNS)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (b"[", 1001),
        (b"[]", 1001),
        ({"event-id": None}, 1002),
        ({"event-key": ""}, 1002),
        ({"event-params": None}, 1001),
        ({"event-params": ["a"]}, 1001),
        ({"event-params": {"a": "NULL"}}, 1001),
        ({"event-params": {"a": "null"}}, 1001),
        ({"event-params": {"a": None}}, 1001),
        ({"event-params": {"a": {"b": [None]}}}, 1001),
        ({"event-params": {str(n): 1 for n in range(401)}}, 1001),
        ({"event-params": {"a": "x" * (24 * 1024 - 7)}}, 1001),
        (
            {
                "event-params": {
                    "a": "x" * (24 * 1024 - 8),
                }
            },
            None,
        ),
        ({"event-params": {str(n): "Null" for n in range(400)}}, None),
        ({"event-params": {}}, None),
    ],
    ids=lambda given: str(given)[:50],
)
@pytest.mark.parametrize("status", [200, 500])
def test_campaign_refuses_by_its_own_table_under_200_or_500(change: object, code: int | None, status: int) -> None:
    async def scene(on: Stage) -> None:
        request = {"event-id": "e", "event-key": "k"} | change if isinstance(change, dict) else change
        answer = await on.call(CAMPAIGN, request, authorization=BEARER)
        assert answer.json().get("code") == code
        assert answer.status_code == (200 if code is None else status)

    play(scene, campaign_status=status, **CAMPAIGNS)


def test_the_status_has_the_documented_shape() -> None:
    async def scene(on: Stage) -> None:
        request = on.sms(magic.DELIVERED, channels={"sms": {"text": "Hello", "senderid": "VM-CONNECT"}})
        [queued] = (await on.call(MESSAGING, request)).json()["response"]
        await on.quiet()
        [found] = await status_of(on, queued["transid"])
        [sample] = json.loads((SAMPLES / "answers" / "transaction-status.json").read_text())
        assert list(found) == list(sample)
        expected = {
            "transactionid": queued["transid"],
            "api_version": "v1",
            "from": "VM-CONNECT",
            "to": magic.DELIVERED,
            "channel": "SMS",
            "status": "delivered",
            "error_code": None,
            "error_message": None,
        }
        assert {name: found[name] for name in expected} == expected
        assert json.loads(found["body"]) == request
        for name in ("date_created", "last_updated"):
            datetime.strptime(found[name], "%a, %d %b %Y %H:%M:%S UTC")

    play(scene)


def test_the_status_knows_what_was_never_told() -> None:
    async def scene(on: Stage) -> None:
        numbers = (magic.DELIVERED, magic.UNDELIVERED, magic.FAILED, magic.SILENT)
        [transid] = await on.send(*numbers, notifyurl=None)
        found = {one["to"]: (one["status"], one["error_code"]) for one in await status_of(on, transid)}
        assert found == {
            magic.DELIVERED: ("delivered", None),
            magic.UNDELIVERED: ("failed", "7207"),
            magic.FAILED: ("failed", "7101"),
            magic.SILENT: ("sent", None),
        }
        assert await status_of(on, "another") == []

    play(scene, speed=0.0)


def test_the_status_is_queued_until_something_happens() -> None:
    async def scene(on: Stage) -> None:
        [transid] = await on.send(magic.DELIVERED)
        assert [one["status"] for one in await status_of(on, transid)] == ["queued"]

    play(scene, speed=100.0)


def test_the_status_of_a_call_has_words_of_its_own() -> None:
    async def scene(on: Stage) -> None:
        for _ in range(60):
            await on.post(
                on.sms(
                    deliverychannel="voice",
                    channels={"voice": {"callflowid": "917"}},
                    destination=[{"msisdn": [NUMBER]}],
                    notifyurl=None,
                )
            )
        transids = [one["transid"] for one in await on.messages()]
        words = {(await status_of(on, transid))[0]["status"] for transid in transids}
        assert words == {"answered", "no answer", "busy", "rejected", "others"}

    play(scene, speed=0.0, failed=0.8)


def test_the_status_is_found_under_the_answer_and_under_a_receipts_own_transid() -> None:
    async def scene(on: Stage) -> None:
        [transid] = await on.send(magic.DELIVERED, magic.FAILED)
        assert [one["to"] for one in await status_of(on, transid)] == [magic.DELIVERED, magic.FAILED]
        [second] = await status_of(on, f"{transid}_1")
        assert (second["to"], second["transactionid"]) == (magic.FAILED, transid)

    play(scene, transids="suffixed")


def test_the_status_forgets_what_the_ledger_forgets() -> None:
    async def scene(on: Stage) -> None:
        [first] = await on.send(magic.SILENT)
        [second] = await on.send(magic.SILENT)
        assert await status_of(on, first) == []
        assert len(await status_of(on, second)) == 1

    play(scene, kept=1)
