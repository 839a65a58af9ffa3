"""Nobody's name survives a capture, wherever and however it stands in what was told."""

import json
import string
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from receiver.capture.capturing import capture_of
from receiver.receipts.receipt import read
from receiver.sandbox.capture import written
from tests.capture.playing import rows_of
from tests.sandbox.test_hostile import SOURCE

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
LETTERS = string.ascii_letters + string.digits + "éßÅж"
# With digits: a name of letters alone may be a word of the platform, or of the file.
TOKENS = st.from_regex(r"[a-zA-ZéßÅж]{1,9}[0-9]{2}[-_.a-zA-Z0-9éßÅж]{8,30}[a-z0-9]", fullmatch=True)
NUMBERS = st.from_regex(r"[1-9][0-9]{7,14}", fullmatch=True).filter(lambda n: len(set(n)) > 3)
MAILS = st.from_regex(r"[a-z]{4,9}\.[a-zA-Z]{3,9}@[a-z]{4,9}\.(com|org)", fullmatch=True)
ODD = st.text(LETTERS + " |&\"'\\/;:()<>[]{}#%+=\n", max_size=30)
TEXTS = st.tuples(TOKENS, ODD, TOKENS).map(lambda parts: "".join(parts).strip())


@st.composite
def originals(draw: st.DrawFn) -> dict[str, str]:
    return {
        "destination": draw(st.one_of(NUMBERS, MAILS, TOKENS)),
        "transid": draw(st.one_of(st.uuids().map(str), TOKENS)),
        "correlationid": draw(st.one_of(st.uuids().map(str), TOKENS)),
        "callbackData": draw(TEXTS),
        "deviceid": draw(TOKENS),
    }


def spellings(name: str) -> list[str]:
    found = [name, name.upper(), name.lower(), name.title(), quote(name, safe=""), quote_plus(name)]
    return [*found, json.dumps(name)[1:-1]]


@st.composite
def bodies(draw: st.DrawFn, names: dict[str, str]) -> bytes:
    """A notification that has every name in its place, and some of them elsewhere in any spelling."""
    spelling = st.sampled_from([one for name in names.values() for one in spellings(name)])
    within = st.builds("{}{}{}".format, st.sampled_from(["", "for ", "x=", "rejected:"]), spelling, st.just(" later"))
    nested = st.recursive(
        st.one_of(within, spelling, st.integers(0, 10**13), st.none()),
        lambda deeper: st.one_of(st.lists(deeper, max_size=2), st.dictionaries(spelling, deeper, max_size=2)),
        max_leaves=4,
    )
    number = names["destination"]
    address = draw(st.sampled_from(["{}", "+{}", "00{}", "tel:+{}", " {} "])) if number.isdigit() else "{}"
    info: dict[str, Any] = {
        "deliveryStatus": draw(st.sampled_from(["Submitted", "Delivered", "Un-Delivered", "Teleported"])),
        "deliveryChannel": draw(st.sampled_from(["SMS", "push", "whatsapp"])),
        "code": draw(st.sampled_from(["7500", "7200", 7207, "", None])),
        "destination": address.format(number),
        "deviceid": names["deviceid"],
        "timeStamp": "2026-03-01T11:59:58.123+5:30",
        "Description": draw(st.one_of(within, spelling)),
        "additionalInfo": draw(st.one_of(within, nested, nested.map(json.dumps))),
        draw(st.one_of(st.just("extra"), spelling)): draw(nested),
    }
    outer = {
        "transid": draw(st.sampled_from(["{}", "urn:uuid:{}", "{}_71234_22757"])).format(names["transid"]),
        "correlationid": draw(st.sampled_from([names["correlationid"], names["correlationid"].upper()])),
        "callbackData": names["callbackData"],
        "subtid": draw(st.sampled_from(["", "2", "10977_22757"])),
        "deliveryTransInfo": f"<?xml version='1.0'?><a x='{number}'><to>{draw(spelling)}</to><!--{number}--></a>",
        "link": {"href": f"https://hub.example.org/{quote(number, safe='')}/requests/{names['transid']}"},
    }
    told = {"deliveryInfoNotification": {"deliveryInfo": info, **outer}}
    wrapped = draw(st.sampled_from([told, [told], {"df_payload": told}, {"df_payload": json.dumps(told)}]))
    return json.dumps(wrapped, ensure_ascii=draw(st.booleans())).encode()


# What fails is shown as it was drawn: making it small takes minutes.
@settings(
    max_examples=40,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(st.data())
def test_no_name_of_the_original_survives(data: st.DataObject) -> None:
    names = data.draw(originals())
    told = [(AT, data.draw(bodies(names))) for _ in range(2)]
    messages, receipts = rows_of(told)
    assume(receipts)
    capture = capture_of(messages, receipts)
    text = "\n".join([*(step.body for step in capture.steps), *(step.description or "" for step in capture.steps)])
    whole = (written(capture).decode() + text).casefold()
    for name in names.values():
        for spelt in spellings(name):
            assert spelt.casefold() not in whole, (spelt, text)
    if names["destination"].isdigit():
        assert names["destination"] not in "".join(one for one in whole if one not in " ().-")
    for step in capture.steps:
        assert len(read(step.body.encode(), SOURCE).receipts) == 1
        assert "22757" not in step.body
        assert "2026-03-01" not in step.body


def test_what_a_body_says_and_how_it_is_built_stays() -> None:
    told = {
        "x-wx-gtrid": "a1b2c3d4e5",
        "deliveryInfoNotification": {
            "DELIVERYINFO": {
                "timeStamp": "2026-03-01T17:30:02.5+5:30",
                "Description": "Unknown Status",
                "code": 7200,
                "deliveryChannel": "WhatsApp",
                "additionalInfo": "(#131049)  | kept from Jo.Smith@example.org at +44 7700 900555, ref 998877665544",
                "destination": "tel: +44 (20) 7946-0018",
                "destinationType": "waid",
                "deliveryStatus": " Failed ",
                "messageCount": "3",
                "pricing": {"model": "CBP", "billable": True, "price": 0.25},
            },
            "carrier": "UKVOD",
            "subtid": "10977",
            "transid": "URN:UUID:4F09295D-1111-4222-8333-444455556666_7",
            "callbackData": "$(callbackData)",
            "correlationid": "order-4711",
        },
    }
    [step] = capture_of(*rows_of([(AT, json.dumps(told).encode())])).steps
    body = json.loads(step.body)
    notification = body["deliveryInfoNotification"]
    info = notification["DELIVERYINFO"]
    assert list(body) == list(told)
    assert list(info)[:9] == list(told["deliveryInfoNotification"]["DELIVERYINFO"])[:9]  # type: ignore[index]
    assert info["timeStamp"] == "2002-01-01T05:30:02.5+5:30"
    assert (info["code"], info["deliveryChannel"], info["deliveryStatus"]) == (7200, "WhatsApp", " Failed ")
    assert (
        info["additionalInfo"] == "(#131049)  | kept from somebody-1@example.com at +## #### ######, ref ############"
    )
    assert info["destination"] == "tel: +44 (77) 0090-0101"
    assert (info["messageCount"], info["destinationType"], notification["carrier"]) == ("3", "waid", "carrier-1")
    assert list(info)[9].startswith("field-")
    assert [type(one) for one in info[list(info)[9]].values()] == [str, bool, float]
    assert notification["transid"].startswith("URN:UUID:")
    assert notification["transid"].endswith("_7")
    assert notification["transid"].removeprefix("URN:UUID:").isupper()
    assert notification["callbackData"] == "$(callbackData)"
    assert (notification["subtid"], notification["correlationid"]) == ("node-1", "correlation-000003")
    assert (step.status, step.code, step.channel, step.subtid) == ("Failed", "7200", "WhatsApp", "node-1")
    assert (step.message_count, step.stamped, step.rebuilt, step.differs) == (3, 2.5, False, [])


@pytest.mark.parametrize("name", ["Delivered", "SMS", "7500", "a", "42", "transid", "callback"])
def test_a_name_that_is_a_word_of_the_platform_leaves_its_words(name: str) -> None:
    info = {"deliveryStatus": "Delivered", "deliveryChannel": "SMS", "code": "7500", "destination": "447700900001"}
    told = {"deliveryInfoNotification": {"deliveryInfo": info, "transid": name, "callbackData": name}}
    [step] = capture_of(*rows_of([(AT, json.dumps(told).encode())])).steps
    notification = json.loads(step.body)["deliveryInfoNotification"]
    assert (notification["deliveryInfo"] | {"destination": info["destination"]}) == info
    assert name not in (notification["transid"], notification["callbackData"])
    assert step.differs == []


def test_what_was_erased_is_rebuilt_from_what_is_kept() -> None:
    info = {"deliveryStatus": "Failed", "deliveryChannel": "email", "code": "7520", "destination": "jo@example.org"}
    info |= {
        "Description": "Permanent_NoEmail",
        "additionalInfo": "5.1.1|failed|smtp; 550-5.1.1 jo@example.org unknown",
    }
    told = {"deliveryInfoNotification": {"deliveryInfo": info, "transid": "t-77665544"}}
    messages, receipts = rows_of([(AT, json.dumps(told).encode())])
    receipts[0]["raw"] = b""
    [step] = capture_of(messages, receipts).steps
    assert step.rebuilt
    assert step.differs == []
    assert "5.1.1|failed|smtp; 550-5.1.1" in step.body
    assert "jo@example.org" not in step.body


def test_a_name_of_letters_alone_is_found_in_a_text_in_any_spelling() -> None:
    name = "Jo Smith & Söhne"
    said = " | ".join(spellings(name))
    info = {"deliveryStatus": "Failed", "deliveryChannel": "SMS", "code": "7201", "additionalInfo": said}
    told = {"deliveryInfoNotification": {"deliveryInfo": info, "transid": "t-77665544", "callbackData": name}}
    [step] = capture_of(*rows_of([(AT, json.dumps(told).encode())])).steps
    assert "smith" not in step.body.casefold()
    assert "hne" not in step.body.casefold()


@pytest.mark.parametrize(
    ("said", "hidden"),
    [
        ("to=%34%34%37%39%31%31%31%32%33%34%35%36", ["%34%34", "447911"]),
        ("&#52;&#x34;&#55;&#57;&#49;&#49;123456", ["&#52;", "447911"]),
        ("for jane%2Edoe%2Dx1", ["jane"]),
        ("0791,1123,456", ["0791", "456"]),
        ("44\u20117911\u2011123\u2011456", ["7911"]),
        ("44/7911/123456", ["7911"]),
        ("07911   123   456", ["7911"]),
        ('"bob smith"@corp.example: 550', ["bob", "corp.example"]),
        ("from 2001:db8:85a3::8a2e:370:7334 at 11:59:58", ["85a3", "7334"]),
    ],
    ids=[
        "percent",
        "entities",
        "percent in a name",
        "commas",
        "odd hyphens",
        "slashes",
        "blanks",
        "quoted mail",
        "ipv6",
    ],
)
def test_no_spelling_brings_a_name_through_a_text(said: str, hidden: list[str]) -> None:
    info = {"deliveryStatus": "Failed", "deliveryChannel": "SMS", "code": "7201", "destination": "447911123456"}
    told = {
        "deliveryInfoNotification": {"deliveryInfo": info | {"additionalInfo": said}, "callbackData": "jane.doe-x1"}
    }
    [step] = capture_of(*rows_of([(AT, json.dumps(told).encode())])).steps
    shown = json.loads(step.body)["deliveryInfoNotification"]["deliveryInfo"]["additionalInfo"]
    assert not [one for one in hidden if one in shown], shown
    assert ("11:59:58" in said) == ("11:59:58" in shown)


def test_beside_a_number_in_xml_and_beside_a_time_no_words_stay() -> None:
    info = {"deliveryStatus": "Failed", "deliveryChannel": "SMS", "code": "7201", "destination": "447911123456"}
    info["timeStamp"] = "2026-03-01T11:59:58 Jane"
    xml = "<r><to>447911123456 J&#97;ne Roe</to><to>447911123456</to><status>Failed</status></r>"
    told = {"deliveryInfoNotification": {"deliveryInfo": info, "transid": "t-77665544", "deliveryTransInfo": xml}}
    [step] = capture_of(*rows_of([(AT, json.dumps(told).encode())])).steps
    notification = json.loads(step.body)["deliveryInfoNotification"]
    standin = notification["deliveryInfo"]["destination"]
    assert notification["deliveryInfo"]["timeStamp"] == "text-1"
    assert notification["deliveryTransInfo"] == f"<r><to>text-2</to><to>{standin}</to><status>Failed</status></r>"
