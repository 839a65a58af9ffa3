"""What waits in the spool goes into Postgres, oldest first, once in effect, and behind the live receipts."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from uuid import UUID

import asyncpg

from receiver.access.tenants import Tenants
from receiver.access.tokens import PROBE
from receiver.database.pool import NOT_THERE, Connection, Pool, can_write
from receiver.ids import new_id
from receiver.messages.store import MOST_TRIES, may_try_again
from receiver.messages.told import Feed, Reject, Told
from receiver.receipts import drained, probed
from receiver.receipts.arrival import Unit
from receiver.receipts.borrowing import borrowed
from receiver.receipts.breaker import Breaker
from receiver.receipts.group import GROUP, AlreadyIn, Stored, store_parts
from receiver.receipts.receipt import Source, read
from receiver.receipts.spool import Spool

log = logging.getLogger("receiver.spool")

LOOK_SECONDS = 5.0  # between two looks for what the dead left behind
UNIT_SECONDS = 7.0  # for a unit, and a second more for each group of receipts in it
PROBE_SECONDS = 2.0
MARK_SECONDS = 1.0  # for the receiver's own probes in a unit
UNOPENED_SECONDS = 0.25
LONGEST_PAUSE = 2.0  # between two tries of a unit that Postgres did not take
PATIENT_TRIES = 5  # of a unit with a good receipt that finds no way in: then it goes to quarantine


class NoWayIn(Exception):
    """A good receipt of the unit found no way in: the unit stays."""


class Drain:
    """A worker: drains what this process spooled, and takes over what dead processes left behind."""

    def __init__(
        self,
        pool: Pool,
        tenants: Tenants,
        spool: Spool,
        breaker: Breaker,
        *,
        live: Callable[[], bool] = lambda: False,
        opened: Callable[[], bool] = lambda: True,
    ) -> None:
        """`live` tells whether live receipts wait: then a unit is followed by a rest as long as it took.

        `opened` tells whether the database has been found good since the start: before, nothing is drained.
        """
        self._pool, self._tenants, self._spool, self._breaker = pool, tenants, spool, breaker
        self._live, self._opened = live, opened
        self._closing = asyncio.Event()
        self._last_failure: str | None = None
        self._failures = 0
        self._tries: tuple[UUID | None, int] = (None, 0)

    async def run(self) -> None:
        """Drains until closed; what is under way then is finished."""
        looked = -LOOK_SECONDS
        while not self._closing.is_set():
            if time.monotonic() - looked >= LOOK_SECONDS:
                looked = time.monotonic()
                await self._spool.look()
            if not self._opened():
                await self._rest(UNOPENED_SECONDS)
                continue
            await self._breaker.until_closed_or(self._closing)
            if self._closing.is_set():
                return
            began = time.monotonic()
            self._spool.filled.clear()
            try:
                went = await self._one()
            except Exception as error:  # dying of what lies on the disk, we would die at each start
                self._failures += 1
                self._tell_failure(error)
                await self._rest(min(0.1 * 2**self._failures, LONGEST_PAUSE) * random.uniform(0.5, 1.0))
                continue
            self._failures, self._last_failure = 0, None
            if not went:
                await self._until_filled(LOOK_SECONDS)
            elif self._live():
                await self._rest(time.monotonic() - began)

    async def close(self) -> None:
        """Ends the draining: what waits, waits for the next process."""
        self._closing.set()
        self._spool.filled.set()

    async def _one(self) -> bool:
        """Drains the oldest unit; False if there is none."""
        found = await self._spool.oldest()
        if found is None:
            return False
        held, unit = found
        before, tries = self._tries
        self._tries = (unit.key, tries + 1 if before == unit.key else 1)
        patient = self._tries[1] <= PATIENT_TRIES
        done = await drain_unit(self._pool, self._tenants, held.identity, unit, patient=patient)
        await self._spool.drained(held, done)
        return True

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    async def _until_filled(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._spool.filled.wait()

    def _tell_failure(self, error: Exception) -> None:
        """Logs the first failure of a row. Its text stays out of the log: it may quote what a client wrote."""
        reason = f"{type(error).__name__} {getattr(error, 'sqlstate', None) or ''}".strip()
        if self._last_failure is None:
            log.error("spool_not_drained", extra={"reason": reason})
        self._last_failure = reason


async def drain_unit(pool: Pool, tenants: Tenants, spool: UUID, unit: Unit, *, patient: bool = True) -> Unit:
    """What of the unit is in Postgres on return: all of it; or its beginning, if that was in before. Then nothing was
    applied, and what stands behind is read anew. It may be called again.

    Without `patient` a good receipt that finds no way in goes to quarantine. Raises NoWayIn, asyncpg.PostgresError,
    asyncpg.InterfaceError or OSError: then it is unknown whether it is in. Its probes are marked where they can be.
    """
    missing = {a.tenant for a in unit.arrivals if a.tenant != PROBE and not tenants.is_known(a.tenant)}
    if missing:
        async with borrowed(pool, UNIT_SECONDS) as connection:
            await tenants.make_known(connection, sorted(missing))
    receipts, rejects = await asyncio.to_thread(_read, tenants, unit)
    async with borrowed(pool, UNIT_SECONDS + len(receipts) / GROUP) as connection:
        for tries_left in range(MOST_TRIES - 1, -1, -1):
            try:
                last, stored = await _transaction(connection, spool, unit, receipts, rejects, patient)
                break
            except AlreadyIn:  # it was committed after we looked: the next look finds it
                if not tries_left:
                    raise NoWayIn from None
            except asyncpg.PostgresError as error:
                if not tries_left or not may_try_again(error):
                    raise
    stored.count(Feed.PUSH, tenants.names)
    done = unit.up_to(last)
    if probes := [arrival.body for arrival in done.arrivals if arrival.tenant == PROBE]:
        with contextlib.suppress(asyncpg.PostgresError, *NOT_THERE):  # no receipt waits in the spool for a probe
            async with borrowed(pool, MARK_SECONDS) as connection:
                await probed.arrived(connection, probes)
    return done


async def _transaction(
    connection: Connection, spool: UUID, unit: Unit, receipts: list[Told], rejects: list[Reject], patient: bool
) -> tuple[int, Stored]:
    """The number up to which the spool is in, once it is committed, and what was applied."""
    async with connection.transaction():
        last = await drained.hold(connection, spool)
        if unit.numbers[0] <= last:  # it was in before; or its beginning was, and it has grown since
            return last, Stored()
        stored = Stored()
        is_in = await drained.is_in(connection, unit.key, Feed.PUSH)
        if (receipts or rejects) and not (is_in and unit.is_one_group):
            # Taken, it says nothing of the other groups. Older than what is kept, the ledger has no room for it.
            is_free = not is_in and await drained.has_a_week(connection, unit.key)
            key = unit.key if is_free else new_id()
            stored = await store_parts(connection, key, Feed.PUSH, receipts, rejects, patient=patient)
            if stored.left:
                raise NoWayIn
        await drained.advance(connection, spool, unit.seq)
        return unit.seq, stored


def _read(tenants: Tenants, unit: Unit) -> tuple[list[Told], list[Reject]]:
    receipts: list[Told] = []
    rejects: list[Reject] = []
    for arrival in unit.arrivals:
        if arrival.tenant == PROBE:
            continue
        number, zone = tenants.id_of(arrival.tenant), tenants.zone_of(arrival.tenant)
        source = Source(number, arrival.submission_id, arrival.received_at, zone, arrival.kept_headers())
        reading = read(arrival.body, source)
        receipts += reading.receipts
        rejects += reading.rejects
    return receipts, rejects


async def can_commit(pool: Pool, spool: Spool) -> bool:
    """Whether Postgres commits something in two seconds at most."""
    if spool.identity is None:
        return await can_write(pool)
    try:
        async with borrowed(pool, PROBE_SECONDS) as connection:
            await drained.probe(connection, spool.identity)
            return True
    except (asyncpg.PostgresError, *NOT_THERE):
        return False
