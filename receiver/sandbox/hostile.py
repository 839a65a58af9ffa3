"""The hostile profile: from the script of a message to what really comes in at its notifyurl.

All is drawn from the random numbers of the message, so it is the same whatever the timing and whoever else is told.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import httpx2

from receiver.sandbox import spelling
from receiver.sandbox.parcel import Fault, Kind, Parcel, Telling
from receiver.sandbox.receipt import Fields, Message, stamp, told
from receiver.sandbox.script import Shares, Step, Word
from receiver.sandbox.wrapping import WRAPPERS, Wrap, as_xml, byte_order_mark, cut, plain, trailing_blanks

# More of everything that goes wrong, so that all words of all channels occur.
FATES: Final = Shares(undelivered=0.15, failed=0.15, silent=0.02)

# The share of messages ...
OF_MESSAGES: Final = {
    "reordered": 0.15,  # Submitted after Delivered
    "early": 0.10,  # all is told before the submission is answered; made-up messages have no submission
    "unknown_status": 0.05,  # one receipt more, with a word that nobody knows
    "forged": 0.04,  # one receipt more, of another submission's message; made-up messages have no submission
}
# ... and of bodies that each is drawn for.
OF_BODIES: Final = {
    "lost": 0.05,  # the first try, or more, fails; half are never sent, half are sent and the answer isn't read
    "repeated": 0.08,  # told again, byte for byte
    "rewrapped": 0.04,  # told again in another wrapper
    "bundled": 0.06,  # in one body with the receipt before
    "wrapped": 0.15,
    "byte_order_mark": 0.03,
    "trailing_blanks": 0.05,
    "truncated": 0.02,  # a body that was cut off goes before
    "xml": 0.01,  # XML goes before
}
LOST_AGAIN: Final = 0.25  # of those lost at a try, the share that is lost at the next one too
TRIES: Final = 4  # those of the platform's retry table
_UNKNOWN = ("Teleported", "Parked", "Throttled", "Handed over", "REROUTED")


@dataclass(frozen=True, slots=True)
class Victim:
    """A message that was sent under another notifyurl, whose receipt can be forged."""

    message: Message
    notifyurl: httpx2.URL


@dataclass(slots=True)
class Plan:
    """What is told of one message, in the order of the first tries, and the troubles that it will meet."""

    parcels: list[Parcel]
    troubles: list[str]
    before_answer: bool = False


def plan(
    message: Message,
    steps: Sequence[tuple[float, Step]],
    sent_at: datetime,
    roll: random.Random,
    *,
    notifyurl: httpx2.URL | None = None,
    victims: Sequence[Victim] = (),
) -> Plan:
    """The parcels of a message: `steps` with their seconds after `sent_at`, which bears the zone of stamps.

    `notifyurl` is that of its submission; None for a message that has none. `victims` are told of under it.
    """
    of_message = _hits(OF_MESSAGES, roll)
    tellings = _tellings(message, steps, sent_at, roll, unknown="unknown_status" in of_message)
    if "reordered" in of_message and len(tellings) > 1:
        offsets = [offset for offset, _ in tellings]
        tellings = list(zip(offsets, [telling for _, telling in reversed(tellings)], strict=True))
    else:
        of_message.discard("reordered")
    parcels: list[Parcel] = []
    troubles = [name for _, telling in tellings for name in telling.troubles]
    for offset, telling in tellings:
        troubles += _pack(parcels, offset, telling, roll)
    forger = roll.random()
    others = [v for v in victims if v.notifyurl != notifyurl] if notifyurl is not None else []
    if "forged" in of_message and others and parcels:
        parcels.append(Parcel(parcels[-1].offset, (_forged(others[int(forger * len(others))], sent_at),)))
    else:
        of_message.discard("forged")
    early = "early" in of_message and notifyurl is not None and bool(parcels)
    if not early:
        of_message.discard("early")
    for parcel in parcels if early else ():
        parcel.offset = 0.0
    return Plan(parcels, [*sorted(of_message), *troubles], early)


def _hits(shares: dict[str, float], roll: random.Random) -> set[str]:
    return {name for name, share in shares.items() if roll.random() < share}


def _tellings(
    message: Message, steps: Iterable[tuple[float, Step]], sent_at: datetime, roll: random.Random, *, unknown: bool
) -> list[tuple[float, Telling]]:
    """Each step in a spelling of its own; two that would say the same are one, told again."""
    steps = list(steps)
    if unknown and steps:
        place = roll.randrange(len(steps))
        offset, step = steps[place]
        word = Word(roll.choice(_UNKNOWN), "", "")
        steps.insert(place, (offset, Step(0.0, word, device=step.device, channel=step.channel, subtid=step.subtid)))
    told_before: dict[tuple[bytes, bytes], Telling] = {}
    found = []
    for place, (offset, step) in enumerate(steps):
        # a millisecond apart: whether two are the same must not hang on how fast the sandbox runs
        at = sent_at + timedelta(seconds=offset, milliseconds=place)
        telling = spelling.disfigured(message, step, at, roll)
        found.append((offset, told_before.setdefault((telling.info.lower(), telling.outer.lower()), telling)))
    return found


def _pack(parcels: list[Parcel], offset: float, telling: Telling, roll: random.Random) -> list[str]:
    """Adds the parcels of one telling; returns their troubles."""
    hits = _hits(OF_BODIES, roll)
    if "bundled" in hits and parcels and parcels[-1].tellings[0].kind is Kind.RECEIPT:
        last = parcels[-1]
        if len(last.tellings) == 1 and telling not in last.tellings:
            last.tellings += (telling,)
            last.wrap = WRAPPERS[roll.choice(("list", "array", "export", "nested"))]
            return ["bundled"]
    hits.discard("bundled")
    wrap = _wrap(hits, roll)
    whole = Parcel(offset, (telling,), wrap)
    if "xml" in hits:
        parcels.append(Parcel(offset, (Telling(Kind.UNREADABLE, raw=as_xml(telling), troubles=("xml",)),)))
    if "truncated" in hits:
        stump = cut(plain((telling,)), roll)
        parcels.append(Parcel(offset, (Telling(Kind.UNREADABLE, raw=stump, troubles=("truncated",)),)))
    parcels.append(whole)
    if "lost" in hits:
        whole.faults = _faults(roll)
    if "repeated" in hits:
        parcels.append(Parcel(offset, (telling,), wrap))
    if "rewrapped" in hits:
        parcels.append(Parcel(offset, (telling,), WRAPPERS[roll.choice(list(WRAPPERS))]))
    return sorted(hits)


def _wrap(hits: set[str], roll: random.Random) -> Wrap:
    wrap = WRAPPERS[roll.choice(list(WRAPPERS))] if "wrapped" in hits else plain
    if "byte_order_mark" in hits:
        wrap = byte_order_mark(wrap)
    return trailing_blanks(wrap) if "trailing_blanks" in hits else wrap


def _faults(roll: random.Random) -> tuple[Fault, ...]:
    """What happens to the first tries; after as many as the retry table has, the receipt is lost for good."""
    faults = [roll.choice((Fault.NOT_SENT, Fault.NOT_READ))]
    while len(faults) < TRIES and roll.random() < LOST_AGAIN:
        faults.append(roll.choice((Fault.NOT_SENT, Fault.NOT_READ)))
    return tuple(faults)


def _forged(victim: Victim, sent_at: datetime) -> Telling:
    """A receipt that claims the victim's message; to come in under another submission's notifyurl."""
    message = victim.message
    info = {
        "timeStamp": stamp(sent_at),
        "Description": "Invalid Sender ID",
        "code": "7101",
        "deliveryChannel": "SMS",
        "additionalInfo": "",
        "destination": message.destination,
        "destinationType": message.id_type,
        "deliveryStatus": "Failed",
    }
    outer = {"subtid": "", "transid": message.transid, "callbackData": "", "correlationid": message.correlationid}
    return told(Fields(info, outer), kind=Kind.FORGED, troubles=("forged",))
