"""What tests share: running coroutines, a database of one's own, a receiver as a real process."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import httpx2

from receiver.access.keys import SCOPES, create_key
from receiver.access.tokens import NotifyTokens
from receiver.database.pool import connect
from receiver.ids import TenantId

T = TypeVar("T")

SECRET = "a secret for tests only"
PLATFORM_KEY = "a platform key for tests only"


def run(main: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, on a loop of its own."""
    return asyncio.run(main)


@dataclass(frozen=True)
class Database:
    """A database on the tests' server."""

    server: str
    name: str

    @property
    def dsn(self) -> str:
        return self.server.replace("/receiver?", f"/{self.name}?")

    def fetch(self, query: str, *values: object) -> list[asyncpg.Record]:
        """The rows of a query."""

        async def work() -> list[asyncpg.Record]:
            connection = await connect(self.dsn, "tests")
            try:
                return await connection.fetch(query, *values)
            finally:
                await connection.close()

        return run(work())

    def value(self, query: str, *values: object) -> Any:
        """The first value of a query."""
        return self.fetch(query, *values)[0][0]

    def tenant(self, name: str = "default") -> TenantId:
        """The number of a tenant, made when missing."""
        self.fetch("insert into tenant (name) values ($1) on conflict do nothing", name)
        return TenantId(self.value("select id from tenant where name = $1", name))

    def key(self, *scopes: str, tenant: str = "default") -> str:
        """A new API key."""
        number = self.tenant(tenant)

        async def work() -> str:
            connection = await connect(self.dsn, "tests")
            try:
                return await create_key(connection, number, "tests", scopes or SCOPES)
            finally:
                await connection.close()

        return run(work())

    def counts(self) -> dict[str, int]:
        """The number of rows of every table that holds data, but for what duties add to by themselves."""

        async def work() -> dict[str, int]:
            connection = await connect(self.dsn, "tests")
            try:
                tables = await connection.fetch(
                    "select relname from pg_class where relkind in ('r', 'p') and not relispartition"
                    " and relnamespace = 'public'::regnamespace"
                    " and relname not in ('cohort_state', 'cohort_lag', 'walk')"
                )
                return {table: int(await connection.fetchval(f"select count(*) from {table}")) for (table,) in tables}
            finally:
                await connection.close()

        return run(work())


@contextlib.contextmanager
def cloned(server: str, template: str, name: str) -> Iterator[Database]:
    """A migrated database of a module's own, gone afterwards. `name` tells it from those of other modules."""

    async def sql(statement: str) -> None:
        admin = await connect(server, "tests")
        try:
            await admin.execute(statement)
        finally:
            await admin.close()

    own = f"test_{os.getpid()}_{name}"
    run(sql(f"create database {own} template {template} strategy file_copy"))
    try:
        yield Database(server, own)
    finally:
        run(sql(f"drop database {own} with (force)"))


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(holds: Callable[[], Any], seconds: float = 15.0, every: float = 0.02) -> Any:
    """The first true value of `holds`, asked again and again for at most `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = holds()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {holds}"
        time.sleep(every)


def receiver_command() -> list[str]:
    """How to start the command line of this checkout."""
    return [sys.executable, "-m", "receiver"]


def environment_of(**variables: str) -> dict[str, str]:
    """The environment of a command: the caller's without any RECEIVER_ variable, and `variables`. No balancer looks."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RECEIVER_")}
    return inherited | {"RECEIVER_DRAIN_SECONDS": "0"} | variables


@dataclass
class Receiver:
    """A `receiver serve` in a process of its own."""

    url: str
    process: "subprocess.Popen[bytes]"
    database: Database
    log: Path

    def notify_url(self, tenant: str = "default") -> str:
        return f"{self.url}/notify/{NotifyTokens(SECRET).sign(tenant)}"

    def client(self, key: str | None = None) -> httpx2.Client:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx2.Client(base_url=self.url, headers=headers, trust_env=False, timeout=20)


@contextlib.contextmanager
def receiver_process(
    database: Database,
    folder: Path,
    *,
    platform_url: str = "http://127.0.0.1:9",
    up: str = "/readyz",
    **environment: str,
) -> Iterator[Receiver]:
    """Starts `receiver serve` and ends it. Its log is in `folder`, one for each port: a restart goes on in it.

    It is there when `up` answers 200. On a busy machine it may be up with its spool before it has opened a database
    that is there: that is waited for, for a while.
    """
    port = environment.get("RECEIVER_PORT") or str(free_port())
    settings = {
        "RECEIVER_DATABASE_URL": database.dsn,
        "RECEIVER_PORT": port,
        "RECEIVER_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "RECEIVER_PLATFORM_URL": platform_url,
        "RECEIVER_PLATFORM_KEY": PLATFORM_KEY,
        "RECEIVER_SECRET": SECRET,
        "RECEIVER_SPOOL": str(folder / f"spool-{database.name}"),
        **environment,
    }
    log = folder / f"receiver-{port}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*receiver_command(), "serve"], env=environment_of(**settings), stdout=output, stderr=output
        )
    receiver = Receiver(f"http://127.0.0.1:{port}", process, database, log)
    try:
        began = time.monotonic()
        eventually(lambda: process.poll() is not None or _answers(receiver.url + up, began + OPENING), seconds=45)
        assert process.poll() is None, log.read_text()
        yield receiver
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(25)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()


OPENING = 6.0  # seconds: the first try of a receiver has three


def _answers(url: str, until: float) -> bool:
    """Whether it answers 200, and until then whether it has opened its database as well."""
    try:
        answer = httpx2.get(url, trust_env=False)
    except httpx2.HTTPError:
        return False
    return answer.status_code == 200 and (time.monotonic() > until or "trying again" not in answer.text)


def now() -> datetime:
    """Now, with a zone."""
    return datetime.now(UTC)
