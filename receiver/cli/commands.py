"""All commands by family: those of the operator open the database, those of the user speak HTTP.

A command's module is imported when that command is called: to import them all takes a second of a processor.
"""

import importlib
from typing import Annotated, Any, Final, NamedTuple

import typer
from typer.core import TyperGroup

from receiver import __version__

MARKUP: Final = "markdown"
RUN, OPERATE, USE = "Run it", "Operate it (opens the database)", "Use it (speaks HTTP)"


class Line(NamedTuple):
    """A line in the table of commands."""

    panel: str
    place: str
    """Where its function or its group stands, `module:name` in receiver.cli."""
    help: str
    """The first sentences of its own help text: they can be shown without its module."""


LINES: Final[dict[str, Line]] = {
    "demo": Line(
        RUN,
        "demo:demo",
        "Try everything on this machine: sends six SMS through a simulated platform and shows what becomes of them.",
    ),
    "serve": Line(
        RUN,
        "serve:serve",
        "Serve the doors and do the work of the roles. Settings come from RECEIVER_…: see docs/settings.md.",
    ),
    "sandbox": Line(
        RUN, "sandbox:sandbox", "Simulate the platform: its APIs, their answers and their receipts, on this machine."
    ),
    "migrate": Line(
        OPERATE,
        "operator:migrate",
        "Bring the database's schema up to this version. Safe to run again, and while an older version serves.",
    ),
    "keys": Line(OPERATE, "keys:application", "API keys: who may send and ask."),
    "quarantine": Line(OPERATE, "quarantine:application", "Bodies in which no receipt could be read or believed."),
    "forwards": Line(
        OPERATE, "forwards:application", "Receipts that wait to go on to a client's address, or were given up."
    ),
    "spool": Line(OPERATE, "spool:application", "Receipts that wait on this machine's disk for the database."),
    "doctor": Line(
        OPERATE,
        "doctor:doctor",
        "Look at settings, database, disk, public address and platform: what is wrong, and what to do about it.",
    ),
    "forget": Line(
        OPERATE,
        "forget:forget",
        "Erase one person: names and texts go, counts and states stay. Exit code 1: something is left; run it again.",
    ),
    "reread": Line(
        OPERATE,
        "reread:reread",
        "Read stored receipts again with this version's tables, and correct their messages: a state may be lowered, "
        "too.",
    ),
    "import": Line(
        OPERATE,
        "import_file:import_file",
        "Import receipts that were never pushed, such as the platform's export of failed notifications.",
    ),
    "capture": Line(
        OPERATE,
        "capture:capture",
        "Write what was told of a message as a scenario that names nobody: for a bug report, a test, the sandbox.",
    ),
    "sql-role": Line(
        OPERATE,
        "sql_role:sql_role",
        "Make a role in Postgres that reads the views for reports (docs/sql.md), and nothing else. Safe to run again.",
    ),
    "notify-url": Line(
        OPERATE,
        "operator:notify_url",
        "Print the address to enter as Notify URL of the tenant's service on the platform.",
    ),
    "send": Line(
        USE,
        "user:send",
        "Send an SMS: `receiver send --to 447700900001 --text Hello`, or to a whole file of recipients:",
    ),
    "show": Line(USE, "user:show", "Show a message with its timeline: did it arrive, and if not, why?"),
    "find": Line(USE, "find:find", "Find messages by anything that is known of them, newest first."),
    "wait": Line(
        USE, "watch:wait", "Wait until a message has arrived, or never will. Its exit code tells a script which."
    ),
    "tail": Line(USE, "tail:tail", "Print changes as they happen, or run a command for each, until Ctrl-C."),
    "stats": Line(USE, "stats:stats", "Show how well messages are delivered: counts, rates and times, by group."),
    "export": Line(
        USE, "export:export", "Write all messages that the filters let through, as NDJSON or CSV, newest first."
    ),
}


class Commands(TyperGroup):
    """Knows the line of each command, and puts the command itself in its place when it is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The name, the command, and the words left for it. A name that is none ends with the usual error."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, name and load(name), rest


def load(name: str) -> Any:
    """The command of that name, or its group of commands, with all options."""
    module, _, attribute = LINES[name].place.partition(":")
    found = getattr(importlib.import_module(f"receiver.cli.{module}"), attribute)
    family = typer.Typer(rich_markup_mode=MARKUP)
    if isinstance(found, typer.Typer):
        family.add_typer(found, name=name)
    else:
        family.command(name)(found)
    return typer.main.get_group(family).commands[name]


application = typer.Typer(
    name="receiver",
    cls=Commands,
    help="Sends messages through Webex Connect / IMIconnect, keeps every receipt, and answers: did it arrive?\n\n"
    "Begin with `receiver demo`: everything on this machine, with a simulated platform.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=MARKUP,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@application.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None: ...


def _never() -> None:
    """What a line would call, were its command not put in its place."""


for _name, _line in LINES.items():
    application.command(_name, help=_line.help, rich_help_panel=_line.panel)(_never)
