"""A command that is run for each change: no shell, the change on its standard input, a bounded time, one at a time."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import IO, Any

import typer

from receiver.environment import OF_A_CHANGE

LAST_SECONDS, LOOK_SECONDS = 2.0, 0.02  # between being asked to end and being ended
# Variables of the command, and what of a change they have.
VARIABLES = {
    "ID": "id",
    "EVENT": "event",
    "AT": "at",
    "STATE": "state",
    "OLD_STATE": "old_state",
    "CHANNEL": "channel",
    "COUNTRY": "country",
    "CLASS": "reason_class",
    "CODE": "code",
    "CORRELATIONID": "correlationid",
    "BATCH_ID": "batch_id",
}


class ChangeCommand:
    """The command of --exec. `seconds` is how long one run may take; `output` where what it prints goes."""

    def __init__(self, line: str, seconds: float, output: IO[str] | None = None) -> None:
        """Raises typer.BadParameter for what is no command, or none that is there."""
        try:
            self._words = shlex.split(line)
        except ValueError as error:
            raise typer.BadParameter(f"--exec can't be read: {error}") from None
        if not self._words or shutil.which(self._words[0]) is None:
            raise typer.BadParameter(f"--exec: there is no command {self._words[0] if self._words else ''!r}")
        self._seconds, self._output = seconds, output

    def run(self, change: Mapping[str, Any]) -> str | None:
        """Runs it to its end; returns what went wrong, in words, or None. An exception ends it as well."""
        said = json.dumps(change).encode()
        try:
            process = subprocess.Popen(
                self._words,
                stdin=subprocess.PIPE,
                stdout=self._output,
                env={**os.environ, **_variables(change)},
                process_group=0,  # Ctrl-C is for us: we end it
            )
        except (OSError, ValueError) as error:
            return f"could not be started: {error}"
        try:
            process.communicate(said, timeout=self._seconds)
        except subprocess.TimeoutExpired:
            return f"was ended after {self._seconds:g} s"
        finally:
            _end(process)
        code = process.returncode
        return None if code == 0 else f"ended with {code}" if code > 0 else f"was ended by signal {-code}"


def _variables(change: Mapping[str, Any]) -> dict[str, str]:
    """What of a change may stand in a variable: no text without an end, and empty for what it has not."""
    texts = {name: str(change.get(part) or "") for name, part in VARIABLES.items()}
    return {f"RECEIVER_{OF_A_CHANGE}{name}": text.replace("\0", "") for name, text in texts.items()}


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends it and all that it has started, if it has not ended."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    if process.poll() is not None:
        return
    try:
        _signal(process, signal.SIGTERM)
        until = time.monotonic() + LAST_SECONDS
        while _is_there(process) and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
    finally:  # a second Ctrl-C too
        _signal(process, signal.SIGKILL)
        process.wait()


def _is_there(process: "subprocess.Popen[bytes]") -> bool:
    """Whether it, or anything that it has started, has not ended."""
    return process.poll() is None or _signal(process, 0)


def _signal(process: "subprocess.Popen[bytes]", number: int) -> bool:
    """Tells it and all that it has started; returns whether anybody heard."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def end_like_ctrl_c() -> None:
    """From now on SIGTERM ends this process as Ctrl-C does: with the command that it runs."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def output_beside(is_json: bool) -> IO[str] | None:
    """Where a command prints: with us, or beside us where our own output is for a program."""
    return sys.stderr if is_json else None
