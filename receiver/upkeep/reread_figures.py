"""What a re-read changes, or would change: from, to, how many, and some examples."""

from datetime import datetime
from uuid import UUID

import msgspec

from receiver.messages.lattice import Channel, Fact, State
from receiver.platform.codes import Class
from receiver.upkeep.reread_meaning import Meant

EXAMPLES = 3


class Line(msgspec.Struct, rename={"before": "from", "after": "to", "number": "count"}):
    """One kind of change: of a message's `state`, `conflict`, `reason` (its class) or `times`, or of a `receipt`."""

    what: str
    channel: str
    before: str
    after: str
    number: int = 0
    examples: list[UUID] = []
    """Some of the messages."""


class Outcome(msgspec.Struct):
    """How one message was believed, and is believed now. Only what can be told in a word; times differ beside it."""

    message_id: UUID
    channel: int
    old_state: int
    new_state: int
    old_class: int | None
    new_class: int | None
    old_conflict: bool
    new_conflict: bool


class Figures(msgspec.Struct):
    """What a walk over the messages has counted so far."""

    messages: int = 0
    """Looked at, without tombstones."""
    receipts: int = 0
    kept: int = 0
    """Receipts that could not be read again: they stay as they are stored."""
    left: int = 0
    """Messages that were left alone: their tenant is in no setting, or a newer version has told of them."""
    changed: int = 0
    """Messages whose state, reason, conflict, times or counts change."""
    rewritten: int = 0
    """Receipts that mean something else."""
    lowered: int = 0
    """Messages whose state is less than it was."""
    lines: list[Line] = []

    @property
    def are_empty(self) -> bool:
        """Whether nothing changes."""
        return not (self.changed or self.rewritten)

    def add_receipt(self, receipt: Meant, on: int) -> None:
        """Adds a receipt that means something else, of a message on the channel `on`."""
        self.rewritten += 1
        old, new = Fact(receipt.before.fact), Fact(receipt.now.fact)
        if old is not new:
            self._add("receipt", on, _fact(old), _fact(new), receipt.message_id)

    def add_outcome(self, outcome: Outcome) -> None:
        """Adds a message that changes."""
        of, on = outcome.message_id, outcome.channel
        self.changed += 1
        self.lowered += outcome.new_state < outcome.old_state
        told = 0
        for what, old, new in (
            ("state", _state(outcome.old_state), _state(outcome.new_state)),
            ("conflict", _yes(outcome.old_conflict), _yes(outcome.new_conflict)),
            ("reason", _class(outcome.old_class), _class(outcome.new_class)),
        ):
            if old != new:
                self._add(what, on, old, new, of)
                told += 1
        if not told:
            self._add("times", on, "", "", of)

    def _add(self, what: str, on: int, before: str, after: str, of: UUID) -> None:
        channel = Channel(on).word if on in Channel._value2member_map_ else str(on)
        line = next(
            (n for n in self.lines if (n.what, n.channel, n.before, n.after) == (what, channel, before, after)), None
        )
        if line is None:
            line = Line(what, channel, before, after)
            self.lines.append(line)
        line.number += 1
        if len(line.examples) < EXAMPLES:
            line.examples.append(UUID(int=of.int))


def _state(number: int) -> str:
    return State(number).word


def _fact(fact: Fact) -> str:
    return (fact.name or str(fact.value)).lower()


def _class(number: int | None) -> str:
    if number is None:
        return "none"
    return Class(number).word if number in Class._value2member_map_ else str(number)  # a newer version's


def _yes(value: bool) -> str:
    return "yes" if value else "no"


class Report(msgspec.Struct):
    """What the command tells: how much was looked at, and what changed, or would."""

    done: bool
    """Whether it was changed, or there is nothing to change; else this is what would be."""
    since: datetime
    until: datetime
    figures: Figures
