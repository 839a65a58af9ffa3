"""A client's server that records what it is told, messages whose receipts go there, and a forwarder to run."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from receiver import metrics
from receiver.access.tenants import Tenants
from receiver.database.pool import Connection, Pool, connect, open_pool
from receiver.forwarding.forwarder import Forwarder
from receiver.forwarding.network import Teller, resolve
from receiver.ids import MessageId, SubmissionId, TenantId, destination_digest, new_id
from receiver.messages.lattice import Channel
from receiver.messages.told import Feed
from receiver.receipts.apply import Applied, apply
from receiver.targets import parse_allowed
from receiver.tenant_settings import Tenant
from tests.receipts.tellings import body, told_of
from tests.support import Database, now

NUMBER = "447700900001"


def delivered(transid: str, correlationid: str = "", callback: str = "", status: str = "Delivered") -> bytes:
    """A receipt as it comes to the door."""
    info = {"deliveryStatus": status, "deliveryChannel": "SMS", "destination": NUMBER}
    return body(info, transid, correlationid).replace(b'"callbackData": ""', f'"callbackData": "{callback}"'.encode())


@dataclass
class Telling:
    """One request as it came in."""

    path: str
    headers: dict[str, str]
    raw: bytes


Answer = tuple[int, dict[str, str], bytes] | None  # None: none, until the server ends


@dataclass
class ClientServer:
    """Keeps every request, and answers each path as `answers` says, else 200."""

    url: str = ""
    told: list[Telling] = field(default_factory=list)
    answers: dict[str, Callable[[], Answer]] = field(default_factory=dict)
    let_go: threading.Event = field(default_factory=threading.Event)

    @property
    def bodies(self) -> list[bytes]:
        return [telling.raw for telling in list(self.told)]

    def take(self, telling: Telling) -> Answer:
        self.told.append(telling)
        return self.answers.get(telling.path, lambda: (200, {}, b"ok"))()


def answering(status: int, body: bytes = b"", **headers: str) -> Callable[[], Answer]:
    return lambda: (status, headers, body)


def _handler(client: ClientServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            answer = client.take(Telling(self.path, {k.lower(): v for k, v in self.headers.items()}, raw))
            if answer is None:
                client.let_go.wait(20)
                self.close_connection = True
                return
            status, headers, body = answer
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A receiver that hung up is no error of the tests."""


@contextlib.contextmanager
def client_server() -> Iterator[ClientServer]:
    """A client's server on loopback, gone afterwards."""
    client = ClientServer()
    server = _Server(("127.0.0.1", 0), _handler(client))
    client.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield client
    finally:
        client.let_go.set()
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Scene:
    """A database with one tenant that forwards, and what the tests do to it."""

    pool: Pool
    connection: Connection
    tenants: Tenants
    tenant: TenantId

    def forwarder(self, *, seconds: float = 5.0, **more: Any) -> Forwarder:
        defaults: dict[str, Any] = {"concurrency": 8, "most_waiting": 1000, "teller": Teller(8, resolve, seconds)}
        return Forwarder(self.pool, self.tenants, **{**defaults, **more})

    async def issue(
        self,
        notifyurl: str | None,
        *,
        correlationid: str | None = "order-1",
        callback_data: str | None = "the client's",
        channel: Channel = Channel.SMS,
        number: str = NUMBER,
    ) -> tuple[MessageId, SubmissionId]:
        """A message of ours, alone in its submission."""
        message, submission = MessageId(new_id()), SubmissionId(new_id())
        await self.connection.execute(
            "insert into submission (id, tenant, batch_id, api, notifyurl, created_at, first_id, last_id,"
            " message_count) values ($1, $2, $1, 1, $3, now(), $4, $4, 1)",
            submission,
            self.tenant,
            notifyurl,
            message,
        )
        await self.connection.execute(
            "insert into message (id, tenant, origin, channel, created_at, submission_id, destination,"
            " destination_type, destination_key, correlationid, callback_data)"
            " values ($1, $2, 1, $3, now(), $4, $5, 'msisdn', $6, $7, $8)",
            message,
            self.tenant,
            channel,
            submission,
            number,
            destination_digest(number),
            correlationid,
            callback_data,
        )
        await self.connection.execute(
            "insert into message_state (id, tenant, origin, channel, changed_at) values ($1, $2, 1, $3, now())",
            message,
            self.tenant,
            channel,
        )
        return message, submission

    async def tell(self, raw: bytes, submission: SubmissionId | None = None, feed: Feed = Feed.PUSH) -> Applied:
        """A receipt comes in."""
        return await apply(self.connection, new_id(), now(), feed, [told_of(raw, self.tenant, submission)])

    async def rows(self) -> list[dict[str, Any]]:
        """What is in the queue."""
        found = await self.connection.fetch("select *, due_at = 'infinity' as is_dead from forward order by id")
        return [dict(row) for row in found]

    async def queue(self, url: str, number: int) -> None:
        """Puts many receipts of one observed message into the queue for one address."""
        message = new_id()
        await self.connection.execute(
            "insert into receipt (message_id, fingerprint, feed, channel, fact, rank, clash, received_at, status,"
            " destination_key, raw) select $1, decode(md5($2 || n), 'hex'), 1, 1, 1, 1, 0, now(), '', '', '{}'"
            " from generate_series(1, $3) n",
            message,
            url,
            number,
        )
        await self.connection.execute(
            "insert into forward (tenant, message_id, fingerprint, url, created_at, due_at, expires_at)"
            " select $4, $1, decode(md5($2 || n), 'hex'), $2, now(), now(), now() + interval '72 hours'"
            " from generate_series(1, $3) n",
            message,
            url,
            number,
            self.tenant,
        )

    async def empty(self, seconds: float = 15.0) -> None:
        """Waits until nothing is in the queue."""
        await until(self._is_empty, seconds)

    async def _is_empty(self) -> bool:
        return not await self.connection.fetch("select from forward limit 1")


def play(
    database: Database,
    work: Callable[[Scene], Awaitable[None]],
    *,
    forward_to: str | None = None,
    allow: str = "127.0.0.1",
    forwards: bool = True,
    **settings: Any,
) -> None:
    """Runs `work` on a scene; `settings` are more of the tenant's."""

    async def wrapped() -> None:
        configured = Tenant("default", forward_to=forward_to, forward_allow=parse_allowed(allow), **settings)
        tenants = Tenants([configured])
        pool = await open_pool(database.dsn, "forwarding", 3, writer=True)
        connection = await connect(database.dsn, "tests")
        try:
            await tenants.load(connection)
            await tenants.store_forward_to(connection)
            await connection.execute("update tenant set forwards = forwards or $1", forwards)
            await work(Scene(pool, connection, tenants, tenants.id_of("default")))
        finally:
            await connection.close()
            await pool.close()

    asyncio.run(wrapped())


@contextlib.asynccontextmanager
async def running(forwarder: Forwarder) -> AsyncIterator[None]:
    """The forwarder at work; closed and drained at the end."""
    task = asyncio.create_task(forwarder.run())
    try:
        yield
    finally:
        await forwarder.close()
        await task


async def until(holds: Callable[[], Awaitable[Any]], seconds: float = 15.0) -> None:
    """Waits until `holds` is true, for at most `seconds`."""
    deadline = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.01)


def counted(result: str) -> float:
    """How many tries ended so, in this process."""
    labels = {"result": result, "tenant": "default"}
    return metrics.REGISTRY.get_sample_value("receiver_forwards_total", labels) or 0.0
