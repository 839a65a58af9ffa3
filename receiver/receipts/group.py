"""A group of receipts becomes durable: in one statement, or in parts of one transaction where some of it is refused.

Whichever it is, there is one commit, and the group's key stands in the ledger if and only if it was done.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

import asyncpg

from receiver import metrics
from receiver.database.pool import PASSING, Connection
from receiver.ids import Digest, TenantId, new_id
from receiver.messages.store import MERGED_MEANWHILE, MOST_TRIES, may_try_again
from receiver.messages.told import Feed, Reject, Told
from receiver.receipts.apply import Applied, apply, apply_once
from receiver.receipts.counting import count_group

log = logging.getLogger("receiver.intake")

GROUP = 256  # receipts in one statement: 6 ms of work in the database

NOT_THE_RECEIPT = PASSING
# What a database, or the way to it, says of a receipt that it can't take.
REFUSALS = (asyncpg.PostgresError, ValueError, TypeError, OverflowError)
REFUSED = "database_refused"  # the reason in the quarantine


class AlreadyIn(Exception):
    """The group's key is in the ledger: another transaction with the same receipts was faster."""


@dataclass
class Stored:
    """What became of a group: its parts as they were applied, and good receipts that found no way in now."""

    parts: list[tuple[Sequence[Told], Sequence[Reject], Applied]] = field(default_factory=list)
    left: list[Told] = field(default_factory=list)

    def count(self, feed: Feed, tenants: Mapping[TenantId, str]) -> None:
        """Adds it to the metrics, once it is committed."""
        for receipts, rejects, applied in self.parts:
            metrics.GROUP.observe(len(receipts) + len(rejects))
            count_group(feed, tenants, receipts, applied, rejects)


async def store(
    connection: Connection, key: UUID, feed: Feed, receipts: Sequence[Told], rejects: Sequence[Reject]
) -> Stored:
    """Commits a group. A receipt that the database refuses goes to quarantine; what is left is to be told again.

    Raises asyncpg.PostgresError, asyncpg.InterfaceError or OSError: then it is unknown whether the group is in.
    """
    began = time.perf_counter()
    stored = None
    if len(receipts) <= GROUP:
        try:
            applied = await apply(connection, key, datetime.now(UTC), feed, receipts, rejects)
            stored = Stored([(receipts, rejects, applied)])
        except REFUSALS as error:
            if not is_the_receipts_fault(error):
                raise
    if stored is None:
        stored = await _in_one_transaction(connection, key, feed, receipts, rejects)
    metrics.COMMIT.observe(time.perf_counter() - began)
    return stored


async def _in_one_transaction(
    connection: Connection, key: UUID, feed: Feed, receipts: Sequence[Told], rejects: Sequence[Reject]
) -> Stored:
    for tries_left in range(MOST_TRIES - 1, -1, -1):
        try:
            async with connection.transaction():
                return await store_parts(connection, key, feed, receipts, rejects)
        except asyncpg.PostgresError as error:
            if not tries_left or not may_try_again(error):
                raise
    raise AssertionError("the last try returns or raises")


async def store_parts(
    connection: Connection,
    key: UUID,
    feed: Feed,
    receipts: Sequence[Told],
    rejects: Sequence[Reject],
    *,
    patient: bool = True,
) -> Stored:
    """Applies a group in the caller's transaction; a part that is refused is halved until the culprit stands alone.

    Its first row in the ledger has the key. A good receipt that finds no way in is left; without `patient` it goes to
    quarantine. Raises AlreadyIn, and what says that the database is in trouble: then the transaction is void.
    """
    parts = _Parts(connection, key, feed, patient)
    for start in range(0, max(len(receipts), 1), GROUP):  # a single body may be larger than a group
        await parts.add(receipts[start : start + GROUP], rejects if start == 0 else ())
    return parts.stored


class _Parts:
    def __init__(self, connection: Connection, key: UUID, feed: Feed, patient: bool) -> None:
        self._connection, self._key, self._feed, self._patient = connection, key, feed, patient
        self.stored = Stored()

    async def add(self, receipts: Sequence[Told], rejects: Sequence[Reject]) -> None:
        alone = len(receipts) + len(rejects) <= 1
        for tries_left in range(MOST_TRIES - 1 if alone else 0, -1, -1):
            try:
                await self._apply(receipts, rejects)
                return
            except REFUSALS as error:
                if not is_the_receipts_fault(error):
                    raise
                if tries_left and getattr(error, "sqlstate", None) == MERGED_MEANWHILE:
                    continue
                if alone:
                    await self._refused(receipts, rejects, error)
                    return
                log.warning("group_refused", extra={"size": len(receipts), "sqlstate": _state(error)})
                break
        half, other_half = len(receipts) // 2, len(rejects) // 2
        if receipts and rejects:
            await self.add(receipts, ())
            await self.add((), rejects)
        elif receipts:
            await self.add(receipts[:half], ())
            await self.add(receipts[half:], ())
        else:
            await self.add((), rejects[:other_half])
            await self.add((), rejects[other_half:])

    async def _apply(self, receipts: Sequence[Told], rejects: Sequence[Reject]) -> None:
        identity = new_id() if self.stored.parts else self._key
        try:
            async with self._connection.transaction():  # a savepoint
                applied = await apply_once(self._connection, identity, datetime.now(UTC), self._feed, receipts, rejects)
        except asyncpg.UniqueViolationError as error:
            if (error.table_name or "").startswith("intake"):
                raise AlreadyIn from None
            raise
        self.stored.parts.append((receipts, rejects, applied))

    async def _refused(self, receipts: Sequence[Told], rejects: Sequence[Reject], error: Exception) -> None:
        """Keeps what the database refused, with the reason; raises if even that is refused."""
        reason = f"{type(error).__name__} {_state(error) or ''}".strip()
        if not receipts:
            await self._apply((), [rejects[0]._replace(reason=REFUSED, detail=reason, headers="{}")])
            return
        told = receipts[0]
        if self._patient and _state(error) == MERGED_MEANWHILE:
            self.stored.left.append(told)  # whatever stands in its way, the receipt is good
            return
        digest = Digest(told.fingerprint)
        reject = Reject(told.tenant, digest, REFUSED, reason, told.raw, "{}", told.received_at, told.submission_id)
        await self._apply((), [reject])
        candidate = str(told.candidate) if told.candidate else None
        log.error("receipt_refused_by_database", extra={"reason": reason, "message_id": candidate})


def is_the_receipts_fault(error: Exception) -> bool:
    """Whether the database refused what a receipt holds, and is not in trouble itself."""
    return not (isinstance(error, asyncpg.PostgresError) and (error.sqlstate or "")[:2] in NOT_THE_RECEIPT)


def _state(error: Exception) -> str | None:
    state: str | None = getattr(error, "sqlstate", None)
    return state
