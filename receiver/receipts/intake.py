"""The group commit: what arrives while one commit is in flight becomes the next group.

No lingering: waiting for company made every receipt slower and none faster. A body's waiter is answered when all its
receipts are in Postgres and fsynced, or told that they are not.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime

import asyncpg

from receiver import metrics
from receiver.database.pool import NOT_THERE, Connection, Pool
from receiver.ids import Digest, TenantId, new_id
from receiver.messages.store import MERGED_MEANWHILE
from receiver.messages.told import Feed, Reject, Told
from receiver.receipts.apply import apply
from receiver.receipts.counting import count_group
from receiver.receipts.receipt import Reading

log = logging.getLogger("receiver.intake")

GROUP = 256  # receipts in one transaction: 6 ms of work in the database
GROUP_BYTES = 4 * 1024 * 1024  # of bodies in one transaction: some 50 ms of work
CAPACITY = 8_192  # receipts that wait: 32 groups, well under a second of a healthy database
CAPACITY_BYTES = 64 * 1024 * 1024  # of bodies that wait

# Not the receipt's fault: connection, rollback, resources, operator, read-only, object in use, system.
NOT_THE_RECEIPT = ("08", "25", "40", "53", "55", "57", "58")


class NotDurable(Exception):
    """The receipts could not be made durable now: the platform must tell them again."""


class Full(NotDurable):
    """Too many receipts wait already."""


# Ends a group and not the worker: the platform tells again, and by then the database may be back.
NOT_NOW = (asyncpg.PostgresError, NotDurable, *NOT_THERE)


class _Item:
    """One body on its way: its receipts, its rejects, and the future that its door waits for."""

    __slots__ = ("bytes", "done", "reading", "size")

    def __init__(self, reading: Reading, done: asyncio.Future[None]) -> None:
        self.reading, self.done = reading, done
        self.size = len(reading.receipts) + len(reading.rejects)
        self.bytes = sum(len(r.raw) for r in reading.receipts) + sum(len(r.body) for r in reading.rejects)


class Intake:
    """Takes readings from the doors and commits them in groups. `run` is its worker; `close` drains it."""

    def __init__(
        self, pool: Pool, tenants: dict[TenantId, str], feed: Feed = Feed.PUSH, capacity: int = CAPACITY
    ) -> None:
        self._pool, self._tenants, self._feed, self._capacity = pool, tenants, feed, capacity
        self._waiting: deque[_Item] = deque()
        self._size = 0
        self._bytes = 0
        self._wake = asyncio.Event()
        self._closing = False
        self._last_failure: str | None = None

    async def take(self, reading: Reading) -> None:
        """Returns when every receipt and reject of `reading` is durable. Raises NotDurable, or Full at once."""
        item = _Item(reading, asyncio.get_running_loop().create_future())
        too_many = self._size + item.size > self._capacity or self._bytes + item.bytes > CAPACITY_BYTES
        if self._closing or (too_many and self._waiting):
            raise Full
        self._waiting.append(item)
        self._size += item.size
        self._bytes += item.bytes
        self._wake.set()
        await item.done

    async def run(self) -> None:
        """Commits group after group until closed and empty. Dying, it leaves nobody waiting."""
        try:
            await self._run()
        finally:
            self._closing = True
            for item in self._waiting:
                if not item.done.done():
                    item.done.set_exception(NotDurable("the intake has ended"))

    async def _run(self) -> None:
        while True:
            if not self._waiting:
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            group = self._next_group()
            try:
                await self._commit(group)
            except BaseException as error:
                for item in group:
                    if not item.done.done():
                        item.done.set_exception(NotDurable(type(error).__name__))
                if not isinstance(error, NOT_NOW):
                    raise
                self._tell_failure(error)
            else:
                self._last_failure = None
                for item in group:
                    if not item.done.done():  # its client may have gone
                        item.done.set_result(None)

    async def close(self) -> None:
        """Takes nothing more; `run` returns when what waits is committed."""
        self._closing = True
        self._wake.set()

    def _next_group(self) -> list[_Item]:
        """What waits, up to a group's receipts and bytes; at least one body, whatever its size."""
        group: list[_Item] = []
        size = weight = 0
        while self._waiting:
            item = self._waiting[0]
            if group and (size + item.size > GROUP or weight + item.bytes > GROUP_BYTES):
                break
            group.append(self._waiting.popleft())
            size += item.size
            weight += item.bytes
        self._size -= size
        self._bytes -= weight
        metrics.WAITING.set(self._size)
        return group

    async def _commit(self, group: list[_Item]) -> None:
        receipts = [r for item in group for r in item.reading.receipts]
        rejects = [r for item in group for r in item.reading.rejects]
        async with self._pool.acquire() as connection:
            for start in range(0, max(len(receipts), 1), GROUP):  # a single body may be larger than a group
                await self._apply(connection, receipts[start : start + GROUP], rejects if start == 0 else ())

    async def _apply(self, connection: Connection, receipts: Sequence[Told], rejects: Sequence[Reject]) -> None:
        """Applies a part of a group; a part that the database refuses is halved until the culprit stands alone."""
        try:
            await self._apply_once(connection, receipts, rejects)
        except (asyncpg.PostgresError, ValueError, TypeError, OverflowError) as error:
            if isinstance(error, asyncpg.PostgresError) and (error.sqlstate or "")[:2] in NOT_THE_RECEIPT:
                raise
            if len(receipts) + len(rejects) <= 1:
                if getattr(error, "sqlstate", None) == MERGED_MEANWHILE:
                    raise  # whatever stands in its way, the receipt is good: it is told again
                await self._quarantine(connection, receipts, error)
                return
            log.warning("group_refused", extra={"size": len(receipts), "sqlstate": getattr(error, "sqlstate", None)})
            half, other_half = len(receipts) // 2, len(rejects) // 2
            if receipts and rejects:
                await self._apply(connection, receipts, ())
                await self._apply(connection, (), rejects)
            elif receipts:
                await self._apply(connection, receipts[:half], ())
                await self._apply(connection, receipts[half:], ())
            else:
                await self._apply(connection, (), rejects[:other_half])
                await self._apply(connection, (), rejects[other_half:])

    async def _apply_once(self, connection: Connection, receipts: Sequence[Told], rejects: Sequence[Reject]) -> None:
        began = time.perf_counter()
        applied = await apply(connection, new_id(), datetime.now(UTC), self._feed, receipts, rejects)
        metrics.COMMIT.observe(time.perf_counter() - began)
        metrics.GROUP.observe(len(receipts) + len(rejects))
        count_group(self._feed, self._tenants, receipts, applied.results, rejects, applied.changes)

    async def _quarantine(self, connection: Connection, receipts: Sequence[Told], error: Exception) -> None:
        """Keeps the one receipt that the database refused, with the reason; raises if even that is refused."""
        if not receipts:
            raise NotDurable("a reject was refused") from error
        told = receipts[0]
        reason = f"{type(error).__name__} {getattr(error, 'sqlstate', None) or ''}".strip()
        digest = Digest(told.fingerprint)
        reject = Reject(
            told.tenant,
            digest,
            "database_refused",
            reason,
            told.raw,
            "{}",
            told.received_at,
            told.submission_id,
        )
        await self._apply_once(connection, (), [reject])
        log.error("receipt_refused_by_database", extra={"reason": reason})

    def _tell_failure(self, error: BaseException) -> None:
        """Logs the first failure of a row. Its text stays out of the log: it may quote what a client wrote."""
        reason = f"{type(error).__name__} {getattr(error, 'sqlstate', None) or ''}".strip()
        if self._last_failure is None:
            log.error("intake_not_durable", extra={"reason": reason})
        self._last_failure = reason
