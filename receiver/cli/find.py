"""The command that searches."""

import json
from itertools import islice
from typing import Annotated, Any

import typer
from rich.console import Console

from receiver.cli.filter_options import CHANGED, SEARCH, takes
from receiver.cli.tables import messages_table
from receiver.client import Client

MOST_ON_A_PAGE = 1000
SHOWN = 50


@takes((*SEARCH, *CHANGED))
def find(
    filters: dict[str, Any],
    limit: Annotated[int, typer.Option(min=1, help="Messages at most.")] = SHOWN,
    everything: Annotated[bool, typer.Option("--all", help="All of them, page after page.")] = False,
    total: Annotated[bool, typer.Option("--total", help="Tell how many there are, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a message a line, as JSON.")] = False,
) -> None:
    """Find messages by anything that is known of them, newest first.

    `receiver find --destination 447700900001`, `receiver find --state failed --from 24h --all --json`

    Exit code 0 also where nothing is found. For very many messages `receiver export` is quicker.
    """
    if {"changed_from", "changed_to"} & filters.keys():
        filters["order"] = "changed"
    most = None if everything else limit
    filters["limit"] = MOST_ON_A_PAGE if most is None else min(most, MOST_ON_A_PAGE)
    with Client.from_environment() as client:
        if total:
            told = client.page({**filters, "limit": 1, "total": True}).get("total")
            if told:
                typer.echo(f"{in_words(told)} message{'' if told['value'] == 1 else 's'}", err=True)
        found = islice(client.find(filters), most)
        if as_json:
            for message in found:
                typer.echo(json.dumps(message))
            return
        console = Console()
        some = False
        while page := list(islice(found, SHOWN)):
            console.print(messages_table(page))
            some = True
    if not some:
        typer.echo("no message has all of that", err=True)


def in_words(total: Any) -> str:
    """How many, and how good the figure is."""
    value = f"{total['value']:,}".replace(",", " ")
    return {"estimate": f"about {value}", "at_least": f"{value} or more"}.get(total["accuracy"], value)
