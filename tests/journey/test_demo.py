"""`receiver demo` as a person meets it: in a terminal, under make, ended with Ctrl-C."""

import contextlib
import os
import pty
import re
import select
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

STORY_SECONDS = 60.0  # 15 on a machine that does nothing else
END_SECONDS = 10.0


class Terminal:
    """A program in a terminal of its own."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe(command[0], command, {**os.environ, "COLUMNS": "250", "TERM": "dumb"})
        self.text = ""

    def read_until(self, mark: str, seconds: float) -> str:
        """All that was printed, once `mark` is in it."""
        deadline = time.monotonic() + seconds
        while mark not in self.text:
            assert time.monotonic() < deadline, self.text
            if select.select([self._fd], [], [], 0.2)[0]:
                try:
                    self.text += os.read(self._fd, 65536).decode(errors="replace").replace("\r\n", "\n")
                except OSError:
                    raise AssertionError(self.text) from None
        return self.text

    def ctrl_c(self) -> int:
        """Presses Ctrl-C and returns the exit code."""
        os.write(self._fd, b"\x03")
        deadline = time.monotonic() + END_SECONDS
        while time.monotonic() < deadline:
            if select.select([self._fd], [], [], 0.05)[0]:
                try:
                    self.text += os.read(self._fd, 65536).decode(errors="replace")
                except OSError:
                    break
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        """Closes the terminal: what still runs in it is told so."""
        os.close(self._fd)


@pytest.mark.skipif(not shutil.which("make"), reason="make is missing: `apt-get install make`")
def test_the_demo_tells_its_story_and_ctrl_c_under_make_ends_it_with_0(tmp_path: Path) -> None:
    data = tmp_path / "data"
    demo = f"{sys.executable} -m receiver demo --data-dir {data}"
    (tmp_path / "Makefile").write_text(f"run:\n\t@exec {demo}\n")
    keys = set()
    for _ in range(2):
        with contextlib.closing(Terminal(["make", "run"], tmp_path)) as terminal:
            text = terminal.read_until("Ctrl-C ends it.", STORY_SECONDS)
            words = " ".join(text.replace("│", " ").split())
            assert "The phone was switched off or out of coverage." in words, text
            assert "The sender id is not valid for this route." in words, text
            keys.add(re.findall(r"^API key: (\S+)$", text, re.M)[0])
            lines = [line.strip() for line in text.splitlines() if line.strip().startswith("curl ")]
            assert len(lines) == 3
            if shutil.which("curl"):
                answers = [subprocess.check_output(["sh", "-c", line], text=True) for line in lines]
                assert '"state":"undelivered"' in answers[0]
                assert '"destination":"447700900002"' in answers[1]
                assert '"batch_id"' in answers[2]
            assert terminal.ctrl_c() == 0
            assert "Traceback" not in terminal.text
    assert len(keys) == 1, "the second run prints the same key"
    assert stat.S_IMODE((data / "demo-api-key").stat().st_mode) == 0o600
    assert not (data / "postgres" / "postmaster.pid").exists()
    assert str(data) not in subprocess.check_output(["ps", "-eo", "args"], text=True)
