"""A client of the stream for tests: it speaks ASGI, so that it can read as slowly as it likes."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from starlette.applications import Starlette

from receiver.access.keys import Keys
from receiver.database.pool import connect
from receiver.queries.stream_routes import StreamDoor
from receiver.queries.watch import Watch
from receiver.web import Problem, problem_response
from tests.queries.changes import read_pool
from tests.support import Database, now


@dataclass(frozen=True)
class Event:
    """One event as it came."""

    name: str
    id: str | None
    data: Any


def parse(text: str) -> list[Event]:
    """The events of whole blocks; comments and retry lines are passed by."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in fields:
            found.append(Event(fields["event"], fields.get("id"), json.loads(fields["data"])))
    return found


class Client:
    """One stream: what came so far, and a tap that holds up what is sent."""

    def __init__(self, app: Starlette, key: str, query: dict[str, Any], last: str | None, method: str = "GET") -> None:
        headers = [(b"authorization", f"Bearer {key}".encode())]
        headers += [(b"last-event-id", last.encode())] if last is not None else []
        path = {"path": "/v1/stream", "raw_path": b"/v1/stream", "root_path": "", "scheme": "http"}
        rest = {"query_string": urlencode(query, doseq=True).encode(), "headers": headers, "http_version": "1.1"}
        self._scope = {"type": "http", "method": method, "server": ("x", 80), "client": ("y", 1), **path, **rest}
        self.status = 0
        self.headers: dict[str, str] = {}
        self.text = ""
        self.is_over = False
        self.tap = asyncio.Event()
        self.tap.set()
        self._gone, self._came = asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(app(self._scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self.tap.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            self.text += message.get("body", b"").decode()
            self.is_over = not message.get("more_body", False)
        self._came.set()

    @property
    def events(self) -> list[Event]:
        """All events so far."""
        return parse(self.text)

    @property
    def changes(self) -> list[tuple[str, int]]:
        """Messages and versions of the changes so far."""
        return [(event.data["id"], event.data["version"]) for event in self.events if event.name == "change"]

    async def until(self, holds: Any, seconds: float = 10) -> None:
        """Waits until `holds` says yes of this client."""
        async with asyncio.timeout(seconds):
            while not holds(self):
                self._came.clear()
                await self._came.wait()

    async def leave(self) -> None:
        """Hangs up."""
        self._gone.set()
        await asyncio.wait_for(self.task, 5)


class Place:
    """A process of streams, as it were: its watch, its door."""

    def __init__(self, pool: Any, most: int, clock: Any) -> None:
        self.watch = Watch(pool)
        self.door = StreamDoor(pool, Keys(pool), self.watch, most, clock)
        self.app = Starlette(routes=self.door.routes(), exception_handlers={Problem: problem_response})

    def open(self, key: str, last: str | None = None, method: str = "GET", **query: Any) -> Client:
        return Client(self.app, key, query, last, method)

    async def begun(self, key: str, last: str | None = None, **query: Any) -> Client:
        """A stream whose first event has come."""
        client = self.open(key, last, **query)
        await client.until(lambda c: c.events or c.is_over)
        assert client.status == 200, client.text
        return client


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.at = now()

    def __call__(self) -> datetime:
        return self.at


@contextlib.asynccontextmanager
async def streaming(database: Database, most: int = 100, places: int = 1) -> AsyncIterator[tuple[Any, ...]]:
    """A writer, a clock, and places."""
    pool = await read_pool(database, 4)
    writer = await connect(database.dsn, "writer")
    clock = Clock()
    made = [Place(pool, most, clock) for _ in range(places)]
    running = [asyncio.create_task(place.watch.run()) for place in made]
    try:
        yield (writer, clock, *made)
    finally:
        for place in made:
            await place.watch.close()
        await asyncio.wait_for(asyncio.gather(*running), 5)
        await writer.close()
        await pool.close()
