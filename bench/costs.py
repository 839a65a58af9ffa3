"""What a measurement costs: processor time and memory from /proc, log bytes from Postgres."""

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from receiver.database.pool import connect

TICK = 1 / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))):
            children[int(stat[1])].append(int(entry.name))
    found = [pid]
    for parent in found:
        found += children[parent]
    return found


def processor_seconds(pid: int) -> float:
    """User and system time of a process and its descendants, those that have ended too."""
    ticks = 0
    for member in family(pid):
        stat = _stat(member)
        if stat:
            ticks += sum(int(field) for field in stat[11:15])
    return ticks * TICK


def memory(pid: int, field: str = "VmRSS") -> float:
    """Megabytes of a process: VmRSS now, VmHWM the most so far."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    return 0.0


@dataclass(frozen=True)
class Postgres:
    """The server behind a dsn: its first process, for what it costs."""

    dsn: str
    pid: int

    @staticmethod
    async def of(dsn: str) -> "Postgres":
        """Finds it: a backend is a child of the first process."""
        connection = await connect(dsn, "bench")
        backend = int(await connection.fetchval("select pg_backend_pid()"))
        parent = int(_stat(backend)[1])
        await connection.close()
        return Postgres(dsn, parent)

    async def log_bytes(self) -> int:
        """How far its write-ahead log has come."""
        connection = await connect(self.dsn, "bench")
        try:
            return int(await connection.fetchval("select pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))
        finally:
            await connection.close()


def own_processor_seconds() -> float:
    """Of this process alone."""
    return sum(os.times()[:2])
