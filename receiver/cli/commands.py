"""All commands by family: those of the operator open the database, those of the user speak HTTP."""

from typing import Annotated

import typer

from receiver import __version__
from receiver.cli import (
    capture,
    demo,
    doctor,
    forget,
    forwards,
    import_file,
    operator,
    quarantine,
    reread,
    serve,
    spool,
    user,
)

application = typer.Typer(
    name="receiver",
    help="Sends messages through Webex Connect / IMIconnect, keeps every receipt, and answers: did it arrive?\n\n"
    "Begin with `receiver demo`: everything on this machine, with a simulated platform.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@application.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None: ...


RUN, OPERATE, USE = "Run it", "Operate it (opens the database)", "Use it (speaks HTTP)"

application.command("demo", rich_help_panel=RUN)(demo.demo)
application.command("serve", rich_help_panel=RUN)(serve.serve)
application.command("sandbox", rich_help_panel=RUN)(serve.sandbox)
application.command("migrate", rich_help_panel=OPERATE)(operator.migrate)
application.add_typer(operator.keys, name="keys", rich_help_panel=OPERATE)
application.add_typer(quarantine.application, name="quarantine", rich_help_panel=OPERATE)
application.add_typer(forwards.application, name="forwards", rich_help_panel=OPERATE)
application.add_typer(spool.application, name="spool", rich_help_panel=OPERATE)
application.command("doctor", rich_help_panel=OPERATE)(doctor.doctor)
application.command("forget", rich_help_panel=OPERATE)(forget.forget)
application.command("reread", rich_help_panel=OPERATE)(reread.reread)
application.command("import", rich_help_panel=OPERATE)(import_file.import_file)
application.command("capture", rich_help_panel=OPERATE)(capture.capture)
application.command("notify-url", rich_help_panel=OPERATE)(operator.notify_url)
application.command("send", rich_help_panel=USE)(user.send)
application.command("show", rich_help_panel=USE)(user.show)
