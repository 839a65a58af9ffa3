"""Certificates of every kind, and servers that answer a probe as they are told to."""

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.doors.telling import certificate
from tests.tools import need

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


def made(folder: Path, *, days: int = 90, names: str = "IP:127.0.0.1,DNS:localhost") -> tuple[Path, Path]:
    """A self-signed certificate for these names that ends so many days from now, and its key."""
    cert, key = certificate(folder)
    request, extensions = folder / "request", folder / "names"
    extensions.write_text(f"subjectAltName={names}\n")
    for words in (
        ["req", "-new", "-key", key, "-subj", "/CN=localhost", "-out", request],
        ["x509", "-req", "-in", request, "-signkey", key, "-days", str(days), "-extfile", extensions, "-out", cert],
    ):
        subprocess.run([need("openssl"), *map(str, words)], check=True, capture_output=True, timeout=60)
    return cert, key


def served_with(cert: Path, key: Path) -> ssl.SSLContext:
    """A server's context."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


@dataclass
class Server:
    """A server at `url`, and every request that it got."""

    url: str
    requests: list[bytes] = field(default_factory=list)
    sent: int = 0


@contextlib.asynccontextmanager
async def answering(
    *parts: bytes, tls: ssl.SSLContext | None = None, endless: bool = False, host: str = "127.0.0.1"
) -> AsyncIterator[Server]:
    """Answers each request with `parts`, then waits; `endless`: repeats the last part for ever."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        server.requests.append(head + await reader.readexactly(length))
        for part in parts:
            writer.write(part)
            server.sent += len(part)
        await writer.drain()
        while endless:
            writer.write(parts[-1])
            await writer.drain()
            server.sent += len(parts[-1])
        if not parts:
            await reader.read()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        taken.append(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await answer(reader, writer)
            writer.close()
            await writer.wait_closed()
        writer.transport.abort()

    taken: list[asyncio.Task[None]] = []
    listening = await asyncio.start_server(take, host, 0, ssl=tls)
    port = listening.sockets[0].getsockname()[1]
    server = Server(f"{'https' if tls else 'http'}://localhost:{port}")
    try:
        yield server
    finally:
        listening.close()
        for task in taken:
            task.cancel()
        await asyncio.gather(*taken)
