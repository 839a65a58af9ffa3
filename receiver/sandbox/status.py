"""The transaction status: what the platform itself knows of a message by now, told or not."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from receiver.sandbox.channels import FAMILIES
from receiver.sandbox.ledger import Record
from receiver.sandbox.scenario import V2
from receiver.sandbox.script import Word

_EXPIRED: Final = frozenset({"7005", "7208"})
_VOICE: Final = {
    "OFFERED": "sent",
    "ACCEPTED": "sent",
    "ANSWERED": "answered",
    "TROMBONE CONNECT": "answered",
    "TROMBONE RELEASE": "answered",
    "RELEASED": "answered",
    "DISCONNECTED": "answered",
    "REJECTED": "rejected",
}
_VOICE_CODES: Final = {"7401": "no answer", "7402": "busy"}
_GOOD: Final = frozenset({"Delivered", "Read", "Clicked", "Complaint"})


def entries(records: Iterable[Record], now: datetime) -> list[dict[str, Any]]:
    """The answer to a query, one entry a message."""
    return [_entry(record, now) for record in records]


def word_of(record: Record, now: datetime) -> str | None:
    """What the status of a message is by `now`; None for an event, which has none."""
    if record.message.channel not in FAMILIES:
        return None
    return _status(record, _last(record, _began(record, now), now)[0])


def _began(record: Record, now: datetime) -> datetime:
    return record.sent_at or (record.origin.sent_at if record.origin else now)


def _entry(record: Record, now: datetime) -> dict[str, Any]:
    message, origin = record.message, record.origin
    sent_at = _began(record, now)
    word, at = _last(record, sent_at, now)
    status = _status(record, word)
    bad = word is not None and status not in ("queued", "sent", "delivered", "answered")
    family = FAMILIES.get(message.channel)
    return {
        "transactionid": record.answered or message.transid,
        "clientid": "1",
        "api_version": "v2" if origin and origin.path == V2 else "v1",
        "type": "outbound-api",
        "from": origin.sender if origin else "",
        "to": message.destination,
        "body": origin.body.decode("utf-8", "replace") if origin else "",
        "channel": family.told_as if family else message.channel,
        "status": status,
        "date_created": _date(sent_at),
        "last_updated": _date(at),
        "error_code": word.code if word and bad else None,
        "error_message": word.description if word and bad else None,
    }


def _last(record: Record, sent_at: datetime, now: datetime) -> tuple[Word | None, datetime]:
    """What happened last by `now`, and when. To tell something again is no event.

    Of several devices one that has it counts: the message was delivered.
    """
    found: tuple[Word | None, datetime] = None, sent_at
    for offset, step in record.steps:
        due = sent_at + timedelta(seconds=offset)
        if due > now or step.repeats is not None:
            continue
        has_it = step.device and found[0] is not None and found[0].status in _GOOD
        if not (has_it and step.word.status not in _GOOD):
            found = step.word, due
    return found


def _status(record: Record, word: Word | None) -> str:
    if word is None:
        # Nobody is told of a silent one, but it has left the platform.
        return "sent" if record.fate == "silent" else "queued"
    if record.message.channel == "voice":
        return _VOICE_CODES.get(word.code) or _VOICE.get(word.status, "others")
    if word.status in _GOOD:
        return "delivered"
    if word.status == "Submitted":
        return "sent"
    return "expired" if word.code in _EXPIRED else "failed"


def _date(at: datetime) -> str:
    """`Mon, 16 Aug 2010 03:45:01 UTC`, whatever the locale."""
    at = at.astimezone(UTC)
    day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[at.weekday()]
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    return f"{day}, {at.day:02} {months[at.month - 1]} {at:%Y %H:%M:%S} UTC"
