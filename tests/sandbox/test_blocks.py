"""Every channel of Messaging: what the documents demand of its block, and what they leave open."""

import json
from pathlib import Path
from typing import Any

import pytest

from receiver.sandbox import request
from receiver.sandbox.answers import Refused
from receiver.sandbox.request import ID_TYPES
from receiver.sandbox.settings import SandboxSettings
from tests.sandbox import KEY, Stage, play

SETTINGS = SandboxSettings(keys=(KEY,))
SAMPLES = sorted(
    path for path in (Path(__file__).parent.parent / "samples" / "requests").glob("*.json") if "event" not in path.name
)
TEXT = {"text": "Hello"}
BLOCKS: dict[str, dict[str, Any]] = {
    "sms": {"sms": TEXT},
    "voice": {"voice": {"callflowid": "917"}},
    "push": {"push": {"pushref": "p-1"}},
    "rt": {"appmessaging": TEXT},
    "appmessaging": {"appmessaging": TEXT},
    "fb": {"OTT-Messaging": {"fb": TEXT}},
    "twitter": {"OTT-Messaging": {"twitter": TEXT}},
    "wa": {"OTT-Messaging": {"wa": TEXT}},
    "wechat": {"OTT-Messaging": {"wechat": TEXT}},
}
TEMPLATE = {"message": {"template": "1138", "parameters": {"parameter1": "Jo"}}}


def code_of(channel: str, channels: dict[str, Any], **more: Any) -> str:
    body = {
        "deliverychannel": channel,
        "channels": channels,
        "destination": [{"customerid": ["cust-9"]}],
        "notifyurl": "http://127.0.0.1/notify/a",
        **more,
    }
    try:
        request.read(json.dumps(body).encode(), SETTINGS)
    except Refused as refused:
        return refused.code
    return "1001"


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_every_documented_request_is_queued(sample: Path) -> None:
    content = sample.read_bytes()

    async def scene(on: Stage) -> None:
        answer = await on.post(content)
        assert answer.json()["response"][0]["code"] == "1001", answer.text

    assert len(SAMPLES) == 7
    play(scene)


@pytest.mark.parametrize("channel", BLOCKS)
def test_any_id_type_comes_with_any_channel(channel: str) -> None:
    for id_type in ID_TYPES:
        value = "push-1@key-1" if id_type == "firefox_pushid" else "anybody"
        assert code_of(channel, BLOCKS[channel], destination=[{id_type: [value]}]) == "1001", id_type
    assert len(ID_TYPES) == 11
    assert code_of(channel, BLOCKS[channel], destination=[{"faxnumber": ["1"]}]) == "7003"


@pytest.mark.parametrize("value", ["push-1", "@key", "push-1@", " @ "])
def test_a_firefox_push_id_without_its_key_is_refused(value: str) -> None:
    assert code_of("push", BLOCKS["push"], destination=[{"firefox_pushid": ["a@b", value]}]) == "7004"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"callflowid": "917"}, "1001"),
        ({"media": "https://example.com/a.wav"}, "1001"),
        ({"promptid": "7"}, "1001"),
        ({"callflowid": "917", "promptid": "7"}, "1001"),
        ({"callflowid": "917", "media": "a.wav"}, "7004"),
        ({"media": "a.wav", "promptid": "7"}, "7004"),
        ({"callflowid": "917", "media": "a.wav", "promptid": "7"}, "7004"),
        ({"cli": "448000000000"}, "7003"),
    ],
    ids=str,
)
def test_voice_takes_one_source_or_a_call_flow_with_a_prompt(given: dict[str, str], code: str) -> None:
    assert code_of("voice", {"voice": given}) == code


@pytest.mark.parametrize(
    ("channel", "block", "code"),
    [
        ("fb", {"fb": {"attachment": {"type": "image"}}}, "1001"),
        ("fb", {"Messenger": TEXT}, "1001"),
        ("fb", {"fb": {}}, "7003"),
        ("fb", {"wa": TEXT}, "7003"),
        ("fb", {"fb": "Hello"}, "7004"),
        ("fb", {"fb": {"text": 5}}, "7004"),
        ("wechat", {"wechat": {"attachment": {"type": "image"}}}, "1001"),
        ("wechat", {"wechat": {"attachment": {"type": "image"}, "text": "wins"}}, "1001"),
        ("wechat", {"wechat": {"extras": {}}}, "7003"),
        ("twitter", {"twitter": {"text": "é" * 70}}, "1001"),
        ("twitter", {"twitter": {"text": "é" * 70 + "a"}}, "7004"),
        ("twitter", {"twitter": {"attachment": {}}}, "7003"),
        ("wa", {"wa": {"attachment": {"type": "image"}}}, "7003"),
        ("wa", {"wa": TEXT | {"unknown": [1]}, "fb": "another channel's passes unread"}, "1001"),
    ],
    ids=str,
)
def test_a_chat_block_holds_its_channel_and_says_something(channel: str, block: dict[str, Any], code: str) -> None:
    assert code_of(channel, {"OTT-Messaging": block}) == code


@pytest.mark.parametrize(
    ("push", "code"),
    [
        ({"ios": {"text": "é" * 2_048}, "android": {"text": "é" * 2_048, "priority": "5"}}, "1001"),
        ({"ios": {"text": "é" * 2_048 + "a"}}, "7004"),
        ({"android": {"text": "é" * 2_048 + "a"}}, "7004"),
        ({"android": {"text": "a", "priority": "6"}}, "7004"),
        ({"android": "a"}, "7004"),
        ({"windows": {"title": "a"}, "web": {"platorm_types": ["chrome"]}, "interactive": {"x": 1}}, "1001"),
    ],
    ids=lambda given: str(given)[:40],
)
def test_a_push_holds_its_devices_to_their_lengths(push: dict[str, Any], code: str) -> None:
    assert code_of("push", {"push": push}) == code


@pytest.mark.parametrize(
    ("links", "code"),
    [
        ([{"linkid": "12", "validity": "60"}, {"linkid": 12, "validity": 60}, {"linkid": "12"}], "1001"),
        ([{"validity": "60"}], "7003"),
        ([{"linkid": "12", "validity": "an hour"}], "7004"),
        ([{"linkid": "12", "validity": True}], "7004"),
        ({"linkid": "12"}, "7004"),
    ],
    ids=str,
)
@pytest.mark.parametrize("channel", ["sms", "rt", "wa"])
def test_smart_links_stand_beside_the_channel(channel: str, links: object, code: str) -> None:
    assert code_of(channel, BLOCKS[channel] | {"smartlinks": links}) == code


@pytest.mark.parametrize("channel", BLOCKS)
def test_a_template_needs_no_text_and_bears_one(channel: str) -> None:
    [name] = BLOCKS[channel]
    assert code_of(channel, {name: {"senderid": "RAIL"}}, **TEMPLATE) == "1001"
    assert code_of(channel, BLOCKS[channel], **TEMPLATE) == "1001"
    assert code_of(channel, {"other": {}}, **TEMPLATE) == "7003"


@pytest.mark.parametrize(
    "expiry",
    [
        "2015-04-12T13:00:19.456Z",
        "2015-04-12T13:00:19Z",
        "2015-04-12T18:30:19.456+5:30",
        "2015-04-12T18:30:19.456+05:30",
        "2015-04-12T18:30:19-11:00",
    ],
)
def test_an_expiry_is_taken_in_every_documented_spelling(expiry: str) -> None:
    assert code_of("sms", BLOCKS["sms"], expiry=expiry) == "1001"


@pytest.mark.parametrize("expiry", ["2015-04-12T13:00:19", "12.04.2015", "2015-04-12T13:00:19.4567Z"])
def test_an_expiry_in_another_spelling_is_refused(expiry: str) -> None:
    assert code_of("sms", BLOCKS["sms"], expiry=expiry) == "7004"


@pytest.mark.parametrize("priority", ["1", "3", "9", "high", 2, None])
def test_any_priority_is_taken(priority: object) -> None:
    assert code_of("sms", BLOCKS["sms"], priority=priority) == "1001"


@pytest.mark.parametrize(("route", "code"), [("IMMD", "1001"), ("LCGD", "1001"), ("LCBE", "1001"), ("FAST", "7004")])
def test_a_route_is_one_of_three(route: str, code: str) -> None:
    assert code_of("sms", BLOCKS["sms"], route=route) == code


@pytest.mark.parametrize("channel", BLOCKS)
def test_every_channel_is_told_to_the_notifyurl(channel: str) -> None:
    async def scene(on: Stage) -> None:
        await on.post(
            {
                "deliverychannel": channel,
                "channels": BLOCKS[channel],
                "destination": [{"customerid": ["cust-9"], "correlationid": "c-1"}],
                "notifyurl": on.recorder.url,
            }
        )
        await on.quiet()
        told = on.recorder.notifications
        assert {(one if "correlationid" in one else one["deliveryInfo"])["correlationid"] for one in told} == {"c-1"}

    play(scene, undelivered=0, failed=0)
