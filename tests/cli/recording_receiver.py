"""A receiver's sending door at the socket: takes each idempotency key once, keeps what it took, fails as it is told."""

import asyncio
import contextlib
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4


@dataclass(frozen=True)
class Call:
    """One POST as it came in. `number` counts from 1."""

    number: int
    key: str
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.raw)
        return found

    @property
    def recipients(self) -> list[str]:
        return [
            value for entry in self.body["destination"] for k, v in entry.items() if isinstance(v, list) for value in v
        ]


@dataclass(frozen=True)
class Answer:
    """A status, what stands in the body, and headers; `lost` drops the connection in place of it."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)
    lost: bool = False


REPLAYED = {"idempotency-replayed": "true"}
LOST = Answer(0, {}, lost=True)
Word = Callable[[Call], Awaitable[Answer | None]]  # what to say before the call is taken; None takes it


def problem(status: int, code: str, *errors: tuple[str, str], **headers: str) -> Answer:
    """A refusal as a receiver tells it."""
    told = [{"pointer": pointer, "code": "7004", "detail": detail} for pointer, detail in errors]
    body = {"type": "about:blank", "status": status, "code": code, "title": f"No: {code}.", "errors": told}
    return Answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


async def _nothing(_call: Call) -> Answer | None:
    return None


@dataclass
class RecordingReceiver:
    """What came in, and what was taken: each recipient as often as a new key brought it."""

    url: str = ""
    before: Word = _nothing
    after: Word = _nothing  # once the call is taken
    calls: list[Call] = field(default_factory=list)
    taken: Counter[str] = field(default_factory=Counter)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    most_at_once: int = 0
    quiet: bool = False  # keeps neither calls nor bodies
    _keys: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    _number: int = 0
    _now: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, kept alive."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                names = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:] if line)
                raw = await reader.readexactly(int(names["content-length"]))
                self._number += 1
                answer = await self._answer(Call(self._number, names["idempotency-key"], raw))
                if answer.lost:
                    return
                told = json.dumps(answer.body).encode()
                lines = [f"HTTP/1.1 {answer.status} X", f"content-length: {len(told)}"]
                lines += [f"{name}: {value}" for name, value in answer.headers.items()]
                writer.write("\r\n".join([*lines, "", ""]).encode() + told)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, call: Call) -> Answer:
        if not self.quiet:
            self.calls.append(call)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            if (said := await self.before(call)) is not None:
                return said
            taken = self._take(call)
            return await self.after(call) or taken
        finally:
            self._now -= 1

    def _take(self, call: Call) -> Answer:
        digest = hashlib.sha256(call.raw).hexdigest()
        if call.key in self._keys:
            known, answer = self._keys[call.key]
            return Answer(202, answer, REPLAYED) if known == digest else problem(409, "idempotency_conflict")
        told = [{"id": "x", "destination": to, "correlationid": None, "state": "queued"} for to in call.recipients]
        answer = {"batch_id": str(uuid4()), "messages": told}
        self._keys[call.key] = (digest, {**answer, "messages": []})
        self.taken.update(call.recipients)
        if not self.quiet:
            self.bodies.append(call.body)
        return Answer(202, answer)


@contextlib.contextmanager
def recording_receiver() -> Iterator[RecordingReceiver]:
    """Serves on a thread of its own until the block ends."""
    receiver, loop = RecordingReceiver(), asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(receiver.serve, "127.0.0.1", 0, limit=1 << 24))
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield receiver
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    own = asyncio.current_task()
    tasks = [task for task in asyncio.all_tasks() if task is not own]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
