"""The filters of a search as options: written once for all commands that search."""

import functools
import inspect
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, NamedTuple

import typer

from receiver.cli.times import HELP, moment

PANEL = "Filters: several values of one mean any of them, different ones all of them"
Command = Callable[..., None]


class Filter(NamedTuple):
    """A parameter of a door and its option."""

    parameter: str
    options: tuple[str, ...]
    help: str
    kind: type = str

    @property
    def name(self) -> str:
        """The name that its value has on the way."""
        return f"filter_{self.parameter}"

    def parameter_of_command(self) -> inspect.Parameter:
        """As typer reads it."""
        option: Any
        if self.kind is bool:
            option = Annotated[bool | None, typer.Option(*self.options, help=self.help, rich_help_panel=PANEL)]
        elif self.kind is datetime:
            made = typer.Option(*self.options, help=self.help, rich_help_panel=PANEL, parser=moment, metavar="TIME")
            option = Annotated[datetime | None, made]
        else:
            option = Annotated[list[str] | None, typer.Option(*self.options, help=self.help, rich_help_panel=PANEL)]
        return inspect.Parameter(self.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)


DESTINATION = (
    Filter("destination", ("--destination",), "The recipient, as asked or as any receipt told."),
    Filter("destination_end", ("--destination-end",), "The last 4 to 15 digits of a phone number."),
)
OWN = (
    Filter("correlationid", ("--correlationid",), "Your own id, or ours as the platform shows it."),
    Filter("callbackData", ("--callback-data",), "What you handed in as callbackData."),
    Filter("batch_id", ("--batch-id",), "The batch in which it was handed in."),
)
KIND = (
    Filter("channel", ("--channel",), "sms, voice, push, …"),
    Filter("state", ("--state",), "delivered, undelivered, …"),
    Filter("origin", ("--origin",), "issued, observed or recorded."),
    Filter("final", ("--final/--open",), "Nothing more is expected of it, or it is.", bool),
)
REASON = (
    Filter("code", ("--code",), "The platform's code of the reason."),
    Filter("class", ("--class",), "Who can mend the reason: recipient, content, temporary, …"),
    Filter("country", ("--country",), "The country of a phone number: GB."),
    Filter("sender", ("--sender",), "Who it is from."),
    Filter("conflict", ("--conflict/--no-conflict",), "Its receipts contradict each other.", bool),
    Filter("overdue", ("--overdue/--not-overdue",), "Later than nearly all of its channel and country.", bool),
)
SPAN = (
    Filter("created_from", ("--from", "--created-from"), f"Created at or after: {HELP}.", datetime),
    Filter("created_to", ("--to", "--created-to"), "Created before.", datetime),
)
SEARCH = (
    *DESTINATION,
    Filter("transid", ("--transid",), "The platform's id."),
    *OWN,
    *KIND,
    *REASON,
    *SPAN,
)
CHANGED = (
    Filter("changed_from", ("--changed-from",), "Changed last at or after; 24h ago at most.", datetime),
    Filter("changed_to", ("--changed-to",), "Changed last before.", datetime),
)
STREAM = (Filter("id", ("--id",), "The message's id."), *OWN, *KIND)


def takes(filters: Sequence[Filter]) -> Callable[[Command], Command]:
    """Gives a command these options; it gets those that were said as the parameters of a door, in `filters`."""

    def decorate(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True)
        kept = [parameter for parameter in own.parameters.values() if parameter.name != "filters"]

        @functools.wraps(command)
        def run(**given: Any) -> None:
            chosen = {one.parameter: given.pop(one.name) for one in filters}
            command(**given, filters={name: value for name, value in chosen.items() if value is not None})

        parameters = [
            *(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in kept),
            *(one.parameter_of_command() for one in filters),
        ]
        run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        del run.__wrapped__
        return run

    return decorate
