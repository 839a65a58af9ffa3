"""Asks the platform about messages whose final receipt did not come, within each tenant's budget."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg

from receiver import metrics
from receiver.access.tenants import Tenants
from receiver.database.pool import NOT_THERE, Connection, Pool, is_away
from receiver.ids import MessageId, TenantId, new_id
from receiver.messages.store import may_try_again
from receiver.messages.told import Feed
from receiver.platform.apis import Api
from receiver.platform.client import PlatformClient
from receiver.platform.credentials import base_url_of, can_send, credentials_of
from receiver.platform.status import Answer, Result
from receiver.receipts.asked import NotTheSame, apply_asked
from receiver.receipts.group import GROUP, Stored
from receiver.receipts.polled import Joined, receipts_of
from receiver.receipts.texts import Source
from receiver.tenant_settings import Tenant
from receiver.upkeep import reconciling
from receiver.upkeep.reconciler_pace import Pace
from receiver.upkeep.reconciling import Gap, Question

log = logging.getLogger("receiver.reconciler")

CALLS = 4  # under way in this process; the client needs as many connections
LOOK_SECONDS = 1.0
TRIES = 5  # of storing an answer while messages are merged under it
NOT_LOOKED_AT = frozenset({Result.THROTTLED, Result.REFUSED})  # the platform did not look at the question


class Reconciler:
    """Begins the calls whose turn it is, once a second and whenever one has ended. Holds no connection while they last.

    `held` says whether the duty is this process's now. `gap` says when a message is asked about again. Times of the
    database are `now`, in-memory ones `monotonic`, in seconds.
    """

    def __init__(
        self,
        pool: Pool,
        client: PlatformClient,
        tenants: Tenants,
        gap: Gap,
        *,
        held: Callable[[], bool] = lambda: True,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool, self._client, self._tenants, self._gap = pool, client, tenants, gap
        self._held, self._now, self._monotonic = held, now, monotonic
        self._paces: dict[TenantId, Pace] = {}
        self._calls: set[asyncio.Task[None]] = set()
        self._turn: list[TenantId] = []  # who was asked last stands last
        self._closing, self._ended = asyncio.Event(), asyncio.Event()
        self._last_failure: str | None = None

    async def run(self) -> None:
        """Asks until closed. What is under way then is given up: its messages are asked about five minutes later."""
        while not self._closing.is_set():
            self._ended.clear()
            if self._held():
                await self._within_reason(self.once())
            self._show()
            waiting = [asyncio.create_task(event.wait()) for event in (self._closing, self._ended)]
            await asyncio.wait(waiting, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
        for call in self._calls:
            call.cancel()
        await self.idle()

    async def close(self) -> None:
        """Ends the asking."""
        self._closing.set()

    async def once(self) -> None:
        """Begins as many calls as budgets, pauses and places allow, and returns without waiting for them."""
        able = {tenant: settings for tenant, settings in self._able() if self._pace(tenant, settings).room > 0}
        if not able or len(self._calls) >= CALLS:
            return
        self._turn = [t for t in self._turn if t in able] + [t for t in able if t not in self._turn]
        async with reconciling.borrowed(self._pool) as connection:
            for tenant in await reconciling.due_tenants(connection, self._turn, self._now()):
                pace = self._paces[tenant]
                most = min(pace.room, CALLS - len(self._calls))
                questions = await reconciling.claim(connection, tenant, self._now(), most) if most > 0 else []
                for question in questions:
                    pace.begin()
                    self._begin(question, able[tenant], pace)
                if questions:
                    self._turn.remove(tenant)
                    self._turn.append(tenant)

    async def idle(self) -> None:
        """Waits until no call is under way."""
        while self._calls:
            await asyncio.wait(list(self._calls))

    def warnings(self) -> list[str]:
        """A sentence for each tenant whose credentials the platform refuses."""
        return [
            f"tenant {self._tenants.names.get(tenant, 'unknown')} can't ask for the transaction status:"
            " the platform refuses its credentials"
            for tenant, pace in self._paces.items()
            if pace.trouble is Result.REFUSED and self._held()
        ]

    def _able(self) -> list[tuple[TenantId, Tenant]]:
        """The tenants that may ask at all."""
        all_ = [(tenant, self._tenants.settings_of(tenant)) for tenant in self._tenants.names]
        return [(t, s) for t, s in all_ if s is not None and s.polls_per_minute and can_send(s, Api.MESSAGING)]

    def _pace(self, tenant: TenantId, settings: Tenant) -> Pace:
        if tenant not in self._paces:
            self._paces[tenant] = Pace(settings.polls_per_minute, self._monotonic)
        return self._paces[tenant]

    def _begin(self, question: Question, settings: Tenant, pace: Pace) -> None:
        call = asyncio.create_task(self._ask(question, settings, pace), name="poll")
        self._calls.add(call)

        def ended(task: "asyncio.Task[None]") -> None:
            self._calls.discard(task)
            self._ended.set()
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("poll_failed", extra={"reason": type(error).__name__}, exc_info=error)

        call.add_done_callback(ended)

    async def _ask(self, question: Question, settings: Tenant, pace: Pace) -> None:
        """One question, from the call to the day on which it is asked again."""
        credentials, base_url = credentials_of(settings, Api.MESSAGING), base_url_of(settings, Api.MESSAGING)
        assert credentials is not None
        assert base_url is not None
        try:
            answer = await self._client.status(base_url, credentials, question.transid)
        except BaseException:  # closed, or a fault of ours
            pace.under_way -= 1
            raise
        metrics.POLLS.labels(answer.result.value, settings.name).inc()
        before = pace.trouble
        pace.end(answer.result, answer.retry_after)
        self._tell_trouble(settings, before, pace.trouble)
        await self._within_reason(self._conclude(question, settings, answer))

    async def _conclude(self, question: Question, settings: Tenant, answer: Answer) -> None:
        async with reconciling.borrowed(self._pool) as connection:
            if answer.result in NOT_LOOKED_AT:
                await reconciling.put_back(connection, question)
                return
            if answer.entries:
                await self._store(connection, question, settings, answer)
            await reconciling.settle(connection, question, self._now(), self._gap)

    async def _store(self, connection: Connection, question: Question, settings: Tenant, answer: Answer) -> None:
        """Applies what was answered; of messages that are merged or gone meanwhile, nothing."""
        source = Source(question.tenant, None, self._now(), settings.zone)
        joined, dropped = await asyncio.to_thread(receipts_of, question.transid, answer.entries, question.known, source)
        if dropped:
            metrics.POLL_DROPPED.labels(settings.name).inc(dropped)
            log.warning("poll_entries_dropped", extra={"tenant": settings.name, "entries": dropped})
        mine = [one for one in joined if one.message.id in question.claimed]
        for start in range(0, len(mine), GROUP):
            await self._store_group(connection, question, mine[start : start + GROUP])

    async def _store_group(self, connection: Connection, question: Question, joined: Sequence[Joined]) -> None:
        for tries_left in range(TRIES - 1, -1, -1):
            try:
                if joined:
                    await self._apply(connection, joined)
                return
            except NotTheSame:
                if not tries_left:
                    raise
                there = await reconciling.still_there(connection, question)
                joined = [one for one in joined if one.message.id in there]

    async def _apply(self, connection: Connection, joined: Sequence[Joined]) -> None:
        """A group in one transaction; a part that the database refuses is halved until the culprit stands alone."""
        receipts = [one.told for one in joined]
        for tries_left in range(TRIES - 1, -1, -1):
            try:
                applied = await apply_asked(
                    connection, new_id(), self._now(), Feed.POLL, [one.message.id for one in joined], receipts
                )
                Stored([(receipts, (), applied)]).count(Feed.POLL, self._tenants.names)
                return
            except asyncpg.PostgresError as error:
                if tries_left and may_try_again(error):
                    continue
                if is_away(error):
                    raise
                if len(joined) == 1:
                    self._tell_refusal(joined[0].message.id, error)
                    return
                half = len(joined) // 2
                await self._apply(connection, joined[:half])
                await self._apply(connection, joined[half:])
                return

    async def _within_reason(self, work: Coroutine[Any, Any, None]) -> None:
        """Does what needs the database; while that is away it is left for later."""
        try:
            await work
            self._last_failure = None
        except (asyncpg.PostgresError, NotTheSame, *NOT_THERE) as error:
            self._tell_failure(error)

    def _tell_failure(self, error: Exception) -> None:
        """Logs the first failure of a row."""
        reason = f"{type(error).__name__} {getattr(error, 'sqlstate', None) or ''}".strip()
        if self._last_failure is None:
            log.error("reconciling_failed", extra={"reason": reason})
        self._last_failure = reason

    @staticmethod
    def _tell_refusal(message: MessageId, error: asyncpg.PostgresError) -> None:
        """An answer that the database does not take is not kept: the platform has it still."""
        reason = f"{type(error).__name__} {error.sqlstate or ''}".strip()
        log.error("poll_refused_by_database", extra={"message_id": str(message), "reason": reason})

    @staticmethod
    def _tell_trouble(settings: Tenant, before: Result | None, now: Result | None) -> None:
        """Logs when a trouble begins and when it is over."""
        if now is not None and now is not before:
            log.warning("polls_paused", extra={"tenant": settings.name, "reason": now.value})
        elif now is None and before is not None:
            log.info("polls_go_on", extra={"tenant": settings.name})

    def _show(self) -> None:
        held = self._held()
        for tenant, pace in self._paces.items():
            name = self._tenants.names.get(tenant, "unknown")
            metrics.POLL_PAUSED.labels(name).set(float(held and pace.is_paused))
