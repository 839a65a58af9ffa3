"""The front door of the command line: `receiver --help`."""

import sys

import typer

from receiver.cli.commands import application
from receiver.errors import ReceiverError, SettingsError


def main() -> None:
    """Runs a command; a failure that one sentence explains is printed as that sentence."""
    try:
        application()
    except SettingsError as error:
        for problem in error.problems:
            typer.echo(f"receiver: {problem}", err=True)
        sys.exit(2)
    except ReceiverError as error:
        typer.echo(f"receiver: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
