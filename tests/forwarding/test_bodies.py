"""The body that goes on: the platform's bytes, with the client's ids in place of ours."""

import json
from uuid import UUID

import pytest

from receiver.forwarding.body import Client, body_for
from receiver.ids import new_id

OURS = new_id()
CLIENT = Client(OURS, "order-1", "the client's")


def notification(correlationid: str, callback: str = "told", more: str = "") -> bytes:
    """As the platform might space and order it."""
    return (
        '{ "deliveryInfoNotification" : {"deliveryInfo":{"deliveryStatus":"Delivered",\t"code" : "7500"'
        + more
        + '},\r\n "correlationid":'
        + f'  "{correlationid}" ,"callbackData":"{callback}", "transid":"{OURS}"'
        + "}}\n"
    ).encode()


@pytest.mark.parametrize("spell", [str, lambda i: str(i).upper(), lambda i: f"urn:uuid:{i}", lambda i: i.hex])
def test_our_id_in_any_spelling_becomes_the_client_s_and_every_other_byte_stays(spell: type[str]) -> None:
    assert body_for(notification(spell(OURS)), CLIENT) == notification("order-1")


def test_a_client_that_gave_none_gets_none() -> None:
    assert body_for(notification(str(OURS)), Client(OURS, "", None)) == notification("")


def test_another_correlationid_is_told_as_it_came() -> None:
    for text in ("order-1", str(new_id()), f"{OURS} and more"):
        assert body_for(notification(text), CLIENT) == notification(text)


def test_only_the_field_of_that_name_is_exchanged() -> None:
    more = f', "additionalInfo":"\\"correlationid\\":\\"{OURS}\\" \\\\", "x":["correlationid", "{OURS}"]'
    assert body_for(notification(str(OURS), more=more), CLIENT) == notification("order-1", more=more)


def test_the_ids_of_a_click_stand_inside() -> None:
    more = f', "CorrelationId":"{OURS}"'
    assert body_for(notification("x", more=more), CLIENT) == notification("x", more=', "CorrelationId":"order-1"')


@pytest.mark.parametrize("callback", ["", "$(callbackData)", "$(callback_data)"])
def test_callback_data_that_was_not_filled_in_is_the_client_s(callback: str) -> None:
    assert body_for(notification("x", callback), CLIENT) == notification("x", "the client's")
    assert body_for(notification("x", callback), Client(OURS, "", None)) == notification("x", callback)


@pytest.mark.parametrize("told", ["", " ", "$(correlationid)"])
def test_a_correlationid_that_was_not_told_is_the_client_s(told: str) -> None:
    assert body_for(notification(told), CLIENT) == notification("order-1")
    assert body_for(notification(told), Client(OURS, "", None)) == notification(told)


def test_null_says_as_little_as_an_empty_text() -> None:
    more = ', "pushId":null, "additionalInfo":"null"'
    for name, value in (("correlationid", "order-1"), ("callbackData", "the client's")):
        raw = b'{"deliveryInfo":{}' + more.encode() + f', "{name}" : null }}'.encode()
        assert body_for(raw, CLIENT) == raw.replace(b": null }", f': "{value}" }}'.encode())
        assert body_for(raw, Client(OURS, "", None)) == raw
        assert json.loads(body_for(raw.decode().encode("utf-16"), CLIENT))[name] == value


def test_callback_data_that_was_told_stays() -> None:
    assert body_for(notification(str(OURS), "other"), CLIENT) == notification("order-1", "other")


def test_what_the_client_gave_is_written_as_json() -> None:
    client = Client(OURS, 'a "b" \\ é \u2028 \ud800', None)
    sent = body_for(notification(str(OURS)), client)
    told = json.loads(sent.decode("utf-8", "surrogatepass"))
    assert told["deliveryInfoNotification"]["correlationid"] == client.correlationid


def test_escapes_and_bytes_that_are_no_utf_8_do_no_harm() -> None:
    raw = notification("U").replace(b'"U"', b'"' + "".join(f"\\u{ord(c):04x}" for c in str(OURS)).encode() + b'"')
    raw = raw.replace(b"7500", b"\xff\xfe7500")
    assert body_for(raw, CLIENT) == raw[: raw.index(b'"\\u')] + b'"order-1"' + raw[raw.index(b' ,"callback') :]


def test_what_can_not_be_edited_is_encoded_anew() -> None:
    raw = notification(str(OURS)).decode().encode("utf-16")
    assert json.loads(body_for(raw, CLIENT)) == json.loads(notification("order-1"))
    other = notification("another").decode().encode("utf-16")
    assert body_for(other, CLIENT) == other


def test_what_is_only_observed_goes_on_as_it_came() -> None:
    for raw in (notification(str(OURS), ""), b"", b"\xff", b'"', b"[" * 100_000):
        assert body_for(raw, None) == raw
        assert body_for(b'"', CLIENT) == b'"'


def test_an_exported_receipt_loses_its_wrapper() -> None:
    inner = notification("order-1")
    for payload in (inner, json.dumps(inner.decode()).encode()):
        raw = b'{"df_status": "2", "df_payload": ' + payload + b', "df_response_status": "429"}'
        assert body_for(raw, None).strip() == inner.strip()
    assert body_for(b'{"df_payload": 1', None) == b'{"df_payload": 1'


def test_a_large_body_of_quotes_is_read_once() -> None:
    raw = b'{"a":"' + b'\\"' * 500_000 + b'"}'
    assert body_for(raw, Client(UUID(int=OURS.int), "x", "y")) == raw
