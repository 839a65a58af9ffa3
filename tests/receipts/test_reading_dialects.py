"""The dialects of the format, and bodies that hold no receipt."""

import itertools
import json
from datetime import tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from receiver.ids import MessageId, destination_digest, new_id
from receiver.messages.lattice import Channel, Fact, State
from receiver.receipts.notification import MOST_RECEIPTS
from receiver.receipts.receipt import read
from tests.receipts.reading import RECEIVED, TENANT, body, one, refused, sample, source, told

DELIVERED = {"deliveryStatus": "Delivered", "deliveryChannel": "SMS", "destination": "447700900001"}
BOM = b"\xef\xbb\xbf"


# Where the ids stand


def test_a_click_brings_its_ids_inside_the_delivery_info() -> None:
    click = {
        "deliveryStatus": "Clicked",
        "code": "7528",
        "deliveryChannel": "SMS",
        "destination": "447700900001",
        "transid": "t-1",
        "subtid": "node-2",
        "callbackData": "mine",
        "correlationid": "c-1",
    }
    receipt = one(body(click))
    assert receipt.fact is Fact.CLICKED
    assert receipt.rank is State.QUEUED
    assert (receipt.transid, receipt.subtid) == ("t-1", "node-2")
    assert (receipt.callback_data, receipt.correlationid) == ("mine", "c-1")
    assert receipt.transid_key == one(body(DELIVERED, transid="t-1")).transid_key


def test_an_id_beside_the_delivery_info_wins_over_one_inside() -> None:
    assert one(body({**DELIVERED, "transid": "inside"}, transid="beside")).transid == "beside"


def test_an_empty_id_beside_the_delivery_info_gives_way_to_one_inside() -> None:
    assert one(body({**DELIVERED, "transid": "inside"}, transid=" ")).transid == "inside"


def test_a_receipt_with_a_subtid_has_a_leg_of_its_own_and_the_issued_leg_beside_it() -> None:
    plain, node = one(body(DELIVERED, transid="t", subtid="")), one(body(DELIVERED, transid="t", subtid="n1"))
    assert plain.subtid is None
    assert plain.leg_key == plain.issued_leg_key == node.issued_leg_key != node.leg_key


def test_a_device_is_told_by_its_deviceid_or_else_by_its_push_id() -> None:
    push = {**DELIVERED, "deliveryChannel": "push"}
    assert one(body({**push, "pushId": "p", "deviceid": "d"}, transid="t")).device == "d"
    assert one(body({**push, "pushId": "p", "deviceid": ""}, transid="t")).device == "p"
    assert one(body({**push, "pushId": "", "deviceid": ""}, transid="t")).device is None


def test_a_correlationid_that_is_an_id_of_ours_is_a_candidate_in_any_case() -> None:
    identity = MessageId(new_id())
    assert one(body(DELIVERED, correlationid=str(identity).upper())).candidate == identity
    assert one(body(DELIVERED, correlationid=f"urn:uuid:{identity}")).candidate == identity
    assert one(body(DELIVERED, correlationid="36bf0ab6-e5b8-4387-99fd-9e57105a86a8")).candidate is None


def test_a_transid_of_ours_is_no_candidate() -> None:
    assert one(body(DELIVERED, transid=str(new_id()))).candidate is None


def test_receipts_of_one_transid_meet_whatever_its_case_and_suffix() -> None:
    spellings = [
        "3F09295D-9eb3",
        "3f09295d-9eb3",
        "3f09295d-9eb3_0",
        "3f09295d-9eb3_10977_22757",
        "urn:uuid:3f09295d-9eb3",
    ]
    assert len({one(body(DELIVERED, transid=spelling)).transid_key for spelling in spellings}) == 1


def test_receipts_without_a_transid_meet_by_their_correlationid_and_not_by_their_number() -> None:
    first, second = one(body(DELIVERED, correlationid="A-1")), one(body(DELIVERED, correlationid="a-1"))
    other = one(body(DELIVERED, correlationid="a-2"))
    assert first.transid_key == second.transid_key != other.transid_key
    assert first.destination_key == other.destination_key


def test_a_receipt_without_an_id_stands_alone() -> None:
    submitted = one(body({**DELIVERED, "deliveryStatus": "Submitted"}))
    delivered = one(body(DELIVERED))
    assert submitted.transid is None
    assert submitted.transid_key != delivered.transid_key
    assert delivered.transid_key == one(body(DELIVERED)).transid_key


def test_a_transid_and_a_correlationid_of_the_same_text_are_different_keys() -> None:
    assert one(body(DELIVERED, transid="x")).transid_key != one(body(DELIVERED, correlationid="x")).transid_key


@pytest.mark.parametrize(
    "template", ["$(callbackData)", "$(correlationid)", "$(n2.callback_data)", " $(callbackData)\n"]
)
def test_a_template_that_was_not_filled_in_is_nothing(template: str) -> None:
    receipt = one(body(DELIVERED, transid="t", callbackData=template, correlationid=template))
    assert receipt.callback_data is None
    assert receipt.callback_key is None
    assert receipt.correlationid is None
    assert receipt.correlation_key is None


@pytest.mark.parametrize("text", ["$(", "$()", "$(a b)", "x$(callbackData)", "$(callbackData)x", "$(" + "a" * 65 + ")"])
def test_what_only_looks_like_a_template_is_kept(text: str) -> None:
    assert one(body(DELIVERED, transid="t", callbackData=text)).callback_data == text


# What a notification is wrapped in


WRAPPED: dict[str, Any] = {
    "bare": {"deliveryInfo": DELIVERED, "transid": "t"},
    "pushed": {"deliveryInfoNotification": {"deliveryInfo": DELIVERED, "transid": "t"}},
    "exported": {
        "df_payload": {"deliveryInfoNotification": {"deliveryInfo": DELIVERED, "transid": "t"}},
        "df_status": "2",
    },
    "encoded twice": {
        "df_payload": json.dumps({"deliveryInfoNotification": {"deliveryInfo": DELIVERED, "transid": "t"}})
    },
    "a string": json.dumps({"deliveryInfoNotification": {"deliveryInfo": DELIVERED, "transid": "t"}}),
    "data streams": {
        "x-wx-gtrid": "g",
        "dataIntegration": {"orgId": "o"},
        "deliveryInfoNotification": {"deliveryInfo": DELIVERED, "transid": "t"},
    },
    "request data": {"requestData": {"deliveryInfoNotification": {"deliveryInfo": DELIVERED, "transid": "t"}}},
    "a delivery info list": {"deliveryInfoList": {"deliveryInfo": [DELIVERED], "transid": "t"}},
    "a list": [{"deliveryInfoNotification": {"deliveryInfo": DELIVERED, "transid": "t"}}],
    "a list in a list": [[{"deliveryInfoNotification": {"deliveryInfo": DELIVERED, "transid": "t"}}]],
    "a list in a wrapper": {"requestData": [{"deliveryInfoNotification": {"deliveryInfo": DELIVERED, "transid": "t"}}]},
    "upper case": {"DELIVERYINFONOTIFICATION": {"DELIVERYINFO": DELIVERED, "TRANSID": "t"}},
    "an array of one": {"deliveryInfoNotification": {"deliveryInfo": [DELIVERED], "transid": "t"}},
}


@pytest.mark.parametrize("name", WRAPPED)
def test_a_notification_is_the_same_whatever_it_is_wrapped_in(name: str) -> None:
    receipt, plain = one(json.dumps(WRAPPED[name]).encode()), one(json.dumps(WRAPPED["pushed"]).encode())
    assert receipt._replace(raw=b"", fresh=plain.fresh) == plain._replace(raw=b"")


def test_an_array_of_delivery_infos_is_one_receipt_each() -> None:
    infos = [{"address": f"tel:+4477009000{n:02}", "deliveryStatus": "DeliveredToTerminal"} for n in range(3)]
    receipts = told(body(infos, clientCorrelator="batch-1", callbackData="x"))
    assert [r.destination for r in receipts] == ["tel:+447700900000", "tel:+447700900001", "tel:+447700900002"]
    assert {r.correlationid for r in receipts} == {"batch-1"}
    assert len({r.fingerprint for r in receipts}) == 3
    for receipt in receipts:
        assert one(receipt.raw).fingerprint == receipt.fingerprint  # the kept bytes can be read again


def test_in_an_array_what_is_no_delivery_info_is_told_apart() -> None:
    reading = read(body([DELIVERED, "nonsense", {}, 5]), source())
    assert len(reading.receipts) == 1
    assert [reject.reason for reject in reading.rejects] == ["no_receipt"] * 3


def test_in_a_list_the_good_are_kept_and_the_bad_told_apart() -> None:
    good = {"deliveryInfoNotification": {"deliveryInfo": DELIVERED, "transid": "t"}}
    reading = read(json.dumps([good, {"hello": 1}, None, good, "[1"]).encode(), source())
    assert len(reading.receipts) == 2
    assert [(r.reason, r.body) for r in reading.rejects] == [
        ("no_receipt", b'{"hello": 1}'),
        ("no_receipt", b"null"),
        ("not_json", b'"[1"'),
    ]


def test_voice_brings_an_xml_text_beside_and_an_upper_case_status() -> None:
    info = {"deliveryStatus": "ANSWERED", "deliveryChannel": "voice", "code": "7519", "destination": "447700900001"}
    receipt = one(body(info, transid="v", deliveryTransInfo="<event><state>ANSWERED</state></event>"))
    assert receipt.channel is Channel.VOICE
    assert receipt.fact is Fact.DELIVERED
    assert receipt.code == "7519"


# OneAPI and its hubs


@pytest.mark.parametrize(
    ("address", "same_as"),
    [
        ("tel:+22507000000", "22507000000"),
        ("tel: 22507000000", "22507000000"),
        ("TEL:0022507000000", "22507000000"),
        ("sip:+22507000000@operator.example", "22507000000"),
        ("sip:Alice@Operator.example", "alice@operator.example"),
    ],
)
def test_an_address_is_a_destination_in_another_spelling(address: str, same_as: str) -> None:
    receipt = one(body({"address": address, "deliveryStatus": "DeliveredToTerminal"}, callbackData="1"))
    assert receipt.destination == address
    assert receipt.destination_key == destination_digest(same_as)


@pytest.mark.parametrize(
    ("outer", "transid", "correlationid"),
    [
        ({"clientCorrelator": "cc"}, None, "cc"),
        ({"RequestId": "urn:uuid:3F09295D-9eb3"}, "urn:uuid:3F09295D-9eb3", None),
        ({"messageId": "m-1"}, "m-1", None),
        ({"RequestId": "r-1", "messageId": "m-1"}, "r-1", None),
        ({"link": {"rel": "r", "href": "https://hub.example/outbound/tel%3A1/requests/abc-1"}}, "abc-1", None),
        ({"link": [{"rel": "r", "href": "/requests/abc-2/"}]}, "abc-2", None),
        ({"link": {"HREF": "/requests/abc-3"}}, "abc-3", None),
        ({"transid": "t", "link": {"href": "/requests/abc"}}, "t", None),
        ({"link": []}, None, None),
        ({"link": {"href": 5}}, None, None),
        ({"link": "/requests/abc"}, None, None),
    ],
)
def test_a_hub_names_the_request_in_its_own_way(
    outer: dict[str, Any], transid: str | None, correlationid: str | None
) -> None:
    receipt = one(body({"address": "tel:+22507000000", "deliveryStatus": "DeliveredToNetwork"}, **outer))
    assert (receipt.transid, receipt.correlationid) == (transid, correlationid)


def test_a_hub_that_names_the_request_in_the_callback_data_alone_is_joined_by_it() -> None:
    info = {"address": "tel:+22507000000", "deliveryStatus": "MessageWaiting"}
    waiting, delivered = one(body(info, callbackData="1")), one(sample("oneapi-delivered"))
    assert waiting.transid_key == delivered.transid_key
    assert waiting.transid_key != one(body(info, callbackData="2")).transid_key


# The spelling of keys and values


def test_keys_may_come_in_any_case() -> None:
    shouted = {
        "DELIVERYSTATUS": "Read",
        "deliverychannel": "whatsapp",
        "Code": "7502",
        "TimeStamp": "2026-01-02T03:04:05Z",
    }
    receipt = one(body(shouted, TransId="t", CallBackData="cb", CorrelationId="c", SubTid="s", Carrier="x"))
    assert (receipt.fact, receipt.channel, receipt.code) == (Fact.READ, Channel.WHATSAPP, "7502")
    assert (receipt.transid, receipt.callback_data, receipt.correlationid) == ("t", "cb", "c")
    assert (receipt.subtid, receipt.carrier) == ("s", "x")
    assert receipt.told_at is not None


def test_of_keys_that_differ_only_in_case_the_documented_one_wins_in_any_order() -> None:
    spellings = ["Transid", "transid", "TRANSID", "transID"]
    for order in itertools.permutations(spellings):
        assert one(body(DELIVERED, **{key: f"from {key}" for key in order})).transid == "from transid"


def test_of_undocumented_keys_that_differ_only_in_case_the_first_by_name_wins_in_any_order() -> None:
    spellings = ["transID", "TRANSID", "Transid"]
    for order in itertools.permutations(spellings):
        assert one(body(DELIVERED, **{key: f"from {key}" for key in order})).transid == "from TRANSID"


def test_numbers_are_taken_where_texts_are_expected() -> None:
    info = {"deliveryStatus": "Delivered", "deliveryChannel": "SMS", "destination": 447700900001, "code": 7500}
    receipt = one(body({**info, "messageCount": 3}, transid=12345, correlationid=1.5, callbackData=True, subtid=7.0))
    assert (receipt.destination, receipt.code, receipt.message_count) == ("447700900001", "7500", 3)
    assert (receipt.transid, receipt.correlationid, receipt.callback_data) == ("12345", "1.5", "true")
    assert receipt.subtid == "7"
    assert receipt.transid_key == one(body(info, transid="12345")).transid_key


def test_an_integer_longer_than_64_bits_is_kept_digit_by_digit() -> None:
    assert one(body(DELIVERED, transid=10**30)).transid == str(10**30)


def test_objects_and_lists_are_kept_as_json() -> None:
    receipt = one(body({**DELIVERED, "additionalInfo": {"a": [1, None]}}, transid="t", callbackData=["x"]))
    assert receipt.description == '{"a":[1,null]}'
    assert receipt.callback_data == '["x"]'


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        ("1", 1),
        (2, 2),
        ("007", 7),
        ("", None),
        ("x", None),
        ("-1", None),
        ("1.5", None),
        ("1234567", None),
        ("٣", None),
    ],
)
def test_a_message_count_is_a_small_number_or_nothing(count: object, expected: int | None) -> None:
    assert one(body({**DELIVERED, "messageCount": count}, transid="t")).message_count == expected


def test_values_lose_the_blanks_around_them() -> None:
    receipt = one(body({**DELIVERED, "deliveryStatus": " Delivered\n", "code": " 7500 "}, transid="\tt "))
    assert (receipt.status, receipt.code, receipt.transid) == ("Delivered", "7500", "t")


def test_nul_and_lone_surrogates_are_replaced_and_the_bytes_kept() -> None:
    raw = body(DELIVERED, transid="a\0b", callbackData="c\ud83dd", correlationid=["\ud83d", "\0"])
    receipt = one(raw)
    assert receipt.transid == "a\ufffdb"
    assert receipt.callback_data == "c?d"
    assert receipt.correlationid == r'["\ud83d","\u0000"]'
    assert receipt.raw == raw


def test_a_surrogate_pair_is_one_character() -> None:
    assert one(body(DELIVERED, transid="t", callbackData="\U0001f600")).callback_data == "\U0001f600"


def test_bytes_that_are_no_utf8_are_replaced() -> None:
    raw = body(DELIVERED, transid="t", callbackData="X").replace(b'"X"', b'"caf\xe9"')
    receipt = one(raw)
    assert receipt.callback_data == "caf\ufffd"
    assert receipt.raw == raw


def test_raw_control_characters_inside_a_text_are_no_obstacle() -> None:
    assert one(body(DELIVERED, transid="t", callbackData="X").replace(b'"X"', b'"a\nb"')).callback_data == "a\nb"


@pytest.mark.parametrize("before", [b"", BOM, BOM + b"\r\n", b" \n"])
@pytest.mark.parametrize("after", [b"", b"\n", b" \r\n\t", b"\0\0", b"\n\0"])
def test_a_byte_order_mark_and_trailing_blanks_are_no_obstacle(before: bytes, after: bytes) -> None:
    plain = body(DELIVERED, transid="t")
    receipt = one(before + plain + after)
    assert receipt.fingerprint == one(plain).fingerprint
    assert receipt.raw == before + plain + after


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-0.0", b"1e-400", b"9" * 400])
def test_numbers_that_json_forbids_or_nobody_can_hold_are_no_obstacle(number: bytes) -> None:
    raw = body({**DELIVERED, "messageCount": 8881}, transid="t", callbackData=8882)
    receipt = one(raw.replace(b"8881", number).replace(b"8882", number))
    assert receipt.fact is Fact.DELIVERED
    assert receipt.message_count is None or number in (b"-0.0", b"1e-400")


def test_a_text_of_a_megabyte_is_read() -> None:
    long = "x" * 1_000_000
    receipt = one(body({**DELIVERED, "additionalInfo": long}, transid=long, callbackData=long))
    assert receipt.transid == receipt.callback_data == receipt.description == long
    assert len(receipt.transid_key) == len(receipt.callback_key or b"") == 16


@pytest.mark.parametrize("depth", [10, 100])
def test_nesting_inside_a_field_is_kept(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    receipt = one(body(DELIVERED, transid="t", callbackData=8881).replace(b"8881", deep))
    assert receipt.callback_data == deep.decode()


# Time stamps


INDIA = ZoneInfo("Asia/Kolkata")
LONDON = ZoneInfo("Europe/London")


@pytest.mark.parametrize(
    ("stamp", "zone", "utc"),
    [
        ("2016-07-20T17:13:17.908", ZoneInfo("UTC"), "2016-07-20T17:13:17.908000+00:00"),
        ("2016-07-20T17:13:17.908", INDIA, "2016-07-20T11:43:17.908000+00:00"),
        ("2016-07-20T17:13:17.908", LONDON, "2016-07-20T16:13:17.908000+00:00"),
        ("2016-01-20T17:13:17", LONDON, "2016-01-20T17:13:17+00:00"),
        ("2016-07-20T17:13:17.908Z", INDIA, "2016-07-20T17:13:17.908000+00:00"),
        ("2016-07-20T17:13:17+5:30", LONDON, "2016-07-20T11:43:17+00:00"),
        ("", INDIA, None),
        ("yesterday", INDIA, None),
    ],
)
def test_a_bare_time_stamp_is_in_the_zone_of_the_tenant(stamp: str, zone: tzinfo, utc: str | None) -> None:
    receipt = one(body({**DELIVERED, "timeStamp": stamp}, transid="t"), zone)
    assert (receipt.told_at.isoformat() if receipt.told_at else None) == utc
    assert receipt.at == (receipt.told_at or RECEIVED)


def test_a_time_stamp_may_be_a_number_of_seconds_or_milliseconds() -> None:
    seconds, milliseconds = ({**DELIVERED, "timeStamp": stamp} for stamp in (1469034797, 1469034797908))
    first, second = one(body(seconds, transid="t")).told_at, one(body(milliseconds, transid="t")).told_at
    assert first is not None
    assert second is not None
    assert (first.isoformat(), second.isoformat()) == ("2016-07-20T17:13:17+00:00", "2016-07-20T17:13:17.908000+00:00")


# Words that nobody knows


@pytest.mark.parametrize("status", ["", "Teleported", "Fail", "not failed", "0", "delivered to the neighbour", "失败"])
def test_an_unknown_status_is_unknown_and_never_failed(status: str) -> None:
    receipt = one(body({**DELIVERED, "deliveryStatus": status, "code": "7101"}, transid="t"))
    assert receipt.fact is Fact.UNKNOWN
    assert receipt.rank is State.QUEUED
    assert receipt.reason_key is None
    assert receipt.status == status


def test_an_unknown_channel_is_other_and_its_status_is_read() -> None:
    receipt = one(body({**DELIVERED, "deliveryChannel": "carrier pigeon"}, transid="t"))
    assert (receipt.channel, receipt.fact) == (Channel.OTHER, Fact.DELIVERED)


def test_the_code_never_decides_what_a_receipt_proves() -> None:
    for code in ("7500", "7501", "7502", "7101", "7520"):
        assert one(body({**DELIVERED, "deliveryStatus": "Submitted", "code": code}, transid="t")).fact is Fact.SUBMITTED


# Bodies without a receipt


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty"),
        (b" \r\n\0", "empty"),
        (BOM, "empty"),
        (b'<?xml version="1.0"?><deliveryInfoNotification/>', "xml"),
        (BOM + b"\n<msg:deliveryInfoNotification/>", "xml"),
        (b"{", "not_json"),
        (b"hello", "not_json"),
        (b"transid=1&status=Delivered", "not_json"),
        (b'{"deliveryInfo":{"status":"Read"}} trailing', "not_json"),
        (b"9" * 5000, "not_json"),
        (b"null", "no_receipt"),
        (b"5", "no_receipt"),
        (b'"text"', "no_receipt"),
        (b"[]", "no_receipt"),
        (b'{"df_payload":[]}', "no_receipt"),
        (b"{}", "no_receipt"),
        (b'{"hello":"world"}', "no_receipt"),
        (b'{"deliveryInfoNotification":null}', "no_receipt"),
        (b'{"deliveryInfoNotification":{}}', "no_receipt"),
        (b'{"deliveryInfoNotification":{"deliveryInfo":null,"transid":"t"}}', "no_receipt"),
        (b'{"deliveryInfoNotification":{"deliveryInfo":[],"transid":"t"}}', "no_receipt"),
        (b'{"deliveryInfoNotification":{"deliveryInfo":{"destination":"447700900001"}}}', "no_receipt"),
        (b"[" * 20_000 + b"]" * 20_000, "nested_too_deeply"),
        (b'{"deliveryInfo":' * 20_000 + b"1" + b"}" * 20_000, "nested_too_deeply"),
        (b'{"deliveryInfo":{"status":"x","a":' + b"[" * 800 + b"]" * 800 + b"}}", "nested_too_deeply"),
        (b'{"requestData":' * 20 + b'{"deliveryInfo":{"status":"x"}}' + b"}" * 20, "no_receipt"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_body_without_a_receipt_is_refused_with_its_reason(raw: bytes, reason: str) -> None:
    reject = refused(raw)
    assert reject.reason == reason
    assert (reject.tenant, reject.body, reject.at) == (TENANT, raw, RECEIVED)
    assert len(reject.digest) == 16


@pytest.mark.parametrize("raw", [b"[[]]", b'[{"df_payload":[]}]', b'[""]'])
def test_no_part_of_a_body_is_lost_without_a_word(raw: bytes) -> None:
    reject = refused(raw)
    assert reject.reason == "no_receipt"
    assert reject.body == raw[1:-1]


def test_the_same_body_is_refused_under_the_same_digest_and_another_under_another() -> None:
    assert refused(b"hello").digest == refused(b"hello").digest != refused(b"hallo").digest


@pytest.mark.parametrize(
    "value",
    [
        [{}] * (MOST_RECEIPTS + 1),
        {"df_payload": [{"deliveryInfo": DELIVERED}] * (MOST_RECEIPTS + 1)},
        {"deliveryInfo": [DELIVERED] * (MOST_RECEIPTS + 1)},
    ],
    ids=["a list", "a list in a wrapper", "an array"],
)
def test_more_receipts_than_one_body_may_hold_are_refused_whole(value: object) -> None:
    raw = json.dumps(value).encode()
    reject = refused(raw)
    assert reject.reason == "too_many"
    assert reject.body == raw


def test_many_delivery_infos_beside_a_short_notification_are_read() -> None:
    infos = [{"address": f"tel:+44770{n:07}", "deliveryStatus": "DeliveredToTerminal"} for n in range(1_500)]
    assert len(told(body(infos, clientCorrelator="c"))) == 1_500


def test_delivery_infos_that_would_copy_a_long_notification_too_often_are_refused_whole() -> None:
    assert refused(body([DELIVERED] * 2_000, callbackData="x" * 100_000)).reason == "too_many"
