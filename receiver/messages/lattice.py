"""What a message can be known to be: states as numbers, facts as bits, and the fold that joins them.

A state is the highest that any fact names, so no receipt can lower it; facts merge with a bitwise or, times with
least, the reason with greatest. The fold is therefore idempotent and commutative: `fold` below says in plain Python
what the SQL function `fold_v1` does in the database, and the property tests hold one against the other.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, IntFlag
from typing import Protocol


class State(IntEnum):
    """What we believe of a message. The numbers are stored: they may be added to, never changed."""

    QUEUED = 0
    UNCERTAIN = 5
    ACCEPTED = 10
    SUBMITTED = 20
    ENDED = 25
    NO_RECEIPT = 30
    CANCELLED = 40
    EXPIRED = 41
    REFUSED = 42
    INVALID = 43
    NOT_VERIFIED = 44
    UNDELIVERED = 45
    FAILED = 46
    DELIVERED = 60
    BOUNCED = 65
    READ = 70

    @property
    def word(self) -> str:
        """The state as clients read it."""
        return self.name.lower()


class Fact(IntFlag):
    """What one receipt proves. The bits are stored, and named by number in `fold_v1`."""

    NONE = 0
    UNCERTAIN = 1 << 0
    ACCEPTED = 1 << 1
    SUBMITTED = 1 << 2
    ENDED = 1 << 3
    NO_RECEIPT = 1 << 4
    CANCELLED = 1 << 5
    EXPIRED = 1 << 6
    REFUSED = 1 << 7
    INVALID = 1 << 8
    NOT_VERIFIED = 1 << 9
    UNDELIVERED = 1 << 10
    DELIVERED = 1 << 11
    FAILED = 1 << 12
    READ = 1 << 13
    CLICKED = 1 << 14
    COMPLAINED = 1 << 15
    BOUNCED = 1 << 16
    UNKNOWN = 1 << 17
    NOTED = 1 << 18


RANK: dict[Fact, State] = {
    Fact.UNCERTAIN: State.UNCERTAIN,
    Fact.ACCEPTED: State.ACCEPTED,
    Fact.SUBMITTED: State.SUBMITTED,
    Fact.ENDED: State.ENDED,
    Fact.NO_RECEIPT: State.NO_RECEIPT,
    Fact.CANCELLED: State.CANCELLED,
    Fact.EXPIRED: State.EXPIRED,
    Fact.REFUSED: State.REFUSED,
    Fact.INVALID: State.INVALID,
    Fact.NOT_VERIFIED: State.NOT_VERIFIED,
    Fact.UNDELIVERED: State.UNDELIVERED,
    Fact.FAILED: State.FAILED,
    Fact.DELIVERED: State.DELIVERED,
    Fact.BOUNCED: State.BOUNCED,
    Fact.READ: State.READ,
    # Facts without rank: kept, counted, shown; they say nothing of whether the message arrived.
    Fact.CLICKED: State.QUEUED,
    Fact.COMPLAINED: State.QUEUED,
    Fact.UNKNOWN: State.QUEUED,
    Fact.NOTED: State.QUEUED,
}

POSITIVE = Fact.DELIVERED | Fact.READ
NEGATIVE = (
    Fact.CANCELLED
    | Fact.EXPIRED
    | Fact.REFUSED
    | Fact.INVALID
    | Fact.NOT_VERIFIED
    | Fact.UNDELIVERED
    | Fact.FAILED
    | Fact.BOUNCED
)
_NEGATIVE_FACTS = frozenset(NEGATIVE)
NEGATIVE_STATES = frozenset(RANK[f] for f in NEGATIVE)
POSITIVE_STATES = frozenset(RANK[f] for f in POSITIVE)


class Channel(IntEnum):
    """The channel of a message or a receipt; each is a family of the lattice. The numbers are stored."""

    OTHER = 0
    SMS = 1
    VOICE = 2
    PUSH = 3
    RT = 4
    MESSENGER = 5
    TWITTER = 6
    WECHAT = 7
    WHATSAPP = 8
    RCS = 9
    EMAIL = 10
    APPLE = 11
    MMS = 12
    INSTAGRAM = 13
    EVENT = 14
    CAMPAIGN = 15

    @property
    def word(self) -> str:
        """The channel as clients and metrics read it."""
        return self.name.lower()


@dataclass(frozen=True)
class Family:
    """What the platform's documents say of a channel.

    `line` is the way to the best that it can tell, its ceiling; `ill` is what can become of it instead; `beside` are
    facts that change no state; `normal` are the (positive, negative) pairs that one leg may bear in an orderly life.
    """

    line: tuple[Fact, ...]
    ill: Fact = Fact.FAILED
    beside: Fact = Fact.NONE
    normal: frozenset[tuple[Fact, Fact]] = frozenset()

    @property
    def ceiling(self) -> State:
        return RANK[self.line[-1]]


_READABLE = (Fact.SUBMITTED, Fact.DELIVERED, Fact.READ)
_CAME_BACK_LATE = (Fact.DELIVERED, Fact.UNDELIVERED)  # the handset, after the network had given up

FAMILIES: dict[Channel, Family] = {
    Channel.SMS: Family(
        (Fact.SUBMITTED, Fact.DELIVERED),
        Fact.UNDELIVERED | Fact.FAILED,
        Fact.CLICKED,
        frozenset({_CAME_BACK_LATE}),
    ),
    Channel.MMS: Family((Fact.SUBMITTED, Fact.DELIVERED), normal=frozenset({_CAME_BACK_LATE})),
    # an answer proves that somebody was there, the end of a call does not; a rejection is its "undelivered"
    Channel.VOICE: Family((Fact.SUBMITTED, Fact.ENDED, Fact.DELIVERED), Fact.UNDELIVERED | Fact.FAILED, Fact.NOTED),
    Channel.PUSH: Family(_READABLE),
    Channel.RT: Family(_READABLE, beside=Fact.CLICKED),
    Channel.MESSENGER: Family(_READABLE),
    Channel.TWITTER: Family((Fact.DELIVERED,)),
    Channel.WECHAT: Family((Fact.DELIVERED,)),
    Channel.WHATSAPP: Family(_READABLE),
    Channel.RCS: Family(
        _READABLE, beside=Fact.NOTED, normal=frozenset({_CAME_BACK_LATE, (Fact.READ, Fact.UNDELIVERED)})
    ),
    # a bounce may follow the delivery by 14 h, and outweighs it
    Channel.EMAIL: Family(
        _READABLE,
        Fact.NOT_VERIFIED | Fact.INVALID | Fact.BOUNCED | Fact.FAILED,
        Fact.CLICKED | Fact.COMPLAINED,
        frozenset({(Fact.DELIVERED, Fact.BOUNCED)}),
    ),
    Channel.APPLE: Family((Fact.SUBMITTED,)),  # nothing better is ever told
    Channel.INSTAGRAM: Family((Fact.SUBMITTED, Fact.READ)),
    # OneAPI hubs name no channel; what they tell of are SMS
    Channel.OTHER: Family(
        (Fact.SUBMITTED, Fact.DELIVERED),
        Fact.UNDELIVERED,
        Fact.NOTED | Fact.NO_RECEIPT,
        frozenset({_CAME_BACK_LATE}),
    ),
    # neither has a recipient of its own: what their flows send are messages of their own
    Channel.EVENT: Family((Fact.ACCEPTED,), Fact.REFUSED),
    Channel.CAMPAIGN: Family((Fact.ACCEPTED,), Fact.REFUSED),
}
# The ceilings below delivered, at which a message is final, and the pairs, as the documentation shows them.
CEILING = {channel: family.ceiling for channel, family in FAMILIES.items() if family.ceiling < State.DELIVERED}
NORMAL = {channel: family.normal for channel, family in FAMILIES.items() if family.normal}

_CLASHES: dict[tuple[Channel, Fact], Fact] = {
    (channel, negative): Fact(
        sum(positive for positive in POSITIVE if (positive, negative) not in FAMILIES[channel].normal)
    )
    for channel in Channel
    for negative in NEGATIVE
}


def clash(channel: Channel, fact: Fact) -> Fact:
    """The positive facts that, on one leg, contradict this negative fact; nothing for facts of other kinds."""
    return _CLASHES.get((channel, fact), Fact.NONE)


def is_final(state: State, channel: Channel) -> bool:
    """Whether nothing more is expected: negative, positive, or at the channel's ceiling.

    `no_receipt` is never final: it says that nothing was told, and a late receipt still corrects it.
    """
    if state in NEGATIVE_STATES or state in POSITIVE_STATES:
        return True
    ceiling = CEILING.get(channel)
    return ceiling is not None and state >= ceiling and state is not State.NO_RECEIPT


def reason_key(fact: Fact, has_code: bool, class_known: bool, fingerprint: bytes) -> bytes | None:
    """What orders negative facts: (rank, has a code, class known, fingerprint) as 19 bytes; None for other facts."""
    if fact not in _NEGATIVE_FACTS:
        return None
    return bytes((RANK[fact], has_code, class_known)) + fingerprint


class Foldable(Protocol):
    """What the fold needs to know of a receipt."""

    @property
    def fingerprint(self) -> bytes: ...
    @property
    def channel(self) -> Channel: ...
    @property
    def fact(self) -> Fact: ...
    @property
    def reason_key(self) -> bytes | None: ...
    @property
    def at(self) -> datetime: ...
    @property
    def leg(self) -> tuple[object, ...] | None: ...


@dataclass
class Fold:
    """The belief about one message, as the rows of `message_state` hold it."""

    state: State = State.QUEUED
    facts: Fact = Fact.NONE
    reason_key: bytes | None = None
    conflict: bool = False
    clicks: int = 0
    complaints: int = 0
    times: dict[str, datetime] = field(default_factory=dict)
    last_times: dict[str, datetime] = field(default_factory=dict)


TIMES = {
    "accepted_at": Fact.ACCEPTED,
    "submitted_at": Fact.SUBMITTED,
    "delivered_at": Fact.DELIVERED,
    "read_at": Fact.READ,
    "failed_at": NEGATIVE,
}
LAST_TIMES = {"clicked_at": Fact.CLICKED, "complained_at": Fact.COMPLAINED}


def fold(receipts: Iterable[Foldable]) -> Fold:
    """What the receipts of one message prove together: any order, any repetition, the same answer."""
    belief = Fold()
    legs: dict[tuple[object, ...], tuple[Fact, Fact]] = {}
    heard: dict[bytes, Foldable] = {}
    for receipt in receipts:  # of two tellings of one receipt the earlier one counts
        known = heard.setdefault(receipt.fingerprint, receipt)
        if receipt.at < known.at:
            heard[receipt.fingerprint] = receipt
    for told in heard.values():
        belief.state = max(belief.state, RANK[told.fact])
        belief.facts |= told.fact
        if told.reason_key is not None:
            belief.reason_key = max(belief.reason_key or b"", told.reason_key)
        belief.clicks += told.fact is Fact.CLICKED
        belief.complaints += told.fact is Fact.COMPLAINED
        for name, mask in TIMES.items():
            if told.fact & mask:
                belief.times[name] = min(belief.times.get(name, told.at), told.at)
        for name, mask in LAST_TIMES.items():
            if told.fact & mask:
                belief.last_times[name] = max(belief.last_times.get(name, told.at), told.at)
        if told.leg is not None:
            facts, against = legs.get(told.leg, (Fact.NONE, Fact.NONE))
            legs[told.leg] = (facts | told.fact, against | clash(told.channel, told.fact))
    belief.conflict = any(facts & against for facts, against in legs.values())
    return belief
