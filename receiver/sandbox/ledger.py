"""What a sandbox did: counts since the start, and for the newest messages each receipt as it was told."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, Final

from receiver.sandbox.parcel import Kind, Parcel, Telling
from receiver.sandbox.receipt import Message
from receiver.sandbox.scenario import MESSAGING
from receiver.sandbox.script import Step

KEPT: Final = 50_000  # messages, of some 3 kB each: 150 MB

Numbers = dict[str, int]


@dataclass(frozen=True, slots=True)
class Origin:
    """The call that a message came in by."""

    path: str
    sender: str
    body: bytes
    """Empty where it is too large to be kept."""
    sent_at: datetime


@dataclass(slots=True)
class Record:
    """One message and everything that is told of it, in the order of the first tries."""

    number: int
    """1 for the first message of the sandbox, and so on."""
    message: Message
    fate: str
    tellings: Sequence[Telling] = ()
    steps: Sequence[tuple[float, Step]] = ()
    """What happens to it, and when: seconds after it was sent. Told or not, it does."""
    origin: Origin | None = None
    """None: it was made up."""
    answered: str = ""
    """The transid of the answer, where receipts bear another."""
    sent_at: datetime | None = None
    """When the first of `steps` began to be waited for."""

    @property
    def final_told(self) -> bool | None:
        """Whether a final receipt was taken; None: none has been planned, or nobody can say yet."""
        final = [telling for telling in self.tellings if telling.is_final]
        if any(telling.acknowledged for telling in final):
            return True
        return None if not final or any(one.waiting or one.unanswered for one in final) else False

    def as_json(self) -> dict[str, Any]:
        """One entry of the ledger's page."""
        message = self.message
        return {
            "number": self.number,
            "path": self.origin.path if self.origin else "",
            "transid": message.transid,
            "destination": message.destination,
            "destination_type": message.id_type,
            "channel": message.channel,
            "correlationid": message.correlationid,
            "fate": self.fate,
            "final_told": self.final_told,
            "receipts": [telling.as_json() for telling in self.tellings],
        }


@dataclass(slots=True)
class Ledger:
    """Counts since the start, and the newest messages; kept in memory, by one event loop."""

    kept: int = KEPT
    """The most messages of which each receipt is kept; older ones are only counted."""
    submissions: Counter[str] = field(default_factory=Counter)
    """Messaging v1 requests by the code they were answered with, or the trouble that they met."""
    calls: dict[str, Counter[str]] = field(default_factory=dict)
    """Those of the other paths, the same way."""
    takings: Counter[str] = field(default_factory=Counter)
    """For each correlationid how many submissions took it; some 200 bytes each, kept for good."""
    taken_twice: int = 0
    """Correlationids that more than one submission took."""
    messages: Counter[str] = field(default_factory=Counter)
    """Messages queued or made up, by the name of their fate."""
    channels: Counter[str] = field(default_factory=Counter)
    """The same, by channel."""
    troubles: Counter[str] = field(default_factory=Counter)
    """What the hostile profile drew, by kind."""
    answers: Counter[str] = field(default_factory=Counter)
    """Tries to tell, by the HTTP status they met, or `timeout`, `unreachable`, `not_sent`, `not_read`."""
    planned: int = 0
    """Receipts to tell, repetitions included, and bodies in which none can be read."""
    told: int = 0
    """Those that were taken (200 or 201)."""
    dropped: int = 0
    """Those dropped for ever after an answer that forbids another try."""
    given_up: int = 0
    """Those whose last try failed too."""
    lost: int = 0
    """Those that the platform never tried to tell."""
    distinct: int = 0
    """Receipts that were acknowledged, each content once."""
    unknown: int = 0
    """Receipts that were never acknowledged, but may have been stored."""
    acknowledged: Counter[Kind] = field(default_factory=Counter)
    """Tellings in the bodies that were acknowledged, by what a receiver must make of them."""
    unanswered: Counter[Kind] = field(default_factory=Counter)
    """Tellings in bodies that were sent, and of which nobody knows whether they were stored."""
    _records: dict[int, Record] = field(default_factory=dict)
    _by_transid: dict[str, list[Record]] = field(default_factory=dict)
    _numbers: int = 0

    @property
    def pending(self) -> int:
        """Receipts that wait for their time, for an answer or for another try."""
        return self.planned - self.told - self.dropped - self.given_up - self.lost

    def answer(self, path: str, word: str) -> None:
        """Counts an answer, or the trouble that stood in for one."""
        counts = self.submissions if path == MESSAGING else self.calls.setdefault(path, Counter())
        counts[word] += 1

    def take(self, correlationids: Iterable[str]) -> None:
        """Counts a submission that was taken, under each correlationid that it named."""
        for one in set(correlationids) - {""}:
            self.takings[one] += 1
            self.taken_twice += self.takings[one] == 2

    def add(
        self,
        message: Message,
        fate: str,
        parcels: Sequence[Parcel] = (),
        troubles: Sequence[str] = (),
        **more: Any,
    ) -> Record:
        """Takes a message into the books; `more` are fields of Record."""
        self._numbers += 1
        tellings = tuple(dict.fromkeys(telling for parcel in parcels for telling in parcel.tellings))
        record = Record(self._numbers, message, fate, tellings, **more)
        self.messages[fate] += 1
        self.channels[message.channel] += 1
        self.troubles.update(troubles)
        self._records[record.number] = record
        for transid in _transids(record):
            self._by_transid.setdefault(transid, []).append(record)
        if len(self._records) > self.kept:
            self._forget(next(iter(self._records)))
        return record

    def _forget(self, number: int) -> None:
        record = self._records.pop(number)
        for transid in _transids(record):
            self._by_transid[transid].remove(record)
            if not self._by_transid[transid]:
                del self._by_transid[transid]

    def of_transid(self, transid: str) -> list[Record]:
        """The kept messages that were answered under `transid`, or whose receipts bear it."""
        return list(self._by_transid.get(transid, ()))

    def plan(self, parcels: Iterable[Parcel]) -> None:
        """These bodies are to be told."""
        for parcel in parcels:
            self.planned += len(parcel.tellings)
            for telling in parcel.tellings:
                telling.waiting += 1

    def lose(self, tellings: Iterable[Telling]) -> None:
        """These were to be told, and never will be: one entry for each body that would have held it."""
        for telling in tellings:
            self.planned += 1
            self.lost += 1
            telling.failures.append("lost")

    def drop(self, parcel: Parcel) -> None:
        """The answer to a body forbids another try."""
        self.dropped += len(parcel.tellings)
        _failed(parcel)

    def give_up(self, parcel: Parcel) -> None:
        """The last try of a body failed too."""
        self.given_up += len(parcel.tellings)
        _failed(parcel)

    def acknowledge(self, parcel: Parcel, at: float) -> None:
        """A body was taken at `at`, in seconds of the epoch."""
        self.told += len(parcel.tellings)
        for telling in parcel.tellings:
            telling.waiting -= 1
            self.acknowledged[telling.kind] += 1
            if not telling.acknowledged:
                telling.answered_at = at
                if telling.kind is Kind.RECEIPT:
                    self.distinct += 1
                    self.unknown -= telling.unanswered > 0
            telling.acknowledged += 1

    def no_answer(self, parcel: Parcel) -> None:
        """A body was sent, and nobody knows what became of it."""
        for telling in parcel.tellings:
            self.unanswered[telling.kind] += 1
            if telling.kind is Kind.RECEIPT and not telling.acknowledged and not telling.unanswered:
                self.unknown += 1
            telling.unanswered += 1

    def after(self, after: int, limit: int) -> list[Record]:
        """Up to `limit` of the kept messages whose number is greater than `after`, in order."""
        first = next(iter(self._records), 1)
        numbers = islice(range(max(after + 1, first), self._numbers + 1), limit)
        return [self._records[number] for number in numbers]

    def between(self, after: int, last: int) -> list[Record]:
        """The kept messages with numbers greater than `after`, up to `last`, in order."""
        first = next(iter(self._records), 1)
        return [self._records[number] for number in range(max(after + 1, first), min(last, self._numbers) + 1)]

    @property
    def newest(self) -> int:
        """The number of the newest message; 0: there is none."""
        return self._numbers

    def as_json(self) -> dict[str, Any]:
        """The body of `GET /sandbox/ledger`."""
        receipts = self.acknowledged[Kind.RECEIPT]
        return {
            "submissions": _sorted(self.submissions),
            "calls": {path: _sorted(counts) for path, counts in sorted(self.calls.items())},
            "taken": len(self.takings),
            "taken_twice": self.taken_twice,
            "messages": _sorted(self.messages),
            "channels": _sorted(self.channels),
            "receipts": {
                "planned": self.planned,
                "told": self.told,
                "dropped": self.dropped,
                "given_up": self.given_up,
                "lost": self.lost,
                "pending": self.pending,
            },
            "answers": _sorted(self.answers),
            "troubles": _sorted(self.troubles),
            "receiver": {
                "distinct": self.distinct,
                "repeated": receipts - self.distinct,
                "forged": self.acknowledged[Kind.FORGED],
                "unreadable": self.acknowledged[Kind.UNREADABLE],
                "unknown": self.unknown,
                "unanswered": {
                    "receipts": self.unanswered[Kind.RECEIPT],
                    "forged": self.unanswered[Kind.FORGED],
                    "unreadable": self.unanswered[Kind.UNREADABLE],
                },
            },
        }


def _failed(parcel: Parcel) -> None:
    for telling in parcel.tellings:
        telling.waiting -= 1
        telling.failures.append(parcel.met)


def _transids(record: Record) -> set[str]:
    return {record.message.transid, record.answered} - {""}


def _sorted(counts: Counter[str]) -> Numbers:
    return dict(sorted(counts.items()))
