"""`receiver import`: a file of receipts goes into the database, and goes on where it stopped."""

import asyncio
import contextlib
import hashlib
import os
import select
import shlex
import signal
import stat
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from receiver import logs
from receiver.access.tenants import Tenants
from receiver.cli.opening import database, run
from receiver.database.migrate import require_schema
from receiver.database.partitions import ensure_weeks
from receiver.database.pool import open_pool
from receiver.errors import ReceiverError
from receiver.ids import new_id
from receiver.receipts import imports
from receiver.receipts.export_file import NoExport
from receiver.receipts.importing import Away, Import, Overtaken, Target, bring_in
from receiver.receipts.unpacking import CHUNK, CutOff, Damaged
from receiver.settings import Settings, read_settings

CONNECTIONS = 1
EDGE = 64 * 1024  # bytes of a file's beginning and end that make its identity
POLL_SECONDS = 0.2  # between two looks for a stop while standard input is silent
STANDARD_INPUT = Path("-")


class Report(msgspec.Struct):
    """What the command tells with --json. The counts are of the whole file, earlier runs of it included."""

    file: str
    tenant: str
    received: int
    applied: int
    duplicate: int
    late: int
    quarantined: int
    forged: int
    bytes: int
    resumed_at: int
    seconds: float


class _Stopped(CutOff):
    """Ctrl-C or SIGTERM."""


Shown = Callable[[int, int], None]


def import_file(
    file: Annotated[
        Path, typer.Argument(help="The export: JSON, a body a line, or CSV; also with gzip; - is standard input.")
    ],
    tenant: Annotated[str, typer.Option("--tenant", help="Whose receipts they are.")] = "default",
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin at the beginning, though an earlier run was cut off.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Import receipts that were never pushed, such as the platform's export of failed notifications.

    It may be repeated, and while receivers serve: a receipt that is known is a duplicate. A run that was cut off goes
    on where it stopped.
    """
    settings = read_settings(serving=False)
    name = settings.tenant(tenant).name
    logs.set_up("error")
    with _opened(file) as source, database(settings) as dsn:
        began = time.monotonic()
        importing, resumed_at = run(_import(settings, dsn, source, file, name, restart=restart))
        seconds = time.monotonic() - began
    counts = importing.progress.counts
    report = Report(
        str(file),
        name,
        **msgspec.structs.asdict(counts),
        bytes=importing.bytes_read,
        resumed_at=resumed_at,
        seconds=round(seconds, 3),
    )
    if as_json:
        typer.echo(msgspec.json.encode(report).decode())
    else:
        _tell(report)


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    """The file to read. Raises ReceiverError for what is none."""
    if file == STANDARD_INPUT:
        if sys.stdin is None:
            raise ReceiverError("standard input is closed: hand the file in by it, or give its name")
        yield sys.stdin.buffer
        return
    try:
        opened = file.open("rb", buffering=0)
    except OSError as error:
        raise _not_readable(file, error) from None
    with opened:
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            raise ReceiverError(f"{file} is no file: give `-` and hand it in by standard input")
        yield opened


def _not_readable(file: Path, error: OSError) -> ReceiverError:
    return ReceiverError(f"{file} can't be read: {error.strerror}")


async def _import(
    settings: Settings, dsn: str, source: BinaryIO, file: Path, name: str, *, restart: bool
) -> tuple[Import, int]:
    """Brings the file in; returns the finished import, and the position at which it went on."""
    is_file = file != STANDARD_INPUT
    size = os.fstat(source.fileno()).st_size if is_file else 0
    identity = identity_of(source, size) if is_file else new_id().bytes
    stop = _stop_signals()
    pool = await open_pool(dsn, "import", CONNECTIONS, writer=True)
    try:
        tenants = Tenants(settings.tenants)
        async with pool.acquire() as connection:
            await require_schema(connection)
            await ensure_weeks(connection, datetime.now(UTC))
            await tenants.load(connection)
            target = Target(tenants.id_of(name), identity, tenants.zone_of(name), tenants.names)
            now, called = datetime.now(UTC), file.name if is_file else "standard input"
            progress = await imports.start(connection, target.tenant, identity, called, size, now, restart=restart)
        resumed_at = progress.position
        if resumed_at:
            typer.echo(f"going on at byte {resumed_at}: an earlier run was cut off there", err=True)
        with _showing(size, file.name) as show:
            importing = Import(
                pool, target, progress, stopping=stop.is_set, advanced=lambda now: show(0, now.counts.received)
            )
            chunks = _chunks(source, is_file, stop, lambda bytes_read: show(bytes_read, 0))
            try:
                await bring_in(importing, chunks, settings.max_body)
            except (CutOff, NoExport, Away, Overtaken) as error:
                raise _unfinished(error, importing, file) from None
        return importing, resumed_at
    finally:
        pool.terminate()


def identity_of(source: BinaryIO, size: int) -> bytes:
    """What tells this file from others, without reading all of it: its size, its beginning and its end."""
    head = source.read(EDGE)
    source.seek(max(size - EDGE, 0))
    tail = source.read(EDGE)
    source.seek(0)
    return hashlib.blake2b(b"%d\0%b%b" % (size, head, tail), digest_size=16).digest()


def _stop_signals() -> asyncio.Event:
    """Set by Ctrl-C and SIGTERM: what is on its way then is finished."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop


async def _chunks(
    source: BinaryIO, is_file: bool, stop: asyncio.Event, read: Callable[[int], None]
) -> AsyncIterator[bytes]:
    """The bytes as they come; CutOff when it is stopped. Standard input may be silent: it is waited for in a thread."""
    descriptor = source.fileno()
    while True:
        while not is_file and not stop.is_set():
            if (await asyncio.to_thread(select.select, [descriptor], [], [], POLL_SECONDS))[0]:
                break
        if stop.is_set():
            raise _Stopped
        chunk = os.read(descriptor, CHUNK)
        if not chunk:
            return
        read(len(chunk))
        yield chunk


@contextlib.contextmanager
def _showing(size: int, name: str) -> Iterator[Shown]:
    """A bar at a terminal, on standard error; nothing elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda read, received: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[pace]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(name, total=size or None, pace="")
        began, first = time.monotonic(), None

        def show(read: int, received: int) -> None:
            nonlocal first
            if not received:
                progress.advance(task, read)
                return
            first = received if first is None else first
            pace = (received - first) / max(time.monotonic() - began, 0.001)
            progress.update(task, pace=f"{received:,} receipts, {pace:,.0f}/s")

        yield show


def _unfinished(error: Exception, importing: Import, file: Path) -> ReceiverError:
    if isinstance(error, NoExport):
        return ReceiverError(f"{file} is no export of receipts: {error}")
    counts = importing.progress.counts
    said = f"{counts.received} receipts and bodies are in, {counts.applied} of them new"
    if isinstance(error, Damaged):
        return ReceiverError(f"{file}: {error}: {said}; get the file once more, and import that")
    if isinstance(error, Overtaken):
        return ReceiverError(f"another import of {file} is under way: let it end; {said} by this one")
    if file == STANDARD_INPUT:
        again = "hand the whole in again: what is in counts as duplicate"
    else:
        again = f"give the same command again to go on from there: {shlex.join(['receiver', *sys.argv[1:]])}"
    why = "the database does not answer" if isinstance(error, Away) else "stopped"
    return ReceiverError(f"{why}: {said}; {again}")


def _tell(report: Report) -> None:
    typer.echo(
        f"received {report.received}: {report.applied} applied, {report.duplicate} duplicate, {report.late} late, "
        f"{report.quarantined} quarantined, {report.forged} forged, from {report.bytes:,} bytes "
        f"in {report.seconds:.1f} s"
    )
    if report.quarantined or report.forged:
        typer.echo(
            "what was quarantined is kept with its reason: receiver quarantine list --tenant "
            f"{shlex.quote(report.tenant)}",
            err=True,
        )
