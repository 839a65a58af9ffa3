"""The command that tells what changes, and runs another one for each change."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from receiver.cli.change_command import ChangeCommand, end_like_ctrl_c, output_beside
from receiver.cli.cursor_file import CursorFile
from receiver.cli.filter_options import STREAM, takes
from receiver.cli.pipe import end_with_the_pipe
from receiver.cli.tables import plain, state_text
from receiver.cli.times import HELP, in_seconds, moment
from receiver.client import ApiError, CannotResume, Client, NoAnswer
from receiver.errors import ReceiverError
from receiver.messages.lattice import NEGATIVE_STATES

FAILED = [state.word for state in sorted(NEGATIVE_STATES)]


@takes(STREAM)
def tail(
    filters: dict[str, Any],
    failed: Annotated[bool, typer.Option("--failed", help="Only those that will not arrive.")] = False,
    since: Annotated[
        datetime | None, typer.Option(parser=moment, metavar="TIME", help=f"First what changed since: {HELP}.")
    ] = None,
    from_id: Annotated[str | None, typer.Option(help="Go on behind this event: `event` of --json.")] = None,
    cursor_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep here how far it has come, and go on from there.")
    ] = None,
    exec_: Annotated[
        str | None,
        typer.Option("--exec", metavar="COMMAND", help="Run this for each, without a shell; the change is its input."),
    ] = None,
    exec_timeout: Annotated[
        float, typer.Option(parser=in_seconds, metavar="TIME", help="Longest time of one run: 30, 90s, 5m.")
    ] = 60.0,
    exec_strict: Annotated[
        bool, typer.Option("--exec-strict", help="End with code 1 when a run fails; it is repeated next time.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a change a line, as JSON.")] = False,
) -> None:
    """Print changes as they happen, or run a command for each, until Ctrl-C.

    `receiver tail --failed`, `receiver tail --failed --exec "notify-send failed" --cursor-file failed.cursor`

    It goes on through restarts. With --json each line bears `event`, from which --from-id goes on without a gap for 24
    hours. What --since shows is each message as it is now, once. With --exec a command runs for each change, one at a
    time and in order: at least once, where --cursor-file is given (docs/notices.md). Ctrl-C ends it with exit code 0.
    """
    if failed:
        filters["state"] = FAILED
    if from_id is not None and (since is not None or cursor_file is not None):
        raise typer.BadParameter("--from-id says where to begin, as --since and --cursor-file do: give one")
    if exec_strict and exec_ is None:
        raise typer.BadParameter("--exec-strict goes with --exec alone")
    if since is not None and "id" in filters:
        raise typer.BadParameter("--since does not go with --id: `receiver show ID` tells what became of one")
    command = ChangeCommand(exec_, exec_timeout, output_beside(as_json)) if exec_ is not None else None
    cursor = CursorFile(cursor_file) if cursor_file is not None else None
    from_id = (cursor.read() if cursor else None) or from_id
    if command:
        end_like_ctrl_c()
    else:
        end_with_the_pipe()
    console = Console(highlight=False)
    try:
        with Client.from_environment() as client:
            for change, place in _changes(client, filters, None if from_id else since, from_id):
                if change is not None and not (failed and change["old_state"] in FAILED):
                    if as_json:
                        typer.echo(json.dumps(change))
                    else:
                        console.print(change_line(change), soft_wrap=True)
                    if command:
                        _run(command, client, change, exec_strict)
                if cursor and place:
                    cursor.keep(place)
    except CannotResume as error:
        where = f"without {cursor_file}" if cursor and from_id else "without --from-id"
        hint = f"begin {where}; what changed meanwhile: receiver find --changed-from 24h"
        raise ReceiverError(f"{error}\n  {hint}") from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _run(command: ChangeCommand, client: Client, change: Mapping[str, Any], strict: bool) -> None:
    """Runs the command for one change. What fails is told, and with `strict` the end: raises ReceiverError."""
    wrong = command.run({**change, **_reason(client, change)})
    if wrong is not None:
        said = f"the command for {change['id']} {wrong}"
        if strict:
            raise ReceiverError(said)
        typer.echo(f"receiver: {said}", err=True)


def _reason(client: Client, change: Mapping[str, Any]) -> dict[str, Any]:
    """Code and reason of a failure as they are now; null where there is none, or nobody answers."""
    reason = None
    if change["reason_class"] is not None:
        with contextlib.suppress(ApiError, NoAnswer):
            message = client.look(change["id"]).message
            reason = message and message["reason"]
    return {"code": reason and reason["code"], "reason": reason and reason["text"]}


def _changes(
    client: Client, filters: Mapping[str, Any], since: datetime | None, from_id: str | None
) -> Iterator[tuple[dict[str, Any] | None, str | None]]:
    """Changes with the id of their `event`; first, each message that changed since a time, as it is.

    With each the id from which it can be gone on when it has been dealt with; None: not yet. Without a change: nothing
    has happened up to that id.
    """
    shown: dict[str, datetime] = {}
    for event in client.stream(filters, from_id, checkpoints=True):
        if event.name == "change":
            # what was on its way while the past was read is told there as well
            known = (seen := shown.get(event.data["id"])) and seen >= datetime.fromisoformat(event.data["at"])
            yield None if known else {"event": event.id, **event.data}, event.id
            continue
        if since is not None:
            past = client.find({**filters, "order": "changed", "changed_from": since, "limit": 1000})
            for message in reversed(list(past)):
                shown[message["id"]] = datetime.fromisoformat(message["changed_at"])
                yield {"event": event.id, **_as_change(message)}, None
            since = None
        elif event.name == "checkpoint":
            shown.clear()
        yield None, event.id


KEPT = ("id", "state", "final", "channel", "origin", "conflict", "correlationid", "sent_correlationid")
ALSO_KEPT = ("callbackData", "batch_id")


def _as_change(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as if it had just come into its state."""
    reason = message["reason"]
    past = {"version": None, "old_state": None, "merged_into": None, "at": message["changed_at"]}
    return past | {name: message[name] for name in KEPT + ALSO_KEPT} | {"reason_class": reason and reason["class"]}


def change_line(change: Mapping[str, Any]) -> Text:
    """One change as a line."""
    at = datetime.fromisoformat(change["at"]).strftime("%H:%M:%S")
    line = Text(f"{at}  {change['id']}  {change['channel']}  ")
    if change["old_state"] and change["old_state"] != change["state"]:
        line.append(f"{change['old_state']} → ", style="dim")
    if change["state"] is None:
        line.append(f"is {change['merged_into']} from now on", style="dim")
    else:
        line.append_text(state_text(change["state"]))
    for part in (change["reason_class"], "conflict" if change["conflict"] else None):
        if part:
            line.append(f"  {part}", style="yellow")
    if change["correlationid"]:
        line.append("  ").append_text(plain(change["correlationid"]))
    return line
