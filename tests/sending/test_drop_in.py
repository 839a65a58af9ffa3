"""The drop-in doors under trouble: what the platform says is what the client hears, and nothing is sent later."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.sending.platforms import Call, Platform, Reply, queued, recording_platform, refused, sms
from tests.support import PLATFORM_KEY, Database, Receiver, eventually, receiver_process

PATH = "/resources/v1/messaging"
ONE, TWO = "447700900001", "447700900002"


@contextmanager
def dropped_in(database: Database, folder: Path, **settings: str) -> Iterator[tuple[Platform, Receiver]]:
    with (
        recording_platform() as platform,
        receiver_process(
            database, folder, platform_url=platform.url, **{"RECEIVER_PLATFORM_TIMEOUT": "2", **settings}
        ) as receiver,
    ):
        yield platform, receiver


def post(receiver: Receiver, body: dict[str, Any], path: str = PATH, **headers: str) -> httpx2.Response:
    return httpx2.post(
        receiver.url + path, json=body, headers={"key": PLATFORM_KEY, **headers}, timeout=60, trust_env=False
    )


def states(database: Database) -> list[int]:
    return [row["state"] for row in database.fetch("select state from message_state order by id")]


def test_the_platforms_bytes_and_status_are_handed_on(database: Database, tmp_path: Path) -> None:
    odd: dict[str, Reply] = {
        "447700900010": queued("t-1"),
        "447700900011": (
            202,
            b'{ "response" : [ {"code": 1001, "transid":"t-2","description":"Queued in burst mode"} ] }',
        ),
        "447700900012": refused("7004", "Invalid parameters", 400),
        "447700900013": refused("7020", "max transaction limit"),
        "447700900014": refused("7006", "Internal error occurred", 500),
    }
    with dropped_in(database, tmp_path) as (platform, receiver):
        for number, reply in odd.items():
            platform.replies[number] = lambda _call, reply=reply: reply  # type: ignore[misc]
        for number, reply in odd.items():
            assert reply is not None
            answer = post(receiver, sms(number))
            assert (answer.status_code, answer.content) == reply, number
            if b"7020" in reply[1]:  # the lane is slowed down by it, which is not what is looked at here
                database.fetch("update lane set pauses = 0, paused_until = null")
        assert states(database) == [10, 10, 42, 42, 42]
        assert database.value("select count(*) from outbox") == 0, "what was refused is not tried again"
        assert len(platform.calls) == len(odd)
        assert all(call.headers["key"] == PLATFORM_KEY for call in platform.calls)


def test_a_platform_that_does_not_answer_is_7006_under_200_and_the_message_uncertain(
    database: Database, tmp_path: Path
) -> None:
    with dropped_in(database, tmp_path) as (platform, receiver):
        platform.reply = lambda _call: None
        answer = post(receiver, sms(ONE))
        assert (answer.status_code, answer.json()["response"]["code"]) == (200, "7006")
        assert states(database) == [5]
        assert len(platform.calls) == 1


def test_a_platform_that_is_not_there_is_7006_and_nothing_is_sent_later(database: Database, tmp_path: Path) -> None:
    with receiver_process(database, tmp_path, platform_url="http://127.0.0.1:9") as receiver:
        answer = post(receiver, sms(ONE))
        assert (answer.status_code, answer.json()["response"]["code"]) == (200, "7006")
        assert states(database) == [42]
        assert database.value("select count(*) from outbox") == 0


def test_a_client_that_hangs_up_does_not_undo_its_call(database: Database, tmp_path: Path) -> None:
    called, go_on = threading.Event(), threading.Event()

    def slowly(call: Call) -> Reply:
        called.set()
        assert go_on.wait(10)
        return queued(str(uuid4()))

    with dropped_in(database, tmp_path, RECEIVER_PLATFORM_TIMEOUT="10") as (platform, receiver):
        platform.reply = slowly
        with pytest.raises(httpx2.TimeoutException):
            httpx2.post(receiver.url + PATH, json=sms(ONE), headers={"key": PLATFORM_KEY}, timeout=1, trust_env=False)
        assert called.wait(5)
        go_on.set()
        eventually(lambda: states(database) == [10])
        assert len(platform.calls) == 1


def test_an_idempotency_key_replays_the_platforms_answer(database: Database, tmp_path: Path) -> None:
    with dropped_in(database, tmp_path) as (platform, receiver):
        platform.reply = lambda _call: queued(str(uuid4()))
        answers = [post(receiver, sms(ONE), **{"idempotency-key": "k-1"}) for _ in range(2)]
        assert answers[0].content == answers[1].content
        assert [answer.headers.get("idempotency-replayed") for answer in answers] == [None, "true"]
        assert len(platform.calls) == 1
        other = post(receiver, sms(TWO), **{"idempotency-key": "k-1"})
        assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")


def test_the_same_key_twice_at_once_is_one_call(database: Database, tmp_path: Path) -> None:
    called, go_on = threading.Event(), threading.Event()

    def slowly(_call: Call) -> Reply:
        called.set()
        assert go_on.wait(10)
        return queued("t-1")

    heard: list[bytes] = []
    with dropped_in(database, tmp_path, RECEIVER_PLATFORM_TIMEOUT="10") as (platform, receiver):
        platform.reply = slowly
        calls = [
            threading.Thread(
                target=lambda: heard.append(post(receiver, sms(ONE), **{"idempotency-key": "k-1"}).content)
            )
            for _ in range(2)
        ]
        for call in calls:
            call.start()
        assert called.wait(10)
        go_on.set()
        for call in calls:
            call.join(30)
        assert heard[0] == heard[1]
        assert json.loads(heard[0])["response"][0]["transid"] == "t-1"
        assert len(platform.calls) == 1


def test_more_than_one_call_makes_one_envelope(database: Database, tmp_path: Path) -> None:
    with dropped_in(database, tmp_path, RECEIVER_ENTRIES_PER_CALL="2") as (platform, receiver):
        platform.reply = lambda call: queued(*(f"t-{number}" for number in call.numbers))
        numbers = [f"44770090001{n}" for n in range(5)]
        answer = post(receiver, sms(*numbers))
        assert [item["transid"] for item in answer.json()["response"]] == [f"t-{number}" for number in numbers]
        assert len(platform.calls) == 3


@pytest.mark.parametrize("refused_first", [True, False])
def test_one_call_that_may_have_been_sent_makes_the_request_no_refusal(
    database: Database, tmp_path: Path, refused_first: bool
) -> None:
    """Its client corrects and sends again what was refused, all of it."""
    with dropped_in(database, tmp_path, RECEIVER_ENTRIES_PER_CALL="1") as (platform, receiver):
        platform.replies[ONE if refused_first else TWO] = lambda _call: refused("7004")
        platform.replies[TWO if refused_first else ONE] = lambda _call: (502, b"a gateway")
        answer = post(receiver, sms(ONE, TWO))
        assert (answer.status_code, answer.json()["response"]["code"]) == (200, "7006")
        assert sorted(states(database)) == [5, 42]


def test_the_platforms_word_for_its_bytes_is_handed_on(database: Database, tmp_path: Path) -> None:
    with dropped_in(database, tmp_path) as (platform, receiver):
        for told in ("text/html", "application/json;charset=ISO-8859-1"):
            platform.headers = {"content-type": told}
            platform.reply = lambda _call: (200, b"<p>\xe9")
            answer = post(receiver, sms(ONE))
            assert (answer.headers["content-type"], answer.content) == (told, b"<p>\xe9")


def test_what_has_expired_is_not_to_be_sent_again_as_it_is(database: Database, tmp_path: Path) -> None:
    with dropped_in(database, tmp_path) as (platform, receiver):
        said = post(receiver, sms(ONE, expiry="2015-04-12T13:00:19.456Z")).json()["response"]
        assert said["code"] == "7004"
        assert "expired" in said["description"]
        assert (platform.calls, states(database)) == ([], [41])


def test_an_answer_that_can_not_be_kept_is_told_all_the_same(database: Database, tmp_path: Path) -> None:
    with dropped_in(database, tmp_path) as (platform, receiver):
        platform.reply = lambda _call: queued("t-1")
        database.fetch("alter table batch add constraint nothing_is_kept check (answer is null)")
        answer = post(receiver, sms(ONE), **{"idempotency-key": "k-1"})
        assert (answer.status_code, answer.json()["response"][0]["transid"]) == (200, "t-1")
        assert states(database) == [10]


def test_of_several_calls_each_entry_is_answered_in_its_place(database: Database, tmp_path: Path) -> None:
    def by_number(call: Call) -> Reply:
        if "447700900013" in call.numbers:
            return refused("7004")
        return queued(*(f"t-{number}-{len(platform.calls)}" for number in call.numbers))

    with dropped_in(database, tmp_path, RECEIVER_ENTRIES_PER_CALL="2") as (platform, receiver):
        platform.reply = by_number
        one, two, other = "447700900011", "447700900012", "447700900013"
        answer = post(receiver, sms(one, one, two, other))  # goes out as [one, two] and [one, other]
        codes = [(item["code"], item["transid"][:14]) for item in answer.json()["response"]]
        assert [code for code, _ in codes] == ["1001", "7004", "1001", "7004"]
        assert [codes[0][1], codes[2][1]] == [f"t-{one}", f"t-{two}"]


def test_an_entry_of_which_the_answer_proves_nothing_is_uncertain(database: Database, tmp_path: Path) -> None:
    items = [{"code": code, "transid": f"t-{code}", "description": "so"} for code in ("1001", "1002", "7004")]
    with dropped_in(database, tmp_path) as (platform, receiver):
        platform.reply = lambda _call: (200, json.dumps({"response": items}).encode())
        assert post(receiver, sms("447700900011", "447700900012", "447700900013")).json() == {"response": items}
        assert states(database) == [10, 5, 42]


def test_events_are_answered_with_their_own_code(database: Database, tmp_path: Path) -> None:
    reply = 200, json.dumps({"response": [{"code": "1002", "transid": "t-1", "description": "Queued"}]}).encode()
    with dropped_in(database, tmp_path) as (platform, receiver):
        platform.replies = {}
        platform.take = lambda call: platform.calls.append(call) or reply  # type: ignore[method-assign,func-returns-value]
        answer = post(
            receiver,
            {"events": [{"evtid": "1201", "correlationid": "evt-1", "parameters": {"a": "1"}}]},
            "/resources/v1/events/externalevent",
        )
        assert (answer.status_code, answer.content) == reply
        (event,) = platform.calls[0].body["events"]
        assert event["parameters"] == {"a": "1"}
        assert event["correlationid"] == str(database.value("select id from message"))
        assert states(database) == [10]


def test_a_tenant_of_the_second_version_answers_a_client_of_the_first(database: Database, tmp_path: Path) -> None:
    answers = iter(
        [(201, b'{"messageId":"m-1","status":"queued"}'), (400, b'{"code":"7004","message":"no"}'), (401, b"")]
    )
    with dropped_in(database, tmp_path, RECEIVER_PLATFORM_API="v2") as (platform, receiver):
        platform.reply = lambda _call: next(answers)
        said = [post(receiver, sms(ONE)) for _ in range(3)]
        assert [answer.status_code for answer in said] == [200, 200, 200]
        assert said[0].json() == {"response": [{"code": "1001", "transid": "m-1", "description": "Queued"}]}
        assert [answer.json()["response"]["code"] for answer in said[1:]] == ["7004", "7001"]
        assert "notifyUrl" in platform.calls[0].body
