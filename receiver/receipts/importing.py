"""Bringing a file of receipts in: piece by piece into groups, one group on its way while the next is read.

How far it came is told in the transaction of each group, so the report is true however often it was cut off. Reading
leaves the event loop every few milliseconds, and each group is followed by a rest while live receipts wait.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from uuid import UUID

import asyncpg

from receiver.database.pool import NOT_THERE, Connection, Pool, is_away
from receiver.ids import TenantId, new_id
from receiver.messages.store import MOST_TRIES, may_try_again
from receiver.messages.told import Feed, Reject, Told
from receiver.receipts import imports
from receiver.receipts.borrowing import borrowed
from receiver.receipts.export_file import NoExport, Splitter, form_of
from receiver.receipts.exported import read_exported
from receiver.receipts.group import GROUP, Stored, store_parts
from receiver.receipts.imports import Progress
from receiver.receipts.pieces import Piece
from receiver.receipts.receipt import Reading, Source, reject
from receiver.receipts.unpacking import CHUNK, CutOff, TooLarge, Unpacker

GROUP_BYTES = 4 * 1024 * 1024  # of bodies in one transaction
GROUP_SECONDS = 7.0  # for one, and a second more for each 256 receipts in it
READ_ASIDE = 64 * 1024  # bytes; a larger body is read in a thread
SLICE = 0.003  # seconds of reading between two looks at the event loop
AWAY_SECONDS = 60.0  # that a group is tried again while the database is away
LONGEST_PAUSE = 3.0
MOST_UNREADABLE = 1_024  # bodies, when none before held a receipt: what is no export must not fill the quarantine
PATIENT_TRIES = 5  # of a group with a good receipt that finds no way in: then it goes to quarantine


class Overtaken(Exception):
    """Somebody else reads the same file at this moment."""


class Away(Exception):
    """The database has been away for too long."""


class _NoWayIn(Exception):
    """A good receipt of the group found no way in."""


@dataclass
class _Group:
    """What goes in together, and where in the file it begins and ends."""

    begin: int
    end: int
    key: UUID = field(default_factory=new_id)
    receipts: list[Told] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    bytes: int = 0


@dataclass(frozen=True)
class Target:
    """Whose receipts these are, under which name the file is remembered, and how its bare time stamps are read."""

    tenant: TenantId
    identity: bytes
    zone: tzinfo = UTC
    names: Mapping[TenantId, str] = field(default_factory=dict)


class Import:
    """One file on its way in. `progress` is what is committed."""

    def __init__(
        self,
        pool: Pool,
        target: Target,
        progress: Progress,
        *,
        live: Callable[[], bool] = lambda: False,
        stopping: Callable[[], bool] = lambda: False,
        advanced: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        """`live` tells whether live receipts wait, `stopping` whether to wait for the database no longer."""
        self._pool, self._target, self.progress = pool, target, progress
        self._live, self._stopping, self._advanced = live, stopping, advanced
        self._group = _Group(progress.position, progress.position)
        self._on_its_way: asyncio.Task[None] | None = None
        self._slice = time.perf_counter()
        self.bytes_read = 0  # of the file, unpacked
        self._readable = progress.counts.received - progress.counts.quarantined
        self._unreadable = progress.counts.quarantined

    async def take(self, pieces: Iterator[Piece]) -> None:
        """Reads pieces, and brings them in group by group. Raises NoExport for too many without a receipt, and what
        `flush` does.
        """
        for piece in pieces:
            await self._take(piece)
        await self._breathe()

    async def flush(self) -> None:
        """On return all that was taken is in. Raises Overtaken, Away, or asyncpg's errors for what is our fault."""
        if self._group.end > self._group.begin:
            await self._send()
        await self._arrived()

    async def finish(self) -> None:
        """As `flush`, and the file is known to have been read to its end."""
        await self.flush()

        async def done(connection: Connection) -> None:
            await imports.done(connection, self._target.tenant, self._target.identity, datetime.now(UTC))

        await self._until_there(done, GROUP_SECONDS)

    async def abandon(self) -> None:
        """Cuts off what is on its way. It may be in or not: the next run finds out."""
        if self._on_its_way is not None:
            self._on_its_way.cancel()
            await asyncio.gather(self._on_its_way, return_exceptions=True)

    async def _take(self, piece: Piece) -> None:
        source = Source(self._target.tenant, None, datetime.now(UTC), self._target.zone)
        group = self._group
        if piece.fault is not None:
            group.rejects.append(reject(piece.body, source, piece.fault.reason, piece.fault.detail))
        else:
            reading = await self._read(piece.body, source)
            group.receipts += reading.receipts
            group.rejects += reading.rejects
        group.end = piece.end
        group.bytes += len(piece.body)
        if len(group.receipts) + len(group.rejects) >= GROUP or group.bytes >= GROUP_BYTES:
            await self._send()
        await self._breathe()

    async def _read(self, body: bytes, source: Source) -> Reading:
        if len(body) > READ_ASIDE:
            return await asyncio.to_thread(read_exported, body, source)
        return read_exported(body, source)

    async def _breathe(self) -> None:
        """Lets others have the event loop, when it is time."""
        if time.perf_counter() - self._slice > SLICE:
            await asyncio.sleep(0)
            self._slice = time.perf_counter()

    async def _send(self) -> None:
        group, self._group = self._group, _Group(self._group.end, self._group.end)
        await self._arrived()
        self._readable += len(group.receipts)
        self._unreadable += len(group.rejects)
        if not self._readable and self._unreadable > MOST_UNREADABLE:
            raise NoExport(f"none of its first {self._unreadable} bodies holds a receipt")
        self._on_its_way = asyncio.create_task(self._bring_in(group), name="import")

    async def _arrived(self) -> None:
        """Waits for the group that is on its way."""
        if self._on_its_way is not None:
            task, self._on_its_way = self._on_its_way, None
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError:
                self._on_its_way = task
                raise

    async def _bring_in(self, group: _Group) -> None:
        began, tries = time.monotonic(), 0
        stored = Stored()

        async def store(connection: Connection) -> None:
            nonlocal stored
            stored = await self._store(connection, group, patient=tries < PATIENT_TRIES)

        while True:
            try:
                await self._until_there(store, GROUP_SECONDS + len(group.receipts) / GROUP)
                break
            except _NoWayIn:
                tries += 1
        stored.count(Feed.IMPORT, self._target.names)
        self._advanced(self.progress)
        if self._live():
            await asyncio.sleep(time.monotonic() - began)

    async def _store(self, connection: Connection, group: _Group, *, patient: bool) -> Stored:
        """Commits the group and how far the file is, unless an earlier try has; returns what this one committed."""
        tenant, identity = self._target.tenant, self._target.identity
        for tries_left in range(MOST_TRIES - 1, -1, -1):
            try:
                async with connection.transaction():
                    before = await imports.lock(connection, tenant, identity)
                    if before is None or before.position not in (group.begin, group.end):
                        raise Overtaken
                    if before.position == group.end:
                        stored, counts = Stored(), before.counts
                    else:
                        stored = await store_parts(
                            connection, group.key, Feed.IMPORT, group.receipts, group.rejects, patient=patient
                        )
                        if stored.left:
                            raise _NoWayIn
                        now, more = datetime.now(UTC), imports.counts_of(stored)
                        counts = await imports.advance(connection, tenant, identity, group.end, now, more)
                self.progress = Progress(group.end, counts)
                return stored
            except asyncpg.PostgresError as error:
                if not tries_left or not may_try_again(error):
                    raise
        raise AssertionError("the last try returns or raises")

    async def _until_there(self, work: Callable[[Connection], Awaitable[None]], seconds: float) -> None:
        """Does `work` on a connection, again and again while the database is away. Raises Away."""
        deadline, failures = time.monotonic() + AWAY_SECONDS, 0
        while True:
            try:
                async with borrowed(self._pool, seconds) as connection:
                    await work(connection)
                return
            except (asyncpg.PostgresError, *NOT_THERE) as error:
                failures += 1
                if not is_away(error):
                    raise
                if self._stopping() or time.monotonic() > deadline:
                    raise Away(type(error).__name__) from None
            await asyncio.sleep(min(0.1 * 2**failures, LONGEST_PAUSE) * random.uniform(0.5, 1.0))


async def bring_in(
    importing: Import, chunks: AsyncIterator[bytes], largest: int, *, most_bytes: int | None = None
) -> None:
    """Brings a file in from where it was left; `chunks` are all of it, a body over `largest` bytes is not taken.

    `most_bytes` bounds the file, packed and unpacked.

    A CutOff of `chunks` is raised again once all whole bodies before it are in. Raises NoExport, and what `flush` does.
    """
    try:
        try:
            await _bring_in(importing, _unpacked(importing, chunks, most_bytes), largest)
        except CutOff:
            await importing.flush()
            raise
    finally:
        await importing.abandon()


async def _bring_in(importing: Import, parts: AsyncIterator[bytes], largest: int) -> None:
    position = skip = importing.progress.position
    splitter: Splitter | None = None
    head = b""
    async for part in parts:
        if splitter is None:
            head += part
            splitter, part = form_of(head, largest), head
            if splitter is None:
                continue
            splitter.go_on_at(position)
        behind, skip = part[skip:], max(skip - len(part), 0)
        await importing.take(splitter.feed(behind))
    if splitter is None:
        splitter = form_of(head, largest, whole=True)
        assert splitter is not None
        splitter.go_on_at(position)
        await importing.take(splitter.feed(head[skip:]))
    await importing.take(splitter.end())
    await importing.finish()


async def _unpacked(importing: Import, chunks: AsyncIterator[bytes], most: int | None) -> AsyncIterator[bytes]:
    unpacker, packed = Unpacker(), 0
    async for chunk in chunks:
        packed += len(chunk)
        for start in range(0, len(chunk), CHUNK):
            for part in unpacker.feed(chunk[start : start + CHUNK]):
                importing.bytes_read += len(part)
                if most is not None and max(packed, importing.bytes_read) > most:
                    raise TooLarge
                yield part
    for part in unpacker.end():
        importing.bytes_read += len(part)
        yield part
