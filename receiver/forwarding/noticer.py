"""Finds final failures in the change log and queues notices of them: each change once, behind its commit.

A step about every second. The receipts know nothing of it: it reads what they have written, by its index.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import asyncpg

from receiver import metrics
from receiver.access.tenants import Tenants
from receiver.database.leases import LOOK_SECONDS
from receiver.database.pool import NOT_THERE, Connection, Pool
from receiver.failure_settings import FailureNotices
from receiver.forwarding import failures
from receiver.forwarding.digest import FailureDigest
from receiver.forwarding.failures import Notice, Wanted
from receiver.forwarding.notice import group_of, of_digest, of_failure
from receiver.forwarding.queue import MOST_NOTICES
from receiver.forwarding.rhythm import Result
from receiver.ids import TenantId

log = logging.getLogger("receiver.notices")

EVERY_SECONDS = 1.0
LEAST = 500  # changes of a step on a disk that is too slow for more


class Noticer:
    """The worker behind failure_url. Any number of processes may run one; one at a time reads.

    `held` says whether the duty is this process's now; `clock` is the one by which a digest's span ends.
    """

    def __init__(
        self,
        pool: Pool,
        tenants: Tenants,
        *,
        held: Callable[[], bool] = lambda: True,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        most_changes: int = failures.MOST,
    ) -> None:
        self._pool, self._tenants, self._held, self._clock = pool, tenants, held, clock
        self._most = self._most_changes = most_changes
        self._closing = asyncio.Event()
        self._last_failure: str | None = None
        self._is_redirected = False

    async def run(self) -> None:
        """Rounds until closed; the one in hand is ended."""
        while not self._closing.is_set():
            wait = LOOK_SECONDS
            if self._held():
                began = time.monotonic()
                more = await self._round()
                wait = time.monotonic() - began if more else EVERY_SECONDS  # half the time while it is behind
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._closing.wait()

    async def close(self) -> None:
        """Ends the waiting."""
        self._closing.set()

    async def once(self) -> bool:
        """One step, in one transaction; returns whether there is more to read. Raises what Postgres says."""
        dropped: Counter[TenantId] = Counter()
        async with self._pool.acquire() as connection, connection.transaction():
            place = await failures.begin(connection)
            if place is None:
                return False
            told = self._told()
            if not self._is_redirected:
                await failures.redirect(connection, {tenant: one.url for tenant, one in told.items()})
            read = await failures.read(connection, place, [_wanted(*one) for one in told.items()], self._most)
            notices, dropped = self._each(read.rows, told)
            notices += await self._digests(connection, read.rows, told)
            await failures.queue(connection, notices, self._clock())
        self._is_redirected = True
        if place.begun:  # anew: what failed meanwhile is told by nobody
            log.log(
                logging.INFO if place.begun == failures.FIRST else logging.WARNING,
                "failure_notices_begin",
                extra={"reason": place.begun},
            )
        for tenant, number in dropped.items():
            name = self._tenants.names.get(tenant, "unknown")
            metrics.FAILURE_NOTICES.labels(Result.DROPPED.value, name).inc(number)
            log.warning("failure_notices_dropped", extra={"tenant": name, "count": number})
        return read.more

    async def _round(self) -> bool:
        """One step, whatever comes of it; returns whether the next should be soon."""
        try:
            more = await self.once()
        except (asyncpg.PostgresError, *NOT_THERE) as error:
            reason = f"{type(error).__name__} {getattr(error, 'sqlstate', None) or ''}".strip()
            if self._last_failure != reason:
                log.error("failures_not_read", extra={"reason": reason})  # noqa: TRY400
            self._last_failure = reason
            if isinstance(error, asyncpg.QueryCanceledError):
                self._most = max(self._most // 2, LEAST)
            return False
        self._last_failure, self._most = None, min(self._most * 2, self._most_changes)
        return more

    def _told(self) -> dict[TenantId, FailureNotices]:
        """The tenants whose failures are told, and how."""
        settings = {tenant: self._tenants.settings_of(tenant) for tenant in self._tenants.names}
        return {tenant: one.failures for tenant, one in settings.items() if one is not None and one.failures}

    def _each(
        self, rows: Sequence[asyncpg.Record], told: dict[TenantId, FailureNotices]
    ) -> tuple[list[Notice], Counter[TenantId]]:
        """A notice of each failure, where there is no digest: the newest, as many as may wait; and how many are not."""
        notices: list[Notice] = []
        number: Counter[TenantId] = Counter()
        for row in reversed(rows):
            tenant = TenantId(row["tenant"])
            if not told[tenant].digest_seconds:
                number[tenant] += 1
                if number[tenant] <= MOST_NOTICES:
                    notices.append(of_failure(row, self._tenants.names[tenant], told[tenant]))
        return notices[::-1], Counter({tenant: n - MOST_NOTICES for tenant, n in number.items() if n > MOST_NOTICES})

    async def _digests(
        self, connection: Connection, rows: Sequence[asyncpg.Record], told: dict[TenantId, FailureNotices]
    ) -> list[Notice]:
        """Counts more failures, and gives the notices of the digests whose span is over."""
        now, ended = self._clock(), list[Notice]()
        digests, changed = await failures.digests(connection), set[TenantId]()
        for row in rows:
            tenant = TenantId(row["tenant"])
            if told[tenant].digest_seconds:
                digest = digests.setdefault(tenant, FailureDigest(now, row["at"], row["at"]))
                digest.add(group_of(row), str(row["message_id"]), row["at"])
                changed.add(tenant)
        for tenant, digest in digests.items():
            to = told.get(tenant)
            if to is not None and now < digest.began_at + timedelta(seconds=to.digest_seconds):
                if tenant in changed:
                    await failures.keep_digest(connection, tenant, digest)
                continue
            if to is not None:
                ended.append(of_digest(tenant, digest, self._tenants.names[tenant], to))
            await failures.end_digest(connection, tenant)
        return ended


def _wanted(tenant: TenantId, told: FailureNotices) -> Wanted:
    return Wanted(tenant, *(word in told.also for word in ("no_receipt", "cancelled", "observed", "imported")))
