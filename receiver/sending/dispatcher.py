"""Sends what the outbox holds: claims, calls the platform, settles. Holds no connection while the platform thinks."""

import asyncio
import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import asyncpg

from receiver import metrics
from receiver.access.tenants import Tenants
from receiver.access.tokens import NotifyTokens
from receiver.database.pool import NOT_THERE, Pool
from receiver.ids import SubmissionId, TenantId
from receiver.messages.changes import count
from receiver.platform.client import PlatformClient
from receiver.platform.codes import Class, known_code
from receiver.platform.wire import CREDENTIAL_CODES, Answer, Outcome, messaging_body
from receiver.sending import outbox
from receiver.sending.outbox import Claim, Load
from receiver.sending.settle import ABANDONED, EXPIRED, postpone, settle

log = logging.getLogger("receiver.dispatcher")

IDLE_SECONDS = 0.5  # how soon work of another process is seen; our own wakes us at once
TIDY_SECONDS = 5.0
LONGEST_BACKOFF = 60.0
SETTLE_TRIES = 6  # 0.5 + 1 + 2 + 4 + 8 s: a Postgres that restarts is back by then
CLASSES = {int(c): c.word for c in Class}


class Dispatcher:
    """The worker behind POST /v1/messages. `wake` tells it of work; `close` lets calls under way finish."""

    def __init__(
        self,
        pool: Pool,
        client: PlatformClient,
        tenants: Tenants,
        tokens: NotifyTokens,
        public_url: str,
        *,
        concurrency: int,
        timeout: float,
        keep_content: bool,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._pool, self._client, self._tenants, self._tokens = pool, client, tenants, tokens
        self._public_url, self._concurrency, self._keep_content = public_url, concurrency, keep_content
        # The call, and then the tries to store its answer, must end before somebody takes the claim over.
        self._lease = timedelta(seconds=timeout + 45)
        self._clock = clock
        self._calls: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._closing = False
        self.trouble: dict[str, str] = {}

    def wake(self) -> None:
        """There is new work."""
        self._wake.set()

    async def close(self) -> None:
        """Claims nothing more; `run` returns when the calls under way have been settled."""
        self._closing = True
        self._wake.set()

    async def run(self) -> None:
        """Claims and sends until closed."""
        tidied = 0.0
        loop = asyncio.get_running_loop()
        while not self._closing:
            self._wake.clear()
            claimed = 0
            try:
                if loop.time() - tidied >= TIDY_SECONDS:
                    tidied = loop.time()
                    await self._tidy()
                claimed = await self._claim()
            except (asyncpg.PostgresError, *NOT_THERE) as error:
                log.warning("outbox_unreachable", extra={"reason": type(error).__name__})
            if not claimed:
                await self._pause()
        if self._calls:
            await asyncio.wait(self._calls)

    async def _pause(self) -> None:
        try:
            # not wait_for: on Python 3.11 it swallows a cancellation that comes together with the wake
            async with asyncio.timeout(IDLE_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _claim(self) -> int:
        free = self._concurrency - len(self._calls)
        able = [t for t in self._tenants.names if self._can_send(t)]
        if free <= 0 or not able:
            return 0
        async with self._pool.acquire() as connection:
            claims = await outbox.claim(connection, able, self._clock(), free, self._lease)
        for claim in claims:
            task = asyncio.create_task(self._dispatch(claim), name=f"dispatch {claim.submission_id}")
            self._calls.add(task)
            task.add_done_callback(self._done)
        return len(claims)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._calls.discard(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()):
            # The lease runs out and the submission becomes uncertain: nothing is sent twice because of this.
            log.error("dispatch_failed", extra={"reason": type(error).__name__}, exc_info=error)

    def _can_send(self, tenant: TenantId) -> bool:
        settings = self._tenants.settings_of(tenant)
        return settings is not None and bool(settings.platform_url and settings.platform_key)

    async def _dispatch(self, claim: Claim) -> None:
        settings = self._tenants.settings_of(claim.tenant)
        assert settings is not None
        assert settings.platform_url is not None
        assert settings.platform_key is not None
        now = self._clock()
        expired = claim.expires_at is not None and claim.expires_at <= now
        async with self._pool.acquire() as connection:
            load = await outbox.load(connection, claim.submission_id)
            if load.content is None:
                return  # settled meanwhile
            if not expired and not await outbox.mark_sent(connection, claim, now):
                return  # taken over meanwhile
        if expired:
            await self._settle(claim, load, EXPIRED)
            return
        body = messaging_body(load.content, load.recipients, self.notifyurl(settings.name, claim.submission_id))
        answer = await self._client.send(settings.platform_url, settings.platform_key, body)
        metrics.SUBMISSIONS.labels(answer.outcome.value, settings.name).inc()
        self._note(settings.name, answer)
        if answer.outcome in (Outcome.LATER, Outcome.NOT_SENT):
            at = self._clock()
            await postpone(self._pool, claim, answer, at, at + backoff(claim.attempts, answer))
        else:
            await self._settle(claim, load, answer)

    def notifyurl(self, tenant: str, submission_id: SubmissionId) -> str:
        """Where the platform tells of this submission."""
        return f"{self._public_url}/notify/{self._tokens.sign(tenant, submission_id)}"

    def _note(self, tenant: str, answer: Answer) -> None:
        """Remembers what keeps a tenant from sending, for the warnings of /readyz."""
        if answer.outcome in (Outcome.LATER, Outcome.NOT_SENT):
            what = "refuses the credentials" if answer.code in CREDENTIAL_CODES else "can't be reached or puts us off"
            if tenant not in self.trouble:
                extra = {"tenant": tenant, "code": answer.code, "detail": answer.description}
                log.warning("platform_trouble", extra=extra)
            self.trouble[tenant] = f"the platform {what} (tenant {tenant}): {answer.code or answer.description}"
        else:
            self.trouble.pop(tenant, None)

    async def _settle(self, claim: Claim, load: Load, answer: Answer) -> None:
        """Stores the last word, trying for a while: what is lost here becomes uncertain."""
        for attempt in range(SETTLE_TRIES):
            try:
                changes, codes = await settle(
                    self._pool, claim, load, answer, self._clock(), keep_content=self._keep_content
                )
                count(changes, self._tenants.names, {k: known_code(v) for k, v in codes.items()}, CLASSES)
                return
            except (asyncpg.PostgresError, *NOT_THERE):
                if attempt == SETTLE_TRIES - 1:
                    raise
                await asyncio.sleep(0.5 * 2**attempt)

    async def _tidy(self) -> None:
        """Takes over what a dead process left, and measures the outbox."""
        async with self._pool.acquire() as connection:
            abandoned = await outbox.claim_abandoned(connection, self._clock(), self._concurrency, self._lease)
            loads = [await outbox.load(connection, claim.submission_id) for claim in abandoned]
            depths = {row["tenant"]: row["messages"] for row in await connection.fetch(outbox.DEPTH)}
        for claim, load in zip(abandoned, loads, strict=True):
            log.warning("claim_abandoned", extra={"submission_id": str(claim.submission_id)})
            if load.sent_at is None and load.content is not None:  # it ended before the call: nothing was sent
                async with self._pool.acquire() as connection:
                    await connection.execute(outbox.LATER, claim.submission_id, self._clock())
            else:
                await self._settle(claim, load, ABANDONED)
        for tenant, name in self._tenants.names.items():
            metrics.OUTBOX.labels(name).set(depths.get(tenant, 0))


def backoff(attempts: int, answer: Answer) -> timedelta:
    """How long to wait before the next try: doubling with jitter; credentials are probed once a minute."""
    if answer.code in CREDENTIAL_CODES:
        return timedelta(seconds=LONGEST_BACKOFF)
    return timedelta(seconds=random.uniform(0.5, 1.0) * min(2.0 ** min(attempts, 10), LONGEST_BACKOFF))
