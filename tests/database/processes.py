"""Postgres seen from outside: its processes, and another process of ours that holds it."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from receiver.database.embedded import Cluster

ROOM = Path(__file__).resolve().parents[2]

HOLDER = """
import os, signal, sys
from pathlib import Path
from receiver.database.embedded import serving, visiting
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that run in the background inherit ignored ones
signal.signal(signal.SIGHUP, signal.SIG_DFL)
with {"serving": serving, "visiting": visiting}[os.environ["KIND"]](Path(os.environ["FOLDER"])):
    print("up", flush=True)
    sys.stdin.read()
"""


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def query(cluster: Cluster, sql: str) -> object:
    async def ask() -> object:
        connection = await asyncpg.connect(cluster.dsn)
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(ask())


def command_lines() -> dict[int, str]:
    lines = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                lines[int(entry.name)] = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
    return lines


def postmasters(folder: Path) -> list[int]:
    pids = [pid for pid, line in command_lines().items() if str(folder) in line and "postgres\0-D" in line]
    # A backend bears the name of its parent until it gives itself one.
    parents = {pid: parent(pid) for pid in pids}
    return [pid for pid in pids if parents[pid] is not None and parents[pid] not in pids]


def end_postmasters(folder: Path) -> list[int]:
    left = postmasters(folder)
    for pid in left:
        os.kill(pid, signal.SIGQUIT)
    until(lambda: not any(alive(pid) for pid in left))
    return left


def parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def children(postmaster: int) -> list[int]:
    return [pid for pid in command_lines() if parent(pid) == postmaster]


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead but not reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def holder(folder: Path, kind: str = "serving", wait: bool = True) -> Iterator[subprocess.Popen[str]]:
    """Another process that serves or visits the folder until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOM,
        env={**os.environ, "KIND": kind, "FOLDER": str(folder)},
    )
    try:
        assert process.stdout is not None
        if wait:
            assert process.stdout.readline() == "up\n"
        yield process
    finally:
        process.communicate(timeout=30)
