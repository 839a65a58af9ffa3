"""The spellings in which one receipt has been seen: what the hostile profile tells in place of the documented one.

Each keeps what joins a receipt to its message: the transid up to case, `urn:uuid:` and `_digits`, the destination up
to its prefixes, the subtid as it is. What is drawn depends on the given random numbers alone.
"""

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import msgspec

from receiver.sandbox.channels import FAMILIES
from receiver.sandbox.parcel import Telling
from receiver.sandbox.receipt import Fields, Message, fields, stamp, told
from receiver.sandbox.script import Step

# The share of receipts that each is drawn for; some then find nothing to change (an e-mail has no `+`).
SHARES: Final = {
    "status_spelling": 0.15,
    "channel_spelling": 0.10,
    "key_case": 0.06,
    "doubled_key": 0.02,
    "numbers": 0.08,
    "ids_inside": 0.06,
    "template": 0.04,
    "stamp_spelling": 0.25,
    "stamp_impossible": 0.01,
    "stamp_missing": 0.02,
    "transid_spelling": 0.10,
    "correlationid_spelling": 0.05,
    "correlationid_missing": 0.03,
    "destination_spelling": 0.12,
    "unknown_field": 0.08,
    "code_missing": 0.03,
    "odd_text": 0.02,
    "oneapi": 0.05,
}
ONEAPI: Final = {
    "Submitted": ("DeliveredToNetwork", "MessageWaiting", "DeliveryUncertain"),
    "Delivered": ("DeliveredToTerminal",),
    "Undelivered": ("DeliveryImpossible",),
    "Un-Delivered": ("DeliveryImpossible",),
    "Failed": ("DeliveryImpossible", "DeliveryNotificationNotSupported"),
}
_STATUSES: Final = {
    "Submitted": ("Submit", "Submited", "SUBMITTED", "submitted"),
    "Delivered": ("DELIVERED", "delivered", " Delivered "),
    "Undelivered": ("Un-Delivered", "UNDELIVERED", "undelivered", "UnDelivered"),
    "Bounce": ("Bounced", "BOUNCE"),
    "Complaint": ("Complained", "complaint"),
    "Not verified": ("Not Verified", "NOT VERIFIED"),
}
_ZONES = (timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=4)), UTC)


def disfigured(message: Message, step: Step, at: datetime, roll: random.Random) -> Telling:
    """The receipt that says `step.word` of `message`, in a spelling that `roll` draws."""
    hits = {name for name, share in SHARES.items() if roll.random() < share}
    if "oneapi" in hits and message.id_type == "msisdn" and step.word.status in ONEAPI:
        return _oneapi(message, step, at, roll)
    said, done = fields(message, step, at), []
    for name, change in _CHANGES.items():
        if name in hits and change(said, message, at, roll):
            done.append(name)
    return _encoded(said, step.word.status, done, roll)


def _encoded(said: Fields, status: str, done: list[str], roll: random.Random) -> Telling:
    """The telling of `said`; the case of its keys and its odd characters are a matter of encoding."""
    info, outer = said
    if "doubled_key" in done and "key_case" in done:
        done.remove("key_case")  # in one case the two keys would be one
    if "ids_inside" in done:
        info, outer = info | outer, {}
    telling = told(Fields(info, outer), status=status, troubles=tuple(done))
    if "key_case" in done:
        telling.keys = roll.choice((str.upper, str.lower))
        info, outer = ({telling.keys(name): value for name, value in part.items()} for part in (info, outer))
        telling.info, telling.outer = msgspec.json.encode(info), msgspec.json.encode(outer)[1:-1]
    if "odd_text" in done:
        # a lone surrogate is no UTF-8: it can only be written escaped
        info = info | {telling.keys("additionalInfo"): "odd \0 \ud83d \u2028 text"}
        telling.info = json.dumps(info).encode()
    return telling


def _status(said: Fields, _message: Message, _at: datetime, roll: random.Random) -> bool:
    status = said.info["deliveryStatus"]
    said.info["deliveryStatus"] = roll.choice(_STATUSES.get(status, (status.upper(), status.lower(), status.title())))
    return bool(said.info["deliveryStatus"] != status)


def _channel(said: Fields, message: Message, _at: datetime, roll: random.Random) -> bool:
    family = next(f for f in FAMILIES.values() if f.told_as == said.info["deliveryChannel"])
    if family.also:
        said.info["deliveryChannel"] = roll.choice(family.also)
    return bool(family.also)


def _numbers(said: Fields, message: Message, _at: datetime, _roll: random.Random) -> bool:
    changed = False
    for name in ("code", "messageCount", "destination"):
        text = said.info.get(name)
        if isinstance(text, str) and text.isdigit() and not text.startswith("0"):
            said.info[name] = int(text)
            changed = True
    return changed


def _template(said: Fields, _message: Message, _at: datetime, _roll: random.Random) -> bool:
    part = said.outer if "callbackData" in said.outer else said.info
    part["callbackData"] = "$(callbackData)"
    return True


def _stamp(said: Fields, _message: Message, at: datetime, roll: random.Random) -> bool:
    there = at.astimezone(roll.choice(_ZONES))
    bare = stamp(at.replace(tzinfo=UTC))[:-1]  # in the tenant's zone, which it doesn't name
    offset = there.strftime("%z")
    hour = offset[0] + offset[1:3].lstrip("0").rjust(1, "0") + ":" + offset[3:]  # `+5:30`, as the documents have it
    said.info["timeStamp"] = roll.choice(
        (
            bare,
            stamp(at.astimezone(UTC)),
            stamp(there),
            stamp(there.replace(tzinfo=UTC))[:-1] + hour,
            stamp(there.replace(tzinfo=UTC))[:-1].replace("T", " ") + offset,
            int(at.timestamp() * 1000),
        )
    )
    return True


def _impossible(said: Fields, _message: Message, _at: datetime, roll: random.Random) -> bool:
    said.info["timeStamp"] = roll.choice(("2024-02-30T25:61:00.000Z", "yesterday", "0000-00-00T00:00:00", 7))
    return True


def _missing(said: Fields, _message: Message, _at: datetime, _roll: random.Random) -> bool:
    del said.info["timeStamp"]
    return True


def _transid(said: Fields, message: Message, _at: datetime, roll: random.Random) -> bool:
    part = said.outer if "transid" in said.outer else said.info
    plain = message.transid
    part["transid"] = roll.choice((plain.upper(), f"urn:uuid:{plain}", f"{plain}_{roll.randrange(99)}", f" {plain} "))
    return True


def _correlationid(said: Fields, message: Message, _at: datetime, roll: random.Random) -> bool:
    if message.correlationid.count("-") != 4:  # only an id that looks like a UUID is read in any case
        return False
    part = said.outer if "correlationid" in said.outer else said.info
    part["correlationid"] = roll.choice((message.correlationid.upper(), f"urn:uuid:{message.correlationid}"))
    return True


def _uncorrelated(said: Fields, message: Message, _at: datetime, roll: random.Random) -> bool:
    part = said.outer if "correlationid" in said.outer else said.info
    part["correlationid"] = roll.choice(("", "$(correlationid)", None))
    return bool(message.correlationid)


def _destination(said: Fields, message: Message, _at: datetime, roll: random.Random) -> bool:
    plain = message.destination
    if message.id_type == "msisdn" and plain.isdigit() and len(plain) > 6:
        spaced = f"+{plain[:2]} {plain[2:6]} {plain[6:]}"
        said.info["destination"] = roll.choice((f"+{plain}", f"00{plain}", f"tel:+{plain}", f"tel: {plain}", spaced))
        return True
    if "@" in plain:
        said.info["destination"] = plain.upper()
        return True
    return False


def _unknown_field(said: Fields, _message: Message, _at: datetime, roll: random.Random) -> bool:
    part = roll.choice((said.info, said.outer))
    part[roll.choice(("pricing", "x-extra", "conversation"))] = roll.choice(
        ({"model": "CBP", "billable": True}, [1, 2.5, None], "Grüße 🚚")
    )
    return True


def _doubled(said: Fields, _message: Message, _at: datetime, _roll: random.Random) -> bool:
    # of two keys that differ in case the documented one counts
    said.info["DELIVERYSTATUS"], said.info["Code"] = "Teleported", "0000"
    return True


def _no_code(said: Fields, _message: Message, _at: datetime, roll: random.Random) -> bool:
    said.info["code"] = roll.choice(("", None))
    return True


def _by_encoding(_said: Fields, _message: Message, _at: datetime, _roll: random.Random) -> bool:
    return True


_CHANGES: Final[dict[str, Callable[[Fields, Message, datetime, random.Random], bool]]] = {
    "status_spelling": _status,
    "channel_spelling": _channel,
    "destination_spelling": _destination,
    "numbers": _numbers,
    "template": _template,
    "stamp_spelling": _stamp,
    "stamp_impossible": _impossible,
    "stamp_missing": _missing,
    "transid_spelling": _transid,
    "correlationid_spelling": _correlationid,
    "correlationid_missing": _uncorrelated,
    "unknown_field": _unknown_field,
    "code_missing": _no_code,
    "doubled_key": _doubled,
    "ids_inside": _by_encoding,
    "key_case": _by_encoding,
    "odd_text": _by_encoding,
}


def _oneapi(message: Message, step: Step, at: datetime, roll: random.Random) -> Telling:
    """The receipt as a OneAPI hub spells it: an address, other names for the ids, no channel, mostly no time."""
    info: dict[str, Any] = {
        "address": f"{roll.choice(('tel:+', 'tel: +', 'tel:'))}{message.destination}",
        "deliveryStatus": roll.choice(ONEAPI[step.word.status]),
    }
    if roll.random() < 0.5:
        info["timeStamp"] = stamp(at)
    outer: dict[str, Any] = {"callbackData": message.callback_data, "clientCorrelator": message.correlationid}
    match roll.randrange(3):
        case 0:
            outer["RequestId"] = f"urn:uuid:{message.transid}"
        case 1:
            outer["messageId"] = message.transid
        case _:
            outer["link"] = {"rel": "OutboundMessageRequest", "href": f"https://hub.example/1/{message.transid}/"}
    if step.subtid:
        outer["subtid"] = step.subtid
    return told(Fields(info, outer), status=step.word.status, troubles=("oneapi",))
