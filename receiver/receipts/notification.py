"""The dialects: from the bytes of a body to its notifications, whatever they are wrapped in.

A body may be one notification, a list of them, the platform's export of failed ones (`df_payload`), a Data Streams
event, or a OneAPI hub's (`requestData`, `deliveryInfo` as an array). Keys may come in any case.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from receiver.receipts.body import Unreadable, parse, slices, utf8

Fields = dict[str, Any]

# A body that claims more is quarantined whole: more receipts than MOST_RECEIPTS, more parts than its bytes can hold
# (the shortest entry in earnest has 65 bytes; any 128 are let through), or a deliveryInfo list that would copy what
# stands beside it too often. So 64 KB hold 1,152 parts, which take 50 ms at 43 µs each.
MOST_RECEIPTS = 10_000
FEWEST_BYTES = 64
FEWEST_PARTS = 128
MOST_COPIED = 4 * 1024 * 1024
MOST_WRAPPERS = 8

FINGERPRINT_VERSION = b"\x01"

DOCUMENTED = frozenset(
    [
        "deliveryInfoNotification",
        "deliveryInfo",
        "timeStamp",
        "Description",
        "code",
        "deliveryChannel",
        "additionalInfo",
        "destination",
        "destinationType",
        "deliveryStatus",
        "messageCount",
        "pushId",
        "deviceid",
        "identityKeyHash",
        "carrier",
        "subtid",
        "transid",
        "callbackData",
        "correlationid",
        "deliveryTransInfo",
        "df_payload",
        "requestData",
        "address",
        "clientCorrelator",
        "RequestId",
        "messageId",
        "link",
    ]
)


class Beside:
    """What stands beside a deliveryInfo: worked out once for all the entries of a list."""

    def __init__(self, told: Fields, fields: Fields, is_shared: bool) -> None:
        self.told, self.is_shared = told, is_shared
        # An empty field here gives way to one of the same name inside.
        self.said = {k: v for k, v in fields.items() if v is not None and not (isinstance(v, str) and not v.strip())}

    @cached_property
    def as_json(self) -> bytes:
        return json.dumps(self.told).encode()

    @cached_property
    def canonical_halves(self) -> tuple[bytes, bytes] | None:
        """The canonical form of all of it, cut where the deliveryInfo belongs; None where only `_escaped` can do it."""
        try:
            return self._halves(_plain)
        except _UNENCODABLE:
            return None

    @cached_property
    def escaped_halves(self) -> tuple[bytes, bytes]:
        return self._halves(_escaped)

    def _halves(self, encode: Callable[[Any], bytes]) -> tuple[bytes, bytes]:
        low = _canonical({**self.told, "deliveryInfo": None})
        own = "deliveryinfo" if "deliveryinfo" in low else "deliveryinfo\0deliveryInfo"
        before = encode({key: value for key, value in low.items() if key < own})
        after = encode({key: value for key, value in low.items() if key > own})
        comma_before, comma_after = b"," if len(before) > 2 else b"", b"," if len(after) > 2 else b""
        return before[:-1] + comma_before + encode(own) + b":", comma_after + after[1:]


class Notification(NamedTuple):
    """One deliveryInfo (`info`, as told) with what stands beside it. `inner` has its fields with lower-case keys.

    `said` are the fields of both that say something, those beside first. `raw` are the bytes as they came; where one
    of several had to be cut out of a list, its own part encoded anew.
    """

    beside: Beside
    info: Fields
    inner: Fields
    said: Fields
    raw: bytes

    @property
    def is_oneapi(self) -> bool:
        """Whether a OneAPI hub told it: those name an `address` where the platform names a destination."""
        return "address" in self.inner


def notifications(body: bytes) -> list[Notification | Unreadable]:
    """Every notification in `body`, and a reason for each part that is none. Raises Unreadable for the whole."""
    text = utf8(body)
    value = parse(text)
    parts: Iterator[Notification | Unreadable]
    if isinstance(value, list) and not value:
        raise Unreadable("no_receipt", "an empty list")
    most = min(MOST_RECEIPTS, FEWEST_PARTS + len(text) // FEWEST_BYTES)
    if isinstance(value, list):
        if len(value) > most:
            raise Unreadable("too_many", f"{len(value)} parts in one list of {len(body)} bytes")
        parts = (n for item, raw in zip(value, slices(text, value), strict=True) for n in _unwrap(item, raw, most))
    else:
        parts = _unwrap(value, body, most)
    found, copied = [], 0
    for part in parts:
        found.append(part)
        copied += len(part.raw or b"")
        if len(found) > most or copied > MOST_COPIED + len(body):
            raise Unreadable("too_many", f"more parts than a body of {len(body)} bytes can hold")
    return found


def _unwrap(value: Any, raw: bytes, most: int, wrappers: int = MOST_WRAPPERS) -> Iterator[Notification | Unreadable]:
    """The notifications inside `value`, through up to `wrappers` layers of wrapping, `most` of them in a list."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "[", "<"):  # a payload that was encoded twice
        try:
            value = parse(utf8(value.encode("utf-8", "surrogatepass")))
        except Unreadable as why:
            yield Unreadable(why.reason, why.detail, raw)
            return
    if wrappers == 0 or not isinstance(value, dict | list):
        yield Unreadable("no_receipt", None, raw)
        return
    if isinstance(value, list):
        if len(value) > most:
            yield Unreadable("too_many", f"{len(value)} parts in one list", raw)
            return
        if not value:
            yield Unreadable("no_receipt", "an empty list", raw)
        for item in value:
            yield from _unwrap(item, json.dumps(item).encode(), most, wrappers - 1)
        return
    fields = lowered(value)
    for name in ("deliveryinfonotification", "df_payload", "requestdata", "deliveryinfolist"):
        if name in fields and "deliveryinfo" not in fields:
            yield from _unwrap(fields[name], raw, most, wrappers - 1)
            return
    yield from _from_fields(value, fields, raw, most)


def _from_fields(told: Fields, fields: Fields, raw: bytes, most: int) -> Iterator[Notification | Unreadable]:
    info = fields.pop("deliveryinfo", None)
    beside = Beside(
        {key: v for key, v in told.items() if key.lower() != "deliveryinfo"}, fields, isinstance(info, list)
    )
    if isinstance(info, dict):
        yield _one(beside, info, raw)
    elif isinstance(info, list) and info:
        if len(info) > most or len(info) * max(len(beside.as_json), 64 * len(beside.told)) > MOST_COPIED:
            yield Unreadable("too_many", f"{len(info)} entries beside {len(beside.as_json)} bytes", raw)
            return
        head = b'{"deliveryInfoNotification":' + beside.as_json[:-1] + (b"," if beside.told else b"")
        for item in info:
            own = raw if len(info) == 1 else head + b'"deliveryInfo":' + json.dumps(item).encode() + b"}}"
            yield _one(beside, item, own) if isinstance(item, dict) else Unreadable("no_receipt", None, own)
    else:
        yield Unreadable("no_receipt", "no deliveryInfo", raw)


_NESTED = (dict, list)
_UNENCODABLE = (UnicodeEncodeError, ValueError, TypeError)
_STATUSES = ("deliverystatus", "status")
_IDS = ("transid", "correlationid", "clientcorrelator", "requestid", "messageid", "transactionid")


def _one(beside: Beside, info: Fields, raw: bytes) -> Notification | Unreadable:
    inner = lowered(info)
    said = {**inner, **beside.said}
    if not any(said.get(name) for name in _STATUSES):
        if not inner:
            return Unreadable("no_receipt", "an empty deliveryInfo", raw)
        if not any(said.get(name) for name in _IDS):
            return Unreadable("no_receipt", "neither a status nor an id", raw)
    return Notification(beside, info, inner, said, raw)


def lowered(fields: Fields) -> Fields:
    """`fields` with lower-case keys. Of two that differ in case the documented one wins, else the first by name."""
    low = {key.lower(): value for key, value in fields.items()}
    if len(low) < len(fields):
        for key in sorted(fields, key=lambda k: (k not in DOCUMENTED, k), reverse=True):  # the last written wins
            low[key.lower()] = fields[key]
    return low


def fingerprint(notification: Notification) -> bytes:
    """128 bits that say which telling this is: the notification's own fields as told, whatever wrapped them."""
    return fingerprint_of(FINGERPRINT_VERSION + canonical(notification))


def fingerprint_of(form: bytes) -> bytes:
    """The fingerprint of a canonical form with its version in front."""
    return hashlib.sha256(form).digest()[:16]


def canonical(notification: Notification) -> bytes:
    """The notification's own fields as told, in one spelling: keys lower case and sorted, values untouched."""
    beside, info = notification.beside, notification.info
    if not beside.is_shared:
        return canonical_of(beside.told, info)
    value = _canonical(info)
    if beside.canonical_halves:
        try:
            return _plain(value).join(beside.canonical_halves)
        except _UNENCODABLE:
            pass
    return _escaped(value).join(beside.escaped_halves)


def canonical_of(beside: Fields, info: Fields) -> bytes:
    """The canonical form of one deliveryInfo that stands alone beside `beside`."""
    value = _canonical({**beside, "deliveryInfo": info})
    try:
        return _plain(value)
    except _UNENCODABLE:
        return _escaped(value)


def _plain(value: Any) -> bytes:
    return msgspec.json.encode(value, order="sorted")


def _escaped(value: Any) -> bytes:
    """As `_plain`, but for lone surrogates, which UTF-8 can't hold."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        low = {key.lower(): _canonical(v) if isinstance(v, _NESTED) else v for key, v in value.items()}
        if len(low) == len(value):
            return low
        return {f"{key.lower()}\0{key}": _canonical(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return value
