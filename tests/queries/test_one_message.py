"""One message: what is known of it, leg by leg, and an ETag that changes when anything that is shown does."""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import uuid4

import pytest

from tests.queries.one import World, world
from tests.sending.platforms import receipt, tell
from tests.support import eventually


@pytest.fixture(scope="module")
def here(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(postgres, template, tmp_path_factory.mktemp("one"), "one_message") as made:
        yield made


def test_latencies_are_counted_from_when_the_message_was_taken(here: World) -> None:
    identity = here.send()[1][0]
    created = datetime.fromisoformat(here.get(identity)["created_at"])
    here.told(identity, "Submitted", stamp=(created - timedelta(seconds=1)).isoformat())
    here.told(identity, "Delivered", stamp=(created + timedelta(seconds=2.5)).isoformat())
    found = here.get(identity)
    assert found["latency"]["submitted"] == 0, "a clock that is behind makes nothing negative"
    assert found["latency"]["delivered"] == 2.5
    assert 0 <= found["latency"]["accepted"] < 30
    assert found["country"] == "GB"


def test_of_an_observed_message_no_latency_is_known(here: World) -> None:
    assert tell(here.receiver.notify_url(), receipt("Delivered", "7500", "447700811111", transid="T-seen")) == 200
    found = here.api.get("/v1/messages", params={"transid": "T-seen"}).json()["messages"][0]
    assert here.get(found["id"])["latency"] == {"accepted": None, "submitted": None, "delivered": None}


def test_each_leg_has_a_state_of_its_own(here: World) -> None:
    identity = here.send()[1][0]
    here.told(identity, "Delivered", number="447700822222", subtid="a", stamp="2026-01-01T10:00:00Z")
    here.told(identity, "Submitted", number="447700822222", subtid="a", stamp="2026-01-01T09:00:00Z")
    here.told(identity, "Failed", "7101", number="447700833333", subtid="b", carrier="EE")
    found = here.get(identity)
    legs = {leg["subtid"]: leg for leg in found["legs"]}
    assert set(legs) == {"a", "b"}
    assert legs["a"] == {
        "channel": "sms",
        "destination": "447700822222",
        "subtid": "a",
        "device": None,
        "carrier": None,
        "state": "delivered",
        "final": True,
        "code": None,
        "last_at": "2026-01-01T10:00:00Z",
        "receipts": 2,
    }
    assert (legs["b"]["state"], legs["b"]["code"], legs["b"]["carrier"]) == ("failed", "7101", "EE")
    assert found["state"] == "delivered"
    assert found["carrier"] == "EE"
    assert not found["conflict"], "a leg that failed contradicts no other"


def test_clicks_are_counted_with_the_last_of_their_times(here: World) -> None:
    identity = here.send()[1][0]
    here.told(identity, "Clicked", stamp="2026-01-01T10:00:00Z")
    here.told(identity, "Clicked", stamp="2026-01-01T12:00:00Z")
    found = here.get(identity)
    assert (found["clicks"], found["clicked_at"], found["complained_at"]) == (2, "2026-01-01T12:00:00Z", None)


def test_what_is_known_already_is_not_sent_again(here: World) -> None:
    identity = here.send()[1][0]
    path = f"/v1/messages/{identity}"
    first = here.api.get(path)
    tag = first.headers["etag"]
    for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        again = here.api.get(path, headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert here.api.get(path, headers={"if-none-match": '"other"'}).content == first.content
    unknown = here.api.get(f"/v1/messages/{uuid4()}", headers={"if-none-match": "*"})
    assert unknown.status_code == 404
    assert here.stranger.get(path, headers={"if-none-match": tag}).status_code == 404


def test_an_etag_is_another_one_as_soon_as_anything_that_is_shown_changes(here: World) -> None:
    identity = here.send()[1][0]
    path, seen = f"/v1/messages/{identity}", dict[str, bytes]()
    database = here.receiver.database

    def look(what: str) -> None:
        answer = here.api.get(path)
        assert answer.headers["etag"] not in seen, what
        assert answer.content not in seen.values(), what
        seen[answer.headers["etag"]] = answer.content
        again = here.api.get(path, headers={"if-none-match": answer.headers["etag"]})
        assert again.status_code == 304, f"the cheap look agrees with the whole one: {what}"

    look("as it was answered")
    here.told(identity, "Submitted", stamp="2026-01-01T09:00:00Z")
    look("a higher state")
    here.told(identity, "Submitted", stamp="2026-01-01T11:00:00Z")
    look("a receipt that changes no state")
    here.told(identity, "Teleported")
    look("an unknown status")
    here.told(identity, "Teleported", stamp="2026-01-01T11:00:00Z")
    look("another one, which changes no fact")
    database.fetch(
        "update receipt set description = 'read anew' where message_id = $1 and status = 'Submitted'", identity
    )
    look("receipts that were read anew")
    database.fetch(
        "insert into awaited (message_id, tenant, channel, look_at, overdue_at) select id, tenant, channel,"
        " now() + interval '9 days', now() - interval '1 second' from message_state where id = $1",
        identity,
    )
    look("overdue, which no version tells")
    database.fetch("update message set callback_data = 'erased' where id = $1", identity)
    look("a text that was erased")
    database.fetch(
        "insert into attempt (submission_id, number, at, outcome)"
        " select submission_id, 9, now(), 'throttled' from message where id = $1",
        identity,
    )
    look("one more call")


def test_a_wrong_id_or_parameter_is_named_at_once(here: World) -> None:
    identity = here.send()[1][0]
    wrong = {
        "wait=0": "wait",
        "wait=61": "wait",
        "wait=-1": "wait",
        "wait=": "wait",
        "wait=%00": "wait",
        "wait=5&until=never": "until",
        "until=final": "until",
        "wait=5&wait=6": "wait",
        "waits=5": "waits",
        "&".join(f"p{n}=1" for n in range(2000)): "",
    }
    for query, pointer in wrong.items():
        answer = here.api.get(f"/v1/messages/{identity}?{query}")
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_parameter"), query
        assert pointer in [error["pointer"] for error in answer.json()["errors"]], query
    assert here.api.get(f"/v1/messages/{identity}/explain?wait=3").json()["errors"][0]["pointer"] == "wait"
    for bad in ("x", "0" * 5000, identity[:-1], f"{identity}%00", "%F0%9F%98%80"):
        for door in ("", "/explain"):
            began = time.monotonic()
            answer = here.api.get(f"/v1/messages/{bad}{door}")
            assert (answer.status_code, answer.json()["code"]) == (400, "bad_id"), bad
            assert time.monotonic() - began < 2  # 0.05 on a machine that does nothing else


def test_a_merged_message_s_etag_is_of_the_one_that_it_became(here: World) -> None:
    number, transid = "447700844440", f"T-{uuid4()}"
    assert tell(here.receiver.notify_url(), receipt("Submitted", "7501", number, transid=transid)) == 200
    observed = here.api.get("/v1/messages", params={"transid": transid}).json()["messages"][0]["id"]
    body = {
        "request": {
            "deliverychannel": "sms",
            "channels": {"sms": {"text": "x"}},
            "destination": [{"msisdn": [number]}],
        },
        "answer": {"response": [{"code": "1001", "transid": transid, "description": "Queued"}]},
    }
    assert here.api.post("/v1/messages/sent", json=body).status_code == 201
    eventually(lambda: here.get(observed)["merged_from"] == observed)
    answer = here.api.get(f"/v1/messages/{observed}")
    again = here.api.get(f"/v1/messages/{observed}", headers={"if-none-match": answer.headers["etag"]})
    assert again.status_code == 304
    steps = here.explain(observed)["steps"]
    assert [step["copied"] for step in steps if step["feed"] == "push"] == [True]
    assert here.explain(observed)["merged_from"] == observed
