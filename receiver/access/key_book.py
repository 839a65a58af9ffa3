"""The operator's view of the API keys: which there are, ending one, a successor for one. Never a key itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from receiver.access.keys import create_key
from receiver.database.pool import Connection
from receiver.ids import TenantId

FIND = """
select k.id, k.tenant, t.name as tenant_name, k.prefix, k.name, k.scopes, k.rate, k.created_at, k.expires_at,
       k.last_used_at, k.revoked_at
  from api_key k join tenant t on t.id = k.tenant
 where ($1::text is null or k.prefix = $1) and ($2::text is null or t.name = $2) and ($3::text is null or k.name = $3)
 order by k.created_at, k.id
"""
REVOKE = "update api_key set revoked_at = coalesce(revoked_at, $2) where id = $1 returning revoked_at"
# least() leaves a null out: a key without an end gets one.
SHORTEN = """
update api_key set expires_at = least(expires_at, $2::timestamptz)
 where id = $1 and revoked_at is null and (expires_at is null or expires_at > $3)
returning expires_at
"""
# Locked in the order of their ids: several processes write down the uses of the same keys.
USED = """
update api_key k set last_used_at = greatest(k.last_used_at, u.at)
  from (select id from api_key where id = any($1::bigint[]) order by id for update) mine
  join unnest($1::bigint[], $2::timestamptz[]) as u(id, at) on u.id = mine.id
 where k.id = mine.id
"""

ACTIVE, EXPIRED, REVOKED = "active", "expired", "revoked"
STATES = (ACTIVE, EXPIRED, REVOKED)


@dataclass(frozen=True)
class KeyRow:
    """All that is known of a key."""

    id: int
    tenant_id: TenantId
    tenant: str
    prefix: str
    name: str
    scopes: tuple[str, ...]
    rate: int | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None

    def state(self, now: datetime) -> str:
        """One of STATES."""
        if self.revoked_at is not None:
            return REVOKED
        return EXPIRED if self.expires_at is not None and self.expires_at <= now else ACTIVE


class NotActive(Exception):
    """The key has ended meanwhile: it gets no successor."""


async def find(
    connection: Connection, *, prefix: str | None = None, tenant: str | None = None, name: str | None = None
) -> list[KeyRow]:
    """The keys that fit all that is given, the oldest first."""
    rows = await connection.fetch(FIND, prefix, tenant, name)
    return [
        KeyRow(
            id=row["id"],
            tenant_id=TenantId(row["tenant"]),
            tenant=row["tenant_name"],
            prefix=row["prefix"],
            name=row["name"],
            scopes=tuple(row["scopes"]),
            rate=row["rate"],
            created_at=row["created_at"],
            expires_at=row["expires_at"],
            last_used_at=row["last_used_at"],
            revoked_at=row["revoked_at"],
        )
        for row in rows
    ]


async def revoke(connection: Connection, key: KeyRow, now: datetime) -> datetime:
    """Ends a key for good. Returns since when: one that was revoked before stays so."""
    since: datetime = await connection.fetchval(REVOKE, key.id, now)
    return since


async def rotate(
    connection: Connection, key: KeyRow, now: datetime, overlap: timedelta, expires_at: datetime | None
) -> tuple[str, datetime]:
    """Makes a successor of the same tenant, name, scopes and rate, and lets the old key go on for `overlap` at most.

    Returns the new key and the old one's end, never later than it was. Raises NotActive.
    """
    async with connection.transaction():
        end: datetime | None = await connection.fetchval(SHORTEN, key.id, now + overlap, now)
        if end is None:
            raise NotActive
        made = await create_key(connection, key.tenant_id, key.name, key.scopes, expires_at, key.rate)
    return made, end


async def write_uses(connection: Connection, uses: Mapping[int, datetime]) -> None:
    """Writes down when keys were used last; a later time that is there stays."""
    await connection.execute(USED, list(uses), list(uses.values()))
