"""What a stored receipt means by the present reader and tables, beside what is stored of it.

Who a receipt is of and which telling it is never changes: its message, its fingerprint, the recipient, flow node and
transid by which it found its message. What may change is what it proves, when, and in which words.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from operator import attrgetter, itemgetter
from typing import NamedTuple, TypeAlias
from uuid import UUID

import asyncpg

from receiver.ids import TenantId
from receiver.messages.lattice import LAST_TIMES, RANK, TIMES, Channel, Fact, Fold, State, clash, fold, reason_key
from receiver.messages.told import Feed, Told
from receiver.platform.apis import Api
from receiver.platform.codes import answer_meaning
from receiver.receipts import polled
from receiver.receipts.receipt import Source, read

Row: TypeAlias = asyncpg.Record


class Meaning(NamedTuple):
    """What may change of a receipt: the columns of `receipt`, and the fields of `read_v1` behind its first three."""

    channel: int
    fact: int
    rank: int
    clash: int
    reason_key: bytes | None
    reason_class: int | None
    told_at: datetime | None
    status: str
    code: str | None
    code_key: bytes | None
    description: str | None
    device: str | None
    carrier: str | None
    message_count: int | None


@dataclass(slots=True)
class Meant:
    """A receipt as it is stored, and as it is read now. It can be folded (lattice.Foldable), as it is read now."""

    message_id: UUID
    fingerprint: bytes
    raw_length: int
    before: Meaning
    now: Meaning
    kept: bool
    """Told by the platform, and not read again: its body was erased, or is read no more."""
    channel: Channel
    fact: Fact
    reason_key: bytes | None
    at: datetime
    leg: tuple[object, ...] | None
    """Which leg it speaks of; an answer, and our own word, speak of none."""

    @property
    def is_new(self) -> bool:
        """Whether it means something else than what is stored."""
        return self.now != self.before

    @property
    def as_row(self) -> tuple[object, ...]:
        """The fields of `read_v1`."""
        return (self.message_id, self.fingerprint, self.raw_length, *self.now)


# An enum's own look-up takes ten times as long.
_CHANNELS = {int(channel): channel for channel in Channel}
_FACTS = {int(fact): fact for fact in RANK}
_STATES = {int(state): state for state in State}
_meaning_of = attrgetter(*Meaning._fields)
_stored_in = itemgetter(*Meaning._fields)


def meant(row: Row, zone: tzinfo) -> Meant:
    """What a row of `receipt` (with the `api` that was asked, of an answer) means now."""
    before = Meaning(*_stored_in(row))
    by_platform = row["feed"] <= Feed.REPLAY
    told = _read_again(row, zone) if by_platform else None
    now = _by_the_lattice(before, row) if told is None else Meaning(*_meaning_of(told))
    channel = _CHANNELS.get(now.channel, Channel.OTHER)
    return Meant(
        row["message_id"],
        row["fingerprint"],
        len(row["raw"]),
        before,
        now,
        by_platform and told is None,
        channel,
        _FACTS.get(now.fact, Fact.UNKNOWN),
        now.reason_key,
        now.told_at or row["received_at"],
        (channel, row["destination_key"], row["subtid"], now.device) if by_platform else None,
    )


def _read_again(row: Row, zone: tzinfo) -> Told | None:
    """The receipt in its body; None where the body was erased, or nothing with its fingerprint is read any more."""
    if not row["raw"]:
        return None
    source = Source(TenantId(row["tenant"]), None, row["received_at"], zone)
    reader = READERS.get(row["feed"], _pushed)
    return next((told for told in reader(row["raw"], source) if told.fingerprint == row["fingerprint"]), None)


def _pushed(raw: bytes, source: Source) -> list[Told]:
    return read(raw, source).receipts


READERS: dict[int, Callable[[bytes, Source], list[Told]]] = {Feed.POLL: polled.read}
"""By feed: how the bodies are read that are no notification."""


def _by_the_lattice(stored: Meaning, row: Row) -> Meaning:
    """What is known of a receipt without its body: the same fact on the same channel, weighed as it is weighed now."""
    if not is_known(stored):
        return stored
    channel, fact = _CHANNELS[stored.channel], _FACTS[stored.fact]
    failure_class = stored.reason_class or 0
    if row["feed"] == Feed.ANSWER and row["api"] is not None and stored.code:
        with contextlib.suppress(ValueError):
            meaning = answer_meaning(Api(row["api"]).word, stored.code)
            failure_class = int(meaning.failure_class) if meaning else 0
    reason = reason_key(fact, bool(stored.code), failure_class != 0, row["fingerprint"])
    return stored._replace(
        rank=RANK[fact],
        clash=clash(channel, fact),
        reason_key=reason,
        reason_class=None if reason is None else failure_class,
    )


def is_known(meaning: Meaning) -> bool:
    """Whether this version has words for it: a newer one, taken back since, may have stored others."""
    return meaning.channel in _CHANNELS and meaning.fact in _FACTS


def can_be_judged(state: Row, receipts: Sequence[Meant]) -> bool:
    """Whether this version has words for all that is stored of a message."""
    return state["state"] in _STATES and all(is_known(receipt.now) for receipt in receipts)


@dataclass(frozen=True)
class Belief:
    """What is believed of a message: the fold, and the class of its reason."""

    fold: Fold
    reason_class: int | None


def believed(state: Row) -> Belief:
    """What a row of `message_state` says."""
    return Belief(
        Fold(
            _STATES[state["state"]],
            Fact(state["facts"]),
            state["reason_key"],
            state["conflict"],
            state["clicks"],
            state["complaints"],
            {name: state[name] for name in TIMES if state[name] is not None},
            {name: state[name] for name in LAST_TIMES if state[name] is not None},
        ),
        state["reason_class"],
    )


def proven(receipts: Sequence[Meant]) -> Belief:
    """What the receipts of a message prove now."""
    belief = fold(receipts)
    reason = belief.reason_key
    return Belief(belief, next((r.now.reason_class for r in receipts if reason and r.reason_key == reason), None))
