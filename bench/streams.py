"""Many streams and many who wait, at one process: `python -m bench.streams [--streams 1000] [--waiters 5000]`.

Receipts come in at a steady rate meanwhile. It counts whether every stream was told every change, how long after it
each client heard, and what the process used: memory, processor time.
"""

import argparse
import asyncio
import contextlib
import json
import resource
import statistics
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from bench.report import Section
from bench.stage import Caller, stage
from receiver.access.keys import create_key
from receiver.access.tokens import NotifyTokens
from receiver.database.pool import connect
from receiver.ids import TenantId
from tests.receipts.tellings import body
from tests.support import SECRET, Database, Receiver, receiver_process

PIECE = 65_536
TICK = 0.25


@dataclass
class Told:
    """What the clients heard."""

    counts: list[int]
    seconds: list[float] = field(default_factory=list)
    woken: list[float] = field(default_factory=list)


def _receipt(number: int, status: str = "Delivered") -> bytes:
    info = {"deliveryChannel": "SMS", "deliveryStatus": status, "destination": f"4477009{number % 100_000:05d}"}
    return body(info, f"bench-{number}")


async def _follow(
    place: tuple[str, int], key: str, number: int, told: Told, ready: asyncio.Semaphore, opening: asyncio.Semaphore
) -> None:
    async with opening:
        reader, writer = await asyncio.open_connection(*place)
        request = f"GET /v1/stream HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\r\n"
        writer.write(request.encode())
        await reader.readuntil(b"event: ready")
    ready.release()
    try:
        rest = b""
        while piece := await reader.read(PIECE):
            now = time.time()
            told.counts[number] += (rest[-13:] + piece).count(b"event: change")
            rest = piece[-13:] if not piece.endswith(b"event: change") else b""
            if number % 50 == 0 and (at := piece.rfind(b'"at":"')) >= 0 and len(piece) > at + 33:
                told.seconds.append(now - _time(piece[at + 6 : at + 33]))
    finally:
        writer.close()


def _time(text: bytes) -> float:
    return datetime.fromisoformat(text.decode().replace("Z", "+00:00")).timestamp()


async def _wait(place: tuple[str, int], key: str, message: str, told: Told, opening: asyncio.Semaphore) -> None:
    async with opening:
        reader, writer = await asyncio.open_connection(*place)
        path = f"/v1/messages/{message}?wait=60&until=delivered"
        writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\r\n".encode())
        await writer.drain()
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        answer = json.loads(await reader.readexactly(length))
        if answer.get("state") == "delivered":
            told.woken.append(time.time())
    finally:
        writer.close()


async def _load(place: tuple[str, int], path: str, first: int, seconds: float, rate: int) -> int:
    """Receipts of new messages, so many a second; returns how many."""
    callers = [await Caller(*place).open() for _ in range(8)]
    count, began = 0, time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        due = int(passed * rate) - count
        for at in range(0, due, len(callers)):
            numbers = range(first + count + at, first + count + min(at + len(callers), due))
            requests = [_post(path, _receipt(n)) for n in numbers]
            await asyncio.gather(*(c.ask(r) for c, r in zip(callers, requests, strict=False)))
        count += max(due, 0)
        await asyncio.sleep(0.02)
    for caller in callers:
        await caller.close()
    return count


def _post(path: str, raw: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (path.encode(), len(raw), raw)


def _used(pid: int) -> tuple[float, float]:
    """Megabytes in memory, seconds of processor time."""
    status = Path(f"/proc/{pid}/status").read_text()
    kilobytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return kilobytes / 1024, (int(fields[11]) + int(fields[12])) / 100


async def _figures(caller: Caller) -> bytes:
    return (await caller.ask(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"))[1]


async def _measure(
    database: Database, receiver: Receiver, streams: int, waiters: int, seconds: float, rate: int
) -> Section:
    address = urlsplit(receiver.url)
    place = (address.hostname or "", address.port or 0)
    path = f"/notify/{NotifyTokens(SECRET).sign('default')}"
    connection = await connect(database.dsn, "bench")
    tenant = TenantId(await connection.fetchval("select id from tenant where name = 'default'"))
    key = await create_key(connection, tenant, "bench", ["read"])
    caller = await Caller(*place).open()
    for number in range(100):
        await caller.ask(_post(path, _receipt(number, "Submitted")))
    ids = [str(row[0]) for row in await connection.fetch("select id from message limit 100")]
    told, ready, opening = Told([0] * streams), asyncio.Semaphore(0), asyncio.Semaphore(50)
    memory_before, _ = _used(receiver.process.pid)
    tasks = [asyncio.create_task(_follow(place, key, n, told, ready, opening)) for n in range(streams)]
    for _ in range(streams):
        await ready.acquire()
    memory_streams, _ = _used(receiver.process.pid)
    waiting = [asyncio.create_task(_wait(place, key, ids[n % 100], told, opening)) for n in range(waiters)]
    while waiters and f"receiver_waiters {float(waiters)}".encode() not in await _figures(caller):  # noqa: ASYNC110 (theirs)
        await asyncio.sleep(TICK)
    memory_all, used_before = _used(receiver.process.pid)
    connections = await connection.fetchval(
        "select count(*) from pg_stat_activity where application_name = 'receiver watch'"
    )
    await asyncio.sleep(seconds / 2)
    used_idle = _used(receiver.process.pid)[1]
    count = await _load(place, path, 1_000, seconds, rate)
    used_load = _used(receiver.process.pid)[1]
    woken_from = time.time()
    for number in range(100):
        await caller.ask(_post(path, _receipt(number)))
    if waiting:
        await asyncio.wait(waiting, timeout=30)
    changes = count + 100
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(15):
            while min(told.counts, default=changes) < changes:  # noqa: ASYNC110 (1,000 of them count)
                await asyncio.sleep(TICK)
    memory_end, _ = _used(receiver.process.pid)
    for task in [*tasks, *waiting]:
        task.cancel()
    await asyncio.gather(*tasks, *waiting, return_exceptions=True)
    await caller.close()
    await connection.close()
    late = sorted(told.seconds) or [float("nan")]
    woken = sorted(at - woken_from for at in told.woken) or [float("nan")]
    section = Section("Streams and waiting clients at one process", ("figure", "value"))
    section.rows = [
        ("streams, clients that wait", f"{streams}, {waiters}"),
        ("connections of theirs to Postgres", str(connections)),
        ("receipts a second, taken", f"{count / seconds:.0f} of {rate}"),
        ("events told, of those due", f"{sum(told.counts)} of {changes * streams}"),
        ("from the change to the client, median / 99 %", _pair(late)),
        ("clients woken, of all", f"{len(told.woken)} of {waiters}"),
        (
            "from the first of 100 receipts to the answer, median / last",
            f"{statistics.median(woken):.2f} / {woken[-1]:.2f} s",
        ),
        (
            "memory: before, with streams, with all, at the end",
            " / ".join(f"{m:.0f}" for m in (memory_before, memory_streams, memory_all, memory_end)) + " MB",
        ),
        (
            "processor: idle, under load",
            f"{(used_idle - used_before) / (seconds / 2):.2f} / {(used_load - used_idle) / seconds:.2f} of a core",
        ),
    ]
    return section


def _pair(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} / {values[int(len(values) * 0.99) - 1]:.2f} s"


def measure(streams: int, waiters: int, seconds: float, rate: int) -> Section:
    """Starts a receiver, opens everything, and lets receipts come in for so many seconds."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    more = {"RECEIVER_STREAMS": str(streams + 1), "RECEIVER_WAITERS": str(waiters + 1), "RECEIVER_LOG_LEVEL": "warning"}
    with stage() as (database, folder), receiver_process(database, folder, **more) as receiver:
        return asyncio.run(_measure(database, receiver, streams, waiters, seconds, rate))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--waiters", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=int, default=50)
    chosen = parser.parse_args()
    measure(chosen.streams, chosen.waiters, chosen.seconds, chosen.rate).print()


if __name__ == "__main__":
    main()
