"""What the platform answers, and what becomes of the messages: refused, tried again, uncertain, joined by the key."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from tests.sending.platforms import Platform, Reply, queued, receipt, recording_platform, refused, sms, tell
from tests.support import PLATFORM_KEY, Database, Receiver, cloned, eventually, free_port, receiver_process

Message = dict[str, Any]


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    with recording_platform() as platform:
        yield platform


@pytest.fixture(scope="module")
def own(postgres: str, template: str) -> Iterator[Database]:
    with cloned(postgres, template, "answers") as database:
        yield database


@pytest.fixture(scope="module")
def receiver(own: Database, platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    folder = tmp_path_factory.mktemp("answers")
    with receiver_process(own, folder, platform_url=platform.url, RECEIVER_PLATFORM_TIMEOUT="1") as receiver:
        yield receiver
        # calls that hang would keep the process for as long as it may drain
        platform.let_go.set()


@pytest.fixture(scope="module")
def api(receiver: Receiver) -> Iterator[httpx2.Client]:
    with receiver.client(receiver.database.key()) as client:
        yield client


def send(api: httpx2.Client, body: Message) -> list[str]:
    answer = api.post("/v1/messages", json=body)
    assert answer.status_code == 202, answer.text
    return [message["id"] for message in answer.json()["messages"]]


def get(api: httpx2.Client, identity: str) -> Message:
    answer = api.get(f"/v1/messages/{identity}")
    assert answer.status_code == 200, answer.text
    found: Message = answer.json()
    return found


def until(api: httpx2.Client, identity: str, state: str) -> Message:
    def reached() -> Message | None:
        message = get(api, identity)
        return message if message["state"] == state else None

    found: Message = eventually(reached)
    return found


_last = iter(range(447700200000, 447700299999))


@pytest.fixture
def number() -> str:
    """A number that no other test uses."""
    return str(next(_last))


def test_the_platform_sees_our_ids_our_notifyurl_and_the_callback_as_given(
    api: httpx2.Client, platform: Platform, receiver: Receiver
) -> None:
    numbers = [str(next(_last)) for _ in range(3)]
    body = sms(callbackData="order=7&x=😀", correlationid="mine", expiry="2099-01-01T00:00:00Z", route="LCGD")
    body["destination"] = [{"msisdn": numbers[:2]}, {"msisdn": [numbers[2]], "correlationid": "its own"}]
    answer = api.post("/v1/messages", json=body)

    assert answer.status_code == 202
    assert answer.headers["content-type"] == "application/json"
    accepted = answer.json()
    assert set(accepted) == {"batch_id", "messages"}
    ids = [UUID(message["id"]) for message in accepted["messages"]]
    assert [(m["destination"], m["correlationid"], m["state"]) for m in accepted["messages"]] == [
        (numbers[0], "mine", "queued"),
        (numbers[1], "mine", "queued"),
        (numbers[2], "its own", "queued"),
    ]
    assert {identity.version for identity in [UUID(accepted["batch_id"]), *ids]} == {7}

    (call,) = eventually(lambda: platform.calls_to(numbers[0]))
    assert call.headers["key"] == PLATFORM_KEY
    assert call.body["destination"] == [
        {"msisdn": [value], "correlationid": str(identity)} for value, identity in zip(numbers, ids, strict=True)
    ]
    assert call.body["callbackData"] == "order=7&x=😀"
    assert call.body["notifyurl"].startswith(f"{receiver.url}/notify/")
    assert {k: call.body[k] for k in ("channels", "expiry", "route", "deliverychannel")} == {
        k: body[k] for k in ("channels", "expiry", "route", "deliverychannel")
    }
    assert b"mine" not in call.raw
    assert b"its own" not in call.raw
    for identity in ids:
        message = until(api, str(identity), "accepted")
        assert message["sent_correlationid"] == str(identity)
        assert message["callbackData"] == "order=7&x=😀"


def test_each_submission_has_a_notifyurl_of_its_own(api: httpx2.Client, platform: Platform, number: str) -> None:
    send(api, sms(number))
    send(api, sms(number))
    calls = eventually(lambda: len(found := platform.calls_to(number)) == 2 and found)
    assert calls[0].body["notifyurl"] != calls[1].body["notifyurl"]


def test_two_spellings_of_a_number_never_share_a_submission(api: httpx2.Client, platform: Platform) -> None:
    number = str(next(_last))
    spellings = [f"+{number}", f"00{number}", number, f"+{number[:2]} {number[2:]}"]
    other = str(next(_last))
    ids = send(api, sms(*spellings, other))
    for identity in ids:
        until(api, identity, "accepted")
    calls = [call for spelling in spellings for call in platform.calls_to(spelling)]
    assert len(calls) == 4
    assert [len(set(call.numbers) & set(spellings)) for call in calls] == [1, 1, 1, 1]
    assert sum(other in call.numbers for call in calls) == 1


def test_the_rows_are_committed_before_the_platform_is_called(
    api: httpx2.Client, platform: Platform, own: Database, number: str
) -> None:
    seen: list[tuple[str, bool, int]] = []

    def look(call: Any) -> Reply:
        row = own.fetch(
            "select m.id, s.content is not null as kept, st.state from message m join submission s on s.id = "
            "m.submission_id join message_state st on st.id = m.id where m.id = $1",
            call.ids[0],
        )[0]
        seen.append((str(row["id"]), row["kept"], row["state"]))
        return queued(str(uuid4()))

    platform.replies[number] = look
    (identity,) = send(api, sms(number))
    until(api, identity, "accepted")
    assert seen == [(identity, True, 0)]


def test_the_content_is_erased_with_the_final_answer(api: httpx2.Client, own: Database, number: str) -> None:
    (identity,) = send(api, sms(number, channels={"sms": {"text": "a secret word"}}))
    until(api, identity, "accepted")
    query = "select s.content, s.answered_at from submission s join message m on m.submission_id = s.id where m.id = $1"
    row = own.fetch(query, identity)[0]
    assert row["content"] is None
    assert row["answered_at"] is not None
    assert own.value("select count(*) from outbox") == 0


def test_a_refusal_under_200_is_a_refusal_with_its_reason(api: httpx2.Client, platform: Platform, number: str) -> None:
    platform.replies[number] = lambda _: refused("7004", "Invalid parameters")
    message = until(api, send(api, sms(number))[0], "refused")
    assert message["final"] is True
    assert message["reason"]["code"] == "7004"
    assert message["reason"]["text"]
    assert message["reason"]["description"] == "Invalid parameters"
    assert [(a["outcome"], a["http_status"], a["code"]) for a in message["attempts"]] == [("refused", 200, "7004")]
    assert len(platform.calls_to(number)) == 1


def test_one_of_several_that_is_refused_is_refused_alone(api: httpx2.Client, platform: Platform) -> None:
    first, second = str(next(_last)), str(next(_last))
    items = [
        {"code": "1001", "transid": str(uuid4()), "description": "Queued"},
        {"code": "7004", "description": "Invalid parameters"},
    ]
    platform.replies[first] = lambda _: (200, json.dumps({"response": items}).encode())
    good, bad = send(api, sms(first, second))
    until(api, good, "accepted")
    message = until(api, bad, "refused")
    assert [(entry["status"], entry["state"]) for entry in message["timeline"]] == [("refused", "refused")]


@pytest.mark.parametrize("code", ["7006", "7020"])
def test_a_passing_trouble_is_tried_again(api: httpx2.Client, platform: Platform, number: str, code: str) -> None:
    platform.replies[number] = lambda _: refused(code) if len(platform.calls_to(number)) < 2 else queued("t-" + number)
    message = until(api, send(api, sms(number))[0], "accepted")
    assert [(a["number"], a["outcome"]) for a in message["attempts"]] == [(1, "later"), (2, "accepted")]
    assert message["transid"] == "t-" + number
    first, second = platform.calls_to(number)
    assert first.raw == second.raw


def test_no_answer_is_uncertain_and_never_sent_twice_and_a_receipt_makes_it_delivered(
    api: httpx2.Client, platform: Platform, number: str
) -> None:
    platform.replies[number] = lambda _: None
    (identity,) = send(api, sms(number))
    message = until(api, identity, "uncertain")
    assert message["final"] is False
    assert message["attempts"][0]["outcome"] == "uncertain"
    until(api, send(api, sms(str(next(_last))))[0], "accepted")  # the dispatcher went on
    (call,) = platform.calls_to(number)
    assert tell(call.body["notifyurl"], receipt("Delivered", "7500", number, transid=f"late-{number}")) == 200
    assert until(api, identity, "delivered")["final"] is True
    assert len(platform.calls_to(number)) == 1
    for name, value in (("destination", number), ("correlationid", identity)):
        found = api.get("/v1/messages", params={name: value}).json()["messages"]
        assert [m["id"] for m in found] == [identity], name


@pytest.mark.parametrize(
    ("reply", "state"),
    [
        ((500, b"<html>garbage \x00\xff</html>"), "uncertain"),
        ((200, b""), "uncertain"),
        ((200, b"[[["), "uncertain"),
        ((302, b"{}"), "uncertain"),
        ((200, b'{"response":[]}'), "uncertain"),
        ((413, b"too large"), "refused"),
        ((500, refused("7004")[1]), "refused"),  # type: ignore[index]
        ((400, queued("t-400")[1]), "accepted"),  # type: ignore[index]
    ],
)
def test_the_code_decides_and_where_there_is_none_the_status(
    api: httpx2.Client, platform: Platform, number: str, reply: Reply, state: str
) -> None:
    platform.replies[number] = lambda _: reply
    message = until(api, send(api, sms(number))[0], state)
    assert len(message["attempts"]) == 1
    assert len(platform.calls_to(number)) == 1


def test_429_without_a_code_is_tried_again(api: httpx2.Client, platform: Platform, number: str) -> None:
    platform.replies[number] = lambda _: (429, b"slow down") if len(platform.calls_to(number)) < 2 else queued("x")
    until(api, send(api, sms(number))[0], "accepted")
    assert len(platform.calls_to(number)) == 2


@pytest.mark.parametrize("kind", ["request", "value", "suffixed", "too many"])
def test_receipts_that_do_not_echo_our_id_join_by_the_transid(
    api: httpx2.Client, platform: Platform, receiver: Receiver, kind: str
) -> None:
    numbers = [str(next(_last)) for _ in range(3)]
    base = str(uuid4())
    answered = {
        "request": [base],
        "suffixed": [base],
        "value": [f"{uuid4()}" for _ in numbers],
        "too many": [f"{uuid4()}" for _ in range(5)],
    }[kind]
    borne = {
        "request": [base] * 3,
        "suffixed": [f"{base}_{n}" for n in range(3)],
        "value": answered,
        "too many": answered[2:],
    }[kind]
    platform.replies[numbers[0]] = lambda _: queued(*answered)
    ids = send(api, sms(*numbers))
    for identity in ids:
        until(api, identity, "accepted")
    for number, transid in zip(numbers, borne, strict=True):
        told = receipt("Delivered", "7500", f"+{number}", transid=transid.upper())
        assert tell(receiver.notify_url(), told) == 200
    assert [get(api, identity)["state"] for identity in ids] == ["delivered"] * 3
    for identity, transid in zip(ids, borne, strict=True):
        found = api.get("/v1/messages", params={"transid": transid}).json()["messages"]
        assert identity in [m["id"] for m in found]
        assert all(m["origin"] == "issued" for m in found)


def test_a_receipt_that_comes_before_the_answer_and_bears_no_id_of_ours_is_one_message(
    api: httpx2.Client, platform: Platform, receiver: Receiver, number: str
) -> None:
    transid = str(uuid4())

    def tell_first(_call: Any) -> Reply:
        assert tell(receiver.notify_url(), receipt("Delivered", "7500", number, transid=transid)) == 200
        return queued(transid)

    platform.replies[number] = tell_first
    (identity,) = send(api, sms(number))
    until(api, identity, "delivered")
    found = api.get("/v1/messages", params={"destination": number}).json()["messages"]
    assert [(m["id"], m["origin"]) for m in found] == [(identity, "issued")]


def test_a_message_that_expired_is_never_sent(api: httpx2.Client, platform: Platform, number: str) -> None:
    message = until(api, send(api, sms(number, expiry="2020-01-01T00:00:00Z"))[0], "expired")
    assert "expired" in message["reason"]["text"]
    assert platform.calls_to(number) == []


def test_a_template_s_name_and_the_sender_are_shown(api: httpx2.Client, number: str) -> None:
    (identity,) = send(api, sms(number, message={"template": "welcome", "parameters": {"name": "Ada"}}))
    message = get(api, identity)
    assert (message["template"], message["sender"]) == ("welcome", "PARCEL")


def test_where_nobody_listens_the_message_waits_and_is_sent_once_somebody_does(
    fresh_own: Database, tmp_path_factory: pytest.TempPathFactory, number: str
) -> None:
    port = free_port()
    folder = tmp_path_factory.mktemp("nobody")
    address = f"http://127.0.0.1:{port}"
    settings = {"RECEIVER_KEEP_CONTENT": "yes"}
    with (
        receiver_process(fresh_own, folder, platform_url=address, **settings) as receiver,
        receiver.client(fresh_own.key()) as api,
    ):
        (identity,) = send(api, sms(number))
        message = eventually(lambda: (found := get(api, identity))["attempts"] and found)
        assert message["state"] == "queued"
        assert message["attempts"][0]["outcome"] == "not_sent"
        assert [w for w in api.get("/readyz").json()["warnings"] if "can't be reached" in w]
        with recording_platform(port) as platform:
            until(api, identity, "accepted")
            assert len(platform.calls_to(number)) == 1
        assert not [w for w in api.get("/readyz").json()["warnings"] if "can't be reached" in w]
        content = fresh_own.value("select content from submission")
        assert b"Your parcel is on its way" in content, "kept, for it was asked to be"


@pytest.fixture
def fresh_own(postgres: str, template: str) -> Iterator[Database]:
    with cloned(postgres, template, "nobody") as database:
        yield database
