"""The commands that wait: for one message, and for whatever changes."""

import enum
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from receiver.cli.filter_options import STREAM, takes
from receiver.cli.lookup import the_id
from receiver.cli.pipe import end_with_the_pipe
from receiver.cli.tables import message_panel, plain, state_text
from receiver.cli.times import HELP, in_seconds, moment
from receiver.client import CannotResume, Client
from receiver.errors import ReceiverError
from receiver.messages.lattice import NEGATIVE_STATES

REACHED, UNREACHABLE, TIMED_OUT = 0, 3, 4
EXIT_CODES = {"reached": REACHED, "unreachable": UNREACHABLE, "timeout": TIMED_OUT}


class Until(enum.StrEnum):
    """What is waited for."""

    FINAL = "final"
    DELIVERED = "delivered"
    SUBMITTED = "submitted"
    CHANGE = "change"


def wait(
    identity: Annotated[str, typer.Argument(metavar="ID", help="Any id: ours, transid, correlationid, a number.")],
    until: Annotated[Until, typer.Option(help="What to wait for.")] = Until.FINAL,
    timeout: Annotated[
        float, typer.Option(parser=in_seconds, metavar="TIME", help="At most so long: 60, 90s, 10m, 2h.")
    ] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the message as JSON.")] = False,
) -> None:
    """Wait until a message has arrived, or never will. Its exit code tells a script which.

    `receiver wait ID --until delivered --timeout 60`

    Exit codes: 0 it is so; 3 it will not be so any more, its last word is another; 4 not within the time; 1 something
    failed; 2 wrong options. A receiver that starts anew meanwhile is waited for.
    """
    with Client.from_environment() as client:
        waited = client.wait(the_id(client, identity), until.value, timeout)
    if as_json:
        typer.echo(json.dumps(waited.message))
    else:
        Console().print(message_panel(waited.message))
        state = waited.message["state"]
        if waited.outcome == "unreachable":
            typer.echo(f"not {until}, and it will not be any more: {state} is its last word", err=True)
        elif waited.outcome == "timeout":
            typer.echo(f"not {until} within {timeout:g} s: it is {state}. Wait again, or longer (--timeout)", err=True)
    raise typer.Exit(EXIT_CODES[waited.outcome])


@takes(STREAM)
def tail(
    filters: dict[str, Any],
    failed: Annotated[bool, typer.Option("--failed", help="Only those that will not arrive.")] = False,
    since: Annotated[
        datetime | None, typer.Option(parser=moment, metavar="TIME", help=f"First what changed since: {HELP}.")
    ] = None,
    from_id: Annotated[str | None, typer.Option(help="Go on behind this event: `event` of --json.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a change a line, as JSON.")] = False,
) -> None:
    """Print changes as they happen, through restarts, until Ctrl-C.

    `receiver tail --failed`, `receiver tail --batch-id … --json`

    With --json each line bears `event`, from which --from-id goes on without a gap for 24 hours. What --since shows is
    each message as it is now, once. Ctrl-C ends it with exit code 0.
    """
    if failed:
        filters["state"] = [state.word for state in sorted(NEGATIVE_STATES)]
    if since is not None and from_id is not None:
        raise typer.BadParameter("--since and --from-id are two ways to say where to begin: give one")
    if since is not None and "id" in filters:
        raise typer.BadParameter("--since does not go with --id: `receiver show ID` tells what became of one")
    console = Console(highlight=False)
    end_with_the_pipe()
    try:
        with Client.from_environment() as client:
            for change in _changes(client, filters, since, from_id):
                if as_json:
                    typer.echo(json.dumps(change))
                else:
                    console.print(change_line(change), soft_wrap=True)
    except CannotResume as error:
        hint = "begin without --from-id; what changed meanwhile: receiver find --changed-from 24h"
        raise ReceiverError(f"{error}\n  {hint}") from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _changes(
    client: Client, filters: Mapping[str, Any], since: datetime | None, from_id: str | None
) -> Iterator[dict[str, Any]]:
    """Changes with the id of their `event`; first, each message that changed since a time, as it is."""
    shown: dict[str, datetime] = {}
    for event in client.stream(filters, from_id, checkpoints=True):
        if event.name == "change":
            # what was on its way while the past was read is told there as well
            if (seen := shown.get(event.data["id"])) is None or seen < datetime.fromisoformat(event.data["at"]):
                yield {"event": event.id, **event.data}
        elif since is not None:
            past = client.find({**filters, "order": "changed", "changed_from": since, "limit": 1000})
            for message in reversed(list(past)):
                shown[message["id"]] = datetime.fromisoformat(message["changed_at"])
                yield {"event": event.id, **_as_change(message)}
            since = None
        elif event.name == "checkpoint":
            shown.clear()


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
