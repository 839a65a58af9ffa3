"""The channel blocks of a Messaging request: what the documents demand of each. Other blocks pass unread."""

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from receiver.sandbox.answers import Code, Refused

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
SMS_TEXT_BYTES_MAX: Final = 1_024
PUSH_TEXT_BYTES_MAX: Final = 4_096
TWITTER_TEXT_BYTES_MAX: Final = 140
PUSH_PRIORITIES: Final = frozenset("12345")

_SMS_TYPES: Final = {"1": "text", "2": "flash", "3": "binary", "4": "unicode"}
_ATTACHABLE: Final = frozenset({"fb", "wechat"})

T = TypeVar("T")
Block = dict[str, Any]


class _Sms(msgspec.Struct):
    type: str | int | None = None
    text: str | None = None
    body: str | None = None
    senderid: str | None = None


def check(channel: str, blocks: Mapping[str, Any], by_template: bool) -> int:
    """The number of parts that a message is sent in; raises Refused. A template needs no text beside it."""
    name = BLOCKS.get(channel)
    if name is None:
        raise Refused(Code.INVALID, "deliverychannel")
    if blocks.get(name) is None:
        raise Refused(Code.MANDATORY_MISSING, f"channels.{name}")
    block = _object(blocks[name], f"channels.{name}")
    _smart_links(blocks.get("smartlinks"))
    match name:
        case "sms":
            return _sms(block, by_template)
        case "voice":
            _voice(block, by_template)
        case "push":
            _push(block)
        case "OTT-Messaging":
            _chat(channel, block, by_template)
    return 1


def sender(channel: str, blocks: Mapping[str, Any]) -> str:
    """Whom the message comes from, as far as the block says."""
    block = blocks.get(BLOCKS[channel])
    named = block.get("senderid") or block.get("cli") if isinstance(block, dict) else None
    return named if isinstance(named, str) else ""


def convert(raw: object, shape: type[T], where: str) -> T:
    """`raw` as `shape`; raises Refused that names the field."""
    try:
        return msgspec.convert(raw, shape)
    except msgspec.ValidationError as error:
        raise Refused(Code.INVALID, str(error).replace("`$", f"`{where}")) from None


def _object(raw: object, where: str) -> Block:
    if not isinstance(raw, dict):
        raise Refused(Code.INVALID, where)
    return raw


def _sms(block: Block, by_template: bool) -> int:
    sms = convert(block, _Sms, "channels.sms")
    kind = _SMS_TYPES.get("1" if sms.type is None else str(sms.type))
    if kind is None:
        raise Refused(Code.INVALID, "channels.sms.type")
    if kind == "binary":
        if not sms.body and not by_template:
            raise Refused(Code.MANDATORY_MISSING, "channels.sms.body")
        if not re.fullmatch(r"(?:[0-9A-Fa-f]{2})*", sms.body or ""):
            raise Refused(Code.INVALID, "channels.sms.body")
        return _parts(len(sms.body or "") // 2, 140, 134)
    if not sms.text and not by_template:
        raise Refused(Code.MANDATORY_MISSING, "channels.sms.text")
    text = sms.text or ""
    _length(text, SMS_TEXT_BYTES_MAX, "channels.sms.text")
    if kind == "unicode":
        return _parts(len(text.encode("utf-16-le")) // 2, 70, 67)
    return _parts(len(text), 160, 153)


def _parts(units: int, alone: int, joined: int) -> int:
    """How many sms carry `units`: `alone` fit into a single one, `joined` into each of several."""
    return 1 if units <= alone else -(-units // joined)


def _voice(block: Block, by_template: bool) -> None:
    given = {name for name in ("callflowid", "media", "promptid") if block.get(name)}
    if not given and not by_template:
        raise Refused(Code.MANDATORY_MISSING, "channels.voice: callflowid, media or promptid")
    if "media" in given and len(given) > 1:
        raise Refused(Code.INVALID, "channels.voice: media stands alone")


def _push(block: Block) -> None:
    for name in ("ios", "android"):
        part = block.get(name)
        if part is None:
            continue
        text = _object(part, f"channels.push.{name}").get("text")
        if isinstance(text, str):
            _length(text, PUSH_TEXT_BYTES_MAX, f"channels.push.{name}.text")
    priority = (block.get("android") or {}).get("priority")
    if priority is not None and str(priority) not in PUSH_PRIORITIES:
        raise Refused(Code.INVALID, "channels.push.android.priority")


def _chat(channel: str, block: Block, by_template: bool) -> None:
    # one table of the documents calls the block of fb `Messenger`
    raw = block.get("Messenger") if channel == "fb" and block.get("fb") is None else block.get(channel)
    where = f"channels.OTT-Messaging.{channel}"
    if raw is None:
        if by_template:
            return
        raise Refused(Code.MANDATORY_MISSING, where)
    part = _object(raw, where)
    text = part.get("text")
    if text is not None and not isinstance(text, str):
        raise Refused(Code.INVALID, f"{where}.text")
    if channel == "twitter":
        _length(text or "", TWITTER_TEXT_BYTES_MAX, f"{where}.text")
    if not text and not by_template and not (channel in _ATTACHABLE and part.get("attachment")):
        wanted = "text or attachment" if channel in _ATTACHABLE else "text"
        raise Refused(Code.MANDATORY_MISSING, f"{where}: {wanted}")


def _smart_links(links: object) -> None:
    if links is None:
        return
    if not isinstance(links, list):
        raise Refused(Code.INVALID, "channels.smartlinks")
    for place, link in enumerate(links):
        where = f"channels.smartlinks[{place}]"
        link = _object(link, where)
        if link.get("linkid") in (None, ""):
            raise Refused(Code.MANDATORY_MISSING, f"{where}.linkid")
        validity = link.get("validity")
        if validity is not None and not _is_number(validity):
            raise Refused(Code.INVALID, f"{where}.validity")


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        return bool(re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", value, re.ASCII))
    return isinstance(value, int | float) and not isinstance(value, bool)


def _length(text: str, most: int, where: str) -> None:
    if len(text.encode()) > most:
        raise Refused(Code.INVALID, f"{where}: over {most} bytes")
