"""The self-probe: posts a synthetic receipt to our own public address, and looks whether its row is there.

One number for "can the platform reach us": DNS, TLS, balancer, door, intake and commit are all on its way.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from receiver import metrics
from receiver.access.tokens import PROBE, NotifyTokens
from receiver.database.leases import LOOK_SECONDS
from receiver.database.pool import NOT_THERE, Pool, is_away
from receiver.ids import new_id
from receiver.probe import rows
from receiver.probe.calling import Result, post
from receiver.receipts.probed import body_of

log = logging.getLogger("receiver.probe")

# From the answer to its row. What was answered 200 from the spool of a Postgres that stumbled drains within it.
FOLLOW_SECONDS = 20.0
LONGEST_FOLLOWS = 3  # such times in all, while the database can't be asked
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
MOST_MISSED = 2  # failures in a row of which /readyz tells: one may be a restart of the proxy
NOT_READ = (asyncpg.PostgresError, *NOT_THERE)


class Prober:
    """Probes every `seconds`; 0: never. `held` says whether the duty is this process's now."""

    def __init__(
        self,
        pool: Pool,
        public_url: str,
        tokens: NotifyTokens,
        seconds: int,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        held: Callable[[], bool] = lambda: True,
        follow: float = FOLLOW_SECONDS,
    ) -> None:
        self._pool, self._every, self._now, self._held = pool, timedelta(seconds=seconds), now, held
        self._follow_seconds = follow
        self._url = f"{public_url}/notify/{tokens.sign(PROBE)}"
        self._closing = asyncio.Event()
        self._due: datetime | None = None
        self._missed, self._why, self._fault = 0, "", ""
        if seconds:
            for result in Result:
                metrics.PROBES.labels(result.value)  # from zero: a rate sees the first one

    async def run(self) -> None:
        """Probes until closed; a probe that is under way then is not judged."""
        while not self._closing.is_set():
            look, closing = asyncio.create_task(self.look()), asyncio.create_task(self._closing.wait())
            await asyncio.wait({look, closing}, return_when=asyncio.FIRST_COMPLETED)
            closing.cancel()
            if not look.done():
                look.cancel()
            try:
                await look
            except asyncio.CancelledError:
                pass
            except Exception as error:  # the receipts need this process more than the probe
                self._not_known(error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._closing.wait()

    async def close(self) -> None:
        """Ends the probing."""
        self._closing.set()

    def warnings(self) -> list[str]:
        """That the last probes failed, and why."""
        if self._missed < MOST_MISSED:
            return []
        return [f"the last {self._missed} probes of the public address failed: {self._why}"]

    async def look(self) -> Result | None:
        """Probes if it is ours to do and time for it. None: it did not, or nothing can be said of it."""
        if not self._held() or not self._every:
            self._forget()
            return None
        now = self._now()
        # due later than a whole round away: the clock was put back
        if self._due is not None and now < self._due <= now + self._every:
            return None
        self._due = now + self._every
        result = await self._probe()
        if result is None:
            metrics.PROBE_UP.set(math.nan)  # what was known of the last one need not be so now
        return result

    async def _probe(self) -> Result | None:
        identity = new_id()
        try:
            await rows.begin(self._pool, identity)
        except NOT_READ as error:
            self._not_known(error)
            return None
        began = time.perf_counter()
        called = await post(self._url, body_of(identity))
        result, why = called.failed, called.why
        if result is None:
            result = await self._follow(identity)
            why = f"it was answered 200, and there is no row of it after {self._follow_seconds:g} s"
        if result is None or not self._held() or self._closing.is_set():
            return None
        if called.expires is not None:
            metrics.CERTIFICATE_EXPIRY.set(called.expires.timestamp())
        with contextlib.suppress(*NOT_READ):
            await rows.judge(self._pool, identity, result)
        self._tell(result, why, time.perf_counter() - began)
        return result

    async def _follow(self, identity: UUID) -> Result | None:
        """Whether the row of a probe that was answered 200 is marked. None: the database could not be asked."""
        deadline, pause, unsure = time.monotonic() + self._follow_seconds, FIRST_PAUSE, False
        latest = time.monotonic() + LONGEST_FOLLOWS * self._follow_seconds
        while self._held() and time.monotonic() < latest:
            try:
                if await rows.has_arrived(self._pool, identity):
                    return Result.ARRIVED
            except NOT_READ:
                deadline, unsure = time.monotonic() + self._follow_seconds, True
            if time.monotonic() > deadline:
                return None if unsure else Result.LOST
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)
        return None

    def _tell(self, result: Result, why: str, seconds: float) -> None:
        self._fault = ""
        metrics.PROBES.labels(result.value).inc()
        metrics.PROBE_UP.set(result is Result.ARRIVED)
        if result is Result.ARRIVED:
            metrics.PROBE_SECONDS.set(seconds)
            metrics.PROBE_LAST_SUCCESS.set(self._now().timestamp())
            if self._missed:
                log.info("probe_arrives_again", extra={"failed": self._missed})
            self._missed, self._why = 0, ""
            return
        if why != self._why:  # the first of a row, and when the reason is another
            log.warning("probe_failed", extra={"result": result.value, "reason": why})
        self._missed, self._why = self._missed + 1, why

    def _not_known(self, error: Exception) -> None:
        """A probe could not be made. That the database is away, others tell; else it is logged, the first of a row."""
        metrics.PROBE_UP.set(math.nan)
        reason = f"{type(error).__name__} {getattr(error, 'sqlstate', None) or ''}".strip()
        if reason != self._fault and not is_away(error):
            log.error("probe_not_made", extra={"reason": reason}, exc_info=error)
        self._fault = reason

    def _forget(self) -> None:
        """What this process need not tell: NaN."""
        self._due, self._missed, self._why = None, 0, ""
        for gauge in (
            metrics.PROBE_UP,
            metrics.PROBE_SECONDS,
            metrics.PROBE_LAST_SUCCESS,
            metrics.CERTIFICATE_EXPIRY,
        ):
            gauge.set(math.nan)
