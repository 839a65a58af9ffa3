"""What a postmaster shows from outside: its pid file, its process, and whether it answers."""

import os
import socket
import struct
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SOCKET = ".s.PGSQL.5432"


@dataclass(frozen=True)
class Postmaster:
    """What the last postmaster wrote of itself in postmaster.pid; it may be dead by now."""

    pid: int
    socket_folder: Path
    ready: bool


def read_postmaster(cluster: Path) -> Postmaster | None:
    """Read postmaster.pid; None when there is none, or when it is not written far enough yet.

    A lone backend (`postgres --single`) writes its pid with a minus: it can't be waited for or stopped.
    """
    try:
        lines = os.fsdecode((cluster / "postmaster.pid").read_bytes()).split("\n")
        found = Postmaster(int(lines[0]), Path(lines[4]), ready=lines[7].strip() == "ready")
    except (FileNotFoundError, ValueError, IndexError):
        return None
    return found if found.pid > 0 else None


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


def is_no_postgres(pid: int) -> bool:
    """Tell whether this number is surely that of another program by now, or of a dead one that nobody reaped."""
    words = _command_line(pid)
    return words is not None and (not words or b"postgres" not in words[0])


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
