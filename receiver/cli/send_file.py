"""`receiver send --file`: a file of recipients and one body, streamed, resumable, never sent twice."""

import json
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from receiver.cli.body_template import BodyTemplate
from receiver.cli.chunks import Reading
from receiver.cli.hand_in import Calls, Shown, Stopped
from receiver.cli.rejects import Rejects, rejects_path
from receiver.cli.rows import Row, RowFile
from receiver.cli.send_calls import Plan, Sending
from receiver.cli.send_state import SendState
from receiver.client import Client
from receiver.errors import ReceiverError

MOST_FAULTS_SHOWN = 10
NOTE_SECONDS = 10.0  # between two lines of trouble where there is no bar


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line."""

    file: Path
    template: Path
    id_type: str | None = None
    separator: str = ","
    job: str | None = None
    state: Path | None = None
    plan: Plan = field(default_factory=Plan)
    dry_run: bool = False
    as_json: bool = False


@dataclass
class Looked:
    """What a look through the whole file found, before anything is sent."""

    rows: int = 0
    calls: int = 0
    faulty: int = 0
    faults: list[tuple[Row, str]] | None = None
    body: dict[str, Any] | None = None


def send_file(options: Options) -> None:
    """Sends a file. Raises ReceiverError when it can't go on, was interrupted, or rows were rejected."""
    template = BodyTemplate(options.template)
    file = RowFile(options.file, options.separator)
    reading = Reading(file.columns, template, options.id_type)
    with Console(stderr=True).status(f"reading {options.file} …"):
        looked = look_through(file, reading)
    if not looked.rows:
        raise ReceiverError(f"{options.file} has no row below its header")
    if options.dry_run:
        _tell_dry_run(options, looked)
        return
    state_path = options.state or options.file.with_name(f"{options.file.name}.sent.jsonl")
    job = options.job or options.file.name
    with Client.from_environment(retries=0) as client:  # a run has its own patience
        head = {"job": job, "template": template.sha256, "id_type": reading.id_type, "receiver": client.url}
        with SendState(state_path, head) as state, _showing(looked.rows) as shown:
            rejects = Rejects(
                rejects_path(options.file),
                file.columns,
                file.separator,
                resumed=state.resumed,
                unfinished=state.unfinished,
            )
            calls = Calls(client, reading, template, job, shown)
            sending = Sending(calls, state, rejects, options.plan, shown)
            began = time.monotonic()
            try:
                with _interruptible(sending):
                    # what was added to the file since the look is for the next run
                    sending.run(reading.chunks(islice(file.rows(), looked.rows), state.last_of))
            except (ReceiverError, Stopped) as error:
                raise _unfinished(error, sending, looked) from None
            finally:
                rejects.close()
    _tell(options, sending, rejects, state_path, time.monotonic() - began)


def look_through(file: RowFile, reading: Reading) -> Looked:
    """Reads the whole file and sends nothing. Raises ReceiverError where it can't be read to its end."""
    looked = Looked(faults=[])
    assert looked.faults is not None
    for chunk in reading.chunks(file.rows()):
        looked.rows += chunk.rows
        looked.calls += len(chunk.calls)
        looked.faulty += len(chunk.rejected)
        looked.faults += chunk.rejected[: MOST_FAULTS_SHOWN - len(looked.faults)]
        if looked.body is None and chunk.calls:
            call = chunk.calls[0]
            looked.body = reading.body(type(call)(call.values, call.entries[:1]))
    return looked


def _tell_dry_run(options: Options, looked: Looked) -> None:
    faults = [{"row": row.number, "reason": reason} for row, reason in looked.faults or ()]
    told = {"rows": looked.rows, "good": looked.rows - looked.faulty, "calls": looked.calls, "faults": faults}
    if options.as_json:
        typer.echo(json.dumps({**told, "first_body": looked.body}))
    else:
        typer.echo(f"{told['good']} of {looked.rows} rows can be sent, in {looked.calls} calls; nothing was sent.")
        for fault in faults:
            typer.echo(f"row {fault['row']}: {fault['reason']}")
        if looked.body is not None:
            typer.echo("The first body, with its first recipient alone:")
            typer.echo(json.dumps(looked.body, indent=2, ensure_ascii=False))
    if looked.faulty:
        raise ReceiverError(f"{looked.faulty} of {looked.rows} rows can't be sent as they stand")


def _unfinished(error: ReceiverError | Stopped, sending: Sending, looked: Looked) -> ReceiverError:
    done = f"{sending.counts.rows} of {looked.rows} rows are done"
    again = f"give the same command again to go on from there: {shlex.join(['receiver', *sys.argv[1:]])}"
    if isinstance(error, Stopped):
        return ReceiverError(f"stopped: {done}; {again}")
    return ReceiverError(f"{error}\nreceiver: {done}; when this is mended, {again}")


def _tell(options: Options, sending: Sending, rejects: Rejects, state: Path, seconds: float) -> None:
    counts = sending.counts
    rejected = counts.rejected + counts.earlier_rejected
    if options.as_json:
        told = {
            "rows": counts.rows,
            "sent": counts.sent,
            "repeated": counts.repeated,
            "rejected": counts.rejected,
            "sent_earlier": counts.earlier_sent,
            "rejected_earlier": counts.earlier_rejected,
            "rejects": str(rejects.path) if rejected else None,
            "state": str(state),
            "seconds": round(seconds, 3),
        }
        typer.echo(json.dumps(told))
    else:
        before = counts.earlier_sent + counts.repeated
        earlier = f", {before} had been before" if before else ""
        typer.echo(f"{counts.sent} messages were handed in{earlier}; {rejected} of {counts.rows} rows were rejected.")
    if rejected:
        raise ReceiverError(f"{rejected} rows were rejected: {rejects.path} has each with its reason")


@contextmanager
def _interruptible(sending: Sending) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the run well. Only the main thread may ask for signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        sending.interrupted = True

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _showing(rows: int) -> Iterator[Shown]:
    """A bar at a terminal, on standard error; elsewhere only lines about trouble."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (
        TextColumn("sending"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console) as progress:
        yield _Bar(progress, progress.add_task("rows", total=rows, note="", pace=""))


class _Bar:
    """Progress at a terminal."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, rows: int) -> None:
        speed = self._progress.tasks[0].speed
        self._progress.update(self._task, advance=rows, pace=f"{speed:,.0f} rows/s" if speed else "")

    def note(self, text: str) -> None:
        self._progress.update(self._task, note=text)


class _Lines:
    """Trouble in lines, seldom enough for a log."""

    def __init__(self) -> None:
        self._last = float("-inf")

    def advance(self, rows: int) -> None:
        pass

    def note(self, text: str) -> None:
        if text and time.monotonic() - self._last >= NOTE_SECONDS:
            self._last = time.monotonic()
            typer.echo(f"receiver: {text}", err=True)
