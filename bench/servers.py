"""What the receipts door is compared with: each a server of its own, `python -m bench.servers <name> <port>`.

Served like ours: uvicorn with uvloop and httptools, one process, no access log.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from receiver.access.tenants import Tenants
from receiver.access.tokens import NotifyTokens
from receiver.database.pool import open_pool
from receiver.ids import TenantId, new_id
from receiver.messages.told import Feed
from receiver.receipts.apply import apply
from receiver.receipts.receipt import Source, read
from receiver.tenant_settings import Tenant
from tests.support import SECRET, environment_of, eventually, free_port

POOL = 16
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"7")],
}
BODY = {"type": "http.response.body", "body": b"stored\n"}

Take = Callable[[str, bytes], Awaitable[None]]


def nothing() -> ASGIApp:
    """Starlette with a handler that reads the body and answers."""

    async def handler(request: Request) -> Response:
        await request.body()
        return Response(b"stored\n", media_type="text/plain")

    return Starlette(routes=[Route("/notify/{token:path}", handler, methods=["POST"])])


def _plain(take: Take) -> ASGIApp:
    """ASGI with no framework: `take` gets the path and the body."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        parts = []
        while True:
            event = await receive()
            parts.append(event.get("body", b""))
            if not event.get("more_body"):
                break
        await take(scope["path"], b"".join(parts))
        await send(START)
        await send(BODY)

    return app


def parsing() -> ASGIApp:
    """ASGI with no framework that parses the body and forgets it."""

    async def take(path: str, body: bytes) -> None:
        msgspec.json.decode(body)

    return _plain(take)


async def one_by_one(dsn: str) -> ASGIApp:
    """Our own reading and our own `apply` on our schema: a transaction a request, on a pool of 16."""
    pool = await open_pool(dsn, "one by one", POOL, writer=True)
    tokens, tenants = NotifyTokens(SECRET), Tenants([Tenant("default")])
    async with pool.acquire() as connection:
        await tenants.load(connection)

    async def take(path: str, body: bytes) -> None:
        token = tokens.read(path.rpartition("/")[2])
        assert token is not None
        tenant: TenantId = tenants.id_of(token.tenant)
        reading = read(body, Source(tenant, token.submission_id, datetime.now(UTC)))
        async with pool.acquire() as connection:
            await apply(connection, new_id(), datetime.now(UTC), Feed.PUSH, reading.receipts, reading.rejects)

    return _plain(take)


async def usual(dsn: str) -> ASGIApp:
    """FastAPI and SQLAlchemy as they are usually written: `bench.usual`."""
    from bench.usual import build

    return await build(dsn, POOL)


SERVERS: dict[str, Callable[[str], ASGIApp | Awaitable[ASGIApp]]] = {
    "nothing": lambda _dsn: nothing(),
    "parsing": lambda _dsn: parsing(),
    "one_by_one": one_by_one,
    "usual": usual,
}


async def serve(name: str, port: int, dsn: str) -> None:
    """Runs until it is told to end."""
    made = SERVERS[name](dsn)
    app = await made if isinstance(made, Awaitable) else made
    config = uvicorn.Config(
        app,
        port=port,
        http="httptools",
        loop="uvloop",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
    )
    await uvicorn.Server(config).serve()


@contextmanager
def server_process(name: str, dsn: str, folder: Path) -> Iterator[tuple[int, int]]:
    """Starts one; its port and its process id."""
    port = free_port()
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.servers", name, str(port)],
            env=environment_of(BENCH_DSN=dsn),
            stdout=output,
            stderr=output,
        )
    try:
        eventually(lambda: process.poll() is not None or _listens(port))
        if process.poll() is not None:
            raise RuntimeError(f"{name} did not start: {log.read_text()[-2000:]}")
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main() -> None:
    """Reads the command line and serves."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(sys.argv[1], int(sys.argv[2]), os.environ["BENCH_DSN"]))


if __name__ == "__main__":
    main()
