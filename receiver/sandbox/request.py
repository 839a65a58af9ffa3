"""Reading a Messaging request, v1 or v2: what is missing, what is wrong, and what is left to do."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

import httpx2
import msgspec

from receiver.sandbox import blocks
from receiver.sandbox.answers import Code, Refused
from receiver.sandbox.settings import SandboxSettings, notify_target

DESTINATIONS_MAX: Final = 1_000  # entries; an entry may hold several values
CORRELATIONID_BYTES_MAX: Final = 50

ID_TYPES: Final = frozenset(
    {
        "msisdn",
        "customerid",
        "email",
        "android_pushid",
        "ios_pushid",
        "chrome_pushid",
        "firefox_pushid",
        "safari_pushid",
        "psid",
        "twitterid",
        "wechat_user_id",
    }
)
ROUTES: Final = frozenset({"IMMD", "LCGD", "LCBE"})

# The offset's hour may be a single digit: `+5:30`.
_EXPIRY = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d{1,3})?(Z|[+-]\d{1,2}:[0-5]\d)?", re.ASCII)
_V2_SPELLING: Final = {"correlationId": "correlationid", "notifyUrl": "notifyurl"}


class _Template(msgspec.Struct):
    template: str | int | None = None
    parameters: dict[str, Any] | None = None


class _Request(msgspec.Struct):
    deliverychannel: str
    channels: dict[str, Any]
    destination: list[dict[str, Any]]
    message: _Template | None = None
    route: str | None = None
    expiry: str | None = None
    correlationid: str | None = None
    notifyurl: str | None = None
    callbackData: Annotated[str, msgspec.Meta(max_length=2_000)] | None = None


@dataclass(frozen=True, slots=True)
class Value:
    """One value of one entry of `destination`: what becomes one message."""

    entry: int
    id_type: str
    value: str
    correlationid: str


@dataclass(frozen=True, slots=True)
class Submission:
    """A request that was found good."""

    channel: str
    values: tuple[Value, ...]
    callback_data: str
    notifyurl: httpx2.URL | None
    parts: int
    sender: str
    correlationid: str
    """The one of the whole request."""


def read(body: bytes, settings: SandboxSettings) -> Submission:
    """What a Messaging v1 `body` asks for; raises Refused with the platform's code."""
    return _read(decode(body), settings)


def read_v2(body: bytes, settings: SandboxSettings) -> Submission:
    """What a Messaging v2 `body` asks for; raises Refused. v1's spelling of a field says nothing to it."""
    raw = _from_v2(decode(body))
    if isinstance(raw.get("destination"), list):
        raw["destination"] = [_from_v2(entry) if isinstance(entry, dict) else entry for entry in raw["destination"]]
    return _read(raw, settings)


def decode(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`; raises Refused."""
    try:
        raw = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused(Code.INVALID_JSON) from None
    if not isinstance(raw, dict):
        raise Refused(Code.INVALID_JSON)
    return raw


def is_expiry(text: str, *, zoned: bool) -> bool:
    """Whether `text` is a time in a documented spelling: with a zone, or if not `zoned` with or without."""
    match = _EXPIRY.fullmatch(text)
    if match is None or (zoned and match[2] is None):
        return False
    try:
        datetime.fromisoformat(match[1])
    except ValueError:
        return False
    return True


def notifyurl_of(asked: str | None, settings: SandboxSettings) -> httpx2.URL | None:
    """Where receipts are told: as asked, or the service's own; None: nowhere. Raises Refused."""
    url = asked or settings.notifyurl
    if not url:
        return None
    try:
        return notify_target(url, strangers=settings.strangers)
    except ValueError as error:
        raise Refused(Code.INVALID, str(error)) from None


def _read(raw: dict[str, Any], settings: SandboxSettings) -> Submission:
    missing = [name for name in ("deliverychannel", "channels", "destination") if not raw.get(name)]
    if missing:
        raise Refused(Code.MANDATORY_MISSING, ", ".join(missing))
    if isinstance(raw["destination"], list) and len(raw["destination"]) > DESTINATIONS_MAX:
        raise Refused(Code.TOO_MANY_DESTINATIONS)
    request = blocks.convert(raw, _Request, "")
    by_template = request.message is not None and bool(request.message.template)
    parts = blocks.check(request.deliverychannel, request.channels, by_template)
    _check_fields(request)
    return Submission(
        channel=request.deliverychannel,
        values=tuple(_values(request)),
        callback_data=request.callbackData or "",
        notifyurl=notifyurl_of(request.notifyurl, settings),
        parts=parts,
        sender=blocks.sender(request.deliverychannel, request.channels),
        correlationid=request.correlationid or "",
    )


def _from_v2(raw: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in raw.items() if name not in _V2_SPELLING.values()}
    return {_V2_SPELLING.get(name, name): value for name, value in kept.items()}


def _check_fields(request: _Request) -> None:
    if request.route and request.route not in ROUTES:
        raise Refused(Code.INVALID, "route")
    if request.expiry and not is_expiry(request.expiry, zoned=True):
        raise Refused(Code.INVALID, "expiry")
    if len((request.correlationid or "").encode()) > CORRELATIONID_BYTES_MAX:
        raise Refused(Code.INVALID, f"correlationid: over {CORRELATIONID_BYTES_MAX} bytes")


def _values(request: _Request) -> list[Value]:
    found: list[Value] = []
    for place, entry in enumerate(request.destination):
        where = f"destination[{place}]"
        id_types = [name for name in entry if name in ID_TYPES]
        if not id_types:
            raise Refused(Code.MANDATORY_MISSING, f"{where}: an id type")
        if len(id_types) > 1:
            raise Refused(Code.INVALID, f"{where}: more than one id type")
        correlationid = entry.get("correlationid") or ""
        if not isinstance(correlationid, str) or len(correlationid.encode()) > CORRELATIONID_BYTES_MAX:
            raise Refused(Code.INVALID, f"{where}.correlationid")
        id_type, where = id_types[0], f"{where}.{id_types[0]}"
        values = entry[id_type]
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise Refused(Code.INVALID, f"{where}: not a list of strings")
        if not values or not all(value.strip() for value in values):
            raise Refused(Code.MANDATORY_MISSING, where)
        if id_type == "firefox_pushid" and not all(_is_push_id_with_key(value) for value in values):
            raise Refused(Code.INVALID, f"{where}: not pushid@key")
        correlationid = correlationid or request.correlationid or ""
        found.extend(Value(place, id_type, value, correlationid) for value in values)
    return found


def _is_push_id_with_key(value: str) -> bool:
    push_id, _, key = value.partition("@")
    return bool(push_id.strip() and key.strip())
