"""The fingerprint: one telling, one value, however it came; a stored promise."""

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.receipts.reading import body, one, sample, sample_names, told

INFO = {
    "timeStamp": "2022-10-10T13:53:13.749+01:00",
    "Description": "Delivered",
    "code": "7500",
    "messageCount": "1",
    "deliveryChannel": "SMS",
    "additionalInfo": "",
    "destination": "918900000000",
    "destinationType": "msisdn",
    "deliveryStatus": "Delivered",
}
OUTER = {"carrier": "USTMO", "subtid": "", "transid": "7f3af32c", "callbackData": "mine", "correlationid": "c-1"}


def print_of(notification: dict[str, Any], **beside: Any) -> bytes:
    return one(json.dumps({"deliveryInfoNotification": notification, **beside}).encode()).fingerprint


def swapped(fields: dict[str, Any]) -> dict[str, Any]:
    return {key.swapcase(): value for key, value in fields.items()}


PLAIN = print_of({"deliveryInfo": INFO, **OUTER})


def test_the_fingerprint_of_a_known_receipt_never_changes() -> None:
    """It is stored and unique: another value counts every receipt twice that is told again. See FINGERPRINT_VERSION."""
    assert one(sample("sms-delivered")).fingerprint.hex() == "d84b3011e4c1dc62392e40520154c3ef"
    assert one(sample("oneapi-delivered")).fingerprint.hex() == "4f6f91117a5e33dbc48abf027e7f1577"


def test_no_two_samples_share_a_fingerprint() -> None:
    prints = [receipt.fingerprint for name in sample_names() for receipt in told(sample(name))]
    assert len(set(prints)) == len(prints)
    assert {len(print_) for print_ in prints} == {16}


@pytest.mark.parametrize("name", [name for name in sample_names() if not name.startswith("export")])
def test_a_pushed_and_an_exported_copy_are_one(name: str) -> None:
    pushed = sample(name)
    exported = [{"df_payload": json.loads(pushed), "df_status": "2", "df_status_text": "HTTP Status 429"}]
    assert one(json.dumps(exported).encode()).fingerprint == one(pushed).fingerprint


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_keys_does_not_count(seed: int) -> None:
    def shuffled(fields: dict[str, Any]) -> dict[str, Any]:
        return dict(random.Random(seed).sample(list(fields.items()), len(fields)))

    assert print_of(shuffled({"deliveryInfo": shuffled(INFO), **OUTER})) == PLAIN


def test_the_case_of_the_keys_does_not_count() -> None:
    assert print_of({"DELIVERYinfo": swapped(INFO), **swapped(OUTER)}) == PLAIN


def test_blanks_between_the_fields_do_not_count() -> None:
    told_again = json.dumps({"deliveryInfoNotification": {"deliveryInfo": INFO, **OUTER}}, indent=3)
    assert one(told_again.encode() + b"\r\n").fingerprint == PLAIN


def test_a_text_counts_the_same_escaped_or_not() -> None:
    notification = {"deliveryInfoNotification": {"deliveryInfo": {**INFO, "Description": "zugestellt für Ю"}, **OUTER}}
    escaped, plain = json.dumps(notification), json.dumps(notification, ensure_ascii=False)
    assert one(escaped.encode()).fingerprint == one(plain.encode()).fingerprint


def test_what_stands_beside_the_notification_does_not_count() -> None:
    beside = {"x-wx-gtrid": "g-1", "dataIntegration": {"orgId": "o"}, "df_status": "2"}
    assert print_of({"deliveryInfo": INFO, **OUTER}, **beside) == PLAIN


def test_when_and_from_whom_it_came_does_not_count() -> None:
    assert one(body(INFO, **OUTER)).fresh != one(body(INFO, **OUTER)).fresh
    assert one(body(INFO, **OUTER)).fingerprint == PLAIN


@pytest.mark.parametrize("name", INFO)
def test_each_field_of_the_delivery_info_counts(name: str) -> None:
    without = {key: value for key, value in INFO.items() if key != name}
    prints = [
        print_of({"deliveryInfo": info, **OUTER}) for info in ({**INFO, name: "other"}, {**INFO, name: None}, without)
    ]
    assert len({PLAIN, *prints}) == 4


@pytest.mark.parametrize("name", OUTER)
def test_each_field_beside_the_delivery_info_counts(name: str) -> None:
    without = {key: value for key, value in OUTER.items() if key != name}
    prints = [
        print_of({"deliveryInfo": INFO, **outer})
        for outer in ({**OUTER, name: "other"}, {**OUTER, name: None}, without)
    ]
    assert len({PLAIN, *prints}) == 4


def test_a_field_that_nobody_knows_counts() -> None:
    assert print_of({"deliveryInfo": {**INFO, "novelty": 1}, **OUTER}) != PLAIN
    assert print_of({"deliveryInfo": INFO, **OUTER, "novelty": 1}) != PLAIN


def test_a_field_counts_by_the_place_where_it_stands() -> None:
    outer = {key: value for key, value in OUTER.items() if key != "transid"}
    assert print_of({"deliveryInfo": {**INFO, "transid": OUTER["transid"]}, **outer}) != PLAIN


@pytest.mark.parametrize(
    "code", [7500, 7500.0, "07500", " 7500", "7500\0", ["7500"], {"a": "7500"}, True, 10**30, "\ud83d"]
)
def test_a_value_counts_as_it_was_told_before_any_normalisation(code: object) -> None:
    assert print_of({"deliveryInfo": {**INFO, "code": code}, **OUTER}) != PLAIN


def test_keys_that_differ_only_in_case_all_count_in_any_order() -> None:
    first = print_of({"deliveryInfo": {**INFO, "Code": "1"}, **OUTER})
    turned = print_of({"deliveryInfo": {"Code": "1", **INFO}, **OUTER})
    other = print_of({"deliveryInfo": {**INFO, "Code": "2"}, **OUTER})
    assert first == turned
    assert len({PLAIN, first, other}) == 3


NAMES = st.sampled_from(["transid", "TransId", "carrier", "Carrier", "é", "a", "z", "deliveryinfox"])
VALUES: st.SearchStrategy[Any] = st.sampled_from(
    ["", "x", "é", "\ud800", "\0", 5, 10**30, 1.5, None, True, [], {"A": [1]}, {"a": 1, "A": 2}]
)


@given(st.dictionaries(NAMES, VALUES, max_size=5), st.dictionaries(NAMES, VALUES, max_size=4))
def test_one_of_a_list_of_delivery_infos_has_the_fingerprint_that_it_has_alone(
    outer: dict[str, Any], more: dict[str, Any]
) -> None:
    info = {"deliveryStatus": "Read", **more}
    beside = [{"address": "tel:1", "deliveryStatus": "Read"}, info]
    alone, one_of_two = one(body(info, **outer)), told(body(beside, **outer))[1]
    assert one_of_two.fingerprint == alone.fingerprint == one(one_of_two.raw).fingerprint
