"""What every measurement prints: a Markdown table, what was demanded of it, and progress at a terminal."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


@dataclass(frozen=True)
class Verdict:
    """A demand with what was found."""

    what: str
    found: float
    demanded: float
    at_least: bool = True
    unit: str = ""

    @property
    def reached(self) -> bool:
        """Whether it holds."""
        return self.found >= self.demanded if self.at_least else self.found <= self.demanded

    def row(self) -> list[str]:
        """As a row of a table."""
        sign = "at least" if self.at_least else "at most"
        return [
            self.what,
            f"{_short(self.found)}{self.unit}",
            f"{sign} {_short(self.demanded)}{self.unit}",
            "reached" if self.reached else "**missed**",
        ]


@dataclass
class Section:
    """The outcome of a measurement."""

    title: str
    heads: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)  # for the next measurement

    def print(self) -> None:
        """Prints it, ready to be pasted."""
        print(f"\n### {self.title}\n")
        print_table(self.heads, self.rows)
        for note in self.notes:
            print(f"\n{note}")
        if self.verdicts:
            print()
            print_verdicts(self.verdicts)
        sys.stdout.flush()


def print_verdicts(verdicts: Sequence[Verdict]) -> None:
    """Prints what was demanded, and whether it was reached."""
    print_table(("demanded", "found", "of it", ""), [v.row() for v in verdicts])


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a Markdown table with columns of even width."""
    widths = [max(len(row[n]) for row in (heads, *rows)) for n in range(len(heads))]
    lines = [heads, ["-" * width for width in widths], *rows]
    for line in lines:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")


@contextmanager
def steps(title: str, number: int) -> Iterator["Stepper"]:
    """Progress over so many steps at a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        yield Stepper(progress, title, progress.add_task(title, total=number))


@dataclass
class Stepper:
    """Tells what is under way."""

    progress: Progress
    title: str
    task: TaskID

    def __call__(self, doing: str) -> None:
        """The next step begins."""
        self.progress.update(self.task, description=f"{self.title}: {doing}")

    def done(self, number: int = 1) -> None:
        """So many steps are done."""
        self.progress.advance(self.task, number)


def _short(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"
