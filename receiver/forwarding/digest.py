"""Failures of a span, counted: by state, channel, code, class and country, each group with some examples."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Self

MOST_GROUPS = 200  # a row of 20 kB; what comes later, and is none of them, has the code and the country `other`
MOST_EXAMPLES = 3  # of a group
OTHER, NONE = "other", "none"


class Group(NamedTuple):
    """What is counted together. Words as in a notice; `none` where there is none."""

    state: str
    channel: str
    code: str
    reason_class: str
    country: str


@dataclass
class Counted:
    """How many there are, and the ids of the first."""

    messages: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass
class FailureDigest:
    """The failures of one tenant since `began_at`, which wait for the end of their span.

    `first` and `last` are when the first and the last of them happened.
    """

    began_at: datetime
    first: datetime
    last: datetime
    groups: dict[Group, Counted] = field(default_factory=dict)

    @classmethod
    def of(cls, began_at: datetime, figures: Mapping[str, Any]) -> Self:
        """A digest from what `figures` gave."""
        first, last = (datetime.fromisoformat(figures[name]) for name in ("first", "last"))
        groups = {Group(*words): Counted(number, ids) for words, number, ids in figures["groups"]}
        return cls(began_at, first, last, groups)

    def figures(self) -> dict[str, Any]:
        """All of it but the beginning, for JSON."""
        groups = [[group, counted.messages, counted.examples] for group, counted in self.groups.items()]
        return {"first": self.first.isoformat(), "last": self.last.isoformat(), "groups": groups}

    def add(self, group: Group, message_id: str, at: datetime) -> None:
        """One more failure."""
        if group not in self.groups and len(self.groups) >= MOST_GROUPS:
            group = group._replace(code=OTHER, country=OTHER)
        counted = self.groups.setdefault(group, Counted())
        counted.messages += 1
        if len(counted.examples) < MOST_EXAMPLES:
            counted.examples.append(message_id)
        self.first, self.last = min(self.first, at), max(self.last, at)

    @property
    def messages(self) -> int:
        """How many failures there are."""
        return sum(counted.messages for counted in self.groups.values())

    def largest(self) -> list[tuple[Group, Counted]]:
        """The groups, the largest first."""
        return sorted(self.groups.items(), key=lambda one: (-one[1].messages, one[0]))

    def by(self, part: str) -> dict[str, int]:
        """The counts by one part of a group, the largest first."""
        counts: Counter[str] = Counter()
        for group, counted in self.groups.items():
            counts[getattr(group, part)] += counted.messages
        return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0])))
