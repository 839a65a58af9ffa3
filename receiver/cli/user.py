"""The user's commands: they speak HTTP with RECEIVER_URL and RECEIVER_API_KEY."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from receiver.cli.tables import message_panel, messages_table
from receiver.client import ApiError, Client
from receiver.errors import ReceiverError
from receiver.ids import parse_id

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]

SEARCHED = ("correlationid", "transid", "callbackData", "destination")
MOST_SHOWN = 20


def send(
    to: Annotated[list[str] | None, typer.Option(help="A phone number; may be given several times.")] = None,
    text: Annotated[str, typer.Option(help="The text of the SMS.")] = "",
    sender: Annotated[str, typer.Option(help="The sender id.")] = "",
    correlationid: Annotated[str, typer.Option(help="Your own id, returned and searchable.")] = "",
    callback_data: Annotated[str, typer.Option(help="Your own data, returned and searchable.")] = "",
    body: Annotated[
        Path | None, typer.Option(help="A whole Messaging v1 body in a JSON file, in place of these.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Send an SMS: `receiver send --to 447700900001 --text Hello`."""
    if body is not None:
        request = _read_body(body)
    elif to and text:
        sms = {"text": text, "type": "1", **({"senderid": sender} if sender else {})}
        request = {"deliverychannel": "sms", "channels": {"sms": sms}, "destination": [{"msisdn": to}]}
        request |= {"correlationid": correlationid} if correlationid else {}
        request |= {"callbackData": callback_data} if callback_data else {}
    else:
        raise ReceiverError("nothing to send: give --to and --text, or --body with a JSON file")
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
    as_json: Json = False,
) -> None:
    """Show a message with its timeline: did it arrive, and if not, why?"""
    with Client.from_environment() as client:
        found = _find(client, identity)
        if not found:
            raise ReceiverError(f"nothing is known of {identity!r}: no message has it as id, {', '.join(SEARCHED)}")
        if as_json:
            typer.echo(json.dumps(found[0] if len(found) == 1 else found))
        elif len(found) == 1:
            Console().print(message_panel(found[0]))
        else:
            Console().print(messages_table(found))
            typer.echo("several messages have it: show one by its id", err=True)


def _find(client: Client, identity: str) -> list[dict[str, Any]]:
    """The message of that id with its timeline, or those that have it as one of their other ids."""
    if parse_id(identity):
        try:
            return [client.get(identity)]
        except ApiError as error:
            if error.status != 404:
                raise
    for name in SEARCHED:
        found = []
        for message in client.find({name: identity, "limit": str(MOST_SHOWN)}):
            found.append(message)
            if len(found) == MOST_SHOWN:
                break
        if found:
            return [client.get(found[0]["id"])] if len(found) == 1 else found
    return []
