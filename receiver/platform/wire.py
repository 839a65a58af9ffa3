"""What the platform's doors have in common: a recipient, a call, and what an answer proves."""

from dataclasses import dataclass, field
from enum import Enum
from uuid import UUID


@dataclass(frozen=True)
class Recipient:
    """One value of one destination entry, and our message id, which the platform echoes as correlationid."""

    message_id: UUID
    id_type: str
    value: str


@dataclass(frozen=True)
class Call:
    """One call as it goes out: what stands behind the base address, and the body."""

    path: str
    body: bytes = field(repr=False)


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
    content_type: str | None = None
    """What the platform called that body."""

    @property
    def code(self) -> str | None:
        """The first code that the platform gave, if any."""
        return next((item.code for item in self.items if item.code), None)


LONGEST_TEXT = 500  # characters of a text of an answer

QUEUED = "1001"
