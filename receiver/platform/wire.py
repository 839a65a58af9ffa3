"""The platform's spelling of a submission and of its answer. It ends in this room."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec

MESSAGING_PATH = "/resources/v1/messaging"


@dataclass(frozen=True)
class Recipient:
    """One value of one destination entry, and our message id, which the platform echoes as correlationid."""

    message_id: UUID
    id_type: str
    value: str


def messaging_body(content: bytes, recipients: Sequence[Recipient], notifyurl: str) -> bytes:
    """The body of a Messaging v1 call: what every recipient gets, one entry a recipient, and where to tell."""
    body = msgspec.json.decode(content)
    body["destination"] = [{r.id_type: [r.value], "correlationid": str(r.message_id)} for r in recipients]
    body["notifyurl"] = notifyurl
    return msgspec.json.encode(body)


class Outcome(Enum):
    """What came of a call, or of not calling (EXPIRED).

    LATER and NOT_SENT are tried again; UNCERTAIN never is: it may have been sent.
    """

    ACCEPTED = "accepted"
    REFUSED = "refused"
    LATER = "later"
    NOT_SENT = "not_sent"
    UNCERTAIN = "uncertain"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Trouble(Enum):
    """Why a call will be tried again: what it does to the tenant's lane."""

    CREDENTIALS = "credentials"  # stops the lane
    THROTTLED = "throttled"  # slows it down, and does not count as a try
    FAULT = "fault"  # counts, with backoff
    UNREACHABLE = "unreachable"  # counts, with backoff


@dataclass(frozen=True)
class AnswerItem:
    """What the platform says of one entry, or of all of them."""

    code: str
    transid: str | None
    description: str | None


@dataclass(frozen=True)
class Answer:
    """What came of a call to the platform: one item for all recipients, or one each, in order."""

    outcome: Outcome
    items: tuple[AnswerItem, ...] = field(default=())
    http_status: int | None = None
    description: str | None = None
    trouble: Trouble | None = None
    """Of LATER and NOT_SENT: why."""
    retry_after: float | None = None
    """Seconds for which the platform asked us to wait."""
    raw: bytes = field(default=b"", repr=False)
    """The body as it came, for the doors that hand it on."""

    @property
    def code(self) -> str | None:
        """The first code that the platform gave, if any."""
        return next((item.code for item in self.items if item.code), None)


QUEUED = "1001"
# Tried again: internal error, transaction limit, and credentials, which are the lane's trouble and not the message's.
LATER_CODES = frozenset({"7006", "7020"})
CREDENTIAL_CODES = frozenset({"7001", "7002", "7007"})
LONGEST_TEXT = 500


def messaging_answer(status: int, body: bytes) -> Answer:
    """The answer to a Messaging v1 call. The code decides, never the HTTP status: v1 answers 200 for failures too."""
    items = _items(body)
    if not items:
        return _answer_without_code(status, body)
    if any(item.code == QUEUED for item in items):
        return Answer(Outcome.ACCEPTED, items, status)
    said = next(item for item in items if item.code)
    later = said.code in LATER_CODES or said.code in CREDENTIAL_CODES
    return Answer(Outcome.LATER if later else Outcome.REFUSED, items, status, said.description)


def _items(body: bytes) -> tuple[AnswerItem, ...]:
    """The items of the envelope: an array on success, an object on failure; nothing for any other body."""
    try:
        envelope = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()
    response = envelope.get("response") if isinstance(envelope, dict) else None
    entries = response if isinstance(response, list) else [response]
    # An entry without a code keeps its place: items are matched with recipients by position.
    items = tuple(
        AnswerItem(_text(e.get("code")) or "", _text(e.get("transid")), _text(e.get("description")))
        for e in (entry if isinstance(entry, dict) else {} for entry in entries)
    )
    return items if any(item.code for item in items) else ()


def _answer_without_code(status: int, body: bytes) -> Answer:
    """An HTTP answer in which the platform said nothing: only the status is left to judge by."""
    said = body[:80].decode("utf-8", "replace").replace("\0", "")
    description = f"HTTP {status} without a code"
    if status in (401, 403, 404, 405, 429):  # the credentials, the address, the rate: not the message's fault
        return Answer(Outcome.LATER, (), status, description)
    if 400 <= status < 500:
        return Answer(Outcome.REFUSED, (AnswerItem(f"HTTP {status}", None, description),), status, description)
    # 2xx that can't be read, 3xx, 5xx after the body was taken: it may have been sent
    return Answer(Outcome.UNCERTAIN, (), status, f"{description}: {said}" if said else description)


def _text(value: Any) -> str | None:
    """A field of an answer as bounded text; numbers where strings are expected are taken as they read."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value).strip().replace("\0", "\ufffd")[:LONGEST_TEXT] or None
