"""Tells receipts on, after their commit, to whoever wants them: claims, posts, settles. At least once.

No connection to the database is held while a client's server thinks, and intake never waits for any of this.
"""

import asyncio
import hmac
import logging
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import asyncpg

from receiver import metrics
from receiver.access.tenants import Tenants
from receiver.database.pool import NOT_THERE, Pool
from receiver.forwarding import queue
from receiver.forwarding.body import Client, body_for
from receiver.forwarding.breakers import Breakers
from receiver.forwarding.network import SECONDS, NotReached, Refused, Teller
from receiver.forwarding.queue import Claim, Putting
from receiver.forwarding.rhythm import Result, is_trouble, next_try, result_of
from receiver.ids import TenantId
from receiver.targets import NOTHING
from receiver.tenant_settings import Tenant

log = logging.getLogger("receiver.forwarder")

IDLE_SECONDS = 0.25
TIDY_SECONDS = 5.0
LEASE = timedelta(seconds=SECONDS + 30)  # the call, and then the tries to store what came of it
ISSUED = 1
MOST_NAMED = 10  # hosts in the warnings of /readyz
EVENTS = {
    (Result.DROPPED, False): "forwards_dropped",
    (Result.DROPPED, True): "failure_notices_dropped",
    (Result.GIVEN_UP, False): "forwards_given_up",
    (Result.GIVEN_UP, True): "failure_notices_given_up",
}


class Forwarder:
    """The worker behind notifyurls of clients. `close` lets calls under way finish."""

    def __init__(
        self,
        pool: Pool,
        tenants: Tenants,
        *,
        concurrency: int,
        most_waiting: int,
        teller: Teller | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool, self._tenants, self._clock, self._monotonic = pool, tenants, clock, monotonic
        self._concurrency, self._most_waiting = concurrency, most_waiting
        self._teller = teller or Teller(concurrency)
        # A host that hangs and does not fail yet leaves the other half to the others.
        self._room = max(concurrency // 2, 1)
        self._breakers = Breakers(self._room)
        self._calls: set[asyncio.Task[None]] = set()
        self._done: list[Claim] = []
        self._put_off: list[Putting] = []
        self._given_up: Counter[tuple[str, str, bool]] = Counter()
        self._measured: set[TenantId] = set()
        self._wake = asyncio.Event()
        self._closing = False
        self._is_away = False

    async def close(self) -> None:
        """Claims nothing more; `run` returns when the calls under way have been settled."""
        self._closing = True
        self._wake.set()

    async def run(self) -> None:
        """Claims and tells until closed."""
        try:
            await self._rounds()
            if self._calls:
                await asyncio.wait(self._calls)
            await self._settle()
        except (asyncpg.PostgresError, *NOT_THERE) as error:  # what was told is told again after its lease
            self._unreachable(error)
        finally:
            for call in self._calls:
                call.cancel()
            await asyncio.gather(*self._calls, return_exceptions=True)
            await self._teller.aclose()

    def warnings(self) -> list[str]:
        """A warning for each host that is left alone, for /readyz."""
        hosts = self._breakers.open_hosts()
        named = [
            f"receipts or notices do not reach {host}: they wait, see `receiver forwards list`"
            for host in hosts[:MOST_NAMED]
        ]
        return (
            named if len(hosts) <= MOST_NAMED else [*named, f"nor do they reach {len(hosts) - MOST_NAMED} more hosts"]
        )

    async def _rounds(self) -> None:
        tidied = 0.0
        while not self._closing:
            self._wake.clear()
            claimed = 0
            try:
                await self._settle()
                if not tidied or self._monotonic() - tidied >= TIDY_SECONDS:
                    tidied = self._monotonic()
                    await self.tidy()
                claimed = await self._claim()
                self._is_away = False
            except (asyncpg.PostgresError, *NOT_THERE) as error:
                self._unreachable(error)
            if not claimed:
                await self._pause()

    def _unreachable(self, error: Exception) -> None:
        if not self._is_away:  # once, until the database has answered again
            log.warning("forwards_unreachable", extra={"reason": type(error).__name__})
        self._is_away = True

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _claim(self) -> int:
        free = self._concurrency - len(self._calls)
        if free <= 0:
            return 0
        rooms = self._breakers.rooms(self._monotonic())
        async with self._pool.acquire() as connection:
            claims = await queue.claim(connection, self._clock(), free, rooms, self._room, LEASE)
        for claim in claims:
            self._breakers.begin(claim.host)
            task = asyncio.create_task(self._forward(claim), name=f"forward {claim.id}")
            self._calls.add(task)
            task.add_done_callback(self._ended)
        return len(claims)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._calls.discard(task)
        self._wake.set()

    async def _forward(self, claim: Claim) -> None:
        """One try: it ends in a line for `_settle`, whatever comes of it."""
        status, error, result = None, None, Result.RETRIED
        failed: bool | None = None
        try:
            if claim.raw is None:
                result = Result.GONE
            else:
                status = await self._tell(claim, claim.raw)
                result, failed = result_of(status), is_trouble(status)
        except Refused as why:
            result, error = Result.REFUSED, str(why)
        except NotReached as why:
            error, failed = str(why), True
        except Exception as unexpected:
            error = f"it could not be made ({type(unexpected).__name__})"
            extra = {"reason": type(unexpected).__name__, "message_id": str(claim.message_id)}
            log.exception("forward_failed", extra=extra)
        finally:
            if self._breakers.end(claim.host, self._monotonic(), failed=failed):
                log.warning("forward_host_left_alone", extra={"host": claim.host, "status": status, "reason": error})
        self._judge(claim, result, status, error)

    async def _tell(self, claim: Claim, raw: bytes) -> int:
        settings = self._tenants.settings_of(claim.tenant)
        if claim.is_notice:
            allowed = settings.forward_allow if settings else NOTHING
            return await self._teller.tell(claim.url, raw, allowed, shown_with_notice(settings, raw))
        allowed, body = settings.forward_allow if settings else NOTHING, body_for(raw, client_of(claim))
        # What stood as Notify URL on the platform may ask for what the platform shows; a client's own never sees it.
        headers = shown_to(settings, body) if settings and claim.url == settings.forward_to else {}
        return await self._teller.tell(claim.url, body, allowed, headers)

    def _judge(self, claim: Claim, result: Result, status: int | None, error: str | None) -> None:
        now, tenant = self._clock(), self._name(claim.tenant)
        if result in (Result.TAKEN, Result.GONE):
            self._done.append(claim)
        else:
            due_at = next_try(claim.attempts, now, claim.expires_at) if result is Result.RETRIED else None
            if result is Result.RETRIED and due_at is None:
                result = Result.GIVEN_UP
            if due_at is None:
                self._given_up[tenant, claim.host, claim.is_notice] += 1
            self._put_off.append(Putting(claim, due_at, status, error))
        _count(result, tenant, claim.is_notice)
        if result is Result.TAKEN and not claim.is_notice:
            metrics.FORWARD_SECONDS.observe(max((now - claim.created_at).total_seconds(), 0.0))

    async def _settle(self) -> None:
        """Stores what came of the calls that have ended; what can't be stored now stays for the next round."""
        done, put_off = self._done[:], self._put_off[:]
        if not (done or put_off):
            return
        async with self._pool.acquire() as connection:
            await queue.settle(connection, done, put_off)
        del self._done[: len(done)], self._put_off[: len(put_off)]

    async def tidy(self) -> None:
        """Takes over what a dead process left, keeps the queue within its bounds, and measures it."""
        now = self._clock()
        async with self._pool.acquire() as connection:
            await connection.execute(queue.RELEASE, now)
            depths = await queue.measure(connection)
            dropped, over = queue.Numbers(), queue.Numbers()
            if any(depth.is_over(now, self._most_waiting) for depth in depths.values()):
                dropped, over = await queue.bound(connection, now, self._most_waiting)
        self._breakers.forget(self._monotonic())
        for result, numbers in ((Result.DROPPED, dropped), (Result.GIVEN_UP, over)):
            for (tenant, is_notice), number in numbers.items():
                _count(result, self._name(tenant), is_notice, number)
                log.warning(EVENTS[result, is_notice], extra={"tenant": self._name(tenant), "count": number})
        for (name, host, is_notice), number in self._given_up.items():
            extra = {"tenant": name, "host": host, "count": number}
            log.warning("failure_notices_given_up" if is_notice else "forwards_given_up", extra=extra)
        self._given_up.clear()
        self._show(depths, now)

    def _show(self, depths: dict[TenantId, queue.Depth], now: datetime) -> None:
        for tenant in self._measured | depths.keys():
            depth = depths.get(tenant, queue.NO_DEPTH)
            age = max((now - depth.oldest).total_seconds(), 0.0) if depth.oldest else 0.0
            metrics.FORWARD_QUEUE.labels(self._name(tenant)).set(depth.waiting)
            metrics.FORWARD_OLDEST.labels(self._name(tenant)).set(age)
        self._measured |= depths.keys()

    def _name(self, tenant: TenantId) -> str:
        return self._tenants.names.get(tenant, "unknown")


def _count(result: Result, tenant: str, is_notice: bool, number: int = 1) -> None:
    (metrics.FAILURE_NOTICES if is_notice else metrics.FORWARDS).labels(result.value, tenant).inc(number)


def shown_with_notice(tenant: Tenant | None, body: bytes) -> dict[str, str]:
    """The signature of a failure notice, where the tenant's settings have a secret for it."""
    secret = tenant.failures.secret if tenant and tenant.failures else None
    return {"x-hub-signature": signature(secret, body)} if secret else {}


def signature(secret: str, body: bytes) -> str:
    """As the platform signs: the HMAC of the bytes."""
    return f"sha256={hmac.digest(secret.encode(errors='surrogateescape'), body, 'sha256').hex()}"


def shown_to(tenant: Tenant, body: bytes) -> dict[str, str]:
    """The signature and the header that the platform shows with a receipt, where the tenant's settings know them."""
    headers = {}
    if tenant.notify_header and tenant.notify_header_values:
        headers[tenant.notify_header] = tenant.notify_header_values[0]
    if tenant.signature_secrets:
        headers["x-hub-signature"] = signature(tenant.signature_secrets[0], body)
    return headers


def client_of(claim: Claim) -> Client | None:
    """What the client knows the message by: a child is its event's; None for what we only observed."""
    if claim.event_id is not None:
        return Client(claim.event_id, claim.event_correlationid or "", claim.event_callback_data)
    if claim.origin == ISSUED:
        return Client(claim.message_id, claim.correlationid or "", claim.callback_data)
    return None
