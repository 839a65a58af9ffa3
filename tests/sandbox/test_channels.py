"""Every channel tells the words that the platform documents for it, in the shapes of its samples."""

from datetime import UTC, datetime
from typing import Any

import pytest

from receiver.messages.lattice import Channel, Fact
from receiver.platform.codes import BOUNCES, channel_of, fact_of
from receiver.sandbox import channels, script
from receiver.sandbox.channels import FAMILIES, READ
from receiver.sandbox.receipt import Message, fields
from receiver.sandbox.script import DELIVERED, SUBMITTED, Shares, Step, Word

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
CHAT = {"Submitted", "Delivered", "Read", "Failed"}
DOCUMENTED = {
    "sms": {"Submitted", "Delivered", "Undelivered", "Failed", "Clicked"},
    "voice": {
        "OFFERED",
        "ACCEPTED",
        "ANSWERED",
        "DROPPED",
        "REJECTED",
        "RELEASED",
        "DISCONNECTED",
        "TROMBONE CONNECT",
        "TROMBONE RELEASE",
        "FAILED",
    },
    "rt": {"Submitted", "Delivered", "Read", "Failed", "Clicked"},
    "appmessaging": {"Submitted", "Delivered", "Read", "Failed", "Clicked"},
    "push": CHAT,
    "fb": CHAT,
    "twitter": {"Delivered", "Failed"},
    "wechat": {"Delivered", "Failed"},
    "wa": CHAT,
    "rcs": CHAT,
    "email": {
        "Submitted",
        "Delivered",
        "Not verified",
        "Invalid",
        "Bounce",
        "Complaint",
        "Failed",
        "Read",
        "Clicked",
    },
    "applebusinesschat": {"Submitted", "Failed"},
    "mms": {"Submitted", "Delivered", "Failed"},
    "instagram": CHAT,
}
SMS_CODES = {
    "7101",
    "7210",
    "7211",
    "7102",
    "7203",
    "7283",
    "7107",
    "7205",
    "7111",
    "7607",
    "7109",
    "7720",
    "7201",
    "7202",
    "7204",
    "7206",
    "7207",
    "7208",
    "7209",
    "7302",
    "7006",
    "7500",
    "7501",
    "7528",
}
VOICE_CODES = {
    "7401",
    "7402",
    "7404",
    "7406",
    "7407",
    "7408",
    "7409",
    "7410",
    "7411",
    "7412",
    "7519",
}
EMAIL_CODES = {"7500", "7501", "7502", "7520", "7521", "7522", "7523", "7528", "9002"}


def steps_of(channel: str) -> list[Step]:
    family = FAMILIES[channel]
    return [step for one in (*family.good, *family.bad) for step in one.steps]


def words_of(channel: str) -> list[Word]:
    return [step.word for step in steps_of(channel) if not step.channel]


def message(channel: str, **more: Any) -> Message:
    told: dict[str, Any] = {
        "channel": channel,
        "destination": "447700900123",
        "id_type": "msisdn",
        "transid": "t-1",
        "callback_data": "basket",
        "correlationid": "order-1",
        "parts": 2,
        "carrier": "UKEE",
    }
    return Message(**(told | more))


def test_every_documented_channel_is_there() -> None:
    assert set(FAMILIES) == set(DOCUMENTED)


@pytest.mark.parametrize("channel", DOCUMENTED)
def test_every_documented_status_of_a_channel_can_be_told_and_no_other(channel: str) -> None:
    told = {word.status for word in words_of(channel)}
    assert told - {"Un-Delivered"} == DOCUMENTED[channel]


@pytest.mark.parametrize(("channel", "codes"), [("sms", SMS_CODES), ("voice", VOICE_CODES), ("email", EMAIL_CODES)])
def test_every_documented_code_of_a_channel_can_be_told(channel: str, codes: set[str]) -> None:
    assert {word.code for word in words_of(channel)} >= codes


def test_every_cause_of_a_bounce_can_be_told_and_some_bounces_come_after_delivered() -> None:
    bounces = {word.description.casefold() for word in words_of("email") if word.status == "Bounce"}
    assert bounces == set(BOUNCES)
    late = [one for one in FAMILIES["email"].bad if one.steps[1:] and one.steps[1].word.status == "Delivered"]
    assert {one.steps[-1].word.status for one in late} == {"Bounce"}


@pytest.mark.parametrize("channel", DOCUMENTED)
def test_the_receiver_knows_every_word_that_an_honest_sandbox_tells(channel: str) -> None:
    for step in steps_of(channel):
        told = fields(message(channel), step, AT).info
        known = channel_of(told["deliveryChannel"])
        assert known is not Channel.OTHER
        assert fact_of(known, told["deliveryStatus"]) is not Fact.UNKNOWN, told["deliveryStatus"]


def test_no_script_has_more_steps_than_a_message_has_dice() -> None:
    longest = max(
        len(one.steps) for family in FAMILIES.values() for one in (*family.good, *family.bad, script.TWICE_SCRIPT)
    )
    assert longest <= script.DICE - 4


@pytest.mark.parametrize("channel", DOCUMENTED)
def test_the_dice_reach_every_script_and_silence(channel: str) -> None:
    family, shares = FAMILIES[channel], Shares(undelivered=0.2, failed=0.1, silent=0.1)
    grid = [place / 200 for place in range(200)]
    drawn = {channels.draw(channel, shares, (fate, which)) for fate in (0.1, 0.35, 0.9) for which in grid}
    assert drawn == {*family.good, *family.bad, script.SILENT_SCRIPT}


def test_a_push_tells_its_devices_apart_under_one_destination() -> None:
    to = message("push", destination="Customer-9", id_type="customerid")
    told = [fields(to, Step(0, SUBMITTED, device=device), AT).info for device in (1, 2)]
    assert {info["destination"] for info in told} == {"Customer-9"}
    assert len({info["deviceid"] for info in told}) == len({info["pushId"] for info in told}) == 2
    assert "additionalInfo" not in told[0]


def test_voice_brings_xml_beside_the_receipt() -> None:
    said = fields(message("voice"), Step(0, words_of("voice")[0]), AT)
    assert said.outer["deliveryTransInfo"].startswith("<?xml")


def test_whatsapp_tells_the_true_cause_in_additional_info() -> None:
    causes = {word.additional.split(")")[0] for word in words_of("wa") if word.code == "7200"}
    assert causes == {"(#131049", "(#131026", "(#131047"}
    said = fields(message("wa"), Step(0, READ), AT)
    assert (said.info["destinationType"], bool(said.info["identityKeyHash"])) == ("waid", True)


def test_a_click_bears_its_ids_inside() -> None:
    info, outer = fields(message("sms"), Step(0, channels.CLICKED), AT)
    assert (info["transid"], info["correlationid"], info["callbackData"], info["subtid"]) == (
        "t-1",
        "order-1",
        "basket",
        "",
    )
    assert outer == {}


def test_rcs_falls_back_to_sms_under_a_subtid() -> None:
    [fallback] = [one for one in FAMILIES["rcs"].good if one.name == "fell back"]
    told = [fields(message("rcs"), step, AT) for step in fallback.steps]
    legs = [(said.info["deliveryChannel"], said.outer["subtid"], said.info["deliveryStatus"]) for said in told]
    assert legs == [
        ("rcs", "", "Submitted"),
        ("rcs", "", "Failed"),
        ("SMS", "2", "Submitted"),
        ("SMS", "2", "Delivered"),
    ]
    assert told[3].outer["carrier"] == "UKEE"


def test_an_sms_that_was_submitted_has_neither_count_nor_carrier() -> None:
    for word, there in ((SUBMITTED, False), (DELIVERED, True)):
        said = fields(message("sms"), Step(0, word), AT)
        assert ("messageCount" in said.info, "carrier" in said.outer) == (there, there)
