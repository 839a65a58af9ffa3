"""What a client may ask us to send: the platform's Messaging v1 body, checked before anything is written.

Every broken rule is named at once, with the platform's own code: 7003 missing, 7004 wrong, 7009 too many.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from receiver.ids import normalise_destination
from receiver.messages.lattice import Channel
from receiver.platform.times import moment
from receiver.web import FieldError

MISSING, WRONG, TOO_MANY = "7003", "7004", "7009"

MOST_ENTRIES = 1_000
MOST_MESSAGES = 10_000
LONGEST_CORRELATIONID = 50  # bytes
LONGEST_CALLBACK = 2_000  # characters
LONGEST_SMS = 1_024  # bytes
LONGEST_DESTINATION = 1_024

ID_TYPES = (
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
)
# Named by the platform. Those without a block here are refused until this version can send them.
DELIVERY_CHANNELS = ("sms", "voice", "push", "rt", "appmessaging", "fb", "twitter", "wa", "wechat")
SUPPORTED = {"sms": Channel.SMS}
PRIORITIES = {"1": 1, "2": 2, "3": 3}
SMS_TYPES = ("1", "2", "3", "4")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})+")


@dataclass(frozen=True)
class Asked:
    """One message that a request asks for: one value of one entry."""

    id_type: str
    value: str
    normalised: str
    correlationid: str | None


@dataclass(frozen=True)
class Request:
    """A request that keeps every rule. `content` is what every recipient gets, as the platform will read it."""

    channel: Channel
    content: bytes
    messages: tuple[Asked, ...]
    callback_data: str | None
    sender: str | None
    template: str | None
    priority: int
    expires_at: datetime | None


def check(body: Any) -> Request | list[FieldError]:
    """The request in `body` (a decoded JSON value), or every rule that it breaks."""
    errors: list[FieldError] = []
    if not isinstance(body, dict):
        return [FieldError("", WRONG, "the body must be a JSON object")]
    word = body.get("deliverychannel")
    if word in (None, ""):
        errors.append(FieldError("/deliverychannel", MISSING, "deliverychannel is mandatory"))
    elif word not in DELIVERY_CHANNELS:
        errors.append(FieldError("/deliverychannel", WRONG, f"it takes one of {', '.join(DELIVERY_CHANNELS)}"))
    elif word not in SUPPORTED:
        errors.append(FieldError("/deliverychannel", WRONG, f"{word} can't be sent by this version: it takes sms"))
    if "notifyurl" in body:
        errors.append(
            FieldError("/notifyurl", WRONG, "receipts come to this service: forwarding to a notifyurl is not built yet")
        )
    template = _template(body, errors)
    sender = _channels(body, template is not None, errors)
    correlationid = _correlationid(body, "", errors)
    callback = _short_text(body, "callbackData", LONGEST_CALLBACK, errors)
    expires_at = _expiry(body, errors)
    messages = _destinations(body, correlationid, errors)
    if errors:
        return errors
    content = {k: v for k, v in body.items() if k not in ("destination", "correlationid", "notifyurl")}
    return Request(
        channel=SUPPORTED[str(word)],
        content=msgspec.json.encode(content),
        messages=tuple(messages),
        callback_data=callback,
        sender=sender,
        template=template,
        priority=PRIORITIES.get(str(body.get("priority")), 2),
        expires_at=expires_at,
    )


def _template(body: dict[str, Any], errors: list[FieldError]) -> str | None:
    message = body.get("message")
    if message is None:
        return None
    if not isinstance(message, dict):
        errors.append(FieldError("/message", WRONG, "message must be an object with template and parameters"))
        return None
    template = message.get("template")
    if not isinstance(template, str | int) or isinstance(template, bool) or template == "":
        errors.append(FieldError("/message/template", MISSING, "a message needs the id of its template"))
        return None
    return _clean(str(template), "/message/template", errors)


def _channels(body: dict[str, Any], has_template: bool, errors: list[FieldError]) -> str | None:
    """Checks the channel blocks; returns the sender."""
    channels = body.get("channels")
    if channels is None:
        errors.append(FieldError("/channels", MISSING, "channels is mandatory"))
        return None
    if not isinstance(channels, dict):
        errors.append(FieldError("/channels", WRONG, "channels must be an object with one block a channel"))
        return None
    if body.get("deliverychannel") != "sms":
        return None
    sms = channels.get("sms")
    if sms is None:
        errors.append(FieldError("/channels/sms", MISSING, "deliverychannel is sms, and there is no sms block"))
        return None
    if not isinstance(sms, dict):
        errors.append(FieldError("/channels/sms", WRONG, "the sms block must be an object"))
        return None
    kind = "1" if sms.get("type") is None else str(sms["type"])
    if kind not in SMS_TYPES:
        errors.append(FieldError("/channels/sms/type", WRONG, "type is 1 text, 2 flash, 3 binary or 4 unicode"))
    if kind == "3":
        errors.extend(_binary(sms.get("body"), has_template))
    elif not has_template and sms.get("text") in (None, ""):
        errors.append(FieldError("/channels/sms/text", MISSING, "an sms needs a text or a template"))
    text = sms.get("text")
    if text is not None and not isinstance(text, str):
        errors.append(FieldError("/channels/sms/text", WRONG, "text must be a string"))
    elif text and len(text.encode()) > LONGEST_SMS:
        errors.append(
            FieldError("/channels/sms/text", WRONG, f"text has {len(text.encode())} bytes, {LONGEST_SMS} at most")
        )
    sender = sms.get("senderid")
    if sender is not None and not isinstance(sender, str):
        errors.append(FieldError("/channels/sms/senderid", WRONG, "senderid must be a string"))
        return None
    return _clean(sender, "/channels/sms/senderid", errors) if sender else None


def _binary(value: Any, has_template: bool) -> list[FieldError]:
    if value in (None, ""):
        missing = FieldError(
            "/channels/sms/body", MISSING, "a binary sms (type 3) needs its body in hex, or a template"
        )
        return [] if has_template else [missing]
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        return [FieldError("/channels/sms/body", WRONG, "body must be hex digits, two a byte")]
    return []


def _correlationid(holder: dict[str, Any], pointer: str, errors: list[FieldError]) -> str | None:
    value = holder.get("correlationid")
    if value in (None, ""):
        return None
    if not isinstance(value, str):
        errors.append(FieldError(f"{pointer}/correlationid", WRONG, "correlationid must be a string"))
        return None
    size = len(value.encode())
    if size > LONGEST_CORRELATIONID:
        detail = f"correlationid has {size} bytes, {LONGEST_CORRELATIONID} at most"
        errors.append(FieldError(f"{pointer}/correlationid", WRONG, detail))
    return _clean(value, f"{pointer}/correlationid", errors)


def _short_text(body: dict[str, Any], name: str, longest: int, errors: list[FieldError]) -> str | None:
    value = body.get(name)
    if value in (None, ""):
        return None
    if not isinstance(value, str):
        errors.append(FieldError(f"/{name}", WRONG, f"{name} must be a string"))
        return None
    if len(value) > longest:
        errors.append(FieldError(f"/{name}", WRONG, f"{name} has {len(value)} characters, {longest} at most"))
    return _clean(value, f"/{name}", errors)


def _expiry(body: dict[str, Any], errors: list[FieldError]) -> datetime | None:
    value = body.get("expiry")
    if value in (None, ""):
        return None
    when = moment(value, UTC) if isinstance(value, str) else None
    if when is None:
        errors.append(FieldError("/expiry", WRONG, "expiry must be a time such as 2030-04-12T13:00:19.456Z"))
    return when


def _destinations(body: dict[str, Any], correlationid: str | None, errors: list[FieldError]) -> list[Asked]:
    entries = body.get("destination")
    if entries in (None, "", []):
        errors.append(FieldError("/destination", MISSING, "destination is mandatory: an array of 1 to 1,000 entries"))
        return []
    if not isinstance(entries, list):
        errors.append(FieldError("/destination", WRONG, "destination must be an array"))
        return []
    if len(entries) > MOST_ENTRIES:
        detail = f"destination has {len(entries)} entries, {MOST_ENTRIES} at most"
        errors.append(FieldError("/destination", TOO_MANY, detail))
        return []
    messages: list[Asked] = []
    for index, entry in enumerate(entries):
        messages.extend(_entry(entry, f"/destination/{index}", correlationid, errors))
    if len(messages) > MOST_MESSAGES:
        detail = f"destination holds {len(messages)} values, {MOST_MESSAGES} at most"
        errors.append(FieldError("/destination", TOO_MANY, detail))
    return messages


def _entry(entry: Any, pointer: str, correlationid: str | None, errors: list[FieldError]) -> list[Asked]:
    if not isinstance(entry, dict):
        errors.append(FieldError(pointer, WRONG, "an entry must be an object with one list of ids"))
        return []
    own = _correlationid(entry, pointer, errors) or correlationid
    types = [key for key in entry if key != "correlationid"]
    for key in types:
        if key not in ID_TYPES:
            errors.append(
                FieldError(f"{pointer}/{_escaped(key)}", WRONG, f"unknown id type: it takes {', '.join(ID_TYPES)}")
            )
    known = [key for key in types if key in ID_TYPES]
    if not types:
        errors.append(FieldError(pointer, MISSING, f"an entry needs a list of ids: {', '.join(ID_TYPES)}"))
    if len(known) > 1:
        errors.append(FieldError(pointer, WRONG, f"an entry holds one id type, not {' and '.join(known)}"))
    messages = []
    for key in known:
        values = entry[key]
        if not isinstance(values, list) or not values:
            errors.append(FieldError(f"{pointer}/{key}", MISSING, f"{key} must be a list of one or more ids"))
            continue
        for index, value in enumerate(values):
            asked = _value(key, value, own, f"{pointer}/{key}/{index}", errors)
            if asked:
                messages.append(asked)
    return messages


def _value(key: str, value: Any, correlationid: str | None, pointer: str, errors: list[FieldError]) -> Asked | None:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        errors.append(FieldError(pointer, MISSING, f"a {key} must be a string that is not empty"))
        return None
    if len(value) > LONGEST_DESTINATION:
        errors.append(FieldError(pointer, WRONG, f"a {key} has {LONGEST_DESTINATION} characters at most"))
        return None
    normalised = normalise_destination(value)
    if key == "msisdn" and not (normalised.isascii() and normalised.isdigit()):
        errors.append(FieldError(pointer, WRONG, "an msisdn is digits, with + or 00 or blanks at most"))
        return None
    return Asked(key, _clean(value.strip(), pointer, errors), normalised, correlationid)


def _clean(text: str, pointer: str, errors: list[FieldError]) -> str:
    if "\0" in text:
        errors.append(FieldError(pointer, WRONG, "the NUL character is not allowed"))
    return text


def _escaped(key: str) -> str:
    """A key as a part of a JSON pointer, bounded."""
    return key[:64].replace("~", "~0").replace("/", "~1")
