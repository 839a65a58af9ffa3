"""`receiver reread`: stored receipts are read again with the present tables, and their messages corrected."""

import contextlib
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from receiver.access.tenants import Tenants
from receiver.cli.opening import database, run
from receiver.database.migrate import require_schema
from receiver.database.pool import BY_INDEX, Connection, connect
from receiver.errors import ReceiverError, SettingsError
from receiver.ids import born_at
from receiver.settings import Settings, read_settings
from receiver.upkeep.reread import Advance, Course, Scope, begin, carry_out, from_the_start, look
from receiver.upkeep.reread_figures import Figures, Line, Report

STATEMENT_MILLISECONDS = "60000"  # of a chunk: some tens of milliseconds, and whoever holds a lock meanwhile
WOULD_CHANGE = 3
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)  # no id is of an earlier time


def reread(
    since: Annotated[str, typer.Option("--since", help="Messages made at or after this day or time, in UTC.")],
    until: Annotated[str | None, typer.Option("--until", help="Messages made before it; else until now.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only this tenant's; else all tenants'.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask. Where nobody can be asked: needed.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew, where the last run was interrupted.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts. It asks nothing.")] = False,
) -> None:
    """Read stored receipts again with this version's tables, and correct their messages: a state may be lowered, too.

    It says what would change, asks, and then changes it, while receipts come in. Interrupted, the same command goes on.

    Exit code 0: done, or nothing to change. 1: it failed, or was interrupted. 3: something would change, and was not.
    """
    bounds = _moment("--since", since), None if until is None else _moment("--until", until)
    if bounds[1] is not None and bounds[1] <= bounds[0]:
        raise SettingsError(["--until is not after --since"])
    settings = read_settings(serving=False)

    async def work(dsn: str) -> Report:
        connection = await connect(dsn, "reread", statement_timeout=STATEMENT_MILLISECONDS, jit="off", **BY_INDEX)
        try:
            await require_schema(connection)
            scope = await _scope(connection, settings, *bounds, tenant)
            return await _course(connection, scope, dry_run=dry_run, yes=yes, restart=restart, as_json=as_json)
        finally:
            await connection.close()

    with database(settings) as dsn:
        try:
            report = run(work(dsn))
        except KeyboardInterrupt:
            raise ReceiverError("interrupted: what was changed is committed, and the same command goes on") from None
    if as_json:
        typer.echo(msgspec.json.encode(report).decode())
    if not report.done:
        typer.echo("nothing was changed", err=True)
        raise typer.Exit(WOULD_CHANGE)


async def _course(
    connection: Connection, scope: Scope, *, dry_run: bool, yes: bool, restart: bool, as_json: bool
) -> Report:
    """Looks, tells, asks, and changes what it may."""
    asks = not (yes or as_json) and sys.stdin.isatty()
    may_change = not dry_run and (yes or asks)
    course = await begin(connection, scope, restart=restart) if may_change else from_the_start(scope)
    if course.is_resumed:
        _note(f"goes on where it was interrupted: {course.figures.messages} messages are done")
    if not (may_change and as_json):  # a script that was told to change it has nobody to tell before
        with _progress("looking", course) as advance:
            report = await look(connection, course, advance)
        if not as_json and not (report.done and may_change and course.is_resumed):
            _tell(report)
        if not may_change or (report.done and not course.is_resumed):
            return report
        if not (yes or report.done or typer.confirm("Change it?", err=True)):
            return report
    with _progress("changing", course) as advance:
        report = await carry_out(connection, course, advance)
    if not as_json:
        _tell(report)
    return report


async def _scope(
    connection: Connection, settings: Settings, since: datetime, until: datetime | None, name: str | None
) -> Scope:
    tenants = Tenants(settings.tenants)
    await tenants.load(connection)
    number = tenants.id_of(settings.tenant(name).name) if name is not None else None
    return Scope(since, until, number, {tenants.id_of(tenant.name): tenant.zone for tenant in settings.tenants})


def _moment(option: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise SettingsError([f"{option} takes a day or a time, such as 2026-01-31 or 2026-01-31T18:00Z"]) from None
    return max(moment, EARLIEST)


@contextlib.contextmanager
def _progress(doing: str, course: Course) -> Iterator[Advance]:
    """A bar at a terminal, nothing elsewhere. Ids tell the time, so how far it is needs no counting beforehand."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda *_: None
        return
    columns = TextColumn(doing), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[told]}")
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task(doing, total=(course.until - course.scope.since).total_seconds(), told="")

        def advance(last: UUID, figures: Figures) -> None:
            told = f"{figures.messages} messages, {figures.changed} change"
            progress.update(task, completed=(born_at(last) - course.scope.since).total_seconds(), told=told)

        yield advance


def _tell(report: Report) -> None:
    figures = report.figures
    if figures.lines:
        Console(highlight=False).print(_table(figures.lines))
    verb = "changed" if report.done else "would change"
    change = (
        f"{figures.changed} messages {verb} ({figures.lowered} to a lower state), "
        f"{figures.rewritten} receipts mean something else"
    )
    nothing = "nothing to change"
    typer.echo(
        f"{figures.messages} messages with {figures.receipts} receipts: {nothing if figures.are_empty else change}"
    )
    if figures.kept:
        _note(f"{figures.kept} receipts could not be read again and stay as they are stored")
    if figures.left:
        _note(f"{figures.left} messages were left alone: their tenant is in no setting, or a newer version told them")


def _table(lines: list[Line]) -> Table:
    table = Table("what", "channel", "from", "to", "how many", "for example")
    for line in sorted(lines, key=lambda line: (ORDER.index(line.what), -line.number)):
        examples = "\n".join(str(example) for example in line.examples)
        table.add_row(line.what, line.channel, line.before, line.after, str(line.number), examples)
    return table


ORDER = ("state", "conflict", "reason", "times", "receipt")


def _note(text: str) -> None:
    typer.echo(text, err=True)
