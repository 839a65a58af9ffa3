"""A platform that is asked for statuses, messages that are waited for, and a reconciler at a time of the test's own."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import asyncpg

from receiver.access.tenants import Tenants
from receiver.database.pool import Connection, connect, open_pool
from receiver.ids import MessageId, TenantId, leg_digest, new_id, transid_root
from receiver.messages.lattice import Channel, Fact
from receiver.messages.store import apply_known
from receiver.messages.store import connect as file_under
from receiver.messages.told import Feed, told_by_us, transid_digest
from receiver.platform.client import PlatformClient
from receiver.tenant_settings import Tenant
from receiver.upkeep.reconciler import CALLS, Reconciler
from receiver.upkeep.reconciler_pace import gaps
from receiver.waits import Waits
from tests.sending.platforms import SandboxPlatform
from tests.support import PLATFORM_KEY, Database, now
from tests.upkeep.people import send

USUAL, PATIENCE = timedelta(minutes=15), timedelta(hours=72)
Reply = tuple[int, bytes] | None  # None: no answer until the platform ends


def entry(to: str, status: str = "delivered", transid: str = "", **more: Any) -> dict[str, Any]:
    """One entry as the documents show it."""
    return {"transactionid": transid, "channel": "SMS", "from": "Shop", "to": to, "body": "a secret text",
            "status": status, "error_code": None, "error_message": None} | more  # fmt: skip


def found(*entries: dict[str, Any]) -> Reply:
    return 200, json.dumps(entries).encode()


def refused(code: str) -> Reply:
    return 200, json.dumps({"response": {"code": code, "description": "no"}}).encode()


@dataclass
class Asked:
    """Keeps every question, and answers each as `reply` says."""

    url: str = ""
    reply: Callable[[str], Reply] = lambda _transid: found()
    headers: dict[str, str] = field(default_factory=dict)
    questions: list[str] = field(default_factory=list)
    other_keys: Reply = None
    """What it answers to another key than the tenant's; None: nobody shows one."""
    let_go: threading.Event = field(default_factory=threading.Event)


def _handler(platform: Asked) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            is_the_tenants = self.headers["key"] == PLATFORM_KEY
            assert is_the_tenants or platform.other_keys
            transid = unquote(self.path.removeprefix("/resources/v1/messaging/status/"))
            if is_the_tenants:
                platform.questions.append(transid)
            reply = platform.reply(transid) if is_the_tenants else platform.other_keys
            if reply is None:
                platform.let_go.wait(20)
                self.close_connection = True
                return
            self.send_response(reply[0])
            self.send_header("content-length", str(len(reply[1])))
            for name, text in platform.headers.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(reply[1])

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A reconciler that hung up is no error of the tests."""


@contextlib.contextmanager
def asked_platform() -> Iterator[Asked]:
    """A platform on loopback."""
    platform = Asked()
    server = _Server(("127.0.0.1", 0), _handler(platform))
    platform.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield platform
    finally:
        platform.let_go.set()
        server.shutdown()
        thread.join()
        server.server_close()


# All that a reconciler and those who send leave behind; what refers to a tenant goes before it.
WRITTEN = ("awaited", "receipt", "message_state", "message", "message_key", "intake", "change", "forward", "outbox",
           "submission", "batch", "lane", "tenant")  # fmt: skip


def emptied(database: Database) -> Database:
    """The same database without what a test of this room has written: quicker than a new one."""

    async def work() -> None:
        connection = await connect(database.dsn, "tests")
        try:
            await connection.execute("; ".join(f"delete from {table}" for table in WRITTEN))
        finally:
            await connection.close()

    asyncio.run(work())
    return database


@dataclass
class Clock:
    """Both clocks of a reconciler: the test moves them."""

    at: datetime = field(default_factory=now)
    seconds: float = 0.0

    def move(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
        self.seconds += seconds


@dataclass
class Scene:
    """A database, and reconcilers over it."""

    connection: Connection
    pool: "asyncpg.Pool[asyncpg.Record]"
    tenants: Tenants
    client: PlatformClient
    clock: Clock
    tenant: TenantId

    def reconciler(self, held: Callable[[], bool] = lambda: True) -> Reconciler:
        waits = dict.fromkeys(Channel, Waits(USUAL, PATIENCE))
        clock = self.clock
        return Reconciler(
            self.pool, self.client, self.tenants, gaps(waits),
            held=held, now=lambda: clock.at, monotonic=lambda: clock.seconds,
        )  # fmt: skip

    async def rounds(self, reconciler: Reconciler, number: int = 1, seconds: float = 1.0) -> None:
        """Looks so many times, so many seconds apart, and waits for what each has begun."""
        for _ in range(number):
            await reconciler.once()
            await reconciler.idle()
            self.clock.move(seconds)

    async def queued(self, transids: str | list[str], *numbers: str, tenant: TenantId | None = None) -> list[MessageId]:
        """Messages of one submission that the platform has taken: under one transid, or each under its own."""
        tenant = tenant or self.tenant
        ids, submission = await send(self.connection, tenant, *numbers)
        each = [transids] * len(numbers) if isinstance(transids, str) else transids
        at = self.clock.at
        keys = [
            (transid_digest(transid_root(transid)), leg_digest("", number), message)
            for transid, number, message in zip(each, numbers, ids, strict=True)
        ]
        facts = [
            told_by_us(
                tenant=tenant, submission_id=submission, message_id=message, channel=Channel.SMS, destination=number,
                fact=Fact.ACCEPTED, fingerprint=new_id().bytes, at=at, status="accepted", code="1001", code_class=0,
                description=None, transid=transid, raw=b"",
            )
            for transid, number, message in zip(each, numbers, ids, strict=True)
        ]  # fmt: skip
        async with self.connection.transaction():
            await file_under(self.connection, at, tenant, keys)
            await apply_known(self.connection, at, Feed.ANSWER, ids, facts)
        return ids

    async def awaits(self, *messages: MessageId, seconds: float = 0.0) -> None:
        """Their turn is in so many seconds."""
        await self.connection.execute(
            "insert into awaited (message_id, tenant, channel, look_at, poll_at)"
            " select id, tenant, channel, 'infinity', $2 from message_state where id = any($1)",
            list(messages), self.clock.at + timedelta(seconds=seconds),
        )  # fmt: skip

    async def row(self, message: MessageId) -> asyncpg.Record:
        [row] = await self.connection.fetch("select * from awaited where message_id = $1", message)
        return row

    async def state(self, message: MessageId) -> asyncpg.Record:
        [row] = await self.connection.fetch("select * from message_state where id = $1", message)
        return row

    async def polled(self, message: MessageId) -> list[asyncpg.Record]:
        """The receipts of the feed `poll`."""
        return await self.connection.fetch(
            "select * from receipt where message_id = $1 and feed = $2 order by received_at, status",
            message, Feed.POLL,
        )  # fmt: skip

    async def ledger(self) -> tuple[int, int, int]:
        """What the ledger has of the feed `poll`: received, applied, duplicate."""
        [row] = await self.connection.fetch(
            "select sum(received), sum(applied), sum(duplicate) from intake where feed = 3"
        )
        return tuple(int(number or 0) for number in row)  # type: ignore[return-value]


def play(
    database: Database,
    work: Callable[[Scene], Awaitable[None]],
    *platforms: Asked | SandboxPlatform,
    polls_per_minute: int = 6_000,
    timeout: float = 5.0,
) -> None:
    """Runs `work`; of several platforms each has a tenant: default, and others by number."""

    async def main() -> None:
        settings = [
            Tenant("default" if n == 0 else f"tenant-{n}", platform_url=platform.url, platform_key=PLATFORM_KEY,
                   polls_per_minute=polls_per_minute)
            for n, platform in enumerate(platforms)
        ]  # fmt: skip
        async with _scene(database, settings, timeout) as scene:
            await work(scene)

    asyncio.run(main())


@contextlib.asynccontextmanager
async def _scene(database: Database, settings: list[Tenant], timeout: float) -> AsyncIterator[Scene]:
    connection = await connect(database.dsn, "tests")
    pool = await open_pool(database.dsn, "tests", 4, writer=True)
    try:
        tenants = Tenants(settings)
        await tenants.load(connection)
        async with PlatformClient(timeout, CALLS, 2.0) as client:
            yield Scene(connection, pool, tenants, client, Clock(), tenants.id_of("default"))
    finally:
        await pool.close()
        await connection.close()
