"""What the sandbox replies at once."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from receiver.sandbox.answers import Refused
from receiver.sandbox.request import read
from receiver.sandbox.settings import SandboxSettings
from tests.sandbox import KEY, Stage, play

NUMBER = "447700900004"
SETTINGS = SandboxSettings(keys=(KEY,))


def body(**more: object) -> dict[str, Any]:
    request: dict[str, Any] = {
        "deliverychannel": "sms",
        "channels": {"sms": {"text": "test", "type": "1"}},
        "destination": [{"msisdn": [NUMBER]}],
    }
    return {name: value for name, value in (request | more).items() if value is not ...}


def code_of(request: object) -> str:
    content = request if isinstance(request, bytes) else json.dumps(request).encode()
    try:
        read(content, SETTINGS)
    except Refused as refused:
        return str(refused.code)
    return "1001"


def test_a_good_request_is_queued_in_the_array_envelope() -> None:
    async def scene(on: Stage) -> None:
        answer = await on.post(body())
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        [queued] = answer.json()["response"]
        assert list(queued) == ["code", "transid", "description"]
        assert (queued["code"], queued["description"]) == ("1001", "Queued")
        UUID(queued["transid"])

    play(scene)


def test_refusals_come_under_http_200_in_the_object_envelope_with_a_transid() -> None:
    async def scene(on: Stage) -> None:
        async def refused(request: object, key: str | None = KEY) -> tuple[str, str]:
            answer = await on.post(request, key)
            assert answer.status_code == 200
            response = answer.json()["response"]
            assert list(response) == ["code", "description", "transid"]
            UUID(response["transid"])
            return response["code"], response["description"]

        assert await refused(body(), "another key") == ("7001", "Authentication failed.")
        assert await refused(body(), None) == ("7002", "Service key missing")
        assert await refused(b"{") == ("7000", "Invalid JSON")
        assert await refused({}) == (
            "7003",
            "Mandatory parameters missing: deliverychannel, channels, destination",
        )
        assert await refused(body(route="FAST")) == ("7004", "Invalid parameters: route")
        assert (await refused(body(destination=[{"msisdn": [NUMBER]}] * 1001)))[0] == "7009"
        ledger = (await on.client.get("/sandbox/ledger")).json()
        assert ledger["submissions"] == {
            "7000": 1,
            "7001": 1,
            "7002": 1,
            "7003": 1,
            "7004": 1,
            "7009": 1,
        }
        assert ledger["messages"] == {}

    play(scene)


def test_refusals_can_come_under_http_400() -> None:
    async def scene(on: Stage) -> None:
        answer = await on.post(body(), "another key")
        assert answer.status_code == 400
        assert answer.json()["response"]["code"] == "7001"

    play(scene, refusal_status=400)


def test_each_configured_key_is_let_in() -> None:
    async def scene(on: Stage) -> None:
        for key in ("one", "two"):
            assert (await on.post(body(), key)).json()["response"][0]["code"] == "1001"
        assert (await on.post(body(), KEY)).json()["response"]["code"] == "7001"

    play(scene, keys=("one", "two"))


def test_a_body_beyond_the_limit_is_not_read() -> None:
    async def scene(on: Stage) -> None:
        answer = await on.post(b" " * (16 * 1024 * 1024 + 1))
        assert answer.status_code == 413

    play(scene)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"null", b'"sms"', b'{"a": "\xff"}', b'{"a": "\\ud800abcdefgh"}', b"[" * 100_000, b"{} {}"],
    ids=lambda content: repr(content[:16]),
)
def test_what_is_not_a_json_object_is_7000(content: bytes) -> None:
    assert code_of(content) == "7000"


@pytest.mark.parametrize(
    "change",
    [
        {"deliverychannel": ...},
        {"channels": ...},
        {"destination": ...},
        {"destination": None},
        {"destination": []},
        {"destination": [{}]},
        {"destination": [{"msisdn": []}]},
        {"destination": [{"msisdn": [" "]}]},
        {"destination": [{"correlationid": "a"}]},
        {"channels": {"push": {}}},
        {"channels": {"sms": {}}},
        {"channels": {"sms": {"type": "3", "text": "no body"}}},
        {"deliverychannel": "voice"},
    ],
    ids=str,
)
def test_a_missing_mandatory_field_is_7003(change: dict[str, object]) -> None:
    assert code_of(body(**change)) == "7003"


@pytest.mark.parametrize(
    "change",
    [
        {"deliverychannel": "pigeon"},
        {"deliverychannel": 7},
        {"channels": "sms"},
        {"channels": {"sms": "text"}},
        {"channels": {"sms": {"text": "a", "type": "5"}}},
        {"channels": {"sms": {"text": "a", "type": 0}}},
        {"channels": {"sms": {"text": "é" * 513}}},
        {"channels": {"sms": {"type": "3", "body": "abc"}}},
        {"destination": "447700900004"},
        {"destination": ["447700900004"]},
        {"destination": [{"msisdn": "447700900004"}]},
        {"destination": [{"msisdn": [447700900004]}]},
        {"destination": [{"msisdn": [NUMBER], "customerid": ["c"]}]},
        {"destination": [{"msisdn": [NUMBER], "correlationid": "é" * 26}]},
        {"correlationid": "é" * 26},
        {"correlationid": 5},
        {"callbackData": "x" * 2001},
        {"expiry": "tomorrow"},
        {"expiry": "2030-02-30T13:00:19.456Z"},
        {"notifyurl": "not a url"},
        {"notifyurl": "ftp://127.0.0.1/"},
        {"notifyurl": "http://127.0.0.1:99999/"},
    ],
    ids=lambda change: str(change)[:60],
)
def test_a_wrong_value_is_7004(change: dict[str, object]) -> None:
    assert code_of(body(**change)) == "7004"


@pytest.mark.parametrize(
    "change",
    [
        {"destination": [{"msisdn": [NUMBER]}] * 1000},
        {"destination": [{"msisdn": [NUMBER] * 3}] * 400},
        {"destination": [{"msisdn": ["2105"], "correlationid": "é" * 25}]},
        {"channels": {"sms": {"text": "é" * 512, "type": 4}, "push": "passes unread"}},
        {"channels": {"sms": {"senderid": "RAIL"}}, "message": {"template": "1138"}},
        {"channels": {"sms": {"type": "3", "body": "00ff"}}},
        {"callbackData": "é" * 2000},
        {"priority": "whatever", "expiry": "2030-04-12T18:30:19.456+5:30"},
    ],
    ids=lambda change: str(change)[:60],
)
def test_what_is_just_allowed_is_queued(change: dict[str, object]) -> None:
    assert code_of(body(**change)) == "1001"


@pytest.mark.parametrize(
    ("channel", "block"),
    [
        ("voice", {"voice": {"callflowid": "917"}}),
        ("push", {"push": {"pushref": "p"}}),
        ("rt", {"appmessaging": {"text": "Hello"}}),
        ("appmessaging", {"appmessaging": {"text": "Hello"}}),
        ("wechat", {"OTT-Messaging": {"wechat": {"text": "Hello"}}}),
    ],
)
def test_other_channels_are_queued(channel: str, block: dict[str, object]) -> None:
    request = body(deliverychannel=channel, channels=block, destination=[{"customerid": ["cust-9"]}])
    assert code_of(request) == "1001"


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/notify",
        "http://10.0.0.7/notify",
        "http://0.0.0.0/notify",
        "http://127.0.0.1@example.com/",
        "http://127.0.0.1\\@example.com/",
        "http://localhost.example.com/",
        "http://127.0.0.1.example.com/",
    ],
)
def test_a_notifyurl_that_is_not_loopback_is_refused_with_the_reason(url: str) -> None:
    with pytest.raises(Refused, match="the host is not loopback") as caught:
        read(json.dumps(body(notifyurl=url)).encode(), SETTINGS)
    assert caught.value.code == "7004"
    allowed = SandboxSettings(keys=(KEY,), strangers=True)
    assert read(json.dumps(body(notifyurl=url)).encode(), allowed).notifyurl is not None


@pytest.mark.parametrize("url", ["http://127.0.0.9:80/", "https://localhost/x", "http://[::1]:8080/x"])
def test_a_loopback_notifyurl_is_taken(url: str) -> None:
    assert code_of(body(notifyurl=url)) == "1001"


def test_secrets_are_not_in_the_repr_of_the_settings() -> None:
    shown = repr(SandboxSettings(keys=("s3cret",), notifyurl="http://127.0.0.1/notify/t0ken"))
    assert "s3cret" not in shown
    assert "t0ken" not in shown


def test_all_bad_settings_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"keys: .*; speed: .*; notifyurl: the host is not loopback"):
        SandboxSettings(keys=(), speed=-1, notifyurl="https://example.com/")


def test_the_sandbox_imports_no_other_room() -> None:
    folder = Path(__file__).parents[2] / "receiver" / "sandbox"
    for module in folder.glob("*.py"):
        lines = [line for line in module.read_text().splitlines() if line.startswith(("from ", "import "))]
        ours = [line for line in lines if "receiver" in line]
        assert all(line.startswith("from receiver.sandbox") for line in ours), module.name
