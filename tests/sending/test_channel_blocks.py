"""Each delivery channel demands its block and keeps the rules that the platform states; all else passes through."""

from typing import Any

import msgspec
import pytest

from receiver.messages.lattice import Channel
from receiver.sending.channel_blocks import WAYS
from receiver.sending.request import Request, check
from tests.sending.asking import broken, good, sample

OTT = "OTT-Messaging"
# The least that each delivery channel takes.
LEAST: dict[str, dict[str, Any]] = {
    "sms": {"sms": {"text": "Hello"}},
    "voice": {"voice": {"callflowid": "917"}},
    "push": {"push": {"ios": {"text": "Hello"}}},
    "rt": {"appmessaging": {"text": "Hello"}},
    "appmessaging": {"appmessaging": {"text": "Hello"}},
    "fb": {OTT: {"fb": {"text": "Hello"}}},
    "twitter": {OTT: {"twitter": {"text": "Hello"}}},
    "wa": {OTT: {"wa": {"text": "Hello"}}},
    "wechat": {OTT: {"wechat": {"text": "Hello"}}},
}
BLOCKS = {word: next(iter(channels)) for word, channels in LEAST.items()}
TEMPLATE = {"message": {"template": "1138", "parameters": {"parameter1": "Jo"}}}


def body_of(word: str, channels: Any, **more: Any) -> dict[str, Any]:
    return {"deliverychannel": word, "channels": channels, "destination": [{"customerid": ["cust-9"]}]} | more


def asked(word: str, channels: Any, **more: Any) -> Request:
    return good(check(body_of(word, channels, **more)))


def refused(word: str, channels: Any, **more: Any) -> dict[str, str]:
    """Pointer, within `channels`, and code of each broken rule."""
    errors = broken(check(body_of(word, channels, **more)))
    return {pointer.removeprefix("/channels"): code for pointer, code in errors.items()}


def rules_broken(word: str, channels: Any) -> dict[str, str]:
    """As `refused`, and nothing for what passes."""
    return {} if isinstance(check(body_of(word, channels)), Request) else refused(word, channels)


def test_all_nine_delivery_channels_are_known() -> None:
    assert list(WAYS) == ["sms", "voice", "push", "rt", "appmessaging", "fb", "twitter", "wa", "wechat"] == list(LEAST)


@pytest.mark.parametrize(
    ("word", "channel"),
    [
        ("sms", Channel.SMS),
        ("voice", Channel.VOICE),
        ("push", Channel.PUSH),
        ("rt", Channel.RT),
        ("appmessaging", Channel.RT),
        ("fb", Channel.MESSENGER),
        ("twitter", Channel.TWITTER),
        ("wa", Channel.WHATSAPP),
        ("wechat", Channel.WECHAT),
    ],
)
def test_each_delivery_channel_is_a_family_of_the_lattice(word: str, channel: Channel) -> None:
    assert asked(word, LEAST[word]).channel is channel


@pytest.mark.parametrize(
    "name", ["appmessaging", "push", "sms-documented-minimum", "sms-template", "sms", "voice-callflow", "wechat"]
)
def test_every_documented_request_passes_as_it_is(name: str) -> None:
    body = sample(f"{name}.json")
    request = good(check(body))
    kept = {k: v for k, v in body.items() if k not in ("destination", "correlationid")}
    assert msgspec.json.decode(request.content) == kept
    assert len(request.messages) == sum(len(v) for e in body["destination"] for v in e.values() if isinstance(v, list))


@pytest.mark.parametrize("word", LEAST)
def test_the_named_block_is_required(word: str) -> None:
    others = {block: value for channels in LEAST.values() for block, value in channels.items() if block != BLOCKS[word]}
    assert refused(word, others) == {f"/{BLOCKS[word]}": "7003"}
    assert refused(word, {BLOCKS[word]: None}, **TEMPLATE) == {f"/{BLOCKS[word]}": "7003"}


@pytest.mark.parametrize("word", LEAST)
@pytest.mark.parametrize("block", [[], "text", 5, True])
def test_a_block_that_is_no_object_is_wrong(word: str, block: Any) -> None:
    assert refused(word, {BLOCKS[word]: block}) == {f"/{BLOCKS[word]}": "7004"}


@pytest.mark.parametrize("word", LEAST)
def test_a_block_that_says_nothing_is_refused_unless_a_template_speaks(word: str) -> None:
    sub: dict[str, Any] = {} if BLOCKS[word] != OTT else {word: {}}
    assert list(refused(word, {BLOCKS[word]: sub}).values()) == ["7003"]
    assert asked(word, {BLOCKS[word]: sub}, **TEMPLATE).template == "1138"


@pytest.mark.parametrize("word", LEAST)
def test_a_template_and_a_block_are_both_sent_as_given(word: str) -> None:
    body = body_of(word, LEAST[word], **TEMPLATE)
    content = msgspec.json.decode(good(check(body)).content)
    assert (content["message"], content["channels"]) == (body["message"], body["channels"])


@pytest.mark.parametrize("word", LEAST)
def test_unknown_fields_and_blocks_of_other_channels_pass_through_unread(word: str) -> None:
    foreign = {name: {"text": ["not", "read"], "ios": 5} for name in ("sms", "voice", "push", "appmessaging", OTT)}
    block = LEAST[word][BLOCKS[word]]
    channels = foreign | {"pigeon": [{"ring": None}], BLOCKS[word]: block | {"unknown": {"deep": [1.5, None, "é"]}}}
    body = body_of(word, channels, appid="a-1", options={"trackClicks": "true"})
    content = msgspec.json.decode(good(check(body)).content)
    assert content == {k: v for k, v in body.items() if k != "destination"}


def test_the_blocks_of_other_ott_networks_pass_through_unread() -> None:
    channels = {OTT: {"twitter": {"text": "x" * 141}, "wa": 5, "wechat": {"text": "Hello"}}}
    assert msgspec.json.decode(asked("wechat", channels).content)["channels"] == channels


# ---- sms


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"text": ""}, {"/sms/text": "7003"}),
        ({"text": 5}, {"/sms/text": "7004"}),
        ({"text": "x", "senderid": 5}, {"/sms/senderid": "7004"}),
        ({"text": "x", "senderid": "a\0"}, {"/sms/senderid": "7004"}),
        ({"text": "x", "type": "5"}, {"/sms/type": "7004"}),
        ({"text": "x", "type": []}, {"/sms/type": "7004"}),
        ({"text": "x", "type": True}, {"/sms/type": "7004"}),
        ({"text": "x", "type": 4}, {}),
        ({"type": "3"}, {"/sms/body": "7003"}),
        ({"type": "3", "text": "x"}, {"/sms/body": "7003"}),
        ({"type": "3", "body": "zz"}, {"/sms/body": "7004"}),
        ({"type": "3", "body": "abc"}, {"/sms/body": "7004"}),
        ({"type": 3, "body": " "}, {"/sms/body": "7004"}),
        ({"type": 3, "body": 55}, {"/sms/body": "7004"}),
        ({"type": 3, "body": "0aFF"}, {}),
        ({"type": 3, "body": "0a" * 1_024}, {}),
        ({"type": 3, "body": "0a" * 1_025}, {"/sms/body": "7004"}),
        ({"type": "1", "text": "x", "body": "zz"}, {}),
    ],
)
def test_the_rules_of_sms(block: dict[str, Any], expected: dict[str, str]) -> None:
    assert rules_broken("sms", {"sms": block}) == expected


def test_a_binary_body_must_be_hex_even_beside_a_template() -> None:
    assert refused("sms", {"sms": {"type": "3", "body": "zz"}}, **TEMPLATE) == {"/sms/body": "7004"}


# ---- lengths


@pytest.mark.parametrize(
    ("word", "path", "longest"),
    [
        ("sms", ("sms", "text"), 1_024),
        ("push", ("push", "ios", "text"), 4_096),
        ("push", ("push", "android", "text"), 4_096),
        ("twitter", (OTT, "twitter", "text"), 140),
    ],
)
def test_lengths_are_bytes_of_utf_8(word: str, path: tuple[str, ...], longest: int) -> None:
    def channels(text: str) -> dict[str, Any]:
        value: Any = text
        for key in reversed(path):
            value = {key: value}
        return {path[0]: value[path[0]]}

    pointer = "/" + "/".join(path)
    for text in ("x" * longest, "ü" * (longest // 2), "😀" * (longest // 4)):
        assert asked(word, channels(text))
        assert refused(word, channels(text + "x")) == {pointer: "7004"}


@pytest.mark.parametrize("word", ["rt", "fb", "wa", "wechat"])
def test_channels_without_a_stated_length_take_any(word: str) -> None:
    block = {"text": "x" * 20_000}
    assert asked(word, {BLOCKS[word]: {word: block} if BLOCKS[word] == OTT else block})


# ---- voice


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"cli": "448000000000"}, {"/voice": "7003"}),
        ({"callflowid": "", "media": None, "promptid": " "}, {"/voice": "7003"}),
        ({"callflowid": "1", "media": "greeting"}, {"/voice/media": "7004"}),
        ({"promptid": "1", "media": "greeting"}, {"/voice/media": "7004"}),
        ({"callflowid": "1", "promptid": "2", "media": "greeting"}, {"/voice/media": "7004"}),
        ({"callflowid": ["1"]}, {"/voice/callflowid": "7004"}),
        ({"callflowid": "1", "cli": {"a": 1}}, {"/voice/cli": "7004"}),
        ({"media": ["greeting"]}, {"/voice/media": "7004"}),
        ({"callflowid": "1"}, {}),
        ({"callflowid": 917}, {}),
        ({"media": "greeting"}, {}),
        ({"media": {"name": "greeting"}}, {}),
        ({"promptid": "2"}, {}),
    ],
)
def test_the_rules_of_voice(block: dict[str, Any], expected: dict[str, str]) -> None:
    assert rules_broken("voice", {"voice": block}) == expected


def test_a_call_flow_beside_a_prompt_is_sent_as_given() -> None:
    block = {"promptid": "2", "callflowid": "1", "cli": "448000000000"}
    assert msgspec.json.decode(asked("voice", {"voice": block}).content)["channels"] == {"voice": block}


# ---- push, in-app


@pytest.mark.parametrize("priority", ["1", "5", 1, 5, "", None])
def test_android_has_priorities_of_its_own(priority: Any) -> None:
    assert asked("push", {"push": {"android": {"text": "x", "priority": priority}}})


@pytest.mark.parametrize("priority", ["0", "6", 6, 1.0, True, [], {}, "high"])
def test_a_priority_that_android_does_not_have_is_wrong(priority: Any) -> None:
    channels = {"push": {"android": {"text": "x", "priority": priority}}}
    assert refused("push", channels) == {"/push/android/priority": "7004"}


@pytest.mark.parametrize("platform", ["ios", "android", "windows", "web"])
def test_each_platform_of_a_push_is_an_object_with_a_text(platform: str) -> None:
    assert refused("push", {"push": {platform: "text"}}) == {f"/push/{platform}": "7004"}
    assert refused("push", {"push": {platform: {"text": ["x"]}}}) == {f"/push/{platform}/text": "7004"}
    assert asked("push", {"push": {platform: {"text": "x"}}})


@pytest.mark.parametrize("block", [{"pushref": "p-1"}, {"interactive": {"category": "DOUBLE_YES_NO"}}])
def test_the_documents_demand_no_platform_of_a_push(block: dict[str, Any]) -> None:
    assert asked("push", {"push": block})


@pytest.mark.parametrize("block", [{"message": {"text": "x"}}, {"notification": {"title": "x"}}, {"attachments": []}])
def test_the_documents_demand_no_text_in_app(block: dict[str, Any]) -> None:
    assert asked("rt", {"appmessaging": block})


# ---- ott


@pytest.mark.parametrize(
    ("word", "sub", "expected"),
    [
        ("fb", {"attachment": {"type": "image"}}, {}),
        ("fb", {"sender_action": "typing_on"}, {}),
        ("fb", {"quick_replies": []}, {"/fb/text": "7003"}),
        ("fb", {"text": ["x"]}, {"/fb/text": "7004"}),
        ("wechat", {"attachment": {"type": "image"}}, {}),
        ("wechat", {"text": "x", "attachment": {"type": "image"}}, {}),
        ("wechat", {"attachment": {}}, {"/wechat/text": "7003"}),
        ("twitter", {"attachment": {"type": "image"}}, {"/twitter/text": "7003"}),
        ("wa", {"attachment": {"type": "image"}}, {"/wa/text": "7003"}),
        ("wa", {"type": "text"}, {"/wa/text": "7003"}),
        ("wa", {"type": "text", "text": {"body": "x"}}, {}),
        ("wa", {"type": "image", "image": {"url": "https://example.com/a.jpg"}}, {}),
        ("wa", {"text": 5}, {"/wa/text": "7004"}),
        ("twitter", {"text": {"body": "x"}}, {"/twitter/text": "7004"}),
    ],
)
def test_text_or_attachment_where_it_is_a_rule(word: str, sub: dict[str, Any], expected: dict[str, str]) -> None:
    channels = {OTT: {word: sub}}
    assert rules_broken(word, channels) == {f"/{OTT}{pointer}": code for pointer, code in expected.items()}


def test_messenger_is_another_spelling_of_fb() -> None:
    assert asked("fb", {OTT: {"Messenger": {"text": "x"}}}).channel is Channel.MESSENGER
    assert refused("fb", {OTT: {"Messenger": {}}}) == {f"/{OTT}/Messenger/text": "7003"}


@pytest.mark.parametrize("word", ["fb", "twitter", "wa", "wechat"])
def test_the_network_s_own_block_is_required(word: str) -> None:
    assert refused(word, {OTT: {"other": {"text": "x"}}}) == {f"/{OTT}/{word}": "7003"}
    assert refused(word, {OTT: {word: ""}}, **TEMPLATE) == {f"/{OTT}/{word}": "7003"}
    assert refused(word, {OTT: {word: "text"}}) == {f"/{OTT}/{word}": "7004"}


# ---- smart links


@pytest.mark.parametrize("validity", ["60", 60, 1.5, "1.5", " 5 ", "", None])
def test_a_smart_link_is_valid_for_a_number_of_minutes(validity: Any) -> None:
    assert asked("sms", LEAST["sms"] | {"smartlinks": [{"linkid": "12", "validity": validity}, {"linkid": 13}]})


@pytest.mark.parametrize(
    ("links", "expected"),
    [
        ([{"validity": "60"}], {"/smartlinks/0/linkid": "7003"}),
        ([{"linkid": "1"}, {"linkid": ""}], {"/smartlinks/1/linkid": "7003"}),
        ([{"linkid": ["1"]}], {"/smartlinks/0/linkid": "7004"}),
        ([{"linkid": "1", "validity": "an hour"}], {"/smartlinks/0/validity": "7004"}),
        ([{"linkid": "1", "validity": True}], {"/smartlinks/0/validity": "7004"}),
        ([{"linkid": "1", "validity": "٦٠"}], {"/smartlinks/0/validity": "7004"}),
        ([{"linkid": "1", "validity": {"minutes": 5}}], {"/smartlinks/0/validity": "7004"}),
        (["1"], {"/smartlinks/0": "7004"}),
        ({"linkid": "1"}, {"/smartlinks": "7004"}),
        ("1", {"/smartlinks": "7004"}),
    ],
)
@pytest.mark.parametrize("word", ["sms", "rt", "appmessaging", "fb", "twitter", "wa", "wechat"])
def test_a_broken_smart_link_is_named(word: str, links: Any, expected: dict[str, str]) -> None:
    assert refused(word, LEAST[word] | {"smartlinks": links}) == expected


@pytest.mark.parametrize("word", ["voice", "push"])
def test_smart_links_beside_a_channel_that_has_none_pass_through(word: str) -> None:
    assert asked(word, LEAST[word] | {"smartlinks": [{}]})


# ---- senders


@pytest.mark.parametrize(
    ("word", "channels", "sender"),
    [
        ("sms", {"sms": {"text": "x", "senderid": "RAIL"}}, "RAIL"),
        ("rt", {"appmessaging": {"text": "x", "senderid": "shop"}}, "shop"),
        ("voice", {"voice": {"callflowid": "1", "cli": 448000000000}}, "448000000000"),
        ("sms", {"sms": {"text": "x", "senderid": ""}}, None),
        ("wechat", LEAST["wechat"], None),
    ],
)
def test_the_sender_is_kept_to_be_searched(word: str, channels: dict[str, Any], sender: str | None) -> None:
    assert asked(word, channels).sender == sender
