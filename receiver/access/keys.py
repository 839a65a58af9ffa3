"""API keys: shown once, stored hashed, found by their prefix, compared in constant time."""

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from starlette.requests import Request

from receiver import metrics
from receiver.access.rates import Allowance, Rates
from receiver.database.pool import Connection, Pool
from receiver.ids import TenantId
from receiver.web import ANSWER_HEADERS, Problem

SCOPES = ("send", "read", "content", "admin")

INSERT = """
insert into api_key (tenant, name, prefix, hash, scopes, expires_at, rate) values ($1, $2, $3, $4, $5, $6, $7)
"""
INSERT_KNOWN = """
insert into api_key (tenant, name, prefix, hash, scopes) values ($1, $2, $3, $4, $5) on conflict (prefix) do nothing
"""
BY_PREFIX = "select id, tenant, hash, scopes, expires_at, revoked_at, rate from api_key where prefix = $1"

# A revoked key stops working within these seconds, in every process.
CACHE_SECONDS = 5.0
MOST_CACHED = 10_000


class Failure(StrEnum):
    """Why a caller was not let in: the label of a metric."""

    MISSING = "missing"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    REVOKED = "revoked"
    SCOPE = "scope"
    URL = "url"


SENTENCES = {
    Failure.MISSING: "An API key is needed: Authorization: Bearer rk_… (make one with `receiver keys create`).",
    Failure.UNKNOWN: "A good API key is needed: this is none (make one with `receiver keys create`).",
    Failure.EXPIRED: "This API key has expired: make a new one with `receiver keys create`.",
    Failure.REVOKED: "This API key was revoked: make a new one with `receiver keys create`.",
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the tenant of the key, and what it may do. `rate`: its own calls a minute; None: as the settings."""

    tenant: TenantId
    scopes: frozenset[str]
    key_id: int
    prefix: str
    rate: int | None = None

    def may(self, scope: str) -> bool:
        """Whether its key has the scope, or `admin`, which holds them all."""
        return scope in self.scopes or "admin" in self.scopes


@dataclass(frozen=True, slots=True)
class _Known:
    """A key as it was read; it is believed until `until`, by the monotonic clock."""

    until: float
    hash: bytes
    caller: Caller | None
    expires_at: datetime | None = None
    is_revoked: bool = False


def new_key() -> str:
    """A key of 256 random bits behind a prefix by which it is found."""
    return f"rk_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}"


def hash_of(key: str) -> bytes:
    """What is stored of a key. Its randomness makes a slow hash needless."""
    return hashlib.sha256(key.encode()).digest()


async def create_key(
    connection: Connection,
    tenant: TenantId,
    name: str,
    scopes: Sequence[str],
    expires_at: datetime | None = None,
    rate: int | None = None,
) -> str:
    """Makes a key and returns it: the only time it can be read. Raises ValueError for an unknown scope."""
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        raise ValueError(f"unknown scope {', '.join(unknown) or '(none)'}: it takes {', '.join(SCOPES)}")
    key = new_key()
    own = list(dict.fromkeys(scopes))
    await connection.execute(INSERT, tenant, name, prefix_of(key), hash_of(key), own, expires_at, rate)
    return key


async def ensure_key(connection: Connection, tenant: TenantId, name: str, scopes: Sequence[str], key: str) -> None:
    """Makes a key that is known beforehand, unless it is there already."""
    await connection.execute(INSERT_KNOWN, tenant, name, prefix_of(key), hash_of(key), list(scopes))


def prefix_of(key: str) -> str | None:
    """The part of a key that may be known; None for what can't be a key."""
    parts = key.split("_", 2)
    if len(parts) != 3 or parts[0] != "rk" or len(parts[1]) != 12 or len(key) > 128 or not key.isascii():
        return None
    return f"rk_{parts[1]}"


class Keys:
    """Checks the keys of callers; remembers each prefix for a few seconds, and when each key was used last."""

    def __init__(self, pool: Pool, *, rate: int = 0, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """`rate`: calls a minute for a key that has no number of its own; 0: no limit."""
        self._pool, self._now = pool, now
        self._rates = Rates(rate)
        self._cache: dict[str, _Known] = {}
        self._looking: dict[str, asyncio.Task[_Known]] = {}
        self._uses: dict[int, datetime] = {}

    async def require(self, request: Request, scope: str) -> Caller:
        """Who calls, if its key may do `scope`.

        Raises Problem 401 for no good key, 429 for one that called too often, 403 for one without the scope.
        """
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        is_shown = scheme.lower() == "bearer" and key.strip()
        caller = await self.caller_of(key.strip()) if is_shown else count(Failure.MISSING)
        if isinstance(caller, Failure):
            raise Problem(401, "unauthorized", SENTENCES[caller], headers={"www-authenticate": "Bearer"})
        allowance = self.take(request, caller)
        if allowance is not None and allowance.wait:
            sentence = f"This API key made more than {allowance.limit} calls in a minute: wait {allowance.wait} s."
            raise Problem(429, "rate_limited", sentence, headers={"retry-after": str(allowance.wait)})
        if not caller.may(scope):
            count(Failure.SCOPE)
            raise Problem(403, "forbidden", f"This API key has not the scope {scope}.")
        return caller

    def take(self, request: Request, caller: Caller) -> Allowance | None:
        """Counts a call against the limit of its key, and tells the client in headers; None where there is no limit."""
        allowance = self._rates.take(caller.key_id, caller.rate)
        if allowance is not None:
            request.scope.setdefault("state", {})[ANSWER_HEADERS] = allowance.headers()
            if allowance.wait:
                metrics.RATE_LIMITED.inc()
        return allowance

    async def caller_of(self, key: str) -> Caller | Failure:
        """Whose key this is, or why it is no good one; that is counted."""
        prefix = prefix_of(key)
        if prefix is None or "\0" in key:
            return count(Failure.UNKNOWN)
        known = await self._known(prefix)
        if not hmac.compare_digest(known.hash, hash_of(key)) or known.caller is None:
            return count(Failure.UNKNOWN)
        if known.is_revoked:
            return count(Failure.REVOKED)
        now = self._now()
        if known.expires_at is not None and known.expires_at <= now:
            return count(Failure.EXPIRED)
        self._uses[known.caller.key_id] = now
        return known.caller

    async def is_good(self, caller: Caller) -> bool:
        """Whether its key is neither revoked nor expired by now: for those whose answer takes longer than seconds."""
        known = await self._known(caller.prefix)
        is_live = known.expires_at is None or known.expires_at > self._now()
        return known.caller is not None and is_live and not known.is_revoked

    def take_uses(self) -> dict[int, datetime]:
        """When each key was used last, of those used since this was last asked."""
        uses, self._uses = self._uses, {}
        return uses

    def give_back(self, uses: dict[int, datetime]) -> None:
        """Takes back uses that could not be written; a later one is kept."""
        self._uses = uses | self._uses

    async def _known(self, prefix: str) -> _Known:
        """What is known of a prefix. Thousands who ask for one at once make one look into the database."""
        known = self._cache.get(prefix)
        if known is not None and known.until > time.monotonic():
            return known
        looking = self._looking.get(prefix)
        if looking is None:
            looking = self._looking[prefix] = asyncio.create_task(self._look_up(prefix))
            looking.add_done_callback(lambda task: self._looked(prefix, task))
        return await asyncio.shield(looking)

    def _looked(self, prefix: str, task: "asyncio.Task[_Known]") -> None:
        self._looking.pop(prefix, None)
        if task.cancelled() or task.exception():  # whoever waited was told; perhaps nobody waits any more
            return
        if len(self._cache) >= MOST_CACHED:
            self._cache.clear()
        self._cache[prefix] = task.result()

    async def _look_up(self, prefix: str) -> _Known:
        async with self._pool.acquire() as connection:
            until = time.monotonic() + CACHE_SECONDS
            row = await connection.fetchrow(BY_PREFIX, prefix)
        if row is None:
            return _Known(until, bytes(32), None)
        caller = Caller(TenantId(row["tenant"]), frozenset(row["scopes"]), row["id"], prefix, row["rate"])
        return _Known(until, row["hash"], caller, row["expires_at"], row["revoked_at"] is not None)


def count(failure: Failure) -> Failure:
    """Counts somebody who was not let in."""
    metrics.AUTH_FAILURES.labels(failure.value).inc()
    return failure


def scopes_of(text: str) -> list[str]:
    """The scopes of a comma-separated list."""
    return [part.strip() for part in text.split(",") if part.strip()]
