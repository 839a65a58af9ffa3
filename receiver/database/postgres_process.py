"""What a postmaster shows from outside: its pid file, its process, and whether it answers."""

import os
import signal
import socket
import struct
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SOCKET = ".s.PGSQL.5432"
# Children of a dead postmaster: how a crash ends them, then by force.
ORPHAN_ENDS = ((signal.SIGQUIT, 3.0), (signal.SIGKILL, 3.0))


@dataclass(frozen=True)
class Postmaster:
    """What the last postmaster wrote of itself in postmaster.pid; it may be dead by now.

    The folder of its socket is written a little later than its pid: ``Path()`` until then.
    """

    pid: int
    socket_folder: Path
    ready: bool


def read_postmaster(cluster: Path) -> Postmaster | None:
    """Read postmaster.pid; None when there is none, or no pid in it.

    A lone backend (`postgres --single`) writes its pid with a minus: it can't be waited for or stopped.
    """
    try:
        lines = os.fsdecode((cluster / "postmaster.pid").read_bytes()).split("\n")
        pid = int(lines[0])
    except (FileNotFoundError, ValueError):
        return None
    lines += [""] * 8
    return Postmaster(pid, Path(lines[4]), ready=lines[7].strip() == "ready") if pid > 0 else None


def is_torn(cluster: Path) -> bool:
    """Tell whether postmaster.pid is there without a pid: a power cut left an empty one, or one of zeros."""
    try:
        return not (cluster / "postmaster.pid").read_bytes().split(b"\n")[0].lstrip(b"-").isdigit()
    except FileNotFoundError:
        return False


def answers(folder: Path, name: str) -> bool:
    """Begin a connection in this socket's folder, and tell whether the server asks for a password."""
    words = struct.pack("!I", 3 << 16) + f"user\0{name}\0database\0{name}\0\0".encode()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(1)
            connection.connect(str(folder / SOCKET))
            connection.sendall(struct.pack("!I", len(words) + 4) + words)
            reply = connection.recv(1024)
    except OSError:
        return False
    # An error is an answer too (too many connections), but for 57P03: it is starting up, or shutting down.
    return reply[:1] == b"R" or (reply[:1] == b"E" and b"C57P03" not in reply)


def is_postmaster(pid: int, cluster: Path) -> bool:
    """Tell whether this process lives and is the cluster's postmaster; reap it if it was a child of ours."""
    words = _command_line(pid)
    if not words:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    if words is None:
        # No /proc, or none that shows us others': whoever lives under this number has to be it.
        return _lives(pid)
    return os.fsencode(cluster) in words


def is_another(pid: int, cluster: Path) -> bool:
    """Tell whether this number is surely that of another program or server, or of a dead one that nobody reaped."""
    words = _command_line(pid)
    if words is None:
        return False
    return not words or b"postgres" not in words[0] or _works_in(pid, cluster) is False


def end_orphans(cluster: Path) -> None:
    """End the children of a dead postmaster: while one lives (in a long statement, or stopped) none can start.

    What they had committed is in the WAL. Where there is no /proc they are waited for by whoever tries again.
    """
    for number, seconds in ORPHAN_ENDS:
        deadline = time.monotonic() + seconds
        for pid in _orphans(cluster):
            with suppress(OSError):
                process = os.pidfd_open(pid)
                try:
                    # Looked at again: by now the number could be another's, and what we hold open can't.
                    if pid in _orphans(cluster):
                        signal.pidfd_send_signal(process, number)
                finally:
                    os.close(process)
        while _orphans(cluster):
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        else:
            return


def _orphans(cluster: Path) -> list[int]:
    """The processes that call themselves a server's child, belong to its user, and work in this cluster."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        words = _command_line(int(entry.name))
        if words and words[0].startswith(b"postgres: ") and _works_in(int(entry.name), cluster):
            found.append(int(entry.name))
    return found


def _works_in(pid: int, cluster: Path) -> bool | None:
    """Tell whether a process has this cluster as its current folder; None when we may not know."""
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/cwd"), cluster.stat())
    except OSError:
        return None


def end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """End a server that did not come up, by force if it takes longer than this."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _command_line(pid: int) -> list[bytes] | None:
    """Read a process's command line: empty for a dead one that nobody reaped, None when it can't be read."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    return words.split(b"\0") if words else []


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
