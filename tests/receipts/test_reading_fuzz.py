"""Reading cannot raise, whatever comes; what it returns can be stored; and no body makes it slow."""

import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.messages.lattice import NEGATIVE, RANK, clash
from receiver.messages.told import Told
from receiver.receipts.receipt import Reading, read
from tests.receipts.reading import SAMPLES, body, sample, sample_names, source

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


def assert_storable(reading: Reading) -> None:
    assert reading.receipts or reading.rejects
    for receipt in reading.receipts:
        assert_sound(receipt)
    for reject in reading.rejects:
        assert reject.reason in ("empty", "xml", "not_json", "no_receipt", "nested_too_deeply", "too_many")
        assert len(reject.digest) == 16
        assert "\0" not in (reject.detail or "")
        (reject.detail or "").encode()
        assert isinstance(reject.body, bytes)


def assert_sound(told: Told) -> None:
    for name, value in told._asdict().items():
        if isinstance(value, str):
            assert "\0" not in value, name
            value.encode()
    keys = (told.transid_key, told.leg_key, told.issued_leg_key, told.destination_key, told.fingerprint)
    optional = (told.code_key, told.correlation_key, told.callback_key)
    assert {len(key) for key in (*keys, *filter(None, optional))} == {16}
    assert told.rank is RANK[told.fact]
    assert told.clash == clash(told.channel, told.fact)
    negative = bool(told.fact & NEGATIVE)
    assert (told.reason_key is not None) is negative
    assert (told.reason_class is not None) is negative
    assert told.reason_key is None or len(told.reason_key) == 19
    pairs = (
        (told.code, told.code_key),
        (told.correlationid, told.correlation_key),
        (told.callback_data, told.callback_key),
    )
    assert all((text is None) == (key is None) for text, key in pairs)
    texts = (told.code, told.description, told.destination, told.subtid, told.device, told.carrier, told.transid)
    assert "" not in texts  # silence has one spelling
    assert told.raw


def nested(value: Any, depth: int) -> bytes:
    return b"[" * depth + json.dumps(value).encode() + b"]" * depth


@given(st.binary(max_size=200))
@FUZZ
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    assert_storable(read(raw, source()))


@given(VALUES)
@FUZZ
def test_any_json_is_read_or_refused(value: Any) -> None:
    raw = json.dumps(value).encode()
    assert_storable(read(raw, source()))


@given(
    st.dictionaries(st.sampled_from(KEYS[7:]), VALUES, min_size=1), st.dictionaries(st.sampled_from(KEYS[7:]), VALUES)
)
@FUZZ
def test_any_values_in_known_fields_are_read_or_refused(info: dict[str, Any], outer: dict[str, Any]) -> None:
    raw = body({"deliveryStatus": "Failed", **info}, **{"transid": "t", **outer})
    reading = read(raw, source())
    assert_storable(reading)
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
    assert_storable(read(bytes(raw), source()))


@given(st.data())
@FUZZ
def test_any_value_in_a_field_of_a_sample_is_read_or_refused(data: st.DataObject) -> None:
    value = json.loads(BODIES[data.draw(st.sampled_from(sorted(set(BODIES) - {"export-two-failed-notifications"})))])
    fields = value["deliveryInfoNotification"]
    fields = data.draw(st.sampled_from([fields, fields["deliveryInfo"]]))
    fields[data.draw(st.sampled_from(sorted(fields)))] = data.draw(VALUES)
    raw = json.dumps(value).encode()
    assert_storable(read(raw, source()))


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


# Nasty bodies of 64 KB

SIZE = 64 * 1024
BOUND = 0.5  # seconds: ten times what such a body may take
CASES = ["".join(c) for c in itertools.islice(itertools.product(*(k + k.upper() for k in "deliverystat")), 3_000)]
FIELDS = [
    "transid",
    "destination",
    "timeStamp",
    "correlationid",
    "callbackData",
    "deliveryStatus",
    "code",
    "messageCount",
]
PATTERNS = ["_1", "9", "(", "$(", "tel:", "tel: ", "1 ", "-", " \t", "@", "\0", "\ud800", "é", "/", "a:"]


def assert_quick(raw: bytes) -> None:
    """Far below half a second; the best of three, for a busy machine is no slow reader."""
    for _ in range(3):
        begun = time.perf_counter()
        read(raw, source())
        if (took := time.perf_counter() - begun) < BOUND:
            return
    pytest.fail(f"{took:.2f} s for {len(raw)} bytes")


@pytest.mark.parametrize("pattern", PATTERNS, ids=ascii)
def test_no_repeated_text_in_a_field_is_slow(pattern: str) -> None:
    """Each field is filled in turn; a reader that is quadratic in one of them would take minutes."""
    for name in FIELDS:
        for end in ("", "x"):
            text = pattern * (SIZE // len(pattern)) + end
            raw = body({"deliveryStatus": "Failed", "deliveryChannel": "SMS", name: text}, link={"href": text})
            assert_quick(raw)


NASTY = {
    "keys that differ in case": body({"deliveryStatus": "Read", **dict.fromkeys(CASES, 1)}, **dict.fromkeys(CASES, 1)),
    "many keys": body({"deliveryStatus": "Read", **{f"k{n}": n for n in range(6_000)}}),
    "deep": body({"deliveryStatus": "Read", "x": 8881}).replace(b"8881", b"[" * 30_000 + b"]" * 30_000),
    "nearly too deep": body({"deliveryStatus": "Read", "x": 8881}).replace(b"8881", b"[" * 900 + b"]" * 900),
    "strings in strings": json.dumps(json.dumps(json.dumps({"deliveryInfo": {"status": "x" * 20_000}}))).encode(),
    "open brackets": b'{"deliveryInfo":' * 4_000,
    "digits": b"9" * SIZE,
    "a long fraction": b"0." + b"1" * SIZE,
    "a long exponent": b"1e" + b"9" * SIZE,
    "escapes": b'{"deliveryInfo":{"status":"' + b"\\ud800" * 10_000 + b'"}}',
    "no utf-8": b'{"deliveryInfo":{"status":"' + b"\xff" * SIZE + b'"}}',
    "zeros": b"\0" * SIZE,
}


@pytest.mark.parametrize("name", NASTY)
def test_no_nasty_body_is_slow(name: str) -> None:
    assert_quick(NASTY[name])


@pytest.mark.parametrize("filler", [{}, 1, {"status": "Read"}, {"deliveryInfo": {"status": "Read"}}], ids=json.dumps)
def test_a_body_of_very_many_parts_takes_no_more_than_their_number_explains(filler: Any) -> None:
    many = [filler] * 10_000
    for raw in (body(many, transid="t"), json.dumps(many).encode()):
        begun = time.perf_counter()
        reading = read(raw, source())
        assert time.perf_counter() - begun < 10  # 0.1 ms a part, ten times over
        assert len(reading.receipts) + len(reading.rejects) == 10_000
