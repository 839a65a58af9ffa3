"""Messages as a receiver answers them: plain dicts, of which a type checker knows the fields.

A field that a newer receiver tells is kept and not named here. Times are texts in RFC 3339.
"""

from typing import NamedTuple, NotRequired, TypedDict


class SentMessage(TypedDict):
    """A message as it was taken."""

    id: str
    destination: str
    correlationid: str | None
    state: str


class Sent(TypedDict):
    """What was handed in; `replayed` is true where an earlier call with the same key had done it."""

    batch_id: str
    messages: list[SentMessage]
    replayed: NotRequired[bool]


Reason = TypedDict("Reason", {"code": str | None, "class": str, "text": str, "description": str | None})
"""Why a message did not arrive: the platform's code, who can mend it, and a sentence for people."""


class Message(TypedDict):
    """What is known of one message."""

    id: str
    state: str
    final: bool
    overdue: bool
    reason: Reason | None
    conflict: bool
    channel: str
    destination: str
    destination_type: str
    origin: str
    correlationid: str | None
    sent_correlationid: str | None
    callbackData: str | None
    transid: str | None
    batch_id: str | None
    resend_of: str | None
    sender: str | None
    template: str | None
    created_at: str
    sent_at: str | None
    accepted_at: str | None
    submitted_at: str | None
    delivered_at: str | None
    read_at: str | None
    failed_at: str | None
    changed_at: str
    clicks: int
    complaints: int


class Latency(TypedDict):
    """Seconds from when a message was taken until it was accepted, submitted, delivered; null where not known."""

    accepted: float | None
    submitted: float | None
    delivered: float | None


class Leg(TypedDict):
    """One channel, recipient, flow node and device of which receipts told, and what they say of it alone."""

    channel: str
    destination: str | None
    subtid: str | None
    device: str | None
    carrier: str | None
    state: str
    final: bool
    code: str | None
    last_at: str
    receipts: int


class Child(TypedDict):
    """One message that the flow of an event has sent."""

    id: str
    channel: str
    destination: str
    subtid: str | None
    state: str


class Attempt(TypedDict):
    """One call to the platform, whatever came of it."""

    at: str
    number: int
    outcome: str
    http_status: int | None
    code: str | None
    description: str | None


class Entry(TypedDict):
    """One line of a timeline: a receipt, an answer of the platform, or our own word."""

    at: str
    received_at: str
    feed: str
    status: str
    state: str | None
    text: str | None
    code: str | None
    description: str | None
    channel: str
    destination: str | None
    subtid: str | None
    device: str | None
    carrier: str | None
    message_count: int | None
    transid: str | None


class MessageWithTimeline(Message):
    """One message with everything that was told of it, in order of time; of an event also what its flow has sent."""

    country: str | None
    carrier: str | None
    clicked_at: str | None
    complained_at: str | None
    overdue_since: str | None
    latency: Latency
    merged_from: str | None
    resent_as: str | None
    legs: list[Leg]
    children: list[Child]
    attempts: list[Attempt]
    timeline: list[Entry]
    timeline_cut: bool


class Total(TypedDict):
    """How many messages there are, and how good the figure is.

    `accuracy`: `exact`; `at_least` so many; `estimate`: from the roll-up of statistics, some seconds behind.
    """

    value: int
    accuracy: str


class Page(TypedDict):
    """Messages, newest first, and where the next page begins."""

    messages: list[Message]
    next_cursor: str | None
    total: NotRequired[Total | None]


class Look(NamedTuple):
    """One message, or None where it is as its ETag says; and the ETag of what was seen."""

    message: MessageWithTimeline | None
    etag: str | None
