"""Makes one call and stores what came of it: what it does to the submission, and what it does to its lane."""

import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg
import msgspec

from receiver import metrics
from receiver.access.tenants import Tenants
from receiver.access.tokens import NotifyTokens
from receiver.database.pool import NOT_THERE, Connection, Pool
from receiver.ids import SubmissionId
from receiver.platform.calls import call_of
from receiver.platform.client import PlatformClient
from receiver.platform.credentials import Credentials, base_url_of, credentials_of
from receiver.platform.wire import Answer, AnswerItem, Call, Outcome, Trouble
from receiver.sending import claims, lanes, outbox
from receiver.sending.claims import Claim, Load
from receiver.sending.lanes import Lane
from receiver.sending.outbox import Attempt
from receiver.sending.settle import EXPIRED, Done
from receiver.sending.settler import Settler, with_patience

log = logging.getLogger("receiver.dispatcher")

LONGEST_BACKOFF = 60.0
UNSENT = frozenset({Outcome.LATER, Outcome.NOT_SENT})  # surely: it may be sent again
HELD_UP = frozenset({Trouble.CREDENTIALS, Trouble.THROTTLED})


@dataclass(frozen=True)
class Work:
    """A claimed submission with what it carries."""

    claim: Claim
    load: Load
    holds: int = 0
    """How often its lane had been held up when it was claimed."""

    def expired(self, now: datetime) -> bool:
        """Whether it must not be sent any more."""
        return self.claim.expires_at is not None and self.claim.expires_at <= now


@dataclass(frozen=True)
class Prepared:
    """A call that can go out as it is."""

    base_url: str
    credentials: Credentials
    call: Call


class Caller:
    """Calls the platform for claimed submissions.

    `held_up` and `unreachable` say in words what keeps a lane or a tenant from sending, for the warnings of /readyz.
    """

    def __init__(
        self,
        pool: Pool,
        client: PlatformClient,
        tenants: Tenants,
        tokens: NotifyTokens,
        public_url: str,
        settler: Settler,
        clock: Callable[[], datetime],
    ) -> None:
        self._pool, self._client, self._tenants, self._tokens = pool, client, tenants, tokens
        self._public_url, self._settler, self._clock = public_url, settler, clock
        self._credentials: dict[Lane, Credentials | None] = {}
        self.held_up: dict[Lane, str] = {}
        self._holds: Counter[Lane] = Counter()
        self._deciding: Counter[Lane] = Counter()
        self.unreachable: dict[Lane, str] = {}

    def prepare(self, work: Work) -> Prepared | Answer:
        """The call, ready to go out; or the word on what can't be sent. Done before a call is free: it takes time."""
        lane, load = work.claim.lane, work.load
        settings = self._tenants.settings_of(lane.tenant)
        base_url = base_url_of(settings, load.api) if settings else None
        if lane not in self._credentials:  # kept: a token is signed once in 50 minutes
            self._credentials[lane] = credentials_of(settings, load.api) if settings else None
        credentials = self._credentials[lane]
        if base_url is None or credentials is None or load.content is None:
            description = "this tenant has no address or no credentials any more"
            return Answer(Outcome.NOT_SENT, description=description, trouble=Trouble.UNREACHABLE)
        try:
            call = call_of(load.api, load.content, load.recipients, self.notifyurl(lane, work.claim.submission_id))
        except (ValueError, msgspec.DecodeError) as error:
            description = f"what was stored can't be sent ({type(error).__name__})"
            return Answer(Outcome.REFUSED, (AnswerItem("7004", None, description),), description=description)
        return Prepared(base_url, credentials, call)

    async def call(self, work: Work, prepared: Prepared | Answer) -> Answer:
        """What the platform answers; without a call to what expired meanwhile."""
        if work.expired(self._clock()):
            return EXPIRED
        if isinstance(prepared, Answer):
            return prepared
        name, began = self._name(work.claim.lane), time.perf_counter()
        answer = await self._client.send(prepared.base_url, prepared.credentials, work.load.api, prepared.call)
        metrics.PLATFORM_CALLS.labels(name).observe(time.perf_counter() - began)
        metrics.SUBMISSIONS.labels(answer.outcome.value, name).inc()
        if answer.trouble is Trouble.THROTTLED:
            metrics.THROTTLED.labels(name).inc()
        self._note(work.claim.lane, answer)
        return answer

    def notifyurl(self, lane: Lane, submission_id: SubmissionId) -> str:
        """Where the platform tells of this submission."""
        return f"{self._public_url}/notify/{self._tokens.sign(self._name(lane), submission_id)}"

    def holds(self) -> Counter[Lane]:
        """How often each lane was held up so far: what is claimed now bears its number."""
        return self._holds.copy()

    def was_held_up(self, work: Work) -> bool:
        """Whether its lane was held up since it was claimed, by an answer to this process."""
        lane = work.claim.lane
        return not work.claim.tries and (self._deciding[lane] > 0 or self._holds[lane] != work.holds)

    async def conclude(self, work: Work, answer: Answer, began: datetime) -> None:
        """Stores what came of a call that began at that time: the last word, or that it goes out again."""
        try:
            if answer.outcome in UNSENT:
                await with_patience(lambda: self._postpone(work, answer, began))
                return
            await self._settler.settle(Done(work.claim, work.load, answer, self._clock()))
            await self.after_the_last_word(work.claim, answer, began)
        finally:
            self.decided(work.claim.lane, answer)

    async def after_the_last_word(self, claim: Claim, answer: Answer, began: datetime) -> None:
        """What an answer that was stored does to the lane; a lane that can't be told of it finds out by itself."""
        if not claim.tries and answer.trouble not in HELD_UP:
            return
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await self.tell_lane(connection, claim, answer, began)
        except (asyncpg.PostgresError, *NOT_THERE) as error:
            log.warning("lane_not_told", extra={"reason": type(error).__name__})

    async def give_back(self, works: list[Work]) -> None:
        """Returns claims that were not called: they keep their place, and their lane gets its tokens back."""
        async with self._pool.acquire() as connection, connection.transaction():
            for work in works:
                await lanes.give_back(connection, work.claim.lane, work.claim.message_count)
                if work.claim.tries:
                    await lanes.let_next_try(connection, work.claim.lane, self._clock())
            await claims.release(connection, [(work.claim, None, False) for work in works])

    async def _postpone(self, work: Work, answer: Answer, began: datetime) -> None:
        """An attempt that is no fact. The lane's trouble does not count as a failure of the submission."""
        counts = answer.trouble not in HELD_UP
        now = self._clock()
        not_before = now + backoff(work.claim.failures + 1) if counts else None
        async with self._pool.acquire() as connection, connection.transaction():
            await self.tell_lane(connection, work.claim, answer, began)
            await outbox.add_attempts(connection, [Attempt(work.claim, answer, now)])
            await claims.release(connection, [(work.claim, not_before, counts)])

    async def tell_lane(self, connection: Connection, claim: Claim, answer: Answer, began: datetime) -> None:
        """Stops the lane, slows it down, or lets it go on, as the answer says."""
        now, lane = self._clock(), claim.lane
        if answer.trouble is Trouble.CREDENTIALS:
            await lanes.stop(connection, lane, now, answer.code)
            self.note_held_up(lane, answer.code or answer.description, stopped=True)
        elif answer.trouble is Trouble.THROTTLED:
            jitter = random.uniform(0.5, 1.0)
            await lanes.pause(connection, lane, now, began, answer.retry_after, jitter, tried=claim.tries)
            self.note_held_up(lane, answer.code or answer.description, stopped=False)
        elif claim.tries and answer.http_status is not None:
            await lanes.reopen(connection, lane)
            self.held_up.pop(lane, None)
        elif claim.tries:
            await lanes.let_next_try(connection, lane, now)

    def decided(self, lane: Lane, answer: Answer) -> None:
        """The lane has been told of that answer: what was claimed before is given back instead of called."""
        if answer.trouble in HELD_UP:
            self._deciding[lane] -= 1
            self._holds[lane] += 1

    def note_held_up(self, lane: Lane, why: str | None, *, stopped: bool) -> None:
        """Remembers that a lane is stopped or slowed down, and says so once in the log."""
        name = self._name(lane)
        if lane not in self.held_up:
            extra = {"tenant": name, "lane": lane.family.name.lower(), "code": why}
            log.warning("lane_stopped" if stopped else "lane_slowed_down", extra=extra)
        what = "refuses the credentials" if stopped else "asks us to slow down"
        self.held_up[lane] = f"the platform {what} (tenant {name}): {why or 'no code'}; its messages wait"
        if stopped:
            metrics.LANE_STOPPED.labels(name).set(1)

    def _note(self, lane: Lane, answer: Answer) -> None:
        if answer.outcome not in UNSENT or answer.trouble in HELD_UP:
            if answer.trouble in HELD_UP:
                self._deciding[lane] += 1
            self.unreachable.pop(lane, None)
            return
        name, why = self._name(lane), answer.code or answer.description
        if lane not in self.unreachable:
            # with a code the description is the platform's, which may quote what was sent
            extra = {"tenant": name, "code": answer.code, "reason": None if answer.code else answer.description}
            log.warning("platform_trouble", extra=extra)
        self.unreachable[lane] = f"the platform can't be reached or puts us off (tenant {name}): {why}"

    def _name(self, lane: Lane) -> str:
        return self._tenants.names.get(lane.tenant, "unknown")


def backoff(failures: int) -> timedelta:
    """How long a submission waits after it failed for that many times: doubling with jitter, a minute at most."""
    return timedelta(seconds=random.uniform(0.5, 1.0) * min(2.0 ** min(failures, 10), LONGEST_BACKOFF))
