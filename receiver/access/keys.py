"""API keys: shown once, stored hashed, found by their prefix, compared in constant time."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.requests import Request

from receiver.database.pool import Connection, Pool
from receiver.ids import TenantId
from receiver.web import Problem

SCOPES = ("send", "read", "content", "admin")

INSERT = "insert into api_key (tenant, name, prefix, hash, scopes) values ($1, $2, $3, $4, $5)"
INSERT_KNOWN = """
insert into api_key (tenant, name, prefix, hash, scopes) values ($1, $2, $3, $4, $5) on conflict (prefix) do nothing
"""
BY_PREFIX = "select tenant, hash, scopes, expires_at, revoked_at from api_key where prefix = $1"

# A revoked key stops working within these seconds, in every process.
CACHE_SECONDS = 5.0
MOST_CACHED = 10_000


@dataclass(frozen=True)
class Caller:
    """Who calls: the tenant of the key, and what it may do."""

    tenant: TenantId
    scopes: frozenset[str]


def new_key() -> str:
    """A key of 256 random bits behind a prefix by which it is found."""
    return f"rk_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}"


def hash_of(key: str) -> bytes:
    """What is stored of a key. Its randomness makes a slow hash needless."""
    return hashlib.sha256(key.encode()).digest()


async def create_key(connection: Connection, tenant: TenantId, name: str, scopes: Sequence[str]) -> str:
    """Makes a key and returns it: the only time it can be read. Raises ValueError for an unknown scope."""
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        raise ValueError(f"unknown scope {', '.join(unknown) or '(none)'}: it takes {', '.join(SCOPES)}")
    key = new_key()
    await connection.execute(INSERT, tenant, name, prefix_of(key), hash_of(key), list(scopes))
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
    """Checks the keys of callers; remembers each prefix for a few seconds."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._cache: dict[str, tuple[float, bytes, Caller | None]] = {}

    async def require(self, request: Request, scope: str) -> Caller:
        """Who calls, if its key may do `scope`. Raises Problem 401 for no good key, 403 for one without the scope."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        caller = await self.caller_of(key.strip()) if scheme.lower() == "bearer" else None
        if caller is None:
            raise Problem(
                401,
                "unauthorized",
                "A good API key is needed: Authorization: Bearer rk_… (make one with `receiver keys create`).",
                headers={"www-authenticate": "Bearer"},
            )
        if scope not in caller.scopes and "admin" not in caller.scopes:
            raise Problem(403, "forbidden", f"This API key has not the scope {scope}.")
        return caller

    async def caller_of(self, key: str) -> Caller | None:
        """Whose key this is; None for no good one."""
        prefix = prefix_of(key)
        if prefix is None or "\0" in key:
            return None
        now = time.monotonic()
        cached = self._cache.get(prefix)
        if cached is None or cached[0] < now:
            cached = (now + CACHE_SECONDS, *await self._look_up(prefix))
            if len(self._cache) >= MOST_CACHED:
                self._cache.clear()
            self._cache[prefix] = cached
        return cached[2] if hmac.compare_digest(cached[1], hash_of(key)) else None

    async def _look_up(self, prefix: str) -> tuple[bytes, Caller | None]:
        async with self._pool.acquire() as connection:
            row = await connection.fetchrow(BY_PREFIX, prefix)
        if row is None:
            return bytes(32), None
        dead = row["revoked_at"] or (row["expires_at"] and row["expires_at"] <= datetime.now(UTC))
        return row["hash"], None if dead else Caller(TenantId(row["tenant"]), frozenset(row["scopes"]))


def scopes_of(text: str) -> Collection[str]:
    """The scopes of a comma-separated list."""
    return [part.strip() for part in text.split(",") if part.strip()]
