"""Writing receipts in the platform's documented shape."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from receiver.sandbox.script import Word


class DeliveryInfo(msgspec.Struct, kw_only=True, frozen=True):
    """The receipt proper; fields stand in the order of the platform's samples."""

    timeStamp: str
    Description: str
    code: str
    messageCount: str | msgspec.UnsetType = msgspec.UNSET
    deliveryChannel: str
    additionalInfo: str
    destination: str
    destinationType: str
    deliveryStatus: str


class Notification(msgspec.Struct, kw_only=True, frozen=True):
    """What surrounds the receipt: the ids, and what the client had us give back."""

    deliveryInfo: DeliveryInfo
    carrier: str | msgspec.UnsetType = msgspec.UNSET
    subtid: str = ""
    transid: str
    callbackData: str
    correlationid: str


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


def notification(message: Message, word: Word, at: datetime) -> Notification:
    """The receipt that says `word` of `message` as of `at`, which bears the zone it is written in."""
    sms = message.channel == "sms"
    # The platform's samples of Submitted hold neither a count nor a carrier.
    handed_on = sms and word.status != "Submitted"
    return Notification(
        deliveryInfo=DeliveryInfo(
            timeStamp=stamp(at),
            Description=word.description,
            code=word.code,
            messageCount=str(message.parts) if handed_on else msgspec.UNSET,
            deliveryChannel="SMS" if sms else message.channel,
            additionalInfo="",
            destination=message.destination,
            destinationType=message.id_type,
            deliveryStatus=word.status,
        ),
        carrier=_carrier(message, word) if handed_on else msgspec.UNSET,
        transid=message.transid,
        callbackData=message.callback_data,
        correlationid=message.correlationid,
    )


def body(told: Notification) -> bytes:
    """The body to POST; the same notification gives the same bytes at every try."""
    return msgspec.json.encode({"deliveryInfoNotification": told})


def stamp(at: datetime) -> str:
    """`at` to the millisecond with its offset, `Z` for UTC."""
    if at.utcoffset() == timedelta(0):
        return at.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
    return at.isoformat(timespec="milliseconds")


def _carrier(message: Message, word: Word) -> str:
    return "" if word.status == "Failed" else message.carrier
