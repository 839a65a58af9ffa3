"""A capture of real messages: what was told of them in order of arrival, without anybody's name."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg

from receiver.capture.hiding import CODES, KEYS, Hider, collect, plain
from receiver.capture.names import CALLBACK, CORRELATION, DESTINATION, DEVICE, TRANSID, Names
from receiver.errors import ReceiverError
from receiver.ids import TenantId
from receiver.messages.lattice import Channel, Fact, State
from receiver.messages.told import Feed, Told
from receiver.platform.codes import Class
from receiver.platform.words import CHANNELS, STATUSES, VOICE_STATUSES
from receiver.receipts.body import Unreadable, parse, utf8
from receiver.receipts.receipt import Source, read
from receiver.sandbox.capture import BEGINS, VERSION, Capture, CapturedMessage, CapturedStep

ORIGINS = {1: "issued", 2: "observed", 3: "recorded"}
MADE_FRESH = frozenset({DESTINATION, TRANSID, CORRELATION, CALLBACK, DEVICE})
SHORTEST_LEAK = 5  # characters: a shorter name is found in any text
_OBSERVED = 2
_SOURCE = Source(TenantId(0), None, BEGINS)
# Words of the platform, and of ours, in which a name may be found by chance.
_ORDINARY = "\n".join((*KEYS, *CHANNELS, *STATUSES, *VOICE_STATUSES, *CODES)).casefold() + (
    "\nhttps://hub.example/ example.com reader recipient- correlation- callback- device- somebody- carrier- field-"
)

Rows = Sequence[asyncpg.Record]


def capture_of(messages: Rows, receipts: Rows) -> Capture:
    """The capture of messages and their receipts, one of each at least; raises ReceiverError if it named somebody."""
    bodies = [_body(row) for row in receipts]
    names = _names(messages, receipts, bodies)
    begins = _begins(messages, receipts)
    hider = Hider(names, BEGINS - begins)
    places = {row["id"]: place for place, row in enumerate(messages, 1)}
    origin = {row["id"]: row for row in messages}
    steps: list[CapturedStep] = []
    legs: dict[tuple[Any, ...], tuple[object, ...]] = {}
    before = begins
    for row, value in zip(receipts, bodies, strict=True):
        step = _step(row, value, hider, origin[row["message_id"]], legs)
        after = max((row["received_at"] - before).total_seconds(), 0.0)
        stamped = (row["told_at"] - begins).total_seconds() if row["told_at"] else None
        steps.append(_with(step, gap=round(after, 3), stamped=stamped, message=places[row["message_id"]]))
        before = row["received_at"]
    capture = Capture(
        capture=VERSION,
        messages=[_message(row, hider) for row in messages],
        names={kind: standins for kind, standins in names.kinds.items() if kind in MADE_FRESH},
        steps=steps,
    )
    if kept := _leaks(capture, names):
        raise ReceiverError(f"{kept} of the message's names would still stand in the capture: it is not written")
    return capture


def _body(row: asyncpg.Record) -> Any:
    """What was told, as JSON; None where it was no notification."""
    if row["feed"] in (Feed.ANSWER, Feed.OWN) or not row["raw"]:
        return None
    try:
        value = parse(utf8(row["raw"]))
    except Unreadable:
        return None
    reading = read(row["raw"], _SOURCE)
    return value if len(reading.receipts) == 1 and not reading.rejects else None


def _names(messages: Rows, receipts: Rows, bodies: Sequence[Any]) -> Names:
    """Every name of the messages, their own first; and all that their receipts tell."""
    names = Names()
    for row in messages:
        names.add(DESTINATION, row["destination"])
        names.add(TRANSID, row["transid"])
        if row["origin"] != _OBSERVED:
            names.add(CORRELATION, str(row["id"]))  # what went out in place of the client's own
        names.add(CORRELATION, row["correlationid"])
        names.add(CALLBACK, row["callback_data"])
    for row, body in zip(receipts, bodies, strict=True):
        names.add(DESTINATION, row["destination"])
        names.add(TRANSID, row["transid"])
        names.add(DEVICE, row["device"])
        collect(body, names)
    for row in messages:
        for column in ("id", "batch_id", "submission_id", "parent_id", "resend_of"):
            names.add("id", str(row[column] or ""))
        for column in ("sender", "template"):
            names.add("content", row[column])
    return names


def _begins(messages: Rows, receipts: Rows) -> datetime:
    """The whole second from which all times of the capture are told: that of the sending, or of the first receipt."""
    at: list[datetime] = [row["received_at"] for row in receipts[:1]]
    if messages[0]["origin"] != _OBSERVED:
        at.append(messages[0]["created_at"])
    return min(at).replace(microsecond=0)


def _step(
    row: asyncpg.Record, value: Any, hider: Hider, message: asyncpg.Record, legs: dict[tuple[Any, ...], Any]
) -> CapturedStep:
    if row["feed"] in (Feed.ANSWER, Feed.OWN):
        return CapturedStep(
            gap=0,
            feed=Feed(row["feed"]).word,
            status=hider.word(row["status"]),
            code=row["code"] and hider.code(row["code"]),
            description=row["description"] and hider.text(row["description"]),
        )
    rebuilt = value is None
    body, told, differs = _hidden(row, _rebuilt(row, message) if rebuilt else value, hider, legs)
    if differs and not rebuilt:
        other = _hidden(row, _rebuilt(row, message), hider, legs)
        if len(other[2]) < len(differs):
            rebuilt, (body, told, differs) = True, other
    if told is not None:
        legs.setdefault(_leg(row), _shown(told))
    return CapturedStep(
        gap=0,
        feed=Feed(row["feed"]).word,
        status=told.status if told else "",
        code=told.code if told else None,
        description=told.description if told else None,
        channel=_spelt(value, "deliverychannel"),
        subtid=told.subtid if told else None,
        device=bool(told and told.device),
        message_count=told.message_count if told else None,
        body=body,
        rebuilt=rebuilt,
        differs=differs,
    )


def _hidden(
    row: asyncpg.Record, value: Any, hider: Hider, legs: dict[tuple[Any, ...], Any]
) -> tuple[str, Told | None, list[str]]:
    """A body without names, what a receiver reads in it, and what it would understand otherwise than it did."""
    body = json.dumps(hider.value(value))
    receipts = read(body.encode(), _SOURCE).receipts
    if len(receipts) != 1:
        return body, None, ["receipts"]
    told = receipts[0]
    differs = [name for name in ("channel", "fact", "reason_class", "code") if getattr(told, name) != row[name]]
    seen = legs.get(_leg(row))
    if (seen is not None and seen != _shown(told)) or (seen is None and _shown(told) in legs.values()):
        differs.append("leg")
    return body, told, differs


def _leg(row: asyncpg.Record) -> tuple[Any, ...]:
    return (row["channel"], bytes(row["destination_key"]), row["subtid"], row["device"])


def _shown(told: Told) -> tuple[object, ...]:
    return (told.channel, told.destination_key, told.subtid, told.device)


def _rebuilt(row: asyncpg.Record, message: asyncpg.Record) -> dict[str, Any]:
    """The notification that says what is kept of it, as the documents have it."""
    description, _, additional = (row["description"] or "").partition(" · ")
    channel = Channel(row["channel"])
    info = {
        "timeStamp": row["told_at"] and row["told_at"].astimezone(UTC).isoformat(timespec="milliseconds"),
        "Description": description,
        "code": row["code"] or "",
        "messageCount": row["message_count"] and str(row["message_count"]),
        "deliveryChannel": None if channel is Channel.OTHER else channel.word,
        "additionalInfo": additional,
        "destination": row["destination"] or message["destination"],
        "destinationType": message["destination_type"],
        "deviceid": row["device"],
        "deliveryStatus": row["status"],
    }
    beside = {
        "carrier": row["carrier"],
        "subtid": row["subtid"] or "",
        "transid": row["transid"] or message["transid"] or "",
        "callbackData": message["callback_data"] or "",
        "correlationid": str(message["id"]) if message["origin"] != _OBSERVED else message["correlationid"] or "",
    }
    said = {name: value for name, value in info.items() if value is not None}
    outer = {name: value for name, value in beside.items() if value is not None}
    return {"deliveryInfoNotification": {"deliveryInfo": said, **outer}}


def _message(row: asyncpg.Record, hider: Hider) -> CapturedMessage:
    state = State(row["state"])
    return CapturedMessage(
        channel=Channel(row["channel"]).word,
        origin=ORIGINS[row["origin"]],
        state=state.word,
        conflict=row["conflict"],
        facts=[fact.name.lower() for fact in Fact(row["facts"]) if fact.name],
        reason_code=row["reason_code"] and hider.code(row["reason_code"]),
        reason_class=Class(row["reason_class"] or 0).word if row["has_reason"] else None,
    )


def _with(step: CapturedStep, *, gap: float, stamped: float | None, message: int) -> CapturedStep:
    fields = {name: getattr(step, name) for name in step.__struct_fields__}
    return CapturedStep(**(fields | {"gap": gap, "stamped": stamped, "message": message}))


def _spelt(value: Any, key: str) -> str:
    """How a body spells the platform's word under `key`; empty: it has none."""
    if isinstance(value, dict):
        for name, one in value.items():
            if name.lower() == key and isinstance(one, str):
                return one if one.strip().lower() in CHANNELS else ""
        value = list(value.values())
    if isinstance(value, list):
        return next((found for one in value if (found := _spelt(one, key))), "")
    return ""


def _leaks(capture: Capture, names: Names) -> int:
    """How many of the original names can still be read in the capture."""
    texts = [text for step in capture.steps for text in (step.body, step.description or "", step.status)]
    texts += [one.reason_code or "" for one in capture.messages]
    whole = plain("\n".join(texts)).casefold()
    return sum(
        len(name) >= SHORTEST_LEAK and name.casefold() in whole and name.casefold() not in _ORDINARY
        for name in names.originals
    )
