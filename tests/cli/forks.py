"""Commands as processes that need no start: forked off the tests, which have imported everything already.

They have a pid, signals, descriptors and an environment of their own, and run the front door of the command line. What
differs from `python -m receiver`: it costs a hundredth of a second in place of a whole one.
"""

import contextlib
import io
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from receiver.__main__ import main
from receiver.cli.commands import load

for _name in ("import", "reread"):  # or each fork would
    load(_name)


class Fork:
    """A command on its way."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], stdin: bytes = b"") -> None:
        self._words = list(words)
        self._folder = tempfile.TemporaryDirectory(prefix="receiver-fork-")
        self._files = [Path(self._folder.name) / name for name in ("stdin", "stdout", "stderr")]
        self._files[0].write_bytes(stdin)
        self._code: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            code = 70
            with contextlib.suppress(BaseException):
                code = self._run(environment)
            os._exit(code)

    def _run(self, environment: Mapping[str, str]) -> int:
        """The command, in the child; its exit code."""
        for number, file in enumerate(self._files):
            os.dup2(
                os.open(file, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number
            )
        os.closerange(3, 1024)
        sys.stdin = io.TextIOWrapper(os.fdopen(0, "rb"))
        sys.stdout, sys.stderr = (
            io.TextIOWrapper(os.fdopen(number, "wb", buffering=0), write_through=True) for number in (1, 2)
        )
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["receiver", *self._words]
        try:
            main()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
            return 1
        return 0

    def poll(self) -> int | None:
        """The exit code, minus the signal's number where one ended it; None while it runs."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def end(self) -> "subprocess.CompletedProcess[str]":
        """Waits for its end; what it printed and its exit code."""
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        said, errors = (file.read_text() if file.exists() else "" for file in self._files[1:])
        self._folder.cleanup()
        assert "Traceback" not in errors, errors
        return subprocess.CompletedProcess(self._words, self._code, said, errors)


@contextlib.contextmanager
def forked(words: Sequence[str], environment: Mapping[str, str], stdin: bytes = b"") -> Iterator[Fork]:
    """A command that is gone after the block."""
    fork = Fork(words, environment, stdin)
    try:
        yield fork
    finally:
        if fork.poll() is None:
            os.kill(fork.pid, signal.SIGKILL)
            fork.end()
