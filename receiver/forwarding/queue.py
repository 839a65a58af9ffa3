"""The queue of forwards in Postgres: claimed with a lease, settled many at once, bounded for each tenant.

Rows are born in the transaction that stores their receipts (`forward_v1`); those of failure notices in the one that
finds the failures (failures.py). Given up: due at infinity.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import asyncpg

from receiver.database.pool import Connection
from receiver.ids import MessageId, TenantId

# From host to host along the index, so that the thousands that wait for one that is down are never read. What is due
# longest stands with as many hosts as are taken at most: of no other is a row locked. An array in place of a join: a
# generic plan takes `due` for a tenth of the queue, and would read all of it.
CLAIM = """
with recursive hosts as (
  (select host from forward where lease_until is null order by host limit 1)
  union all
  select (select f.host from forward f where f.lease_until is null and f.host > h.host order by f.host limit 1)
    from hosts h where h.host is not null
),
rooms as materialized (
  select h.host, coalesce(r.room, $5) as room
    from hosts h left join unnest($3::text[], $4::int[]) as r(host, room) on r.host = h.host
   cross join lateral (
    select f.due_at, f.id from forward f
     where f.host = h.host and f.lease_until is null and f.due_at <= $1 order by f.due_at, f.id limit 1) oldest
   where h.host is not null and coalesce(r.room, $5) > 0
   order by oldest.due_at, oldest.id limit $2
),
due as materialized (
  select d.id from rooms r cross join lateral (
    select f.id, f.due_at from forward f
     where f.host = r.host and f.lease_until is null and f.due_at <= $1
     order by f.due_at, f.id limit r.room for update skip locked) d
   order by d.due_at, d.id limit $2
),
claimed as (
  update forward f set lease_until = $6, attempts = least(f.attempts + 1, 32767)
   where f.id = any (array(select id from due))
  returning f.id, f.tenant, f.message_id, f.fingerprint, f.url, f.host, f.attempts, f.created_at, f.expires_at,
            f.body
)
select c.id, c.tenant, c.message_id, c.fingerprint, c.url, c.host, c.attempts, c.created_at, c.expires_at,
       c.body is not null as is_notice, coalesce(c.body, r.raw) as raw, m.origin, m.correlationid,
       m.callback_data, e.id as event_id, e.correlationid as event_correlationid, e.callback_data as event_callback_data
  from claimed c
  left join receipt r on r.message_id = c.message_id and r.fingerprint = c.fingerprint
  left join message m on m.id = c.message_id
  left join message e on e.id = m.parent_id
 order by c.id
"""
RELEASE = "update forward set lease_until = null where lease_until < $1"
REMOVE = """
delete from forward f using unnest($1::bigint[], $2::smallint[]) as u(id, attempts)
 where f.id = u.id and f.attempts = u.attempts
"""
PUT_OFF = """
update forward f set lease_until = null, due_at = coalesce(u.due_at, 'infinity'),
       last_status = u.status, last_error = u.error
  from unnest($1::bigint[], $2::smallint[], $3::timestamptz[], $4::smallint[], $5::text[])
       as u(id, attempts, due_at, status, error)
 where f.id = u.id and f.attempts = u.attempts
"""
MEASURE = """
select tenant, count(*) filter (where due_at < 'infinity') as waiting,
       count(*) filter (where due_at = 'infinity') as dead,
       min(created_at) filter (where due_at < 'infinity') as oldest,
       min(expires_at) filter (where due_at < 'infinity') as expires_at,
       min(expires_at) filter (where due_at = 'infinity') as dead_since,
       count(*) filter (where due_at < 'infinity' and body is not null) as notices,
       count(*) filter (where due_at = 'infinity' and body is not null) as dead_notices
  from forward group by tenant
"""
# One process at a time trims: two would each take away all that is too much.
TRY_LOCK = "select pg_try_advisory_xact_lock(hashtext('receiver.forward_bounds'))"
TRIM = """
with gone as (
  delete from forward where id in (
    select id from forward
     where tenant = $1 and lease_until is null and (due_at = 'infinity') = $2
       and (body is not null) = $3
     order by id limit $4 for update skip locked)
  returning 1)
select count(*) from gone
"""
FORGET = "delete from forward where due_at = 'infinity' and lease_until is null and expires_at < $1"
# Those of a host that was left alone until the end: nobody claims them.
EXPIRE = """
with over as (
  update forward set due_at = 'infinity', last_error = coalesce(last_error, 'its host could not be reached in time')
   where lease_until is null and due_at < 'infinity' and expires_at <= $1
  returning tenant, body is not null as is_notice)
select tenant, is_notice, count(*) as number from over group by 1, 2
"""

PAGE = """
select id, message_id, host, created_at, nullif(due_at, 'infinity') as due_at, attempts, last_status, last_error,
       body is not null as is_notice
  from forward
 where tenant = $1 and ($2::boolean is null or (due_at = 'infinity') = $2)
 order by id desc limit $3
"""
RETRY = """
update forward set due_at = $2, expires_at = $3, attempts = 0
 where tenant = $1 and lease_until is null and due_at > $2
   and case when $4::bigint[] is null then due_at = 'infinity' else id = any($4) end
returning id
"""

DEAD_KEPT = timedelta(days=30)  # after they were given up
MOST_NOTICES = (
    10_000  # of a tenant that wait: 15 MB, and as many that were given up. They take no place of its receipts
)


class Claim(NamedTuple):
    """A forward that is ours until its lease runs out, with all that its body is made of."""

    id: int
    tenant: TenantId
    message_id: MessageId
    fingerprint: bytes
    url: str
    host: str
    attempts: int
    created_at: datetime
    expires_at: datetime
    is_notice: bool
    """A failure notice, in place of a receipt."""
    raw: bytes | None
    origin: int | None
    correlationid: str | None
    callback_data: str | None
    event_id: UUID | None
    event_correlationid: str | None
    event_callback_data: str | None


class Putting(NamedTuple):
    """A claim that was not taken: when it is due again (None: given up), and why."""

    claim: Claim
    due_at: datetime | None
    status: int | None
    error: str | None


class Depth(NamedTuple):
    """What a tenant has in the queue."""

    waiting: int
    dead: int
    oldest: datetime | None
    expires_at: datetime | None
    dead_since: datetime | None
    notices: int
    """Of those that wait."""
    dead_notices: int
    """Of those that were given up."""

    def is_over(self, now: datetime, most: int) -> bool:
        """Whether something has to go: too many rows, or too old ones."""
        too_old = self.expires_at is not None and self.expires_at <= now
        too_old = too_old or (self.dead_since is not None and self.dead_since < now - DEAD_KEPT)
        return too_old or any(number > 0 for *_, number in self.too_many(most))

    def too_many(self, most: int) -> tuple[tuple[bool, bool, int], ...]:
        """By how many rows each kind is over its bound, where above 0: given up or not, notices or receipts."""
        return (
            (False, False, self.waiting - self.notices - most),
            (False, True, self.notices - MOST_NOTICES),
            (True, False, self.dead - self.dead_notices - most),
            (True, True, self.dead_notices - MOST_NOTICES),
        )


NO_DEPTH = Depth(0, 0, None, None, None, 0, 0)

Numbers = dict[tuple[TenantId, bool], int]
"""How many by tenant, and whether they are failure notices."""


async def claim(
    connection: Connection, now: datetime, most: int, rooms: dict[str, int], room: int, lease: timedelta
) -> list[Claim]:
    """The `most` rows that are due longest, of each host no more than its place in `rooms`, else `room`."""
    hosts, places = list(rooms), list(rooms.values())
    rows = await connection.fetch(CLAIM, now, most, hosts, places, room, now + lease)
    return [Claim(*row.values()) for row in rows]


async def settle(connection: Connection, done: Sequence[Claim], put_off: Sequence[Putting]) -> None:
    """Removes what needs no more tries and puts the rest off; a claim that was taken over meanwhile is left alone."""
    async with connection.transaction():
        if done:
            await connection.execute(REMOVE, [c.id for c in done], [c.attempts for c in done])
        if put_off:
            await connection.execute(
                PUT_OFF,
                [p.claim.id for p in put_off],
                [p.claim.attempts for p in put_off],
                [p.due_at for p in put_off],
                [p.status for p in put_off],
                [p.error for p in put_off],
            )


async def page(connection: Connection, tenant: TenantId, is_dead: bool | None, limit: int) -> "list[asyncpg.Record]":
    """The newest rows of a tenant: all, those that were given up, or those that wait."""
    return await connection.fetch(PAGE, tenant, is_dead, limit)


async def retry(
    connection: Connection, tenant: TenantId, ids: Sequence[int] | None, now: datetime, expires_at: datetime
) -> list[int]:
    """Makes rows due now, with a rhythm from its beginning: those named, or all that were given up. Returns which."""
    return [row["id"] for row in await connection.fetch(RETRY, tenant, now, expires_at, ids)]


async def measure(connection: Connection) -> dict[TenantId, Depth]:
    """What every tenant that has any has in the queue."""
    return {TenantId(row["tenant"]): Depth(*list(row.values())[1:]) for row in await connection.fetch(MEASURE)}


async def bound(connection: Connection, now: datetime, most: int) -> tuple[Numbers, Numbers]:
    """Keeps each tenant's waiting and given-up rows at `most`, the newest ones, and its notices at MOST_NOTICES.

    Returns how many that waited were dropped, and how many were given up because their time was over. Does nothing
    while another process does it.
    """
    dropped: Numbers = {}
    async with connection.transaction():
        if not await connection.fetchval(TRY_LOCK):
            return {}, {}
        over = {
            (TenantId(row["tenant"]), bool(row["is_notice"])): int(row["number"])
            for row in await connection.fetch(EXPIRE, now)
        }
        await connection.execute(FORGET, now - DEAD_KEPT)
        for tenant, depth in (await measure(connection)).items():
            for is_dead, is_notice, number in depth.too_many(most):
                gone = await connection.fetchval(TRIM, tenant, is_dead, is_notice, number) if number > 0 else 0
                if gone and not is_dead:
                    dropped[tenant, is_notice] = gone
    return dropped, over
