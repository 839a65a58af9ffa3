"""`receiver forget`: erases one person, and says what could not be erased yet."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from receiver.cli.of_tenant import load_tenant
from receiver.cli.opening import database, run, secret_of
from receiver.cli.spool import drain_orphans
from receiver.database.migrate import require_schema
from receiver.database.pool import Connection, connect
from receiver.errors import ReceiverError, SettingsError
from receiver.ids import TenantId
from receiver.receipts import spool_folder
from receiver.receipts.spool_file import SpoolFile
from receiver.settings import Settings, read_settings
from receiver.upkeep.forgetter import Forgotten, Found, look
from receiver.upkeep.forgetter import forget as forget_person
from receiver.upkeep.person import Person, is_in, person_of

STATEMENT_MILLISECONDS = "600000"  # one look through all keys; what erases takes milliseconds
INCOMPLETE = 1
LIVING_SECONDS = 5.0  # for processes that live to drain what they have
LOOK_SECONDS = 0.2


class Spooled(msgspec.Struct):
    """What lies in this machine's spool: bodies that name the person, and files that can't be read."""

    bodies: int = 0
    unreadable: int = 0


class Report(msgspec.Struct):
    """What the command tells with --json."""

    complete: bool
    dry_run: bool
    found: Found
    erased: Forgotten
    spooled: Spooled


def forget(
    destination: Annotated[
        str, typer.Option("--destination", help="Number, address or id of the recipient, in any spelling.")
    ],
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only this tenant's; else all tenants'.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what there is, and erase nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Erase one person: names and texts go, counts and states stay. Exit code 1: something is left; run it again."""
    person = person_of(destination)
    if person is None:
        raise SettingsError(["--destination names nobody: give a number, an address or an id"])
    if as_json and not (yes or dry_run):
        raise SettingsError(["--json asks nothing: add --yes or --dry-run"])
    settings = read_settings(serving=False)

    async def work(dsn: str) -> Report:
        connection = await connect(dsn, "forget", statement_timeout=STATEMENT_MILLISECONDS)
        try:
            await require_schema(connection)
            number = await _number(connection, settings, tenant)
            if not dry_run:
                await _bring_in(settings, dsn, person)
            found = await look(connection, person, number)
            if dry_run or not (yes or _confirmed(found)):
                return Report(False, True, found, Forgotten(), spooled(settings.spool, person))
            with _progress(found.messages - found.waiting) as advance:
                erased = await forget_person(connection, person, number, advance)
        finally:
            await connection.close()
        left = spooled(settings.spool, person)
        complete = not (erased.waiting or erased.waiting_calls or erased.left or left.bodies or left.unreadable)
        return Report(complete, False, found, erased, left)

    with database(settings) as dsn:
        report = run(work(dsn))
    if as_json:
        typer.echo(msgspec.json.encode(report).decode())
    else:
        _tell(report)
    if not (report.complete or report.dry_run):
        raise typer.Exit(INCOMPLETE)


async def _number(connection: Connection, settings: Settings, name: str | None) -> TenantId | None:
    if name is None:
        return None
    return (await load_tenant(connection, settings, name))[1]


async def _bring_in(settings: Settings, dsn: str, person: Person) -> None:
    """Drains what names the person in the spool, for it is erased in the database alone: what dead processes left here,
    and what living ones have by their own hands, for which it waits a little.
    """
    folder = settings.spool
    if folder is None or not spooled(folder, person).bodies:
        return
    try:
        await drain_orphans(settings, folder, dsn, secret_of(settings), quiet=True)
    except ReceiverError:  # no secret, or a file that can't be read: what is left is counted and told
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LIVING_SECONDS):
            while spooled(folder, person).bodies:  # noqa: ASYNC110 - other processes drain, and tell nobody
                await asyncio.sleep(LOOK_SECONDS)


def spooled(folder: Path | None, person: Person) -> Spooled:
    """What of the person waits in the spool files of this machine. They are read beside whoever writes them."""
    found = Spooled()
    try:
        if folder is None or not folder.is_dir():
            return found
        found.unreadable = len(spool_folder.set_aside(folder))
        identities = spool_folder.files(folder)
    except OSError:  # the folder is another user's: who knows what lies there
        return Spooled(unreadable=1)
    for identity in identities:
        path = folder / f"{identity}{spool_folder.SPOOL}"
        try:
            with contextlib.closing(SpoolFile(path, read_only=True)) as file:
                while unit := file.next_unit():
                    found.bodies += sum(is_in(person, a.body) for a in unit.arrivals)
                    file.done(unit)  # for this reading alone: the file is opened to be read
                found.unreadable += file.is_broken
        except FileNotFoundError:
            continue
        except (sqlite3.Error, OSError):
            found.unreadable += path.exists()
    return found


def _confirmed(found: Found) -> bool:
    typer.echo(_there_is(found), err=True)
    return typer.confirm("Erase it? It can't be undone.", err=True)


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar at a terminal, nothing elsewhere; what it gives counts messages."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = TextColumn("erasing"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("erasing", total=total)
        yield lambda number: progress.advance(task, number)


def _there_is(found: Found) -> str:
    return (
        f"{found.messages} messages with {found.receipts} receipts, {found.quarantined} bodies in quarantine, "
        f"{found.contents} kept contents; {found.waiting} of the messages and {found.waiting_calls} calls that name "
        "the person wait to be sent"
    )


def _tell(report: Report) -> None:
    erased, left = report.erased, report.spooled
    if report.dry_run:
        typer.echo(_there_is(report.found))
        typer.echo("nothing was erased", err=True)
    else:
        typer.echo(
            f"erased: {erased.messages} messages with {erased.receipts} receipts, {erased.keys} keys, "
            f"{erased.quarantined} bodies in quarantine, {erased.contents} kept contents"
        )
    if erased.waiting:
        typer.echo(f"left: {erased.waiting} messages wait to be sent; cancel them or wait, then run it again", err=True)
    if erased.waiting_calls:
        typer.echo(f"left: {erased.waiting_calls} calls that wait name the person; run it once they are sent", err=True)
    if erased.left:
        typer.echo(f"left: {erased.left} messages came in meanwhile; run it again", err=True)
    if left.bodies:
        cure = "let them drain (`receiver spool drain`), then run it again"
        typer.echo(f"left: {left.bodies} receipts wait in the spool: {cure}", err=True)
    if left.unreadable:
        what = f"{left.unreadable} spool files, or their folder, can't be read whole"
        typer.echo(f"left: {what}; run it as the receiver's user, or look at them by hand", err=True)
    if (until := report.found.receipts_until) is not None:
        typer.echo(f"the platform may tell of these messages until {until:%Y-%m-%d}: run it once more then", err=True)
    if not report.dry_run:
        typer.echo("backups, the write-ahead log and spools of other machines keep what they have", err=True)
