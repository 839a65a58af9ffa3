"""Reading cannot raise, whatever comes; and what it returns can be stored."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.receipts.receipt import read
from tests.receipts.reading import SAMPLES, body, sample, sample_names, source
from tests.receipts.soundness import assert_steady, assert_storable

FUZZ = settings(max_examples=300, deadline=None)
KEYS = [
    *("deliveryInfoNotification", "deliveryInfo", "df_payload", "requestData", "deliveryInfoList", "link", "href"),
    *("deliveryStatus", "status", "transid", "correlationid", "callbackData", "destination", "address", "timeStamp"),
    *("TRANSID", "Code", "code", "messageCount", "subtid", "deliveryChannel", "Description", "additionalInfo"),
]
WORDS = st.sampled_from(
    [
        "Delivered",
        "Failed",
        "SMS",
        "email",
        "$(callbackData)",
        "tel: +1",
        "_1_1",
        "\0",
        "\ud800",
        "2016-07-20",
        "{",
        "[1]",
        "7101",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | WORDS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=8,
)
BODIES = {name: sample(name) for name in sample_names()}


def nested(value: Any, depth: int) -> bytes:
    return b"[" * depth + json.dumps(value).encode() + b"]" * depth


@given(st.binary(max_size=200))
@FUZZ
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    assert_storable(raw, read(raw, source()))
    assert_steady(raw)


@given(VALUES)
@FUZZ
def test_any_json_is_read_or_refused(value: Any) -> None:
    raw = json.dumps(value).encode()
    assert_storable(raw, read(raw, source()))
    assert_steady(raw)


@given(
    st.dictionaries(st.sampled_from(KEYS[7:]), VALUES, min_size=1), st.dictionaries(st.sampled_from(KEYS[7:]), VALUES)
)
@FUZZ
def test_any_values_in_known_fields_are_read_or_refused(info: dict[str, Any], outer: dict[str, Any]) -> None:
    raw = body({"deliveryStatus": "Failed", **info}, **{"transid": "t", **outer})
    reading = read(raw, source())
    assert_storable(raw, reading)
    assert_steady(raw)
    assert len(reading.receipts) + len(reading.rejects) == 1


@given(st.data())
@FUZZ
def test_any_mutation_of_a_sample_is_read_or_refused(data: st.DataObject) -> None:
    raw = bytearray(BODIES[data.draw(st.sampled_from(sorted(BODIES)))])
    for _ in range(data.draw(st.integers(1, 5))):
        start = data.draw(st.integers(0, len(raw)))
        end = data.draw(st.integers(start, min(start + 40, len(raw))))
        raw[start:end] = data.draw(
            st.binary(max_size=12) | st.sampled_from([b"", b'"', b"\\u0000", b"\\ud800", b"1e999", b"{"])
        )
    assert_storable(bytes(raw), read(bytes(raw), source()))
    assert_steady(bytes(raw))


@given(st.data())
@FUZZ
def test_any_value_in_a_field_of_a_sample_is_read_or_refused(data: st.DataObject) -> None:
    value = json.loads(BODIES[data.draw(st.sampled_from(sorted(set(BODIES) - {"export-two-failed-notifications"})))])
    fields = value["deliveryInfoNotification"]
    fields = data.draw(st.sampled_from([fields, fields["deliveryInfo"]]))
    fields[data.draw(st.sampled_from(sorted(fields)))] = data.draw(VALUES)
    raw = json.dumps(value).encode()
    assert_storable(raw, read(raw, source()))
    assert_steady(raw)


@given(st.lists(st.sampled_from(sorted(BODIES)), min_size=1, max_size=5), st.integers(0, 4))
@FUZZ
def test_samples_nested_in_lists_are_all_read(names: list[str], depth: int) -> None:
    values = [json.loads(BODIES[name]) for name in names]
    reading = read(nested(values, depth), source())
    assert not reading.rejects
    assert len(reading.receipts) == sum(len(value) if isinstance(value, list) else 1 for value in values)


def test_there_are_samples_to_mutate() -> None:
    assert SAMPLES.is_dir()
    assert len(BODIES) == 17
