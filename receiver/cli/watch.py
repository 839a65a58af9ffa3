"""The command that waits for one message."""

import enum
import json
from typing import Annotated

import typer
from rich.console import Console

from receiver.cli.lookup import the_id
from receiver.cli.tables import message_panel
from receiver.cli.times import in_seconds
from receiver.client import Client

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
