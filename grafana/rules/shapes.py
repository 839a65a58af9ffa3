"""What a file of rules is made of: alerts and recorded series, in groups, and how each is written down."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from textwrap import dedent
from typing import Any, Literal

RUNBOOKS = "docs/runbooks.md"

VALUE = '{{ $value | printf "%.0f" }}'
PERCENT = "{{ $value | humanizePercentage }}"
TIME = "{{ $value | humanizeDuration }}"


@dataclass(frozen=True)
class Record:
    """A series that is worked out once for several rules, or to be looked back at. `labels`: those that it keeps."""

    name: str
    labels: frozenset[str]
    expr: str

    def document(self) -> dict[str, Any]:
        """The rule as Prometheus reads it."""
        return {"record": self.name, "expr": _block(self.expr)}


@dataclass(frozen=True)
class Alert:
    """A rule that wakes somebody (critical: at once; warning: in working hours).

    `labels` are those that its expression keeps, `marks` those that it adds. `keep` goes on telling for that long after
    the last sign, so that what it mutes has ended too. `why` is written above it as a comment.
    """

    name: str
    severity: Literal["critical", "warning"]
    labels: tuple[str, ...]
    expr: str
    wait: str
    summary: str
    description: str
    keep: str = ""
    marks: Mapping[str, str] = field(default_factory=dict)
    why: str = ""

    def document(self) -> dict[str, Any]:
        """The rule as Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": _block(self.expr),
            "for": self.wait,
            **({"keep_firing_for": self.keep} if self.keep else {}),
            "labels": {"severity": self.severity, **self.marks},
            "annotations": {
                "summary": self.summary,
                "description": " ".join(self.description.split()),
                "runbook_url": f"{RUNBOOKS}#{self.name.lower()}",
            },
        }


@dataclass(frozen=True)
class Group:
    """Rules that are evaluated one after the other, at one time."""

    name: str
    rules: tuple[Record | Alert, ...]

    def document(self) -> dict[str, Any]:
        """The group as Prometheus reads it."""
        return {"name": self.name, "rules": [rule.document() for rule in self.rules]}


def label(name: str) -> str:
    """The value of one of the alert's labels, in its texts."""
    return f"{{{{ $labels.{name} }}}}"


def figure(series: str, *labels: str) -> str:
    """The present number of `series` with the alert's own values of `labels`, in its texts; 0 where there is none.

    The largest: what all processes tell of the whole database is one figure.
    """
    wanted = ",".join(f"{name}=%q" for name in labels)
    given = " ".join(f"$labels.{name}" for name in labels)
    return (
        f'{{{{ with printf "max({series}{{{wanted}}})" {given} | query }}}}'
        '{{ . | first | value | printf "%.0f" }}{{ else }}0{{ end }}'
    )


# Whom or what an alert is about, in its texts.
OWN = f"tenant {label('tenant')}"
CHANNEL = label("channel")
PROCESS = label("instance")


def _block(expr: str) -> str:
    text = dedent(expr).strip()
    return text + "\n" if "\n" in text else text
