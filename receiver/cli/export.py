"""The command that writes an export: whole in its file, or resumable beside it."""

import enum
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

from receiver.cli.export_file import ExportFile
from receiver.cli.export_read import count_records
from receiver.cli.filter_options import SEARCH, takes
from receiver.client import Client, Format, NoAnswer
from receiver.errors import ReceiverError


class Form(enum.StrEnum):
    """How messages are written."""

    NDJSON = "ndjson"
    CSV = "csv"


@takes(SEARCH)
def export(
    filters: dict[str, Any],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file; standard output without.")] = None,
    form: Annotated[
        Form | None, typer.Option("--format", help="csv where the file's name ends so, else ndjson.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a file that was not finished, with the same filters.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Tell as JSON what was written, on standard error.")] = False,
) -> None:
    """Write all messages that the filters let through, as NDJSON or CSV, newest first.

    `receiver export --output failed.csv --state failed --from 7d`, `receiver export --from 24h | jq .state`

    A file is there when it is whole; until then it grows beside it, as FILE.part, and --resume goes on with that. A
    broken connection is mended by itself.
    """
    chosen: Format = "csv" if form is Form.CSV or (form is None and output and output.suffix == ".csv") else "ndjson"
    with Client.from_environment() as client:
        if output is None:
            if resume or overwrite:
                raise ReceiverError("--resume and --overwrite go with --output: standard output has no past")
            _tell(_copy(client.export_bytes(filters, chosen), sys.stdout.buffer.write, chosen), None, as_json)
            return
        with ExportFile(output, chosen, filters, resume=resume, overwrite=overwrite) as file:
            parts = client.export_bytes(file.filters, chosen, file.after)
            try:
                written = _copy(parts, file.write, chosen, file.records, file.bytes)
            except (NoAnswer, KeyboardInterrupt):
                typer.echo(f"what came is in {output}.part: the same command with --resume goes on", err=True)
                raise
            file.finish()
    _tell(written, output, as_json)


def _copy(
    parts: Iterable[bytes], write: Callable[[bytes], object], form: Format, records: int = 0, size: int = 0
) -> tuple[int, int]:
    """Writes all parts; returns how many messages and bytes that made, with those that were there."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.fields[messages]:,} messages"), TransferSpeedColumn(), TimeElapsedColumn())
    heads = 1 if form == "csv" and not size else 0
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("", total=None, completed=size, messages=records)
        for part in parts:
            write(part)
            records += count_records(part, form) - heads
            heads, size = 0, size + len(part)
            progress.update(task, completed=size, messages=records)
    return records, size


def _tell(written: tuple[int, int], output: Path | None, as_json: bool) -> None:
    messages, size = written
    if as_json:
        told = {"file": str(output) if output else None, "messages": messages, "bytes": size}
        typer.echo(json.dumps(told), err=True)
    elif output:
        typer.echo(f"{messages} messages in {output}", err=True)
