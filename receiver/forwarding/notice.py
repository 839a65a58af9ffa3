"""What a failure notice says: one failure or a digest, as JSON or as a text for Slack. docs/notices.md shows each.

A text for people names no recipient and quotes nothing that others chose but codes: a channel has many readers.
"""

import hashlib
import re
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import msgspec

from receiver.failure_settings import FailureNotices
from receiver.forwarding.digest import NONE, OTHER, Counted, FailureDigest, Group
from receiver.forwarding.failures import Notice
from receiver.ids import TenantId, new_id
from receiver.messages.lattice import Channel, State, is_final
from receiver.messages.told import Feed
from receiver.platform.apis import Api
from receiver.platform.codes import Class, answer_meaning, receipt_meaning

SHAPE = 1  # a field may be added to it; whatever else changes makes it 2
MOST_GROUPS, MOST_LINES = 50, 10  # of a digest as JSON, and of one as text
LONGEST_CODE = 40  # characters
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,19}")
_NUMBER = re.compile(r"[0-9]{7}")  # what may be a part of a phone number

ORIGINS = {1: "issued", 2: "observed", 3: "recorded"}
_APIS = {Channel.EVENT: Api.EVENTS, Channel.CAMPAIGN: Api.CAMPAIGN}


class Failure(msgspec.Struct):
    """One message has failed. Names and words as in an event of the stream; `notice` is the same in each telling."""

    shape: int
    kind: str
    notice: str
    tenant: str
    id: str
    version: int
    at: datetime
    state: str
    old_state: str | None
    final: bool
    channel: str
    origin: str
    country: str | None
    reason_class: str
    code: str | None
    reason: str | None
    correlationid: str | None
    sent_correlationid: str | None
    callbackData: str | None
    batch_id: str | None


class FailureGroup(msgspec.Struct):
    """Failures of a digest that have all of this in common, and the ids of some."""

    state: str
    channel: str
    code: str
    reason_class: str
    country: str
    messages: int
    examples: list[str]


class Digest(msgspec.Struct):
    """The failures of a span. `messages` counts them all, `by` each by one of its parts, `groups` has the largest."""

    shape: int
    kind: str
    notice: str
    tenant: str
    first: datetime
    last: datetime
    messages: int
    by: dict[str, dict[str, int]]
    groups: list[FailureGroup]
    other_groups: int


class Text(msgspec.Struct):
    """What Slack's incoming webhooks take, and those who do as Slack does."""

    text: str


def of_failure(row: asyncpg.Record, name: str, told: FailureNotices) -> Notice:
    """The notice of one failure of the tenant called `name`."""
    fingerprint = hashlib.blake2b(b"failure %b %d" % (row["message_id"].bytes, row["version"]), digest_size=16).digest()
    failure = _failure(row, name, fingerprint.hex())
    body = Text(_line(failure)) if told.format == "slack" else failure
    tenant = TenantId(row["tenant"])
    return Notice(tenant, row["message_id"], fingerprint, told.url, msgspec.json.encode(body))


def of_digest(tenant: TenantId, digest: FailureDigest, name: str, told: FailureNotices) -> Notice:
    """The notice of a digest of the tenant called `name`, under an id of its own."""
    identity: UUID = new_id()
    if told.format == "slack":
        body = msgspec.json.encode(Text(_lines(digest, name)))
    else:
        body = msgspec.json.encode(_digest(digest, name, identity.hex))
    return Notice(tenant, identity, identity.bytes, told.url, body)


def group_of(row: asyncpg.Record) -> Group:
    """With which others a failure is counted."""
    return Group(
        State(row["new_state"]).word,
        Channel(row["channel"]).word,
        (row["code"] or NONE)[:LONGEST_CODE],
        Class(row["new_class"] or 0).word,
        row["country"] or NONE,
    )


def _failure(row: asyncpg.Record, name: str, notice: str) -> Failure:
    state, channel, group = State(row["new_state"]), Channel(row["channel"]), group_of(row)
    return Failure(
        shape=SHAPE,
        kind="failure",
        notice=notice,
        tenant=name,
        id=str(row["message_id"]),
        version=row["version"],
        at=row["at"],
        state=state.word,
        old_state=State(row["old_state"]).word if row["old_state"] is not None else None,
        final=is_final(state, channel),
        channel=channel.word,
        origin=ORIGINS[row["origin"]],
        country=row["country"],
        reason_class=group.reason_class,
        code=row["code"],
        reason=_meaning(row),
        correlationid=row["correlationid"],
        sent_correlationid=str(row["message_id"]) if row["origin"] == 1 else row["correlationid"],
        callbackData=row["callback_data"],
        batch_id=str(row["batch_id"]) if row["batch_id"] else None,
    )


def _meaning(row: asyncpg.Record) -> str | None:
    """Our words for the code; None for one in no table."""
    if not row["code"]:
        return None
    channel = Channel(row["code_channel"])
    if row["code_feed"] >= Feed.ANSWER:
        meaning = answer_meaning(_APIS.get(channel, Api.MESSAGING).word, row["code"])
    else:
        meaning = receipt_meaning(channel, row["code"])
    return meaning.sentence if meaning else None


def _digest(digest: FailureDigest, name: str, notice: str) -> Digest:
    largest = digest.largest()
    groups = [FailureGroup(*group, counted.messages, counted.examples) for group, counted in largest[:MOST_GROUPS]]
    return Digest(
        shape=SHAPE,
        kind="digest",
        notice=notice,
        tenant=name,
        first=digest.first,
        last=digest.last,
        messages=digest.messages,
        by={part: digest.by(part) for part in Group._fields},
        groups=groups,
        other_groups=len(largest) - len(groups),
    )


def _line(failure: Failure) -> str:
    """`undelivered: sms to GB, 7207 temporary. …`, and the message's id in a line of its own."""
    group = Group(failure.state, failure.channel, failure.code or NONE, failure.reason_class, failure.country or NONE)
    meaning = f" {failure.reason}" if failure.reason else ""
    return f"*{failure.tenant}*: {_words(group)}.{_escaped(meaning)}\nmessage `{failure.id}` at {_at(failure.at)}"


def _lines(digest: FailureDigest, name: str) -> str:
    """How many failed, and the largest groups, each with an id to look at."""
    largest, number = digest.largest(), digest.messages
    span = f"{_at(digest.first)} to {_at(digest.last)}"
    lines = [f"*{name}*: {number} {'message' if number == 1 else 'messages'} failed, {span}"]
    lines += [
        f"• {counted.messages} × {_words(group)}, such as {_examples(counted)}"
        for group, counted in largest[:MOST_LINES]
    ]
    if rest := sum(counted.messages for _, counted in largest[MOST_LINES:]):
        lines.append(f"• {rest} × others, in {len(largest) - MOST_LINES} more groups")
    return "\n".join(lines)


def _words(group: Group) -> str:
    to = "" if group.country == NONE else f" to {group.country}"
    code = "" if group.code == NONE else f"{_shown(group.code)} "
    return f"{group.state}: {group.channel}{to}, {code}{group.reason_class}"


def _examples(counted: Counted) -> str:
    return ", ".join(f"`{identity}`" for identity in counted.examples[:1])


def _shown(code: str) -> str:
    """A code that may stand in a text for many: none that has a number in it, or a word of Slack's own."""
    return code if _CODE.fullmatch(code) and not _NUMBER.search(code) else OTHER


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _at(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
