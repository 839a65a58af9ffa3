"""The group commit: what arrives while one commit is in flight becomes the next group.

No lingering: waiting for company made every receipt slower and none faster. A body's waiter is answered when all its
receipts are in Postgres and fsynced, or its body is in the spool and fsynced, or told that neither is so.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from uuid import UUID

import asyncpg

from receiver import metrics
from receiver.access.tokens import PROBE
from receiver.database.pool import NOT_THERE, Pool
from receiver.ids import TenantId, new_id
from receiver.messages.told import Feed
from receiver.receipts import probed
from receiver.receipts.arrival import Arrival
from receiver.receipts.borrowing import Kept
from receiver.receipts.breaker import Breaker
from receiver.receipts.group import GROUP, AlreadyIn, Stored, store
from receiver.receipts.receipt import Reading
from receiver.receipts.spool import NotSpooled, Spool
from receiver.receipts.waiting import Full, Item, NotDurable, Waiter, answer, tell_again

log = logging.getLogger("receiver.intake")

GROUP_BYTES = 4 * 1024 * 1024  # of bodies in one transaction: some 50 ms of work
CAPACITY = 8_192  # receipts that wait: 32 groups, well under a second of a healthy database
CAPACITY_BYTES = 64 * 1024 * 1024  # of bodies that wait
COMMIT_SECONDS = 2.0  # a commit that takes longer goes to the spool: the platform waits 10 s in all
MARK_SECONDS = 1.0  # for a probe: then it goes to the spool
LONGEST_WAIT = 5.0  # seconds in the queue: then to the spool, so that commit after slow commit adds up to no 10 s
MOST_SECONDS = 4.0  # that the last one who waits will wait, as things go: a group more, and one spooled, is under 10 s
LATEST = 0.2  # of the pace: what the last group adds to what is known of those before
IDLE_SECONDS = 1.0  # without a receipt: then the connection is the pool's again


# Ends a group and not the worker: it is spooled or told again, and by then the database may be back.
NOT_NOW = (asyncpg.PostgresError, NotDurable, *NOT_THERE)


class Intake:
    """Takes readings from the doors and commits them in groups. `run` is its worker; `close` drains it.

    With a spool and its breaker, what Postgres can't take now goes to the spool.
    """

    def __init__(
        self,
        pool: Pool,
        tenants: Mapping[TenantId, str],
        feed: Feed = Feed.PUSH,
        capacity: int = CAPACITY,
        *,
        spool: Spool | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        self._connection, self._tenants, self._feed, self._capacity = Kept(pool), tenants, feed, capacity
        self._spool, self._breaker = spool, breaker
        self._waiting: deque[Item] = deque()
        self._size = 0
        self._bytes = 0
        self._pace = 0.0  # seconds a group, of late
        self._wake = asyncio.Event()
        self._closing = False
        self._last_failure: str | None = None

    @property
    def is_spooling(self) -> bool:
        """Whether bodies go straight to the spool now: nobody need read them."""
        return self._breaker is not None and self._breaker.is_open

    @property
    def is_full(self) -> bool:
        """Whether `take` would raise Full for the smallest body: it need not be read."""
        return bool(self._waiting) and self._is_too_much(1, 1)

    @property
    def is_busy(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    async def take(self, arrival: Arrival, reading: Reading | None, since: float | None = None) -> None:
        """Returns when every receipt and reject of `reading` is durable, or the body is. Raises NotDurable, or Full
        at once. Without a reading the body goes to the spool. It has waited `since` this time of the loop.
        """
        done = asyncio.get_running_loop().create_future()
        self.put(arrival, reading, done, since)
        await done

    def put(self, arrival: Arrival, reading: Reading | None, waiter: Waiter, since: float | None = None) -> None:
        """As `take`, and tells `waiter` in place of returning: never before this has returned. Raises Full."""
        item = Item(arrival, reading, waiter, since or asyncio.get_running_loop().time())
        if self._closing or (self._waiting and self._is_too_much(item.size, item.bytes)):
            raise Full
        self._waiting.append(item)
        self._size += item.size
        self._bytes += item.bytes
        self._wake.set()

    def _is_too_much(self, receipts: int, of_bytes: int) -> bool:
        """Whether there is no room for so much, or it would wait for longer than the platform has patience."""
        size = self._size + receipts
        if size > self._capacity or self._bytes + of_bytes > CAPACITY_BYTES:
            return True
        return size / GROUP * self._pace > MOST_SECONDS

    async def run(self) -> None:
        """Commits group after group until closed and empty. Dying, it leaves nobody waiting."""
        try:
            await self._run()
        finally:
            self._closing = True
            for item in self._waiting:
                if not item.done.done():
                    item.done.set_exception(NotDurable("the intake has ended"))
            await self._connection.give_back()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._waiting:
                if self._closing:
                    return
                await self._anything()
                continue
            group = self._next_group()
            began = time.monotonic()
            try:
                stored = await self._make_durable(group)
            except BaseException as error:
                for item in group:
                    if not item.done.done():
                        item.done.set_exception(NotDurable(type(error).__name__))
                if not isinstance(error, NOT_NOW):
                    raise
            else:
                loop.call_soon(self._tell, group, stored)  # while the next group is on its way
            self._pace += (time.monotonic() - began - self._pace) * LATEST

    async def _anything(self) -> None:
        """Returns when a receipt is there, or the end. The connection is kept for a while."""
        self._wake.clear()
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            await self._connection.give_back()
            await self._wake.wait()

    async def close(self) -> None:
        """Takes nothing more; `run` returns when what waits is committed."""
        self._closing = True
        self._wake.set()

    def _next_group(self) -> list[Item]:
        """What waits, up to a group's receipts and bytes; at least one body, whatever its size.

        Bodies that were read and bodies that were not have groups of their own.
        """
        group: list[Item] = []
        size = weight = 0
        unread = self._waiting[0].reading is None
        while self._waiting:
            item = self._waiting[0]
            if group and (size + item.size > GROUP or weight + item.bytes > GROUP_BYTES):
                break
            if (item.reading is None) is not unread:
                break
            group.append(self._waiting.popleft())
            size += item.size
            weight += item.bytes
        self._size -= size
        self._bytes -= weight
        metrics.WAITING.set(self._size)
        return group

    def _tell(self, group: Sequence[Item], stored: Stored | None) -> None:
        """Answers for these bodies, which are durable, and counts them."""
        answer(group)
        if stored is not None:
            stored.count(self._feed, self._tenants)

    async def _make_durable(self, group: list[Item]) -> Stored | None:
        """On return the group is in Postgres (what of it is to be counted comes back) or in the spool.

        Raises one of NOT_NOW when neither could be done.
        """
        key = new_id()
        if group[0].reading is None or self.is_spooling or self._waited_too_long(group[0]):
            await self._to_spool(key, group)
            return None
        probes = [item for item in group if item.arrival.tenant == PROBE]  # one a minute, among all the others
        if probes:
            group = [item for item in group if item.arrival.tenant != PROBE]
        stored = await self._commit_or_spool(key, group) if group else None
        if probes:
            self._tell(group, stored)
            await self._mark(probes)
            return None
        return stored

    async def _commit_or_spool(self, key: UUID, group: list[Item]) -> Stored | None:
        try:
            stored = await self._commit(key, group)
        except NOT_NOW as error:
            self._tell_failure(error)
            if self._spool is None:
                raise
            if self._breaker is not None:  # also where the spool takes nothing: who waits then hears so at once
                self._breaker.open()
            # It may be in all the same: in the spool it has the key that says so.
            await self._to_spool(key, group, apart=True)
            return None
        self._last_failure = None
        if self._breaker is not None and self._breaker.is_shaky:
            self._breaker.went_well()
        return stored

    async def _mark(self, probes: list[Item]) -> None:
        """Marks the receiver's own probes. What goes wrong with them says nothing of receipts: no breaker hears it."""
        if not self.is_spooling:
            try:
                async with self._connection.borrowed(MARK_SECONDS) as connection:
                    await probed.arrived(connection, [item.arrival.body for item in probes])
                    return
            except NOT_NOW:  # the drain marks them
                pass
        await self._to_spool(new_id(), probes)

    def _waited_too_long(self, item: Item) -> bool:
        waited = asyncio.get_running_loop().time() - item.since
        return waited > LONGEST_WAIT and self._spool is not None and self._spool.can_take()

    async def _commit(self, key: UUID, group: list[Item]) -> Stored | None:
        readings = [item.reading for item in group if item.reading is not None]
        receipts = [receipt for reading in readings for receipt in reading.receipts]
        rejects = [reject for reading in readings for reject in reading.rejects]
        try:
            async with self._connection.borrowed(COMMIT_SECONDS) as connection:
                stored = await store(connection, key, self._feed, receipts, rejects)
        except AlreadyIn:  # a first try was committed and its answer was lost on the way
            return None
        if stored.left:
            tell_again(group, stored.left)
        return stored

    async def _to_spool(self, key: UUID, group: Sequence[Item], *, apart: bool = False) -> None:
        if self._spool is None:
            raise NotDurable("there is no spool")
        try:
            await self._spool.append(key, [item.arrival for item in group], apart=apart)
        except NotSpooled as error:
            raise NotDurable(str(error)) from None

    def _tell_failure(self, error: BaseException) -> None:
        """Logs the first failure of a row. Its text stays out of the log: it may quote what a client wrote."""
        reason = f"{type(error).__name__} {getattr(error, 'sqlstate', None) or ''}".strip()
        if self._last_failure is None:
            log.error("intake_not_durable", extra={"reason": reason})
        self._last_failure = reason
