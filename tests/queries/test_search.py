"""Searching: by every id and filter, page after page, and never into another tenant's messages."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import httpx2
import pytest

from tests.sending.platforms import Call, Reply, queued, receipt, recording_platform, refused, sms, tell
from tests.support import Receiver, cloned, eventually, receiver_process

MANY = [str(447700300000 + n) for n in range(23)]
DELIVERED, FAILED, ELSEWHERE, REFUSED, BOTH, OBSERVED = (str(447700400000 + n) for n in range(6))
OTHER_NUMBER = "447700499999"


@dataclass
class World:
    """A receiver with messages of all kinds, and the ids of those that are asked for."""

    receiver: Receiver
    api: httpx2.Client
    stranger: httpx2.Client
    ids: dict[str, str]
    batches: dict[str, str]

    def find(self, **filters: Any) -> list[str]:
        """The ids of all messages that the filters let through, over all pages."""
        return [message["id"] for message in self.messages(**filters)]

    def messages(self, **filters: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            answer = self.api.get("/v1/messages", params={**filters, **cursor})
            assert answer.status_code == 200, answer.text
            page = answer.json()
            found += page["messages"]
            if not page["next_cursor"]:
                return found
            assert page["messages"], "a page that promises more is not empty"
            cursor = {"cursor": page["next_cursor"]}

    def get(self, identity: str) -> dict[str, Any]:
        found: dict[str, Any] = self.api.get(f"/v1/messages/{identity}").json()
        return found


def reply(call: Call) -> Reply:
    if call.numbers == [REFUSED]:
        return refused("7004", "Invalid parameters")
    return queued(f"T-{call.numbers[0]}")


@pytest.fixture(scope="module")
def world(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("search")
    config = folder / "receiver.toml"
    with recording_platform() as platform:
        platform.reply = reply
        config.write_text(f"[tenant.other]\nplatform_url = '{platform.url}'\nplatform_key = 'x'\n")
        with (
            cloned(postgres, template, "search") as database,
            receiver_process(database, folder, platform_url=platform.url, RECEIVER_CONFIG=str(config)) as receiver,
            receiver.client(database.key()) as api,
            receiver.client(database.key(tenant="other")) as stranger,
        ):
            world = World(receiver, api, stranger, {}, {})
            _fill(world)
            yield world


def _was_called(client: httpx2.Client, path: str) -> bool:
    return bool(client.get(path).json()["attempts"])


def _fill(world: World) -> None:
    def send(client: httpx2.Client, *numbers: str, **more: Any) -> None:
        answer = client.post("/v1/messages", json=sms(*numbers, **more))
        assert answer.status_code == 202, answer.text
        accepted = answer.json()
        world.ids.update({m["destination"]: m["id"] for m in accepted["messages"]})
        world.batches[numbers[0]] = accepted["batch_id"]

    for number in (DELIVERED, FAILED, ELSEWHERE, REFUSED, BOTH):
        send(world.api, number, correlationid=f"c-{number}", callbackData=f"d-{number}")
    send(world.api, *MANY, callbackData="many")
    send(world.stranger, OTHER_NUMBER, correlationid=f"c-{DELIVERED}")
    for number, client in ((n, world.stranger if n == OTHER_NUMBER else world.api) for n in list(world.ids)):
        path = f"/v1/messages/{world.ids[number]}"
        eventually(partial(_was_called, client, path))
    told = [
        receipt("Delivered", "7500", DELIVERED, transid=f"T-{DELIVERED}"),
        receipt("Failed", "7101", FAILED, transid=f"T-{FAILED}"),
        receipt("Delivered", "7500", OTHER_NUMBER, correlationid=world.ids[ELSEWHERE], transid=f"T-{ELSEWHERE}"),
        receipt("Delivered", "7500", BOTH, transid=f"T-{BOTH}"),
        receipt("Failed", "7202", BOTH, transid=f"T-{BOTH}"),
        receipt("Submitted", "7501", OBSERVED, transid="T-observed_12", correlationid="theirs"),
    ]
    for body in told:
        assert tell(world.receiver.notify_url(), body) == 200
    found = world.api.get("/v1/messages", params={"transid": "T-observed"}).json()["messages"]
    world.ids[OBSERVED] = found[0]["id"]


def test_a_message_is_found_by_every_id_that_it_has(world: World) -> None:
    mine = world.ids[DELIVERED]
    assert world.find(transid=f"T-{DELIVERED}") == [mine]
    assert world.find(transid=f"t-{DELIVERED}_0") == [mine]
    assert world.find(correlationid=f"c-{DELIVERED}") == [mine]
    assert world.find(correlationid=mine) == [mine]
    assert world.find(correlationid=mine.upper()) == [mine]
    assert world.find(callbackData=f"d-{DELIVERED}") == [mine]
    assert world.find(batch_id=world.batches[DELIVERED]) == [mine]
    assert world.find(correlationid="nobody's") == []


NAMES = ("transid", "correlationid", "destination", "batch_id", "callbackData", "code")


def _names(world: World, number: str, code: str) -> dict[str, str]:
    names = (f"T-{number}", f"c-{number}", number, world.batches[number], f"d-{number}", code)
    return dict(zip(NAMES, names, strict=True))


@pytest.mark.parametrize("first", range(len(NAMES)), ids=NAMES)
def test_names_that_are_asked_for_together_must_all_be_the_message_s(world: World, first: int) -> None:
    together = NAMES[first:]
    mine, another = _names(world, FAILED, "7101"), _names(world, BOTH, "7202")
    asked = {name: mine[name] for name in together}
    assert world.find(**asked) == [world.ids[FAILED]]
    for wrong in together if len(together) > 1 else ():
        assert world.find(**{**asked, wrong: another[wrong]}) == [], wrong


def test_several_values_of_a_name_are_any_of_them(world: World) -> None:
    both = sorted([world.ids[DELIVERED], world.ids[FAILED]], reverse=True)
    mine, other = world.ids[DELIVERED], world.ids[FAILED]
    assert world.find(destination=[DELIVERED, f"+{FAILED}", DELIVERED], limit=1) == both
    assert world.find(transid=[f"T-{DELIVERED}", f"T-{FAILED}"], limit=1) == both
    assert world.find(correlationid=[mine, f"c-{DELIVERED}", f"c-{FAILED}", other], limit=1) == both
    assert world.find(batch_id=[world.batches[FAILED], world.batches[DELIVERED]], limit=1) == both
    assert world.find(transid=f"T-{ELSEWHERE}", destination=[OTHER_NUMBER]) == [world.ids[ELSEWHERE]]


@pytest.mark.parametrize("spelling", ["{}", "+{}", "00{}", "tel:+{}", "+44 7700 400000"])
def test_a_recipient_is_found_in_any_spelling(world: World, spelling: str) -> None:
    assert world.find(destination=spelling.format(DELIVERED)) == [world.ids[DELIVERED]]


def test_a_recipient_is_found_as_asked_and_as_a_receipt_told(world: World) -> None:
    assert world.find(destination=ELSEWHERE) == [world.ids[ELSEWHERE]]
    assert world.find(destination=f"+{OTHER_NUMBER}") == [world.ids[ELSEWHERE]]


def test_filters_of_state_code_channel_and_origin(world: World) -> None:
    assert set(world.find(state="failed")) == {world.ids[FAILED]}
    assert set(world.find(state="refused")) == {world.ids[REFUSED]}
    assert set(world.find(state=["failed", "refused"])) == {world.ids[FAILED], world.ids[REFUSED]}
    assert set(world.find(state="delivered")) == {world.ids[n] for n in (DELIVERED, ELSEWHERE, BOTH)}
    assert set(world.find(state=["delivered", "failed"])) == {
        world.ids[n] for n in (DELIVERED, ELSEWHERE, BOTH, FAILED)
    }
    assert world.find(code="7101") == [world.ids[FAILED]]
    assert world.find(code="7004") == [world.ids[REFUSED]]
    assert world.find(code="7101", state="delivered") == []
    assert set(world.find(state="any_failure")) == {world.ids[FAILED], world.ids[REFUSED]}
    assert set(world.find(state=["any_failure", "delivered"])) == {
        world.ids[n] for n in (DELIVERED, ELSEWHERE, BOTH, FAILED, REFUSED)
    }
    assert world.find(origin="observed") == [world.ids[OBSERVED]]
    assert world.ids[OBSERVED] not in world.find(origin="issued")
    assert len(world.find(channel="sms")) == len(MANY) + 6
    assert world.find(channel="voice") == []


def test_a_contradiction_is_found_as_a_conflict(world: World) -> None:
    assert world.find(conflict="true") == [world.ids[BOTH]]
    assert world.ids[BOTH] not in world.find(conflict="false")


def test_the_time_of_creation_bounds_a_search(world: World) -> None:
    at = datetime.fromisoformat(world.get(world.ids[OBSERVED])["created_at"])
    later = (at + timedelta(seconds=1)).isoformat()
    assert world.find(created_from=later) == []
    assert len(world.find(created_to=later)) == len(MANY) + 6
    first = world.get(world.ids[DELIVERED])["created_at"]
    assert world.ids[DELIVERED] in world.find(created_from=first)
    assert world.ids[DELIVERED] not in world.find(created_to=first)
    assert world.find(created_from="2100-01-01T00:00:00+05:30") == []


@pytest.mark.parametrize("limit", [1, 2, 5, 22, 23, 24, 1000])
def test_pages_cover_everything_once_and_newest_first(world: World, limit: int) -> None:
    found = world.find(callbackData="many", limit=limit)
    assert found == sorted((world.ids[number] for number in MANY), reverse=True)


def test_pages_go_on_where_they_were_though_new_messages_come(world: World) -> None:
    page = world.api.get("/v1/messages", params={"channel": "sms", "limit": 3}).json()
    told = receipt("Submitted", "7501", "447700400099", transid="T-new")
    assert tell(world.receiver.notify_url(), told) == 200
    rest = world.find(channel="sms", limit=7, cursor=page["next_cursor"]) if page["next_cursor"] else []
    assert not {m["id"] for m in page["messages"]} & set(rest)
    assert world.find(transid="T-new")[0] not in rest


def test_a_cursor_is_good_for_its_own_query_alone(world: World) -> None:
    cursor = world.api.get("/v1/messages", params={"callbackData": "many", "limit": 2}).json()["next_cursor"]
    for filters in ({}, {"callbackData": "other"}, {"callbackData": "many", "state": "queued"}):
        answer = world.api.get("/v1/messages", params={**filters, "cursor": cursor})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "cursor")
    for broken in (cursor[:-1], cursor + "A", "!", cursor[::-1]):
        answer = world.api.get("/v1/messages", params={"callbackData": "many", "cursor": broken})
        assert answer.status_code == 400


def test_another_tenant_sees_nothing(world: World) -> None:
    mine = world.ids[DELIVERED]
    for filters in (
        {"transid": f"T-{DELIVERED}"},
        {"correlationid": mine},
        {"callbackData": f"d-{DELIVERED}"},
        {"destination": DELIVERED},
        {"batch_id": world.batches[DELIVERED]},
        {"code": "7101"},
        {"state": "failed"},
        {"conflict": "true"},
        {"origin": "observed"},
    ):
        found = world.stranger.get("/v1/messages", params=filters).json()
        assert found == {"messages": [], "next_cursor": None, "total": None}
    assert world.stranger.get(f"/v1/messages/{mine}").status_code == 404
    ours = world.stranger.get("/v1/messages").json()["messages"]
    assert [message["id"] for message in ours] == [world.ids[OTHER_NUMBER]]
    assert world.find(correlationid=f"c-{DELIVERED}") == [mine]


def test_a_timeline_is_in_order_and_tells_who_said_what(world: World) -> None:
    message = world.get(world.ids[FAILED])
    assert message["state"] == "failed"
    assert {entry["feed"] for entry in message["timeline"]} == {"answer", "push"}
    pushed = next(entry for entry in message["timeline"] if entry["feed"] == "push")
    assert (pushed["status"], pushed["state"], pushed["code"]) == ("Failed", "failed", "7101")
    assert pushed["text"] == message["reason"]["text"]
    times = [datetime.fromisoformat(entry["at"]) for entry in message["timeline"]]
    assert times == sorted(times)


def test_an_observed_message_shows_the_client_s_own_correlationid(world: World) -> None:
    message = world.get(world.ids[OBSERVED])
    assert (message["origin"], message["correlationid"], message["sent_correlationid"]) == (
        "observed",
        "theirs",
        "theirs",
    )
    assert message["state"] == "submitted"


@pytest.mark.parametrize("told", ["tel:+44 7700 477-123", "TEL: 447700477124", "sip:447700477125"])
def test_last_digits_find_what_was_told_with_a_scheme_in_front(world: World, told: str) -> None:
    assert tell(world.receiver.notify_url(), receipt("Submitted", "7501", told, transid=f"T-{told[-3:]}")) == 200
    found = world.find(destination_end=f"07700 477{told[-3:]}")
    assert found == world.find(destination_end=f"77{told[-3:]}") == world.find(transid=f"T-{told[-3:]}")
    assert len(found) == 1
