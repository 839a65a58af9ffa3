"""Writing receipts in the platform's documented shapes: what a channel's receipts have in common, and what not."""

import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from receiver.sandbox.channels import FAMILIES
from receiver.sandbox.parcel import Kind, Telling
from receiver.sandbox.script import Step, Word

_PUSH_IDS: Final = ("android_pushid", "ios_pushid", "chrome_pushid", "firefox_pushid", "safari_pushid")
_IDENTITY_KEY = "z2AAAAAAbBA="


class Fields(NamedTuple):
    """A notification: the fields of its deliveryInfo, and those beside it."""

    info: dict[str, Any]
    outer: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """What all receipts of one message have in common."""

    channel: str
    destination: str
    id_type: str
    transid: str
    callback_data: str
    correlationid: str
    parts: int
    carrier: str


def fields(message: Message, step: Step, at: datetime) -> Fields:
    """The receipt that says `step.word` of `message` as of `at`, which bears the zone it is written in.

    Fields stand in the order of the platform's samples.
    """
    word, channel = step.word, step.channel or message.channel
    family = FAMILIES[channel]
    # The platform's samples of Submitted hold neither a count nor a carrier.
    handed_on = channel == "sms" and word.status != "Submitted"
    info: dict[str, Any] = {"timeStamp": stamp(at), "Description": word.description, "code": word.code}
    if handed_on:
        info["messageCount"] = str(message.parts)
    device = _device(message, step) if family.told_as in ("push", "rt") else None
    if device is not None:
        info["pushId"] = message.destination if message.id_type in _PUSH_IDS else device and f"push-{device}"
    info["deliveryChannel"] = family.told_as
    if device is None:
        info["additionalInfo"] = word.additional
    info["destination"] = message.destination
    info["destinationType"] = "waid" if family.told_as == "whatsapp" else message.id_type
    if device is not None:
        info["deviceid"] = device
    if family.told_as == "whatsapp":
        info["identityKeyHash"] = _IDENTITY_KEY if word.status == "Read" else ""
    info["deliveryStatus"] = word.status
    ids = {
        "subtid": step.subtid,
        "transid": message.transid,
        "callbackData": message.callback_data,
        "correlationid": message.correlationid,
    }
    if word.status == "Clicked":
        return Fields(info | ids, {})
    return Fields(info, _beside(message, word, handed_on, family.told_as) | ids)


def telling(message: Message, step: Step, at: datetime) -> Telling:
    """The receipt, ready to be told."""
    return told(fields(message, step, at))


def told(said: Fields, *, status: str = "", **more: Any) -> Telling:
    """A telling of these fields; `more` are fields of Telling."""
    info, outer = said

    def text(name: str) -> str:
        return str(info.get(name, outer.get(name, "")) or "")

    return Telling(
        **({"kind": Kind.RECEIPT} | more),
        status=status or text("deliveryStatus"),
        channel=text("deliveryChannel"),
        code=text("code"),
        subtid=text("subtid"),
        device=text("deviceid"),
        at=text("timeStamp"),
        info=msgspec.json.encode(info),
        outer=msgspec.json.encode(outer)[1:-1],
    )


def stamp(at: datetime) -> str:
    """`at` to the millisecond with its offset, `Z` for UTC."""
    if at.utcoffset() == timedelta(0):
        return at.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
    return at.isoformat(timespec="milliseconds")


def _beside(message: Message, word: Word, handed_on: bool, told_as: str) -> dict[str, str]:
    if handed_on:
        return {"carrier": "" if word.status == "Failed" else message.carrier}
    if told_as == "voice":
        call = f"<transinfo><to>{message.destination}</to><event>{word.status}</event></transinfo>"
        return {"deliveryTransInfo": f'<?xml version="1.0" encoding="UTF-8"?>{call}'}
    return {}


def _device(message: Message, step: Step) -> str:
    """The id of the device that is told of; "" where the platform doesn't say, as for a customer without one."""
    if message.id_type in _PUSH_IDS:
        step = Step(0, step.word, device=step.device or 1)
    return f"dev{zlib.crc32(message.destination.encode()):08x}x{step.device}" if step.device else ""
