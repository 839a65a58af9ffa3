"""Reading a Messaging v1 request: what is missing, what is wrong, and what is left to do."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar

import httpx2
import msgspec

from receiver.sandbox.answers import Code, Refused
from receiver.sandbox.settings import SandboxSettings, notify_target

DESTINATIONS_MAX: Final = 1_000  # entries; an entry may hold several values
CORRELATIONID_BYTES_MAX: Final = 50
SMS_TEXT_BYTES_MAX: Final = 1_024

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
# The block of `channels` that each delivery channel demands.
BLOCKS: Final = {
    "sms": "sms",
    "voice": "voice",
    "push": "push",
    "rt": "appmessaging",
    "appmessaging": "appmessaging",
    "fb": "OTT-Messaging",
    "twitter": "OTT-Messaging",
    "wa": "OTT-Messaging",
    "wechat": "OTT-Messaging",
}
ROUTES: Final = frozenset({"IMMD", "LCGD", "LCBE"})

# The offset's hour may be a single digit: `+5:30`.
_EXPIRY = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d{1,3})?(?:Z|[+-]\d{1,2}:[0-5]\d)", re.ASCII)
_SMS_TYPES: Final = {"1": "text", "2": "flash", "3": "binary", "4": "unicode"}


T = TypeVar("T")


class _Template(msgspec.Struct):
    template: str | None = None
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


class _Sms(msgspec.Struct):
    type: str | int | None = None
    text: str | None = None
    body: str | None = None
    senderid: str | None = None


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


def read(body: bytes, settings: SandboxSettings) -> Submission:
    """What `body` asks for; raises Refused with the platform's code."""
    raw = _decode(body)
    missing = [name for name in ("deliverychannel", "channels", "destination") if not raw.get(name)]
    if missing:
        raise Refused(Code.MANDATORY_MISSING, ", ".join(missing))
    if isinstance(raw["destination"], list) and len(raw["destination"]) > DESTINATIONS_MAX:
        raise Refused(Code.TOO_MANY_DESTINATIONS)
    request = _convert(raw, _Request, "")
    parts = _check_channel(request)
    _check_fields(request)
    return Submission(
        channel=request.deliverychannel,
        values=tuple(_values(request)),
        callback_data=request.callbackData or "",
        notifyurl=_notifyurl(request, settings),
        parts=parts,
    )


def _decode(body: bytes) -> dict[str, Any]:
    try:
        raw = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused(Code.INVALID_JSON) from None
    if not isinstance(raw, dict):
        raise Refused(Code.INVALID_JSON)
    return raw


def _convert(raw: object, shape: type[T], where: str) -> T:
    try:
        return msgspec.convert(raw, shape)
    except msgspec.ValidationError as error:
        raise Refused(Code.INVALID, str(error).replace("`$", f"`{where}")) from None


def _check_channel(request: _Request) -> int:
    """The number of parts that the message is sent in; other blocks than the named one pass unread."""
    block = BLOCKS.get(request.deliverychannel)
    if block is None:
        raise Refused(Code.INVALID, "deliverychannel")
    if request.channels.get(block) is None:
        raise Refused(Code.MANDATORY_MISSING, f"channels.{block}")
    if not isinstance(request.channels[block], dict):
        raise Refused(Code.INVALID, f"channels.{block}")
    if block != "sms":
        return 1
    sms = _convert(request.channels[block], _Sms, "channels.sms")
    kind = _SMS_TYPES.get("1" if sms.type is None else str(sms.type))
    if kind is None:
        raise Refused(Code.INVALID, "channels.sms.type")
    by_template = request.message is not None and bool(request.message.template)
    return _sms_parts(kind, sms, by_template)


def _sms_parts(kind: str, sms: _Sms, by_template: bool) -> int:
    if kind == "binary":
        if not sms.body and not by_template:
            raise Refused(Code.MANDATORY_MISSING, "channels.sms.body")
        if not re.fullmatch(r"(?:[0-9A-Fa-f]{2})*", sms.body or ""):
            raise Refused(Code.INVALID, "channels.sms.body")
        return _parts(len(sms.body or "") // 2, 140, 134)
    if not sms.text and not by_template:
        raise Refused(Code.MANDATORY_MISSING, "channels.sms.text")
    text = sms.text or ""
    if len(text.encode()) > SMS_TEXT_BYTES_MAX:
        raise Refused(Code.INVALID, f"channels.sms.text: over {SMS_TEXT_BYTES_MAX} bytes")
    if kind == "unicode":
        return _parts(len(text.encode("utf-16-le")) // 2, 70, 67)
    return _parts(len(text), 160, 153)


def _parts(units: int, alone: int, joined: int) -> int:
    """How many sms carry `units`: `alone` fit into a single one, `joined` into each of several."""
    return 1 if units <= alone else -(-units // joined)


def _check_fields(request: _Request) -> None:
    if request.route and request.route not in ROUTES:
        raise Refused(Code.INVALID, "route")
    if request.expiry and not _is_expiry(request.expiry):
        raise Refused(Code.INVALID, "expiry")
    if len((request.correlationid or "").encode()) > CORRELATIONID_BYTES_MAX:
        raise Refused(Code.INVALID, f"correlationid: over {CORRELATIONID_BYTES_MAX} bytes")


def _is_expiry(text: str) -> bool:
    match = _EXPIRY.fullmatch(text)
    if match is None:
        return False
    try:
        datetime.fromisoformat(match[1])
    except ValueError:
        return False
    return True


def _notifyurl(request: _Request, settings: SandboxSettings) -> httpx2.URL | None:
    url = request.notifyurl or settings.notifyurl
    if not url:
        return None
    try:
        return notify_target(url, strangers=settings.strangers)
    except ValueError as error:
        raise Refused(Code.INVALID, str(error)) from None


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
        values = entry[id_types[0]]
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise Refused(Code.INVALID, f"{where}.{id_types[0]}: not a list of strings")
        if not values or not all(value.strip() for value in values):
            raise Refused(Code.MANDATORY_MISSING, f"{where}.{id_types[0]}")
        correlationid = correlationid or request.correlationid or ""
        found.extend(Value(place, id_types[0], value, correlationid) for value in values)
    return found
