"""The body that goes on: the platform's own bytes, with the client's ids where ours went out.

A client may compare byte by byte, so only those values are exchanged and every other byte stays.
"""

import json
import re
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from receiver.ids import parse_id

_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"(\s*:\s*)?|null', re.DOTALL)  # with its colon: the name of a field
_TEMPLATE = re.compile(r"\$\([^()]*\)")
_CORRELATIONIDS = frozenset({"correlationid", "clientcorrelator"})


class Client(NamedTuple):
    """What the client knows its message by, and the id of ours that the platform knows in its place."""

    ours: UUID
    correlationid: str
    callback_data: str | None


def body_for(raw: bytes, client: Client | None) -> bytes:
    """The notification in the platform's shape, as `client` expects it; None: nothing of ours is in it.

    An exported receipt loses the wrapper that the export put around it.
    """
    raw = _unwrapped(raw)
    if client is None:
        return raw
    edited = _edited(raw, client)
    return edited if edited is not None else _encoded_anew(raw, client)


def _unwrapped(raw: bytes) -> bytes:
    """The notification inside the platform's export of those that it could not tell, as its bytes stand there."""
    if b"df_payload" not in raw:
        return raw
    try:
        fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        payload = bytes(fields["df_payload"]) if "deliveryInfoNotification" not in fields else raw
        return msgspec.json.decode(payload, type=str).encode() if payload.startswith(b'"') else payload
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
        return raw


def _edited(raw: bytes, client: Client) -> bytes | None:
    """`raw` with the exchanged values; None if there is none that it can find."""
    parts: list[bytes] = []
    done, name, name_ends = 0, "", -1
    for found in _TOKEN.finditer(raw):
        if found[1] is not None:
            name, name_ends = _text(found[0][: -len(found[1])]) or "", found.end()
        elif found.start() == name_ends and (text := _text(found[0])) is not None:
            exchanged = _exchanged(name, text, client)
            if exchanged is not None:
                encoded = json.dumps(exchanged, ensure_ascii=False).encode("utf-8", "surrogatepass")
                parts += raw[done : found.start()], encoded
                done = found.end()
    return b"".join([*parts, raw[done:]]) if parts else None


def _text(token: bytes) -> str | None:
    """The text of a JSON string; null says as little as an empty one. None for what is no string after all."""
    if token == b"null":
        return ""
    if b"\\" not in token and token.isascii():
        return token[1:-1].decode()
    try:
        return str(json.loads(token, strict=False))
    except ValueError:
        return None


def _exchanged(name: str, text: str, client: Client) -> str | None:
    """What stands in place of `text`; None: it stays."""
    name, says_nothing = name.casefold(), not text.strip() or _TEMPLATE.fullmatch(text) is not None
    if name in _CORRELATIONIDS and (parse_id(text) == client.ours or (says_nothing and client.correlationid)):
        return client.correlationid
    if name == "callbackdata" and client.callback_data and says_nothing:
        return client.callback_data
    return None


def _encoded_anew(raw: bytes, client: Client) -> bytes:
    """For what is in no encoding that can be edited, such as UTF-16; `raw` itself where nothing is to be exchanged."""
    try:
        value = json.loads(raw, strict=False)
        exchanged = _walked(value, client)
    except (ValueError, RecursionError):
        return raw
    return raw if exchanged == value else json.dumps(exchanged, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _walked(value: Any, client: Client) -> Any:
    if isinstance(value, list):
        return [_walked(item, client) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {}
    for name, item in value.items():
        other = _exchanged(name, item or "", client) if isinstance(item, str | None) else None
        changed[name] = _walked(item, client) if other is None else other
    return changed
