"""From our doors to the simulated platform and back: each message and each child ends with what was told of it."""

from pathlib import Path
from typing import Any

import httpx2
import pytest

from receiver.sandbox import magic
from tests.sending.platforms import SandboxPlatform, receipt, sandbox_platform, sms, tell
from tests.support import Database, Receiver, eventually, receiver_process

FAST = 0.01
MAIL = "jo@example.com"


def settled(client: httpx2.Client, identity: str, *states: str) -> dict[str, Any]:
    def reached() -> dict[str, Any] | None:
        message: dict[str, Any] = client.get(f"/v1/messages/{identity}").json()
        return message if message["state"] in states else None

    found: dict[str, Any] = eventually(reached)
    return found


def told_by(platform: SandboxPlatform) -> list[dict[str, Any]]:
    page = httpx2.get(f"{platform.url}/sandbox/ledger/messages?limit=1000", trust_env=False).json()
    messages: list[dict[str, Any]] = page["messages"]
    return messages


def test_two_children_of_one_event_over_two_channels_keep_two_states(database: Database, tmp_path: Path) -> None:
    children = [f"sms/{magic.UNDELIVERED}/node-1", f"wa/{magic.DELIVERED}/node-2"]
    events = [
        {"evtid": "1201", "correlationid": "evt-1", "parameters": {"children": children, "name": "Jo"}},
        {"evtid": "1201", "correlationid": "evt-2", "parameters": {"children": 0}},
        {"evtid": "1202", "parameters": {"children": f"sms/{magic.DELIVERED}"}},
    ]
    with (
        sandbox_platform(speed=FAST, undelivered=0, failed=0) as platform,
        receiver_process(database, tmp_path, platform_url=platform.url) as receiver,
        receiver.client(database.key()) as client,
    ):
        answer = client.post("/v1/events", json={"events": events})
        assert answer.status_code == 202, answer.text
        two, none, one = (message["id"] for message in answer.json()["messages"])

        def arrived() -> list[dict[str, Any]] | None:
            found: list[dict[str, Any]] = client.get(f"/v1/messages/{two}").json()["children"]
            ended = {"undelivered", "delivered", "read"}
            return found if len(found) == 2 and {child["state"] for child in found} <= ended else None

        found = eventually(arrived)
        eventually(lambda: platform.sandbox.ledger.pending == 0)
        found = client.get(f"/v1/messages/{two}").json()["children"]
        by_channel = {child.pop("channel"): child for child in found}
        assert set(by_channel) == {"sms", "whatsapp"}
        sms_child, wa_child = by_channel["sms"], by_channel["whatsapp"]
        assert (sms_child["destination"], sms_child["subtid"]) == (magic.UNDELIVERED, "node-1")
        assert (wa_child["destination"], wa_child["subtid"]) == (magic.DELIVERED, "node-2")
        assert sms_child["state"] == "undelivered"
        assert wa_child["state"] in ("delivered", "read")
        for child in found:
            message = client.get(f"/v1/messages/{child['id']}").json()
            assert message["state"] == child["state"]
            assert message["children"] == []
            assert {line["channel"] for line in message["timeline"]} == {message["channel"]}
        event = client.get(f"/v1/messages/{two}").json()
        assert (event["state"], event["channel"], event["correlationid"]) == ("accepted", "event", "evt-1")
        assert event["transid"]
        assert settled(client, none, "accepted")["children"] == []
        [only] = client.get(f"/v1/messages/{one}").json()["children"]
        assert (only["channel"], only["state"]) == ("sms", "delivered")
        assert database.value("select count(*) from message") == 6


NUMBERS = (magic.UNDELIVERED, magic.DELIVERED, magic.FAILED)
FATES = {magic.UNDELIVERED: "undelivered", magic.DELIVERED: "delivered", magic.FAILED: "failed"}
ENTRIES = [
    {"msisdn": list(NUMBERS), "correlationid": "three"},
    {"msisdn": ["447700900777"]},
    {"msisdn": [magic.DELIVERED], "correlationid": "the same again"},
]


@pytest.mark.parametrize("transids", ["request", "entry", "value", "suffixed"])
def test_each_value_of_an_entry_joins_its_own_receipts_whichever_way_transids_come(
    database: Database, tmp_path: Path, transids: str
) -> None:
    with (
        sandbox_platform(speed=FAST, transids=transids, undelivered=0, failed=0) as platform,
        receiver_process(database, tmp_path, platform_url=platform.url) as receiver,
        receiver.client(database.key()) as client,
    ):
        answer = client.post("/v1/messages", json=sms(correlationid="of the request") | {"destination": ENTRIES})
        assert answer.status_code == 202, answer.text
        messages = answer.json()["messages"]
        assert [(m["destination"], m["correlationid"]) for m in messages] == [
            *((number, "three") for number in NUMBERS),
            ("447700900777", "of the request"),
            (magic.DELIVERED, "the same again"),
        ]
        expected = [FATES.get(m["destination"], "delivered") for m in messages]
        for message, state in zip(messages, expected, strict=True):
            settled(client, message["id"], state)
        eventually(lambda: platform.sandbox.ledger.pending == 0)
        borne = {m["correlationid"]: m for m in told_by(platform)}
        assert set(borne) == {m["id"] for m in messages}
        for message, state in zip(messages, expected, strict=True):
            found = client.get(f"/v1/messages/{message['id']}").json()
            assert found["state"] == state
            assert {line["destination"] for line in found["timeline"]} == {message["destination"]}
            _click_joins(client, receiver, message, borne[message["id"]]["transid"])
        assert database.value("select count(*) from message") == len(messages), "nothing was taken for another's"


def _click_joins(client: httpx2.Client, receiver: Receiver, message: dict[str, Any], transid: str) -> None:
    """A receipt that does not echo our id, under the transid that this value's receipts bear, is this message's."""
    told = receipt("Clicked", "7528", f"+{message['destination']}", transid=transid)
    assert tell(receiver.notify_url(), told) == 200
    found = client.get(f"/v1/messages/{message['id']}").json()
    assert found["clicks"] == 1
    listed = client.get("/v1/messages", params={"transid": transid}).json()["messages"]
    assert message["id"] in [one["id"] for one in listed]
