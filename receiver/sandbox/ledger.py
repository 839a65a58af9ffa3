"""What a sandbox did, in counts: what a receiver's own figures are held against."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Ledger:
    """Counts since the start; kept in memory, by one event loop."""

    submissions: Counter[str] = field(default_factory=Counter)
    """Requests by the code they were answered with."""
    messages: Counter[str] = field(default_factory=Counter)
    """Messages queued, by the name of their fate."""
    answers: Counter[str] = field(default_factory=Counter)
    """Tries to tell, by the HTTP status they met, or `timeout`, or `unreachable`."""
    planned: int = 0
    """Receipts to tell, repetitions that belong to a script included."""
    told: int = 0
    """Receipts that were taken (200 or 201)."""
    dropped: int = 0
    """Receipts dropped for ever after an answer that forbids another try."""
    given_up: int = 0
    """Receipts whose last try failed too."""

    @property
    def pending(self) -> int:
        """Receipts that wait for their time, for an answer or for another try."""
        return self.planned - self.told - self.dropped - self.given_up

    def as_json(self) -> dict[str, object]:
        """The body of `GET /sandbox/ledger`."""
        return {
            "submissions": dict(sorted(self.submissions.items())),
            "messages": dict(sorted(self.messages.items())),
            "receipts": {
                "planned": self.planned,
                "told": self.told,
                "dropped": self.dropped,
                "given_up": self.given_up,
                "pending": self.pending,
            },
            "answers": dict(sorted(self.answers.items())),
        }
