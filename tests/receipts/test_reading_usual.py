"""The short way of reading never reads anything else than the long one."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from receiver.ids import MessageId, new_id
from receiver.receipts.receipt import Reading, read, read_at_length
from receiver.receipts.usual import MOST_BYTES, usual
from tests.receipts.reading import body, sample, sample_names, source

FRESH = MessageId(new_id())
CORPUS = Path(__file__).parent / "corpus"
CASES: list[dict[str, Any]] = json.loads((CORPUS / "read.json").read_text("utf-8"))
LONG_WAY = ("export-two-failed-notifications", "oneapi-delivered")
INFO: dict[str, Any] = json.loads(sample("sms-delivered"))["deliveryInfoNotification"]["deliveryInfo"]
BESIDE = {"carrier": "USTMO", "subtid": "", "transid": "t-1_2", "callbackData": "$(callbackData)", "correlationid": "c"}


def assert_both_ways_agree(raw: bytes) -> None:
    short, long = read(raw, source()), read_at_length(raw, source())
    assert _lasting(short) == _lasting(long)


def _lasting(reading: Reading) -> Reading:
    return Reading([told._replace(fresh=FRESH) for told in reading.receipts], reading.rejects)


def spellings(value: Any) -> list[bytes]:
    plain = json.dumps(value).encode()
    return [
        plain,
        json.dumps(value, ensure_ascii=False, indent=2).encode("utf-8", "surrogatepass") + b"\r\n",
        b"\xef\xbb\xbf" + plain,
        b" " + plain + b"\0",
        b"[" + plain + b"]",
        plain[:-1],
        plain + b"}",
    ]


@pytest.mark.parametrize("name", [name for name in sample_names() if name not in LONG_WAY])
def test_what_the_platform_pushes_is_read_the_short_way(name: str) -> None:
    assert usual(sample(name)) is not None
    assert usual(json.dumps(json.loads(sample(name))).encode()) is not None


@pytest.mark.parametrize("name", sample_names())
def test_both_ways_agree_on_a_sample(name: str) -> None:
    for raw in (sample(name), *spellings(json.loads(sample(name)))):
        assert_both_ways_agree(raw)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_both_ways_agree_on_the_corpus(case: dict[str, Any]) -> None:
    for raw in spellings(case["body"]):
        assert_both_ways_agree(raw)


@pytest.mark.parametrize("path", sorted((CORPUS / "found").iterdir()), ids=lambda path: path.stem)
def test_both_ways_agree_on_what_once_broke_the_reader(path: Path) -> None:
    assert_both_ways_agree(path.read_bytes())


@pytest.mark.parametrize("code", range(256))
def test_both_ways_agree_on_any_byte_in_a_key_and_in_a_text(code: int) -> None:
    character = bytes([code])
    for place in (b"Delivered", b"7500", b"transid", b"carrier", b"additionalInfo", b"USTMO", b'": "', b"{"):
        raw = sample("sms-delivered")
        assert place in raw
        assert_both_ways_agree(raw.replace(place, character + place, 1))
        assert_both_ways_agree(raw.replace(place, place[:1] + character + place[1:], 1))
        assert_both_ways_agree(raw.replace(place, place + character, 1))


BESIDE_IT: list[dict[str, Any]] = [
    {"x-wx-gtrid": "g-1", "dataIntegration": {"orgId": "o"}},
    {"x-wx-gtrid": 7},
    {"DeliveryInfoNotification": {"deliveryInfo": INFO, "transid": "another"}},
    {"deliveryInfo": INFO},
    {"DELIVERYINFO": "x"},
    {"df_payload": "{}", "requestData": {"deliveryInfo": INFO}},
]


def test_what_stands_beside_the_notification_is_passed_over_the_short_way() -> None:
    whole = json.loads(sample("sms-delivered"))
    assert usual(json.dumps({**BESIDE_IT[0], **whole}).encode()) == usual(sample("sms-delivered"))


@pytest.mark.parametrize(
    "info",
    [
        {},
        {"deliveryStatus": "Read"},
        {"deliveryStatus": ""},
        {"deliveryStatus": " "},
        {"deliveryStatus": "Read", "status": "Failed"},
        {"deliveryStatus": "", "status": "Failed"},
        {"status": "Failed", "code": "7101", "channel": "sms"},
        {**INFO, "DeliveryStatus": "Failed"},
        {**INFO, "transid": "inside"},
        {**INFO, "transid": " "},
        {**INFO, "address": "tel:+1"},
        {**INFO, "errorCode": "7"},
        {**INFO, "code": 7500},
        {**INFO, "code": None},
        {**INFO, "code": ["7500"]},
        {**INFO, "deliveryInfo": "x"},
        {**INFO, "100%s": "50%"},
        {**INFO, "pushId": "p", "deviceid": ""},
        {**INFO, "pushId": "p", "deviceid": "d"},
        {**INFO, "requestId": "r"},
        {**INFO, "link": "a/requests/b"},
        "Delivered",
        [INFO],
        [INFO, INFO],
        None,
    ],
    ids=lambda info: json.dumps(info)[-40:],
)
def test_both_ways_agree_on_what_is_nearly_usual(info: Any) -> None:
    for beside in (BESIDE, {}, {"transid": "t"}, {**BESIDE, "x": {"y": "z"}}, {"TRANSID": "t", "transid": "u"}):
        assert_both_ways_agree(body(info, **beside))
        assert_both_ways_agree(json.dumps({"deliveryInfoNotification": {**beside, "DeliveryInfo": info}}).encode())
        whole = {"deliveryInfoNotification": {**beside, "deliveryInfo": info}}
        for more in BESIDE_IT:
            assert_both_ways_agree(json.dumps({**whole, **more}).encode())
            assert_both_ways_agree(json.dumps({**more, **whole}).encode())


def test_a_long_body_is_read_the_long_way() -> None:
    fits = body(INFO, transid="t" * (MOST_BYTES - len(body(INFO, transid=""))))
    assert usual(fits) is not None
    assert usual(fits + b" ") is None
    assert_both_ways_agree(fits)
    assert_both_ways_agree(fits + b" ")


KEYS = [
    *INFO,
    *BESIDE,
    "deviceid",
    "pushId",
    "identityKeyHash",
    "novelty",
    "CODE",
    "status",
    "deliveryDate",
    "clientCorrelator",
]
STAMPS = st.sampled_from(
    [
        *("2022-10-10T13:53:13.749+01:00", "2022-10-10T13:53:13.749Z", "2022-10-10T13:53:13.749+01:75"),
        *("2022-10-10T13:53:13.749123:00", "1022-10-10T13:53:13.749+01:00", "2022-13-10T13:53:13.749Z"),
    ]
)
WORDS = st.sampled_from(
    [
        *("", " ", "Delivered", " failed", "Un-Delivered", "Busy", "SMS", "voice", "email", "whatsapp", "7101", "7500"),
        *("Transient_General", "smtp;550", "(#131049) | held back", "$(callbackData)", "$(x) y", "447700900001"),
        *("+44 7700 900001", "00447700900001", "0012", "tel: +44", "A@Example.com", "urn:uuid:Abc_1_2", "_1", "12"),
        *(
            "019d0000-0000-7abc-8def-0123456789ab",
            "019D0000-0000-7ABC-CDEF-0123456789AB",
            "2016-07-20",
            "é",
            "\0",
            "x%s",
        ),
    ]
)
TEXTS = st.dictionaries(st.sampled_from(KEYS), WORDS | STAMPS | st.text(st.characters(max_codepoint=127), max_size=8))


@given(TEXTS, TEXTS, st.booleans())
@settings(max_examples=500, deadline=None)
@example({"deliveryStatus": "Failed", "deliveryChannel": "SMS"}, {"code": "7101"}, False)
def test_both_ways_agree_on_any_texts(info: dict[str, str], beside: dict[str, str], turned: bool) -> None:
    fields: dict[str, Any] = {**beside, "deliveryInfo": {"deliveryStatus": "Failed", **info}}
    if turned:
        fields = {key: fields[key] for key in reversed(fields)}
    assert_both_ways_agree(json.dumps({"deliveryInfoNotification": fields}).encode())


@given(st.data())
@settings(max_examples=500, deadline=None)
def test_both_ways_agree_on_any_mutation(data: st.DataObject) -> None:
    raw = bytearray(sample(data.draw(st.sampled_from(sample_names()))))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(raw)))
        end = data.draw(st.integers(start, min(start + 20, len(raw))))
        raw[start:end] = data.draw(
            st.binary(max_size=6) | st.sampled_from([b"", b'"', b"{", b"}", b'","x":"', b"null"])
        )
    assert_both_ways_agree(bytes(raw))
