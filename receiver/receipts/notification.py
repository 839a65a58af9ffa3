"""The dialects: from the bytes of a body to its notifications, whatever they are wrapped in.

A body may be one notification, a list of them, the platform's export of failed ones (`df_payload`), a Data Streams
event, or a OneAPI hub's (`requestData`, `deliveryInfo` as an array). Keys may come in any case.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

Fields = dict[str, Any]

# In one body; more, or copies of what stands beside a deliveryInfo list that exceed MOST_COPIED, are quarantined whole.
MOST_RECEIPTS = 10_000
MOST_COPIED = 4 * 1024 * 1024
MOST_WRAPPERS = 8
_SURROGATE = re.compile("[\ud800-\udfff]")

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


class Unreadable(Exception):
    """A body, or a part of one, in which there is no receipt: a stable reason, and a detail for people."""

    def __init__(self, reason: str, detail: str | None = None, raw: bytes | None = None) -> None:
        super().__init__(reason)
        self.reason, self.detail, self.raw = reason, detail, raw


@dataclass(frozen=True)
class Notification:
    """One deliveryInfo with its ids: `outer` are the fields beside it, `inner` its own, both with lower-case keys.

    `told` is the notification as told, for the fingerprint. `raw` are its bytes as they came; where one of several
    had to be cut out of a list, its own part encoded anew.
    """

    outer: Fields
    inner: Fields
    told: Fields
    raw: bytes

    def first(self, *names: str) -> str:
        """The first of `names` that says something, beside deliveryInfo or inside it; "" where none does."""
        for name in names:
            for fields in (self.outer, self.inner):
                if (value := fields.get(name)) not in (None, "") and (text := text_of(value)):
                    return text
        return ""

    @property
    def is_oneapi(self) -> bool:
        """Whether a OneAPI hub told it: those name an `address` where the platform names a destination."""
        return "address" in self.inner


def notifications(body: bytes) -> list[Notification | Unreadable]:
    """Every notification in `body`, and a reason for each part that is none. Raises Unreadable for the whole."""
    value = parse(body)
    if not isinstance(value, list):
        return list(_unwrap(value, body, MOST_WRAPPERS))
    if len(value) > MOST_RECEIPTS:
        raise Unreadable("too_many", f"{len(value)} notifications in one body")
    if not value:
        raise Unreadable("no_receipt", "an empty list")
    return [n for item, raw in zip(value, _slices(body, value), strict=True) for n in _unwrap(item, raw, MOST_WRAPPERS)]


def parse(body: bytes) -> Any:
    """The JSON value of a body. Lenient in what JSON forbids but platforms send; raises Unreadable."""
    text = body.removeprefix(b"\xef\xbb\xbf").strip(b" \t\r\n\0")
    if not text:
        raise Unreadable("empty")
    if text.startswith(b"<"):
        raise Unreadable("xml", "XML is not read: switch the notification to JSON")
    try:
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # lone surrogates, NaN, raw control characters, bytes that are no UTF-8
            return json.loads(text.decode("utf-8", "replace"), strict=False)
    except RecursionError:
        raise Unreadable("nested_too_deeply") from None
    except ValueError as error:
        raise Unreadable("not_json", str(error)[:200]) from None


def _slices(body: bytes, value: list[Any]) -> list[bytes]:
    """The bytes of each element of a list, as they came; encoded anew where the list is not strict JSON."""
    try:
        return [
            bytes(raw)
            for raw in msgspec.json.decode(
                body.removeprefix(b"\xef\xbb\xbf").strip(b" \t\r\n\0"), type=list[msgspec.Raw]
            )
        ]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return [json.dumps(item).encode() for item in value]


def _unwrap(value: Any, raw: bytes, wrappers: int) -> Iterator[Notification | Unreadable]:
    """The notifications inside `value`, through up to `wrappers` layers of wrapping."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):  # a payload that was encoded twice
        try:
            value = parse(value.encode("utf-8", "surrogatepass"))
        except Unreadable as why:
            yield Unreadable(why.reason, why.detail, raw)
            return
    if wrappers == 0 or not isinstance(value, dict | list):
        yield Unreadable("no_receipt", None, raw)
        return
    if isinstance(value, list):
        if len(value) > MOST_RECEIPTS:
            yield Unreadable("too_many", f"{len(value)} notifications in one list", raw)
            return
        if not value:
            yield Unreadable("no_receipt", "an empty list", raw)
        for item in value:
            yield from _unwrap(item, json.dumps(item).encode(), wrappers - 1)
        return
    fields = lowered(value)
    for name in ("deliveryinfonotification", "df_payload", "requestdata", "deliveryinfolist"):
        if name in fields and "deliveryinfo" not in fields:
            yield from _unwrap(fields[name], raw, wrappers - 1)
            return
    yield from _from_fields(value, fields, raw)


def _from_fields(told: Fields, fields: Fields, raw: bytes) -> Iterator[Notification | Unreadable]:
    info = fields.pop("deliveryinfo", None)
    outer_told = {key: v for key, v in told.items() if key.lower() != "deliveryinfo"}
    if isinstance(info, dict):
        yield _one(fields, info, {**outer_told, "deliveryInfo": info}, raw)
    elif isinstance(info, list) and info:
        if len(info) > MOST_RECEIPTS or len(info) * len(json.dumps(outer_told)) > MOST_COPIED:
            yield Unreadable("too_many", f"{len(info)} entries in one deliveryInfo", raw)
            return
        for item in info:
            own = {**outer_told, "deliveryInfo": item}
            own_raw = raw if len(info) == 1 else json.dumps({"deliveryInfoNotification": own}).encode()
            yield (
                _one(fields, item, own, own_raw) if isinstance(item, dict) else Unreadable("no_receipt", None, own_raw)
            )
    else:
        yield Unreadable("no_receipt", "no deliveryInfo", raw)


def _one(outer: Fields, info: Fields, told: Fields, raw: bytes) -> Notification | Unreadable:
    inner = lowered(info)
    speaks = (
        "deliverystatus",
        "status",
        "transid",
        "correlationid",
        "clientcorrelator",
        "requestid",
        "messageid",
    )
    if not any(inner.get(name) or outer.get(name) for name in speaks):
        return Unreadable("no_receipt", "neither a status nor an id", raw)
    return Notification(outer, inner, told, raw)


def lowered(fields: Fields) -> Fields:
    """`fields` with lower-case keys. Of two that differ in case the documented one wins, else the first by name."""
    low = {key.lower(): value for key, value in fields.items()}
    if len(low) < len(fields):
        for key in sorted(fields, key=lambda k: (k not in DOCUMENTED, k), reverse=True):  # the last written wins
            low[key.lower()] = fields[key]
    return low


def canonical(notification: Notification) -> bytes:
    """The notification's own fields as told, in one spelling: keys lower case and sorted, values untouched."""
    value = _canonical(notification.told)
    try:
        return msgspec.json.encode(value, order="sorted")
    except (UnicodeEncodeError, ValueError, TypeError):
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        low = {key.lower(): _canonical(v) for key, v in value.items()}
        if len(low) == len(value):
            return low
        return {f"{key.lower()}\0{key}": _canonical(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return value


def text_of(value: object) -> str:
    """Any JSON value as text that Postgres can hold: blanks stripped, NUL and lone surrogates replaced."""
    if isinstance(value, str):
        text = value.strip()
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        text = str(int(value))
    elif isinstance(value, int | float):
        text = str(value)
    elif value is None:
        text = ""
    else:
        try:
            text = msgspec.json.encode(value).decode()
        except UnicodeEncodeError:
            text = json.dumps(value, separators=(",", ":"))  # which escapes lone surrogates
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode() if _SURROGATE.search(text) else text
    return text
