"""What clients read: messages and their timelines, as structs in our spelling."""

from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from receiver.messages.lattice import POSITIVE_STATES, RANK, Channel, Fact, State, is_final
from receiver.messages.told import Feed
from receiver.platform.codes import Class, answer_meaning, receipt_meaning
from receiver.queries.legs import Leg, legs_of
from receiver.queries.one_message import Whole

# Whose table of codes an answer is read by: the other channels all go through Messaging.
API_WORDS = {Channel.EVENT: "events", Channel.CAMPAIGN: "campaign"}
ORIGINS = {1: "issued", 2: "observed", 3: "recorded"}


class Reason(msgspec.Struct):
    """Why a message did not arrive: the platform's code, who can mend it, and a sentence for people."""

    code: str | None
    code_class: str = msgspec.field(name="class")
    text: str
    description: str | None


class Entry(msgspec.Struct):
    """One line of a timeline: a receipt, an answer of the platform, or our own word."""

    at: datetime
    received_at: datetime
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


class Attempt(msgspec.Struct):
    """One call to the platform, whatever came of it."""

    at: datetime
    number: int
    outcome: str
    http_status: int | None
    code: str | None
    description: str | None


class Message(msgspec.Struct, kw_only=True, omit_defaults=False):
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
    created_at: datetime
    sent_at: datetime | None
    accepted_at: datetime | None
    submitted_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None
    failed_at: datetime | None
    changed_at: datetime
    clicks: int
    complaints: int


class Child(msgspec.Struct):
    """One message that the flow of an event has sent."""

    id: str
    channel: str
    destination: str
    subtid: str | None
    state: str


class Latency(msgspec.Struct):
    """Seconds from when a message was taken until it was accepted, submitted, delivered; null where not known."""

    accepted: float | None
    submitted: float | None
    delivered: float | None


class MessageWithTimeline(Message, kw_only=True):
    """One message with everything that was told of it, in order of time; of an event also what its flow has sent."""

    country: str | None
    carrier: str | None
    clicked_at: datetime | None
    complained_at: datetime | None
    overdue_since: datetime | None
    latency: Latency
    merged_from: str | None
    resent_as: str | None
    legs: list[Leg]
    children: list[Child]
    attempts: list[Attempt]
    timeline: list[Entry]
    timeline_cut: bool


class Page(msgspec.Struct):
    """Messages, newest first, and where the next page begins."""

    messages: list[Message]
    next_cursor: str | None


def message_fields(row: asyncpg.Record) -> dict[str, object]:
    """The fields of `Message` from a row of `queries/search.py`."""
    state, channel = State(row["state"]), Channel(row["channel"])
    issued, final = row["origin"] == 1, is_final(state, channel)
    return {
        "id": str(row["id"]),
        "state": state.word,
        "final": final,
        "overdue": row["overdue"] and not final and state is not State.NO_RECEIPT,
        "reason": reason_of(row, state),
        "conflict": row["conflict"],
        "channel": channel.word,
        "destination": row["destination"],
        "destination_type": row["destination_type"],
        "origin": ORIGINS[row["origin"]],
        "correlationid": row["correlationid"],
        "sent_correlationid": str(row["id"]) if issued else row["correlationid"],
        "callbackData": row["callback_data"],
        "transid": row["transid"],
        "batch_id": str(row["batch_id"]) if row["batch_id"] else None,
        "resend_of": str(row["resend_of"]) if row["resend_of"] else None,
        "sender": row["sender"],
        "template": row["template"],
        **{name: row[name] for name in TIMES},
        "clicks": row["clicks"],
        "complaints": row["complaints"],
    }


TIMES = (
    "created_at",
    "sent_at",
    "accepted_at",
    "submitted_at",
    "delivered_at",
    "read_at",
    "failed_at",
    "changed_at",
)


def whole_message(found: Whole, asked: UUID) -> MessageWithTimeline:
    """One message as it is shown to who asked for the id `asked`, which may be of one that was merged into it."""
    row = found.row
    fields = message_fields(row)
    return MessageWithTimeline(
        **fields,  # type: ignore[arg-type]
        country=row["country"],
        carrier=row["carrier"],
        clicked_at=row["clicked_at"],
        complained_at=row["complained_at"],
        overdue_since=row["overdue_at"] if fields["overdue"] else None,
        latency=latency_of(row),
        merged_from=str(asked) if asked != row["id"] else None,
        resent_as=str(found.resent_as) if found.resent_as else None,
        legs=legs_of(found.told),
        children=[child_of(child) for child in found.children],
        attempts=[attempt_of(attempt) for attempt in found.attempts],
        timeline=[entry_of(entry) for entry in found.told],
        timeline_cut=found.cut,
    )


def latency_of(row: asyncpg.Record) -> Latency:
    """How long it took, by the platform's clock where it told a time: never less than nothing. One that somebody else
    sent was taken when he sent it; when an observed one was taken, nobody knows.
    """
    since = {1: row["created_at"], 3: row["sent_at"]}.get(row["origin"])
    took = {
        name: max(0.0, round((row[f"{name}_at"] - since).total_seconds(), 3)) if since and row[f"{name}_at"] else None
        for name in ("accepted", "submitted", "delivered")
    }
    return Latency(**took)


def attempt_of(row: asyncpg.Record) -> Attempt:
    """One call from its row."""
    return Attempt(row["at"], row["number"], row["outcome"], row["http_status"], row["code"], row["description"])


def child_of(row: asyncpg.Record) -> Child:
    """A child of an event from its row."""
    state, channel = State(row["state"]), Channel(row["channel"])
    return Child(str(row["id"]), channel.word, row["destination"], row["subtid"], state.word)


def reason_of(row: asyncpg.Record, state: State) -> Reason | None:
    """Why the message is in a negative state; nothing for one that arrived, or whose fate is open."""
    if row["reason_key"] is None or state in POSITIVE_STATES:
        return None
    code, channel, description = row["reason_code"], Channel(row["reason_channel"]), row["reason_description"]
    text = sentence(Feed(row["reason_feed"]), channel, code, row["reason_status"], description)
    return Reason(code, Class(row["reason_class"] or 0).word, text, description)


def sentence(feed: Feed, channel: Channel, code: str | None, status: str, description: str | None) -> str:
    """What a support agent is told of a failure: our words for the code, else the platform's own."""
    if feed >= Feed.ANSWER:
        meaning = answer_meaning(API_WORDS.get(channel, "messaging"), code or "")
    else:
        meaning = receipt_meaning(channel, code or "", *_parts(description))
    if meaning:
        return meaning.sentence
    if feed is Feed.OWN and description:
        return description
    said = description or status or "nothing more"
    return f"The platform says: {said}" + (f" (code {code})" if code else "")


def _parts(description: str | None) -> tuple[str, str]:
    """Description and additional information, as `receipts/receipt.py` joined them."""
    first, _, rest = (description or "").partition(" · ")
    return first, rest


STATES_IN_WORDS = {
    State.QUEUED: "waits to be sent",
    State.UNCERTAIN: "may have been sent: the platform did not answer",
    State.ACCEPTED: "accepted by the platform",
    State.SUBMITTED: "handed to the operator",
    State.ENDED: "the call ended; nothing says that it was answered",
    State.NO_RECEIPT: "no receipt came in the time in which one should have come",
    State.CANCELLED: "cancelled before it was sent",
    State.EXPIRED: "expired before it was sent",
    State.REFUSED: "refused by the platform",
    State.INVALID: "the address is not valid",
    State.NOT_VERIFIED: "not verified",
    State.UNDELIVERED: "not delivered",
    State.FAILED: "failed",
    State.DELIVERED: "delivered",
    State.BOUNCED: "bounced",
    State.READ: "read",
}


def entry_of(row: asyncpg.Record) -> Entry:
    """A line of the timeline from a row of `receipt`."""
    fact, feed, channel = Fact(row["fact"]), Feed(row["feed"]), Channel(row["channel"])
    known = fact & ~(Fact.UNKNOWN | Fact.NOTED | Fact.CLICKED | Fact.COMPLAINED)
    text = STATES_IN_WORDS[RANK[fact]] if known else None
    if row["reason_key"] is not None:
        text = sentence(feed, channel, row["code"], row["status"], row["description"])
    return Entry(
        at=row["told_at"] or row["received_at"],
        received_at=row["received_at"],
        feed=feed.word,
        status=row["status"],
        state=RANK[fact].word if known else None,
        text=text,
        code=row["code"],
        description=row["description"],
        channel=channel.word,
        destination=row["destination"],
        subtid=row["subtid"],
        device=row["device"],
        carrier=row["carrier"],
        message_count=row["message_count"],
        transid=row["transid"],
    )
