"""How many calls a second the dispatcher makes: `python bench/dispatch.py [--calls 3000] [--at-once 16] [--millis 50]`.

The platform is a process of its own that answers each call after `--millis`. Postgres is the embedded one, with fsync.
At the end every message must be accepted, the platform must have taken each once, and the change log must say the same.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import msgspec
import uvloop

from receiver.access.tenants import Tenants
from receiver.access.tokens import NotifyTokens
from receiver.database.embedded import visiting
from receiver.database.migrate import migrate
from receiver.database.partitions import ensure_weeks
from receiver.database.pool import Pool, open_pool
from receiver.platform.client import PlatformClient
from receiver.sending import outbox
from receiver.sending.dispatcher import Dispatcher
from receiver.sending.request import Request, check
from receiver.tenant_settings import Tenant

TIMER = 0.0002  # a timer of the loop goes off that much too late in the mean: it counts whole milliseconds

TOTALS = """
select (select count(*) from message_state where state = 10) as accepted,
       (select count(*) from change where new_state = 10) as logged,
       (select count(*) from outbox) as left
"""


async def platform(millis: float) -> None:
    """Answers every call after a while, and each GET with what it has counted."""
    came, ids, seconds = list[float](), set[str](), 0.0

    async def answer(head: bytes, body: bytes, came_in: float) -> bytes:
        nonlocal seconds
        if head.startswith(b"GET"):
            calls = len(came)
            tenth = calls // 10  # without the beginning, when nothing is claimed ahead, and the end
            steady = (calls - 2 * tenth - 1) / (came[-tenth - 1] - came[tenth])
            return f"{calls} {len(ids)} {seconds / calls * 1000:.2f} {steady:.1f}".encode()
        came.append(came_in)
        ids.update(entry["correlationid"] for entry in msgspec.json.decode(body)["destination"])
        await asyncio.sleep(came_in + millis / 1000 - TIMER - time.perf_counter())
        seconds += time.perf_counter() - came_in
        return b'{"response":[{"code":"1001","transid":"%s","description":"Queued"}]}' % str(uuid4()).encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                body, came_in = b"", time.perf_counter()
                if b"chunked" in head:
                    while size := int(await reader.readuntil(b"\r\n"), 16):
                        body += (await reader.readexactly(size + 2))[:-2]
                    await reader.readexactly(2)
                elif b"content-length: " in head:
                    body = await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
                said = await answer(head.upper()[:4], body, came_in)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(said) + said)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@asynccontextmanager
async def platform_process(millis: float) -> AsyncIterator[int]:
    """The port of a platform in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--platform", "--millis", str(millis), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


async def counted(port: int) -> tuple[int, int, float, float]:
    """Calls and distinct messages that the platform has taken, the milliseconds of an answer in the mean, and the
    calls a second between the first tenth and the last.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    calls, messages, millis, steady = (await reader.read(100)).split()
    writer.close()
    return int(calls), int(messages), float(millis), float(steady)


async def hand_in(pool: Pool, tenants: Tenants, calls: int, entries: int) -> None:
    """Accepts so many submissions of so many messages each."""
    body = {"deliverychannel": "sms", "channels": {"sms": {"text": "Your parcel is on its way"}}}
    async with pool.acquire() as connection:
        for number in range(calls):
            destination = [{"msisdn": [str(447700000000 + number * entries + n)]} for n in range(entries)]
            request = check({**body, "destination": destination})
            assert isinstance(request, Request)
            await outbox.accept(connection, tenants.id_of("default"), request, datetime.now(UTC))


async def measure(dsn: str, calls: int, at_once: int, millis: float, entries: int) -> None:
    """Hands in, then lets the dispatcher send, and prints what it took."""
    pool = await open_pool(dsn, "bench", 8, writer=True)
    async with platform_process(millis) as port, PlatformClient(30, at_once) as client:
        tenants = Tenants([Tenant("default", platform_url=f"http://127.0.0.1:{port}", platform_key="k" * 20)])
        async with pool.acquire() as connection:
            await ensure_weeks(connection, datetime.now(UTC))
            await tenants.load(connection)
        await hand_in(pool, tenants, calls, entries)
        dispatcher = Dispatcher(
            pool,
            client,
            tenants,
            NotifyTokens("a secret of the bench"),
            "https://receiver.example",
            concurrency=at_once,
            timeout=30,
            keep_content=False,
        )
        began, cpu = time.perf_counter(), time.process_time()
        running = asyncio.create_task(dispatcher.run())
        while await pool.fetchval("select count(*) from outbox"):  # noqa: ASYNC110 (a row has no event)
            await asyncio.sleep(0.02)
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        await dispatcher.close()
        await running
        totals = dict((await pool.fetch(TOTALS))[0])
        assert totals == {"accepted": calls * entries, "logged": calls * entries, "left": 0}, totals
        *counts, answered, steady = await counted(port)
        assert counts == [calls, calls * entries]
    await pool.close()
    calls_a_second, most = calls / took, at_once / answered * 1000
    print(
        f"dispatch: {calls} calls of {entries} messages, {at_once} at once, {answered:.1f} ms each:"
        f" {steady:.0f} calls/s of {most:.0f} that can be, {calls_a_second:.0f} with beginning and end,"
        f" {calls_a_second * entries:.0f} messages/s,"
        f" {cpu / calls * 1000:.2f} ms of CPU a call here"
    )


def main() -> None:
    """Reads the command line and runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--millis", type=float, default=50)
    parser.add_argument("--entries", type=int, default=1)
    parser.add_argument("--platform", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.platform:
        uvloop.run(platform(chosen.millis))
        return
    with tempfile.TemporaryDirectory(prefix="receiver-bench-") as folder:
        os.chmod(folder, 0o755)
        with visiting(Path(folder) / "data") as cluster:
            asyncio.run(migrate(cluster.dsn))
            uvloop.run(measure(cluster.dsn, chosen.calls, chosen.at_once, chosen.millis, chosen.entries))


if __name__ == "__main__":
    main()
