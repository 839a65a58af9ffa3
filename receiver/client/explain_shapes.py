"""An explanation as a receiver answers it: why a message is in its state."""

from typing import TypedDict

from receiver.client.message_shapes import Reason


class Said(TypedDict):
    """What a receipt said, in its own words."""

    status: str
    code: str | None
    description: str | None
    channel: str
    destination: str | None
    subtid: str | None
    device: str | None
    transid: str | None


class Rule(TypedDict):
    """The rule that it met: what its status proves on its channel, and which state that is."""

    word: str
    table: str
    fact: str
    state: str | None
    rank: int | None
    text: str


class Joined(TypedDict):
    """How its message was found."""

    how: str
    text: str


class Step(TypedDict):
    """One receipt, answer or own word: what it said, the rule, and what it changed, or why it did not."""

    received_at: str
    told_at: str | None
    told_late_seconds: float | None
    feed: str
    feed_text: str
    said: Said
    rule: Rule
    joined: Joined
    elsewhere: bool
    copied: bool
    before: str | None
    after: str
    changed: bool
    why: str
    text: str
    reason: str | None
    reason_text: str | None
    conflict: bool


class Contradiction(TypedDict):
    """A leg that bears a positive fact and a negative one which its channel does not call normal together."""

    channel: str
    destination: str | None
    subtid: str | None
    device: str | None
    positive: str
    negative: str
    text: str


class Expected(TypedDict):
    """What is still expected and by when; null where it does not apply. `nothing`: nothing is waited for."""

    nothing: bool
    text: str
    sent_next_at: str | None
    usually_by: str | None
    overdue_at: str | None
    asked_next_at: str | None
    asked: int
    given_up_at: str | None


class Explanation(TypedDict):
    """Why a message is in its state, and what is still expected of it."""

    id: str
    merged_from: str | None
    state: str
    final: bool
    channel: str
    origin: str
    reason: Reason | None
    conflict: bool
    contradictions: list[Contradiction]
    expected: Expected
    steps: list[Step]
    steps_cut: bool
    text: str
