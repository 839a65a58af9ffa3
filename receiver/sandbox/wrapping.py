"""What notifications have been seen wrapped in. A wrapper is no part of what is told: one receipt comes in several.

A wrapper takes the tellings of one body and gives its bytes; the same tellings give the same bytes.
"""

import json
import random
from collections.abc import Callable
from typing import Final

import msgspec

from receiver.sandbox.parcel import Telling

Wrap = Callable[[tuple[Telling, ...]], bytes]

_FAILED = b',"df_status":"2","df_status_text":"HTTP Status 503","df_response_status":"503"}'


def plain(tellings: tuple[Telling, ...]) -> bytes:
    """As documented; several are a list."""
    return tellings[0].plain() if len(tellings) == 1 else _list(tellings)


def _list(tellings: tuple[Telling, ...]) -> bytes:
    return b"[%s]" % b",".join(one.plain() for one in tellings)


def _export(tellings: tuple[Telling, ...]) -> bytes:
    """The platform's export of what it failed to tell."""
    return b"[%s]" % b", ".join(b'{"df_payload":' + one.plain() + _FAILED for one in tellings)


def _df_payload(tellings: tuple[Telling, ...]) -> bytes:
    return b'{"df_payload":' + plain(tellings) + _FAILED


def _encoded(tellings: tuple[Telling, ...]) -> bytes:
    """A payload that was encoded twice."""
    return msgspec.json.encode({"df_payload": plain(tellings).decode()})


def _request_data(tellings: tuple[Telling, ...]) -> bytes:
    return b'{"requestData": %s}' % plain(tellings)


def _nested(tellings: tuple[Telling, ...]) -> bytes:
    return b'[{"requestData":{"df_payload":[%s]}}]' % plain(tellings)


def _data_streams(tellings: tuple[Telling, ...]) -> bytes:
    if len(tellings) > 1:
        return _list(tellings)
    extra = b'{"x-wx-gtrid":"a1b2c3","dataIntegration":{"id":"42","name":"receipts"},'
    return extra + tellings[0].plain()[1:]


def _array(tellings: tuple[Telling, ...]) -> bytes:
    """`deliveryInfo` as an array: one receipt each, the ids beside it shared."""
    first = tellings[0]
    if any(one.outer != first.outer for one in tellings):
        return _list(tellings)
    beside = b"," + first.outer if first.outer else b""
    infos = b",".join(one.info for one in tellings)
    return b'{"deliveryInfoNotification":{"%s":[%s]%s}}' % (first.keys("deliveryInfo").encode(), infos, beside)


def _indented(tellings: tuple[Telling, ...]) -> bytes:
    return json.dumps(json.loads(plain(tellings)), indent=2).encode()


WRAPPERS: Final[dict[str, Wrap]] = {
    "list": _list,
    "export": _export,
    "df_payload": _df_payload,
    "encoded": _encoded,
    "request_data": _request_data,
    "nested": _nested,
    "data_streams": _data_streams,
    "array": _array,
    "indented": _indented,
}


def byte_order_mark(wrap: Wrap) -> Wrap:
    """`wrap` with a byte-order mark in front."""
    return lambda tellings: b"\xef\xbb\xbf" + wrap(tellings)


def trailing_blanks(wrap: Wrap) -> Wrap:
    """`wrap` with blanks behind."""
    return lambda tellings: wrap(tellings) + b" \r\n\t\n"


def cut(body: bytes, roll: random.Random) -> bytes:
    """The beginning of `body`, a JSON object or array: never the whole, never nothing."""
    return body[: roll.randrange(1, len(body.rstrip()))]


def as_xml(telling: Telling) -> bytes:
    """The receipt as OMA's XML."""
    space = 'xmlns:msg="urn:oma:xml:rest:netapi:messaging:1"'
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><msg:deliveryInfoNotification {space}><deliveryInfo>'
        f"<deliveryStatus>{telling.status}</deliveryStatus></deliveryInfo></msg:deliveryInfoNotification>"
    ).encode()
