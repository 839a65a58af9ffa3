"""`receiver doctor`: looks at everything that can be wrong, and says what to do."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from receiver.cli.opening import database, run
from receiver.doctor.check import Finding, Installation, Result
from receiver.doctor.examination import examine, worst
from receiver.errors import ReceiverError, SettingsError
from receiver.settings import Settings, read_settings

COLOURS = {Result.OK: "green", Result.WARNING: "yellow", Result.FAILURE: "bold red", Result.SKIPPED: "dim"}


def doctor(
    full: Annotated[bool, typer.Option("--full", help="Count every receipt, however many there are.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Look at settings, database, disk, public address and platform: what is wrong, and what to do about it.

    It changes nothing, and may run while the receiver serves, with the same settings and as the same user. It ends
    with 1 if anything has failed, else with 0. docs/doctor.md explains each check.
    """
    console = Console()
    with contextlib.ExitStack() as stack:
        installation = _installation(stack, full=full)
        if not as_json:
            installation.progress = stack.enter_context(_counting())
        findings = run(_all(installation))
    if as_json:
        typer.echo(msgspec.json.encode(_as_json(findings)).decode())
    elif console.is_terminal:
        console.print(_table(findings))
    else:
        for line in _lines(findings):
            typer.echo(line)
    raise typer.Exit(1 if worst(findings) is Result.FAILURE else 0)


async def _all(installation: Installation) -> list[Finding]:
    return [finding async for finding in examine(installation)]


def _installation(stack: contextlib.ExitStack, *, full: bool) -> Installation:
    """What there is to look at, as far as it can be opened. Makes nothing that is not there."""
    problems: list[str] = []
    settings: Settings | None = None
    for serving in (True, False):
        try:
            settings = read_settings(serving=serving)
            break
        except SettingsError as error:
            problems = problems or error.problems
    if settings is None:
        return Installation(None, problems, full=full)
    installation = Installation(settings, problems, secret=_secret(settings), full=full)
    if settings.data_dir is not None and (trouble := _without_postgres(settings.data_dir)):
        installation.trouble = trouble
        return installation
    try:
        installation.dsn = stack.enter_context(database(settings))
    except ReceiverError as error:
        installation.trouble = str(error)
    return installation


def _without_postgres(folder: Path) -> str | None:
    """Why there is no embedded Postgres to open in a data folder: to open it would make one."""
    try:
        there = (folder / "postgres").is_dir()
    except PermissionError:
        return f"{folder} can't be looked into: run doctor as the user who runs the receiver"
    return None if there else f"there is no embedded Postgres in {folder} yet: run `receiver migrate`"


def _secret(settings: Settings) -> str | None:
    """The secret of the tokens, if there is one: none is made here."""
    if settings.secret or settings.data_dir is None:
        return settings.secret
    try:
        return (settings.data_dir / "secret").read_text().strip() or None
    except OSError:
        return None


@contextlib.contextmanager
def _counting() -> "Iterator[_Bar]":
    """A bar while receipts are counted, at a terminal."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        yield _Bar(progress)


class _Bar:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("counting receipts, week by week", total=None, visible=False)

    def __call__(self, done: int, of: int) -> None:
        self._progress.update(self._task, completed=done, total=of, visible=done < of)


def _as_json(findings: list[Finding]) -> dict[str, object]:
    checks = [{"name": finding.name, **finding.verdict._asdict()} for finding in findings]
    return {"result": worst(findings), "checks": checks}


def _said(finding: Finding) -> str:
    verdict = finding.verdict
    return f"{verdict.of}: {verdict.found}" if verdict.of else verdict.found


def _table(findings: list[Finding]) -> Table:
    table = Table("check", "result", "what was found, and what to do")
    for finding in findings:
        verdict = finding.verdict
        text = Text(_said(finding))
        if verdict.cure:
            text.append(f"\n→ {verdict.cure}", style="bold")
        table.add_row(finding.name, Text(verdict.result, style=COLOURS[verdict.result]), text)
    return table


def _lines(findings: list[Finding]) -> Iterator[str]:
    for finding in findings:
        yield f"{finding.verdict.result:<8} {finding.name}: {_said(finding)}"
        if finding.verdict.cure:
            yield f"{'':<8} → {finding.verdict.cure}"
