"""What travels to a notifyurl: tellings, and the bodies that hold them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import httpx2

# What nothing better is expected after, in letters alone; of Apple Messages that is Submitted.
FINAL: Final = frozenset(
    {"delivered", "undelivered", "failed", "read", "bounce", "notverified", "invalid", "answered", "rejected"}
)


class Kind(Enum):
    """What a receiver must make of a telling."""

    RECEIPT = "receipt"
    FORGED = "forged"
    """A receipt that comes in under the notifyurl of another submission than its message's."""
    UNREADABLE = "unreadable"
    """No receipt can be read in it: cut off, or XML."""


class Fault(Enum):
    """A simulated fault of the network at one try; the platform tries again after both."""

    NOT_SENT = "not_sent"
    NOT_READ = "not_read"
    """Sent, and hung up before the answer was read: the receiver may have stored it."""


@dataclass(slots=True, eq=False)
class Telling:
    """One receipt as it is told, and what came of it. Its bytes are the same at every try, in every wrapper."""

    kind: Kind
    status: str = ""
    channel: str = ""
    code: str = ""
    subtid: str = ""
    device: str = ""
    at: str = ""
    """The time stamp as written; empty: none."""
    info: bytes = b"{}"
    """The deliveryInfo, a JSON object."""
    outer: bytes = b""
    """The fields beside it, without braces; empty: all stand inside."""
    keys: Callable[[str], str] = str
    """The case in which the keys around the deliveryInfo are written."""
    raw: bytes = b""
    """The whole body, of what can't be read and of what is played as it was captured."""
    troubles: tuple[str, ...] = ()
    lost: bool = False
    """The platform dropped it for ever, and never tried to tell it."""
    waiting: int = 0
    """In how many bodies it waits for its time, for an answer or for another try."""
    failures: list[str] = field(default_factory=list)
    """Of each body of it that will never be taken: what its last try met."""
    acknowledged: int = 0
    unanswered: int = 0
    refused: int = 0
    sent_at: float | None = None
    """When it was first sent, in seconds of the epoch."""
    answered_at: float | None = None
    """When it was first acknowledged."""

    def notification(self) -> bytes:
        """The value of `deliveryInfoNotification`."""
        beside = b"," + self.outer if self.outer else b""
        return b'{"%s":%s%s}' % (self.keys("deliveryInfo").encode(), self.info, beside)

    def plain(self) -> bytes:
        """The body that holds this telling alone, unwrapped."""
        if self.raw:
            return self.raw
        return b'{"%s":%s}' % (self.keys("deliveryInfoNotification").encode(), self.notification())

    @property
    def outcome(self) -> str:
        """What is known of it: `acknowledged`, `lost`, `unknown` (no try was acknowledged, one may have been) or
        `untold`."""
        if self.acknowledged:
            return "acknowledged"
        if self.lost:
            return "lost"
        return "unknown" if self.unanswered else "untold"

    @property
    def is_final(self) -> bool:
        """Whether it is a receipt that says what became of the message in the end."""
        word = "".join(filter(str.isalpha, self.status)).lower()
        done = word in FINAL or (word == "submitted" and self.channel == "applebusinesschat")
        return done and self.kind is Kind.RECEIPT

    def as_json(self) -> dict[str, Any]:
        """One entry of the ledger's page."""
        return {
            "kind": self.kind.value,
            "told": self.plain().decode("utf-8", "replace"),
            "status": self.status,
            "channel": self.channel,
            "code": self.code,
            "subtid": self.subtid,
            "device": self.device,
            "told_at": self.at,
            "outcome": self.outcome,
            "acknowledged": self.acknowledged,
            "unanswered": self.unanswered,
            "refused": self.refused,
            "sent_at": self.sent_at,
            "answered_at": self.answered_at,
            "troubles": self.troubles,
        }


@dataclass(slots=True, eq=False)
class Parcel:
    """One body on its way: when, what it holds, how it is wrapped, and which of its tries meet a fault."""

    offset: float
    """Seconds after the submission."""
    tellings: tuple[Telling, ...]
    wrap: Callable[[tuple[Telling, ...]], bytes] = field(default=lambda tellings: tellings[0].plain())
    faults: tuple[Fault, ...] = ()
    url: httpx2.URL | None = None
    """Where to; None: where the errand goes."""
    met: str = ""
    """What the last failed try met: an HTTP status, or the ledger's word for its lack."""

    def body(self) -> bytes:
        """The bytes to POST, the same at every try."""
        return self.wrap(self.tellings)
