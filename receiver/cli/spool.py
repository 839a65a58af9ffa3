"""`receiver spool show|drain`: what waits on this machine's disk, and bringing it into the database."""

import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from uuid import UUID

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from receiver import logs
from receiver.access.tenants import Tenants
from receiver.cli.opening import database, run, secret_of
from receiver.database.migrate import require_schema
from receiver.database.pool import open_pool
from receiver.errors import ReceiverError
from receiver.receipts import spool_folder
from receiver.receipts.drain import NoWayIn, drain_unit
from receiver.receipts.spool import Spool
from receiver.receipts.spool_file import SpoolFile
from receiver.receipts.spool_held import installation_of
from receiver.settings import Settings, read_settings

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]

application = typer.Typer(help="Receipts that wait on this machine's disk for the database.", no_args_is_help=True)


@dataclass
class Waiting:
    """A file of the spool, as people and scripts read it."""

    file: str
    bodies: int | None
    """None: it can't be read by us."""
    bytes: int
    oldest_at: datetime | None
    held_by: str | None
    """The living process that has it, `host:pid`; None for an orphan."""
    damaged: bool


@application.command("show")
def show(as_json: Json = False) -> None:
    """Show the spool's files: how many receipts wait in each, since when, and which process has it.

    Needs no database. A file that no living process has is an orphan: the next receiver on this machine drains it, and
    so does `receiver spool drain`.
    """
    folder = _folder(read_settings(serving=False))
    found = list(_waiting(folder))
    if as_json:
        typer.echo(msgspec.json.encode({"folder": str(folder), "files": [asdict(one) for one in found]}).decode())
        return
    console = Console(width=None if Console().is_terminal else 160)
    if not found:
        console.print(f"nothing waits in {folder}")
        return
    table = Table("file", "bodies", "bytes", "oldest", "held by", title=str(folder), title_justify="left")
    for one in found:
        age = f"{(datetime.now(UTC) - one.oldest_at).total_seconds():.0f} s" if one.oldest_at else ""
        held = "damaged, set aside" if one.damaged else one.held_by or "nobody: an orphan"
        table.add_row(one.file, "?" if one.bodies is None else str(one.bodies), str(one.bytes), age, held)
    console.print(table)


@application.command("drain")
def drain(as_json: Json = False) -> None:
    """Bring what dead processes left in the spool into the database.

    It may be repeated, and while receivers serve: nothing counts twice. The files of living processes are left alone:
    these drain them themselves.
    """
    settings = read_settings(serving=False)
    logs.set_up("error")  # why a file can't be taken; not each one that is
    folder = _folder(settings)
    secret = secret_of(settings)
    with database(settings) as dsn:
        drained, left, warnings = run(drain_orphans(settings, folder, dsn, secret, quiet=as_json))
    if as_json:
        answer = {"drained": drained, "held_by_others": left, "warnings": warnings}
        typer.echo(msgspec.json.encode(answer).decode())
        return
    typer.echo(f"drained {drained} bodies from {folder}")
    for name, holder in left.items():
        typer.echo(f"left alone: {name}, which {holder} has: it lives, and drains it itself", err=True)
    for warning in warnings:
        typer.echo(warning, err=True)


async def drain_orphans(
    settings: Settings, folder: Path, dsn: str, secret: str, *, quiet: bool
) -> tuple[int, dict[str, str], list[str]]:
    """Brings in what dead processes left. Bodies drained, who holds the other files, and warnings.

    Raises ReceiverError when it can't go on.
    """
    secrets = [one for one in (secret, settings.secret_previous) if one]
    spool = Spool(folder, settings.spool_mb * 1024 * 1024, [installation_of(one) for one in secrets])
    pool = await open_pool(dsn, "spool", 2, writer=True)
    drained = 0
    try:
        tenants = Tenants(settings.tenants)
        async with pool.acquire() as connection:
            await require_schema(connection)
            await tenants.load(connection)
        await spool.adopt()
        console = Console(stderr=True)
        with Progress(console=console, disable=quiet or not console.is_terminal) as progress:
            task = progress.add_task("draining", total=spool.bodies)
            while found := await spool.oldest():
                held, unit = found
                done = await drain_unit(pool, tenants, held.identity, unit, patient=False)
                await spool.drained(held, done)
                drained += len(done.arrivals)
                progress.update(task, completed=drained, total=drained + spool.bodies)
        warnings = [w for w in spool.warnings() if "can't be used" not in w]
        held_by = {file.file: file.held_by for file in _waiting(folder) if file.held_by}
        return drained, held_by, warnings
    except (sqlite3.Error, OSError, NoWayIn) as error:
        reason = str(error) or type(error).__name__
        raise ReceiverError(f"draining {folder} stopped ({reason}): try again, nothing is lost") from None
    finally:
        await spool.close()
        pool.terminate()


def _folder(settings: Settings) -> Path:
    if settings.spool is None:
        raise ReceiverError("RECEIVER_SPOOL is off: there is no spool")
    return settings.spool


def _waiting(folder: Path) -> Iterator[Waiting]:
    """Raises ReceiverError for a folder that can't be read."""
    try:
        if not folder.exists():
            return
        for identity in spool_folder.files(folder):
            yield _one(folder, identity)
        for path in spool_folder.set_aside(folder):
            yield Waiting(path.name, None, path.stat().st_size, None, None, damaged=True)
    except OSError as error:
        raise ReceiverError(f"the spool {folder} can't be read: {error.strerror}") from None


def _one(folder: Path, identity: UUID) -> Waiting:
    holder = spool_folder.holder_of(folder, identity)
    path = folder / f"{identity}{spool_folder.SPOOL}"
    held_by = None if holder is None else f"{holder.get('host', '?')}:{holder.get('pid', '?')}"
    try:
        file = SpoolFile(path, read_only=True)
    except sqlite3.Error:
        return Waiting(path.name, None, path.stat().st_size, None, held_by, damaged=False)
    try:
        bodies = None if file.is_broken else file.bodies
        return Waiting(path.name, bodies, file.bytes, file.oldest, held_by, damaged=False)
    finally:
        file.close()
