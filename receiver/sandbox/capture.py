"""Captured sequences of receipts: the file that `receiver capture` writes, and its bodies made fresh to be told again.

A capture names nobody: its recipients and ids are stand-ins, listed in `names`. Each play puts others in their place,
the same for the same and as long, so that no play meets another; and it moves the time stamps to the present.
"""

import itertools
import json
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from receiver.sandbox.parcel import Kind, Parcel, Telling
from receiver.sandbox.script import Step, Word
from receiver.sandbox.stamps import all_moved

VERSION: Final = 1
BEGINS: Final = datetime(2002, 1, 1, tzinfo=UTC)
"""What a capture's time stamps are told from: no real message is so old."""
MOST_STEPS: Final = 10_000
BETWEEN: Final = r"[\s().,/·\u2010-\u2015\u2212\-]{0,3}"
"""What may stand between two digits of a number."""

_WORDS: Final = {
    "deliveredtoterminal": "Delivered",
    "deliveredtonetwork": "Submitted",
    "messagewaiting": "Submitted",
    "deliveryimpossible": "Undelivered",
    "submit": "Submitted",
    "submited": "Submitted",
    "bounced": "Bounce",
    "complained": "Complaint",
    "notverified": "Not verified",
}
_CALLS: Final = frozenset({"offered", "accepted", "answered", "dropped", "released", "disconnected", "rejected"})


class BadCapture(ValueError):
    """The file can't be played; says why."""


class CapturedMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A message of the capture, and what its receipts came to."""

    channel: str
    origin: str = ""
    state: str = ""
    conflict: bool = False
    facts: list[str] = []
    reason_code: str | None = None
    reason_class: str | None = None


class CapturedStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One receipt in the order of arrival."""

    gap: float
    """Seconds after the step before it, or after the beginning."""
    stamped: float | None = None
    """Its own time stamp in seconds after the beginning; None: it has none that can be read."""
    feed: str = "push"
    message: int = 1
    """Which of the capture's messages it is of, counted from 1."""
    status: str = ""
    code: str | None = None
    description: str | None = None
    channel: str = ""
    """As it was spelled."""
    subtid: str | None = None
    device: bool = False
    """Whether it speaks of one device."""
    message_count: int | None = None
    body: str = ""
    """What is told; empty: nobody told it us, it was our own word or an answer to our call."""
    rebuilt: bool = False
    """Whether the body was made anew from what was kept of it: what came can't be shown."""
    differs: list[str] = []
    """What a receiver would make of this body otherwise than of the real one."""


class Capture(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A real sequence of receipts that names nobody."""

    capture: int
    """The version of this format."""
    messages: list[CapturedMessage]
    names: dict[str, list[str]]
    """The stand-ins, by what they stand for; the first of each is the message's own."""
    steps: list[CapturedStep]

    def wrong(self) -> str:
        """What is wrong with it; empty: nothing."""
        if self.capture != VERSION:
            return f"capture: version {VERSION} is played"
        if not self.messages or not 1 <= len(self.steps) <= MOST_STEPS:
            return f"capture: at least one message, 1 to {MOST_STEPS} steps"
        if any(not 0 <= step.gap <= 366 * 86_400 for step in self.steps):
            return "capture: gaps of 0 seconds to a year"
        if not all(itertools.chain.from_iterable(self.names.values())):
            return "capture: no name is empty"
        return ""


def read(text: bytes) -> Capture:
    """The capture in a file; raises BadCapture."""
    try:
        capture = msgspec.json.decode(text, type=Capture)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadCapture(str(error)) from None
    if wrong := capture.wrong():
        raise BadCapture(wrong)
    return capture


def written(capture: Capture) -> bytes:
    """The file of a capture, for people to read before they send it on."""
    return msgspec.json.format(msgspec.json.encode(capture), indent=2) + b"\n"


@dataclass(frozen=True, slots=True)
class Played:
    """One play of a capture: fresh bodies, each with its seconds after the beginning, and who stands in it."""

    told: Sequence[tuple[float, CapturedStep, str]]
    names: Mapping[str, str]

    def name(self, kind: str, capture: Capture) -> str:
        """What stands in place of the message's own name of that kind; empty: it has none."""
        return next((self.names[one] for one in capture.names.get(kind, ())), "")

    def parcels(self) -> list[Parcel]:
        """The bodies, to be told as they are."""
        return [Parcel(offset, (_telling(step, body),)) for offset, step, body in self.told]

    def happened(self) -> list[tuple[float, Step]]:
        """What became of the message, for the transaction status; a word that nobody knows says nothing."""
        return [
            (offset, Step(0.0, Word(_word(step.status), step.code or "", step.description or "")))
            for offset, step, _ in self.told
            if _word(step.status)
        ]


def play(
    capture: Capture,
    roll: random.Random,
    *,
    speed: float,
    now: datetime,
    names: Mapping[str, str] | None = None,
) -> Played:
    """A play that begins `now`, with gaps scaled by `speed`; what `names` gives for a kind is the message's own name.

    Time stamps keep their distances, and the latest falls to where the play will be by then.
    """
    fresh = _fresh(capture, roll, names or {})
    rename = _renamer(fresh)
    span = sum(step.gap for step in capture.steps)
    by = now + timedelta(seconds=span * speed - span) - BEGINS
    by = timedelta(seconds=int(by.total_seconds()))
    at, told = 0.0, []
    for step in capture.steps:
        at += step.gap
        if step.body:
            told.append((at * speed, step, all_moved(rename(step.body), by)))
    return Played(told, fresh)


def _fresh(capture: Capture, roll: random.Random, given: Mapping[str, str]) -> dict[str, str]:
    """What stands for each stand-in in one play."""
    fresh: dict[str, str] = {}
    for kind, standins in capture.names.items():
        for place, standin in enumerate(standins):
            if standin not in fresh:
                fresh[standin] = (given.get(kind, "") if place == 0 else "") or _unlike(standin, fresh.values(), roll)
    return fresh


def _unlike(standin: str, taken: Iterable[str], roll: random.Random) -> str:
    taken = set(taken)
    for _ in range(1_000):
        one = _drawn(standin, roll)
        if one not in taken:
            return one
    return standin


def _drawn(standin: str, roll: random.Random) -> str:
    """Another of the kind of `standin`, as long: a UUID, a number reserved for fiction, or with other digits."""
    if re.fullmatch(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", standin):
        drawn = UUID(int=roll.getrandbits(128), version=4)
        return str(drawn) if "-" in standin else drawn.hex
    if standin.isdigit():
        return standin[:-3] + "".join(roll.choice("0123456789") for _ in standin[-3:])
    return re.sub(r"\d+(?=\D*$)", lambda found: "".join(roll.choice("0123456789") for _ in found[0]), standin, count=1)


def _renamer(fresh: Mapping[str, str]) -> Callable[[str], str]:
    """Puts `fresh` names in the place of stand-ins, in any case, and with what stands between digits."""
    known = sorted(fresh, key=len, reverse=True)
    if not known:
        return str
    branches = (f"({BETWEEN.join(name) if name.isdigit() else re.escape(name)})" for name in known)
    pattern = re.compile("|".join(branches), re.IGNORECASE)

    def rename(found: re.Match[str]) -> str:
        name = fresh[known[(found.lastindex or 1) - 1]]
        return json.dumps(spelt_like(found[0], name))[1:-1]

    return lambda body: pattern.sub(rename, body)


def spelt_like(example: str, name: str) -> str:
    """`name` with the case of `example`; a number with what stands between its digits, where it is as long."""
    digits = sum(map(str.isdigit, example))
    if name.isdigit() and digits == len(name) and not any(map(str.isalpha, example)):
        left = iter(name)
        return "".join(next(left) if one.isdigit() else one for one in example)
    if example.isupper():
        return name.upper()
    return name.lower() if example.islower() and "@" in example else name


def _telling(step: CapturedStep, body: str) -> Telling:
    return Telling(
        Kind.RECEIPT if _is_json(body) else Kind.UNREADABLE,
        status=_word(step.status) or step.status,
        channel=step.channel,
        code=step.code or "",
        subtid=step.subtid or "",
        raw=body.encode("utf-8", "replace"),
    )


def _is_json(body: str) -> bool:
    try:
        json.loads(body, strict=False)
    except (ValueError, RecursionError):
        return False
    return True


def _word(status: str) -> str:
    """The platform's usual word for a status; empty: it has none."""
    plain = "".join(filter(str.isalpha, status)).lower()
    usual = ("Submitted", "Delivered", "Undelivered", "Failed", "Read", "Bounce", "Complaint", "Clicked", "Invalid")
    if plain in _CALLS:
        return plain.upper()
    return _WORDS.get(plain) or next((word for word in usual if word.lower() == plain), "")
