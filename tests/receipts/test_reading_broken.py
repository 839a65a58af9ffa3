"""Broken bodies: for each the one outcome, quarantined with a reason or read as what."""

import gzip
import json
from datetime import UTC
from typing import Any

import pytest

from receiver.messages.lattice import Channel, Fact
from receiver.receipts.receipt import read
from tests.receipts.reading import body, one, refused, source

INFO = {"deliveryStatus": "Delivered", "deliveryChannel": "SMS", "destination": "447700900001"}
GOOD = body(INFO, transid="t-1", correlationid="c-1", callbackData="b-1")
BOM = b"\xef\xbb\xbf"


def having(text: bytes) -> bytes:
    """A good body whose transid is this JSON text."""
    return GOOD.replace(b'"t-1"', text)


# Nothing can be read

XML = {
    "declared": b'<?xml version="1.0" encoding="UTF-8"?><msg:deliveryInfoNotification xmlns:msg="urn:oma:xml:rest:'
    b'netapi:messaging:1"><deliveryInfo><address>tel:+447700900001</address></deliveryInfo></msg:deliveryInfoNotification>',
    "bare": b"<deliveryInfoNotification/>",
    "after a byte-order mark": BOM + b"<deliveryInfoNotification/>",
    "after blanks": b" \t\r\n\v\f<deliveryInfoNotification/>",
    "after blanks, a mark and blanks": b"\n" + BOM + b"\r\n<deliveryInfoNotification/>",
    "of a document type": b"<!DOCTYPE deliveryInfoNotification SYSTEM 'x.dtd'><deliveryInfoNotification/>",
    "in lower case": b"<?xml version='1.0'?><deliveryinfonotification/>",
    "in upper case": b"<?XML VERSION='1.0'?><DELIVERYINFONOTIFICATION/>",
    "soap": b"<soapenv:Envelope><soapenv:Body><notifySmsDeliveryReceipt/></soapenv:Body></soapenv:Envelope>",
    "a comment first": b"<!-- hub --><deliveryInfoNotification/>",
    "cut off": b"<?xml",
    "in utf-16": "<deliveryInfoNotification/>".encode("utf-16"),
    "in utf-16, the other way round": b"\xfe\xff" + "<deliveryInfoNotification/>".encode("utf-16-be"),
    "in a text of JSON": b'"<deliveryInfoNotification/>"',
    "in a wrapper": b'{"requestData":"<deliveryInfoNotification/>"}',
}


@pytest.mark.parametrize("name", XML)
def test_xml_is_quarantined_and_named_as_such(name: str) -> None:
    reject = refused(XML[name])
    assert (reject.reason, reject.body) == ("xml", XML[name])


NOT_JSON: dict[str, tuple[bytes, str]] = {
    "a page of html": (b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>", "a page of HTML"),
    "a page of html without a type": (b"\r\n<HTML><body/></HTML>", "a page of HTML"),
    "a form": (b"payload=%7B%22deliveryInfoNotification%22%3A%7B%7D%7D&x=1", "a form"),
    "a query": (b"transid=1&status=Delivered", "a form"),
    "a multipart form": (
        b'--b\r\nContent-Disposition: form-data; name="payload"\r\n\r\n{}\r\n--b--',
        "a multipart form",
    ),
    "compressed": (gzip.compress(GOOD, mtime=0), "compressed with gzip"),
    "two bodies": (GOOD + b"\n" + GOOD, ""),
    "a word": (b"hello", ""),
    "a word of javascript": (b"undefined", ""),
    "single quotes": (b"{'deliveryInfo': {'status': 'Read'}}", ""),
    "a comma too many": (b'{"deliveryInfo":{"status":"Read"},}', ""),
    "a comment": (b'{"deliveryInfo":{"status":"Read"} /* x */}', ""),
    "a brace too many": (GOOD + b"}", ""),
    "backslashes": (b'{\\"deliveryInfo\\":1}', ""),
    "half a surrogate pair of bytes": (b'{"a":"\\u12"}', ""),
    "random": (bytes(range(128, 256)), ""),
    "more digits than anybody can read": (b"9" * 5_000, ""),
    "utf-16 without a mark": (GOOD.decode().encode("utf-16-le"), ""),
}


@pytest.mark.parametrize("name", NOT_JSON)
def test_what_is_no_json_is_quarantined_and_its_kind_told(name: str) -> None:
    raw, kind = NOT_JSON[name]
    reject = refused(raw)
    assert (reject.reason, reject.body) == ("not_json", raw)
    assert reject.detail is not None
    assert reject.detail.startswith(kind)
    assert len(reject.detail) <= 200
    assert "\0" not in reject.detail


@pytest.mark.parametrize("length", range(1, len(GOOD)))
def test_a_body_cut_off_anywhere_is_quarantined(length: int) -> None:
    assert refused(GOOD[:length]).reason == "not_json"


@pytest.mark.parametrize("raw", [b"", b" ", b"\n\n", b"\0", BOM, BOM + b" \r\n\0", b"\xff\xfe", b"\xfe\xff", b"\v\f"])
def test_an_empty_body_is_quarantined_as_empty(raw: bytes) -> None:
    assert refused(raw).reason == "empty"


NO_RECEIPT: dict[str, object] = {
    "null": None,
    "a truth": True,
    "a number": 7,
    "a text": "hello",
    "an empty object": {},
    "an empty list": [],
    "another event": {"event": "MO", "channel": "Sms", "message": "STOP", "oa": "447700900001"},
    "an answer to a submission": {"response": [{"code": "1001", "transid": "t", "description": "Queued"}]},
    "a notification that is null": {"deliveryInfoNotification": None},
    "a notification that is a text": {"deliveryInfoNotification": "hello"},
    "a notification that is a number": {"deliveryInfoNotification": 7},
    "a notification without info": {"deliveryInfoNotification": {"transid": "t"}},
    "info that is null": {"deliveryInfoNotification": {"deliveryInfo": None, "transid": "t"}},
    "info that is empty": {"deliveryInfoNotification": {"deliveryInfo": {}, "transid": "t"}},
    "info that is an empty list": {"deliveryInfoNotification": {"deliveryInfo": [], "transid": "t"}},
    "info that is a text": {"deliveryInfoNotification": {"deliveryInfo": "Delivered", "transid": "t"}},
    "info that is JSON in a text": {"deliveryInfoNotification": {"deliveryInfo": json.dumps(INFO), "transid": "t"}},
    "info that is a number": {"deliveryInfoNotification": {"deliveryInfo": 1, "transid": "t"}},
    "info that is a truth": {"deliveryInfoNotification": {"deliveryInfo": True, "transid": "t"}},
    "info in a list in a list": {"deliveryInfoNotification": {"deliveryInfo": [[INFO]], "transid": "t"}},
    "info that says where and not what": {"deliveryInfo": {"destination": "447700900001"}},
    "info that is silent": {"deliveryInfo": {"deliveryStatus": "", "transid": None}},
    "an export of nothing": [{"df_payload": None, "df_status": "2"}],
    "nine wrappers": {"requestData": {"requestData": {"requestData": {"requestData": {"requestData": {"requestData": {
        "requestData": {"requestData": {"requestData": {"deliveryInfo": INFO}}}}}}}}}},
}  # fmt: skip


@pytest.mark.parametrize("name", NO_RECEIPT)
def test_json_that_holds_no_receipt_is_quarantined(name: str) -> None:
    assert refused(json.dumps(NO_RECEIPT[name]).encode()).reason == "no_receipt"


@pytest.mark.parametrize(
    ("opening", "closing"),
    [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"deliveryInfo":', b"}]")],
    ids=["list", "object", "info"],
)
def test_nesting_of_twenty_thousand_is_quarantined_wherever_it_stands(opening: bytes, closing: bytes) -> None:
    deep = opening * 20_000 + b"1" + closing * 20_000
    assert refused(deep).reason == "nested_too_deeply"
    assert refused(having(deep)).reason == "nested_too_deeply"


# Something can be read all the same


@pytest.mark.parametrize(
    ("text", "transid"),
    [
        (b'{"a":1}', '{"a":1}'),
        (b"[]", "[]"),
        (b'["x",null]', '["x",null]'),
        (b"true", "true"),
        (b"false", "false"),
        (b"0", "0"),
        (b"1.5", "1.5"),
        (b"1.0", "1"),
        (b"-0.0", "0"),
        (b"1e400", "inf"),
        (b"-1e400", "-inf"),
        (b"NaN", "nan"),
        (b"Infinity", "inf"),
        (b"123456789012345678901234567890", "123456789012345678901234567890"),
        (b"null", None),
        (b'""', None),
        (b'" \\t "', None),
        (b'"a\\u0000b"', "a\ufffdb"),
        (b'"a\0b"', "a\ufffdb"),
        (b'"\\ud83d"', "?"),
        (b'"\\ude00\\ud83d"', "??"),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\xff\xfe"', "\ufffd\ufffd"),
        (b'"caf\xe9"', "caf\ufffd"),
        (b'"caf\xc3\xa9"', "caf\u00e9"),
        (b'"\xed\xa0\x80"', "\ufffd\ufffd\ufffd"),
        (b'"line\nbreak"', "line\nbreak"),
        (b'"' + b"x" * 1_000_000 + b'"', "x" * 1_000_000),
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_an_id_of_a_wrong_kind_is_kept_as_a_text_that_can_be_stored(text: bytes, transid: str | None) -> None:
    raw = having(text)
    receipt = one(raw)
    assert (receipt.transid, receipt.raw) == (transid, raw)
    assert (receipt.channel, receipt.fact, receipt.correlationid) == (Channel.SMS, Fact.DELIVERED, "c-1")


@pytest.mark.parametrize("status", [True, False, 0, 7500, 1.5, [], ["Delivered"], {"a": 1}, None, ""])
def test_a_status_of_a_wrong_kind_is_unknown_and_proves_nothing(status: object) -> None:
    receipt = one(body({**INFO, "deliveryStatus": status}, transid="t"))
    assert receipt.fact is Fact.UNKNOWN
    assert receipt.reason_key is None


IMPOSSIBLE_TIMES: list[Any] = [
    *("2023-02-30T00:00:00Z", "2023-02-29", "2024-01-01T25:00:00Z", "2024-01-01T12:60:00Z", "2024-13-01T00:00:00Z"),
    *("2024-01-01T00:00:00+99:99", "2024-01-01T00:00:00+24:00", "2024-01-01T00:00:00+5:99", "0000-01-01T00:00:00Z"),
    *("99999-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "yesterday", "2024", "T"),
    *("20240230101430", "2024-01-01T00:00:00 CET", "٢٠٢٤-٠١-٠١", "2024-01-01T00:00:00Z" * 10, "\0", "1e400"),
    *(-1, 0, 1, 99999999999999999999, 1e300, True, [], {}, ["2024-01-01"], None, ""),
]


@pytest.mark.parametrize("stamp", IMPOSSIBLE_TIMES, ids=ascii)
def test_an_impossible_time_stamp_derives_no_time_and_stays_in_the_bytes(stamp: object) -> None:
    raw = body({**INFO, "timeStamp": stamp}, transid="t")
    receipt = one(raw)
    assert receipt.told_at is None
    assert receipt.at == receipt.received_at
    assert receipt.raw == raw
    assert receipt.fact is Fact.DELIVERED


@pytest.mark.parametrize(
    "stamp",
    [
        *("2024-05-14T10:14:30Z", "2024-05-14T15:44:30+5:30", "2024-05-14T15:44:30+530", "2024-05-14T15:44:30 +0530"),
        *("2024-05-14 10:14:30", "2024-05-14 10:14:30 UTC", "2024-05-14T10:14:30 GMT", "20240514101430", "1715681670"),
        *(1715681670, 1715681670000, "1715681670000", "Tue, 14 May 2024 10:14:30 GMT", "2024-05-14T06:14:30.000-4:00"),
        *("2024-05-14T10:14:30,000Z", "20240514T101430Z", " 2024-05-14T10:14:30Z\n"),
    ],
)
def test_one_moment_is_read_in_every_spelling_in_which_it_was_seen(stamp: object) -> None:
    told_at = one(body({**INFO, "timeStamp": stamp}, transid="t"), UTC).told_at
    assert told_at is not None
    assert told_at.isoformat() == "2024-05-14T10:14:30+00:00"


# Told twice in one object


def test_of_a_key_that_stands_twice_the_last_one_counts() -> None:
    assert one(GOOD.replace(b'"transid": "t-1"', b'"transid": "t-0", "transid": "t-1"')).transid == "t-1"


def test_a_notification_that_stands_twice_in_different_case_is_the_documented_one_in_any_order() -> None:
    right = {"deliveryInfo": INFO, "transid": "right"}
    wrong = {"deliveryInfo": INFO, "transid": "wrong"}
    for value in (
        {"deliveryInfoNotification": right, "DELIVERYINFONOTIFICATION": wrong},
        {"DeliveryInfoNotification": wrong, "deliveryInfoNotification": right},
    ):
        assert one(json.dumps(value).encode()).transid == "right"


def test_an_info_that_stands_twice_in_different_case_is_the_documented_one() -> None:
    value = {"DeliveryInfo": {**INFO, "deliveryStatus": "Failed"}, "deliveryInfo": INFO, "transid": "t"}
    assert one(json.dumps(value).encode()).fact is Fact.DELIVERED


# Good beside broken

SPOILED: dict[str, tuple[bytes, str]] = {
    "null": (b"null", "no_receipt"),
    "a number": (b"7", "no_receipt"),
    "an empty object": (b"{}", "no_receipt"),
    "xml": (b'"<deliveryInfoNotification/>"', "xml"),
    "half a body in a text": (b'"{\\"deliveryInfo\\":"', "not_json"),
    "info that is null": (b'{"deliveryInfoNotification":{"deliveryInfo":null}}', "no_receipt"),
    "an export of half a body": (b'{"df_payload":"{\\"deliveryInfo\\":"}', "not_json"),
    "an export of nothing": (b'{"df_payload":""}', "no_receipt"),
    "too many": (b'{"deliveryInfo":[' + b"1," * 500 + b"1]}", "too_many"),
}


@pytest.mark.parametrize("name", SPOILED)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_in_a_list_the_good_are_applied_and_the_broken_quarantined_as_they_came(name: str, place: int) -> None:
    broken, reason = SPOILED[name]
    items = [GOOD, GOOD.replace(b"t-1", b"t-2")]
    items.insert(place, broken)
    reading = read(b"[" + b",".join(items) + b"]", source())
    assert [receipt.transid for receipt in reading.receipts] == ["t-1", "t-2"]
    assert [(reject.reason, reject.body) for reject in reading.rejects] == [(reason, broken)]


@pytest.mark.parametrize("broken", [None, 7, "x", [], {}, [INFO]], ids=json.dumps)
def test_in_an_array_of_infos_the_good_are_applied_and_the_broken_quarantined(broken: object) -> None:
    reading = read(body([INFO, broken, {**INFO, "destination": "447700900002"}], transid="t"), source())
    assert [receipt.destination for receipt in reading.receipts] == ["447700900001", "447700900002"]
    assert [reject.reason for reject in reading.rejects] == ["no_receipt"]
    again = json.loads(reading.rejects[0].body)
    assert again == {"deliveryInfoNotification": {"transid": "t", "deliveryInfo": broken}}
