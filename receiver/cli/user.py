"""The user's commands: they speak HTTP with RECEIVER_URL and RECEIVER_API_KEY."""

import enum
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from receiver.cli.explain_tables import explanation_panel
from receiver.cli.lookup import look_up, the_id
from receiver.cli.tables import message_panel, messages_table
from receiver.client import Client
from receiver.errors import ReceiverError

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]

MANY = "To a file of recipients"


class Uncertain(enum.StrEnum):
    """What to do with rows that may have been sent."""

    SEND = "send"
    SKIP = "skip"


def send(
    to: Annotated[list[str] | None, typer.Option(help="A phone number; may be given several times.")] = None,
    text: Annotated[str, typer.Option(help="The text of the SMS.")] = "",
    sender: Annotated[str, typer.Option(help="The sender id.")] = "",
    correlationid: Annotated[str, typer.Option(help="Your own id, returned and searchable.")] = "",
    callback_data: Annotated[str, typer.Option(help="Your own data, returned and searchable.")] = "",
    body: Annotated[
        Path | None, typer.Option(help="A whole Messaging v1 body in a JSON file, in place of these.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="Recipients: CSV with a header, or JSON Lines (.jsonl). A column named destination, msisdn, email, "
            "customerid, … is the recipient, correlationid your own id; the others fill the template.",
            rich_help_panel=MANY,
        ),
    ] = None,
    template: Annotated[
        Path | None,
        typer.Option(
            help="What each of them gets: a Messaging v1 body without destination, in a JSON file. {name} in a text "
            "stands for the column name; {{ and }} are braces.",
            rich_help_panel=MANY,
        ),
    ] = None,
    id_type: Annotated[
        str | None,
        typer.Option(
            help="What the column destination holds: msisdn (the default), email, customerid, … Or which column it "
            "is, where several could be.",
            rich_help_panel=MANY,
        ),
    ] = None,
    separator: Annotated[
        str, typer.Option(help="Between the fields of a CSV: one character, or tab.", rich_help_panel=MANY)
    ] = ",",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check every row, print the first body, send nothing.", rich_help_panel=MANY),
    ] = False,
    concurrency: Annotated[
        int, typer.Option(min=1, max=32, help="Calls in flight at a time.", rich_help_panel=MANY)
    ] = 4,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            help="Messages a second that are handed in, on average; a call carries up to 1,000.",
            rich_help_panel=MANY,
        ),
    ] = None,
    job: Annotated[
        str | None,
        typer.Option(
            help="The name of this sending; the file's name by default. What was handed in under a job and a template "
            "is not handed in again for 24 hours, even when the state file is lost.",
            rich_help_panel=MANY,
        ),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            help="Where the progress is kept; FILE.sent.jsonl by default. The same command again goes on from there.",
            rich_help_panel=MANY,
        ),
    ] = None,
    uncertain: Annotated[
        Uncertain | None,
        typer.Option(
            help="Of rows that an earlier run began more than a day ago and never finished: send them, or skip them.",
            rich_help_panel=MANY,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Send an SMS: `receiver send --to 447700900001 --text Hello`, or to a whole file of recipients:

    `receiver send --file messages.csv --template body.json`

    A file may have millions of rows. It is checked as a whole before anything is sent. Rows that can't be sent go to
    FILE.rejected.csv with the reason, and the others are sent. Ctrl-C stops it; the same command again goes on where it
    stopped and sends no row twice.
    """
    if file is not None or template is not None:
        if file is None or template is None or to or text or sender or correlationid or callback_data or body:
            raise ReceiverError("--file and --template belong together, and without --to, --text or --body")
        from receiver.cli.send_calls import Plan  # a file alone needs the rules of a body
        from receiver.cli.send_file import Options, send_file

        plan = Plan(concurrency, rate, uncertain.value if uncertain else None)
        send_file(Options(file, template, id_type, separator, job, state, plan, dry_run, as_json))
        return
    if body is not None:
        request = _read_body(body)
    elif to and text:
        sms = {"text": text, "type": "1", **({"senderid": sender} if sender else {})}
        request = {"deliverychannel": "sms", "channels": {"sms": sms}, "destination": [{"msisdn": to}]}
        request |= {"correlationid": correlationid} if correlationid else {}
        request |= {"callbackData": callback_data} if callback_data else {}
    else:
        raise ReceiverError("nothing to send: give --to and --text, --body, or --file and --template")
    _send_one(request, as_json)


def _send_one(request: dict[str, Any], as_json: bool) -> None:
    with Client.from_environment() as client:
        answer = client.send(request)
    if as_json:
        typer.echo(json.dumps(answer))
        return
    for message in answer["messages"]:
        typer.echo(f"{message['id']}  {message['destination']}  {message['state']}")
    typer.echo(f"see what becomes of it: receiver show {answer['messages'][0]['id']}", err=True)


def _read_body(file: Path) -> dict[str, Any]:
    try:
        request = json.loads(file.read_text())
    except OSError as error:
        raise ReceiverError(f"{file} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise ReceiverError(f"{file} is no JSON: {error}") from None
    if not isinstance(request, dict):
        raise ReceiverError(f"{file} holds no JSON object")
    return request


def show(
    identity: Annotated[str, typer.Argument(metavar="ID", help="Any id: ours, transid, correlationid, a number.")],
    explain: Annotated[
        bool, typer.Option("--explain", help="Why: each receipt with its rule, and what is still expected.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show a message with its timeline: did it arrive, and if not, why?"""
    with Client.from_environment() as client:
        if explain:
            explanation = client.explain(the_id(client, identity))
            if as_json:
                typer.echo(json.dumps(explanation))
            else:
                Console().print(explanation_panel(explanation))
            return
        found = look_up(client, identity)
        if as_json:
            typer.echo(json.dumps(found[0] if len(found) == 1 else found))
        elif len(found) == 1:
            Console().print(message_panel(found[0]))
        else:
            Console().print(messages_table(found))
            typer.echo("several messages have it: show one by its id", err=True)
