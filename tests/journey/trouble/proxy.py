"""The way to Postgres: it can be cut at any byte, stand still, or keep the word that a commit was done."""

import asyncio
import contextlib
import random
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path

CARGO = b"deliveryInfo"  # what passes to Postgres with this in it is a group of receipts
CHUNK = 64 * 1024
READY, IDLE = b"Z", b"I"  # Postgres's word that it has done all that was asked, and that nothing is left open


class Cut(Enum):
    """Where the way is cut, the next time that a group passes."""

    REQUEST = "request"  # somewhere inside the group: it can't be committed
    ANSWER = "answer"  # somewhere inside the answer: it is committed, or its transaction is still open
    WITHHELD = "withheld"  # it is committed, and not a byte of the answer comes back


class Proxy:
    """Stands before the socket of a Postgres, on a port of its own, on a loop and in a thread of its own."""

    def __init__(self, socket: Path, seed: int) -> None:
        self.port = 0
        self.cuts: Counter[Cut] = Counter()
        self._socket, self._roll = socket, random.Random(seed)
        self._armed: list[Cut] = []
        self._links: set[_Link] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._refuses = False
        self._flows = asyncio.Event()
        self._flows.set()
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()

    def arm(self, *cuts: Cut) -> None:
        """Each of them meets one of the next groups, in this order."""
        self._do(lambda: self._armed.extend(cuts))

    def disarm(self) -> None:
        """What was armed and met no group is forgotten."""
        self._do(self._armed.clear)

    def freeze(self) -> None:
        """Not a byte passes until `thaw`; connections stay open, and new ones are taken."""
        self._do(self._flows.clear)

    def thaw(self) -> None:
        self._do(self._flows.set)

    def sever(self) -> None:
        """Every connection is cut where it is."""
        self._do(self._cut_all)

    def refuse(self) -> None:
        """Every connection is cut, and none is taken until `admit`."""
        self._do(lambda: setattr(self, "_refuses", True))
        self.sever()

    def admit(self) -> None:
        self._do(lambda: setattr(self, "_refuses", False))

    def _cut_all(self) -> None:
        for link in list(self._links):
            link.cut()

    def next_cut(self, chunk: bytes) -> Cut | None:
        """The cut that this chunk on its way to Postgres meets."""
        return self._armed.pop(0) if self._armed and CARGO in chunk else None

    def somewhere(self, chunk: bytes) -> bytes:
        """A part of it, from its beginning; not the whole."""
        return chunk[: self._roll.randrange(len(chunk))]

    async def flowing(self) -> None:
        await self._flows.wait()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            writer.transport.abort()
            return
        try:
            beyond = await asyncio.open_unix_connection(str(self._socket))
        except OSError:
            writer.transport.abort()
            return
        link, task = _Link(self, (reader, writer), beyond), asyncio.current_task()
        assert task is not None
        self._links.add(link)
        self._serving.add(task)
        try:
            await link.run()
        finally:
            self._links.discard(link)
            self._serving.discard(task)

    async def _serve(self, started: threading.Event) -> None:
        server = await asyncio.start_server(self._take, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._ended.wait()
        server.close()
        self._cut_all()
        self._flows.set()
        await asyncio.gather(*self._serving)

    def _do(self, deed: Callable[[], object]) -> None:
        done = threading.Event()

        def work() -> None:
            deed()
            done.set()

        self._loop.call_soon_threadsafe(work)
        assert done.wait(10)

    @contextlib.contextmanager
    def standing(self) -> Iterator["Proxy"]:
        """Takes connections inside the block."""
        started = threading.Event()
        thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(started),))
        thread.start()
        try:
            assert started.wait(10)
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._ended.set)
            thread.join()
            self._loop.close()


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Link:
    """One connection, from a receiver to Postgres."""

    def __init__(self, proxy: Proxy, near: Ends, far: Ends) -> None:
        self._proxy, self._near, self._far = proxy, near, far
        self._cut: Cut | None = None
        self._held = b""

    async def run(self) -> None:
        pumps = [asyncio.create_task(self._up()), asyncio.create_task(self._down())]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        self.cut()
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)

    def cut(self) -> None:
        self._near[1].transport.abort()
        self._far[1].transport.abort()

    async def _up(self) -> None:
        while chunk := await self._near[0].read(CHUNK):
            await self._proxy.flowing()
            if self._cut is None:
                self._cut = self._proxy.next_cut(chunk)
            if self._cut is Cut.REQUEST:
                await _write(self._far[1], self._proxy.somewhere(chunk))
                return self._done(self._cut)
            await _write(self._far[1], chunk)
        return None

    async def _down(self) -> None:
        while chunk := await self._far[0].read(CHUNK):
            await self._proxy.flowing()
            if self._cut is Cut.ANSWER:
                await _write(self._near[1], self._proxy.somewhere(chunk))
                return self._done(self._cut)
            if self._cut is Cut.WITHHELD:
                self._held += chunk
                word = _last_word(self._held)
                if word == IDLE:
                    return self._done(self._cut)
                if word is None:
                    continue
                chunk, self._held = self._held, b""  # a step of a transaction that goes on
            await _write(self._near[1], chunk)
        return None

    def _done(self, cut: Cut) -> None:
        self._proxy.cuts[cut] += 1


async def _write(writer: asyncio.StreamWriter, chunk: bytes) -> None:
    writer.write(chunk)
    await writer.drain()


def _last_word(held: bytes) -> bytes | None:
    """What state Postgres says it is in at the end of `held`, which begins with a message; None: more is to come."""
    at = 0
    while at + 5 <= len(held):
        kind, end = held[at : at + 1], at + 1 + struct.unpack_from("!I", held, at + 1)[0]
        if kind == READY and end == len(held):
            return held[end - 1 : end]
        at = end
    return None
