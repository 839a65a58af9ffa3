"""An intake with its spool, and the way to Postgres, which can be cut, stand still, or keep the answers to itself."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from receiver.access.tenants import Tenants
from receiver.database.pool import Pool, lazy_pool
from receiver.ids import TenantId, new_id
from receiver.receipts.arrival import Arrival
from receiver.receipts.breaker import Breaker
from receiver.receipts.drain import Drain, can_commit
from receiver.receipts.intake import Intake
from receiver.receipts.receipt import Source, read
from receiver.receipts.spool import Spool
from receiver.receipts.spool_held import installation_of
from receiver.tenant_settings import Tenant
from receiver.workers import Worker
from tests.receipts.tellings import body
from tests.support import SECRET, Database

INSTALLATION = installation_of(SECRET)
MOST = 64 * 1024 * 1024
CAME = datetime(2026, 3, 1, 12, tzinfo=UTC)
RECEIPTS, COMMIT = b"deliveryInfo", b"COMMIT;"  # what stands on the wire


def delivered(number: int, **more: str) -> bytes:
    info = {"deliveryChannel": "SMS", "deliveryStatus": "Delivered", "destination": "447700900001", **more}
    return body(info, f"spool-{number}")


def arrival(number: int, **more: str) -> Arrival:
    """What came in at the door, a second after the one before."""
    raw = delivered(number, **more)
    headers = [(b"user-agent", b"platform"), (b"authorization", b"a secret")]
    return Arrival("default", None, CAME + timedelta(seconds=number), raw, headers)


class Way:
    """The way to Postgres, on a port of its own."""

    def __init__(self, database: Database) -> None:
        parts = urlsplit(database.dsn)
        [self._socket] = parse_qs(parts.query)["host"]
        self._user = parts.netloc.rpartition("@")[0]
        self._name = database.name
        self._port = 0
        self._is_cut = False
        self._withholds: bytes | None = None
        self.withheld = 0
        """Answers that were kept back."""
        self._flows = asyncio.Event()
        self._flows.set()
        self._links: set[asyncio.Task[None]] = set()

    @property
    def dsn(self) -> str:
        return f"postgresql://{self._user}@127.0.0.1:{self._port}/{self._name}?sslmode=disable"

    def cut(self) -> None:
        """Every connection ends, and none is taken."""
        self._is_cut = True
        for link in self._links:
            link.cancel()

    def mend(self) -> None:
        self._is_cut, self._withholds = False, None
        self._flows.set()

    def freeze(self) -> None:
        """Not a byte passes."""
        self._flows.clear()

    def withhold(self, what: bytes = RECEIPTS) -> None:
        """The next answer to `what` does not come back, nor anything behind it on its connection."""
        self._withholds = what

    async def _take(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        far_writer = None
        try:
            if self._is_cut:
                return
            far, far_writer = await asyncio.open_unix_connection(f"{self._socket}/.s.PGSQL.5432")
            held = [False]
            await asyncio.gather(self._pump(near, far_writer, held, up=True), self._pump(far, back, held, up=False))
        except (asyncio.CancelledError, OSError):
            pass
        finally:
            self._links.discard(task)
            for writer in (back, far_writer):
                if writer is not None:
                    writer.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, held: list[bool], *, up: bool
    ) -> None:
        while chunk := await reader.read(65536):
            await self._flows.wait()
            if up and self._withholds and self._withholds in chunk:
                held[0] = True
                self._withholds = None
            if not up and held[0]:
                self.withheld += 1
                continue
            writer.write(chunk)
            await writer.drain()
        raise ConnectionResetError

    @contextlib.asynccontextmanager
    async def standing(self) -> "AsyncIterator[Way]":
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()
            await asyncio.gather(*self._links, return_exceptions=True)


@dataclass
class Running:
    """An intake, its spool, and what is between them; all at work."""

    pool: Pool
    tenants: Tenants
    spool: Spool
    breaker: Breaker
    intake: Intake

    async def take(self, number: int, **more: str) -> None:
        """What the door does."""
        came = arrival(number, **more)
        known = self.tenants.is_known("default") and not self.intake.is_spooling
        reading = None
        if known:
            tenant: TenantId = self.tenants.id_of("default")
            reading = read(came.body, Source(tenant, None, came.received_at, headers=came.kept_headers()))
        await self.intake.take(came, reading)

    async def until_empty(self, seconds: float = 30.0) -> None:
        """Returns when nothing waits in the spool."""
        async with asyncio.timeout(seconds):
            while self.spool.bodies:  # noqa: ASYNC110 (a figure, not an event)
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(dsn: str, folder: Path, *, load: bool = True, drains: bool = True) -> AsyncIterator[Running]:
    """An intake with a spool at work. Without `load` it has never heard of Postgres; without `drains` all waits."""
    pool = await lazy_pool(dsn, "tests", 4, writer=True)
    tenants = Tenants([Tenant("default")])
    if load:
        async with pool.acquire() as connection:
            await tenants.load(connection)
    spool = Spool(folder, MOST, [INSTALLATION])
    await spool.open()
    breaker = Breaker(lambda: can_commit(pool, spool))
    intake = Intake(pool, tenants.names, spool=spool, breaker=breaker)
    workers: list[Worker] = [intake, breaker]
    if drains:
        workers.append(Drain(pool, tenants, spool, breaker, live=lambda: intake.is_busy))
    tasks = [asyncio.create_task(worker.run()) for worker in workers]
    try:
        yield Running(pool, tenants, spool, breaker, intake)
    finally:
        for worker, task in zip(workers, tasks, strict=True):
            await worker.close()
            await task
        await spool.close()
        pool.terminate()


async def filled(folder: Path, *units: list[Arrival]) -> Spool:
    """A spool of its own file with these units, each apart from the others, still open."""
    spool = Spool(folder, MOST, [INSTALLATION])
    await spool.open()
    for unit in units:
        await spool.append(new_id(), unit, apart=True)
    return spool
