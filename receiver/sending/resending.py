"""Sends an uncertain message again, once, as a new one: where its tenant wants that, and no receipt came in time.

The last word on a submission writes in its own transaction when it is due (`hold`), and leaves its content until then.
What is due is taken, looked at and sent again in one transaction: it happens once, whoever dies or races.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from receiver import metrics
from receiver.access.tenants import Tenants
from receiver.database.pool import Connection, Pool
from receiver.ids import SubmissionId, TenantId, new_id
from receiver.messages.lattice import Channel, Fact, State
from receiver.messages.told import Feed
from receiver.sending.lanes import Family

log = logging.getLogger("receiver.dispatcher")

MOST_AT_ONCE = 64  # submissions, each in a transaction of its own: one batch row is locked at a time

# Before the row leaves the outbox, which alone knows priority and expiry. One that is gone was held, or has its answer.
HOLD = """
insert into resend (submission_id, tenant, priority, expires_at, due_at)
select o.submission_id, o.tenant, o.priority, o.expires_at, coalesce(s.sent_at, $2) + $3::interval
  from outbox o join submission s on s.id = o.submission_id
 where o.submission_id = any($1::uuid[])
on conflict do nothing
"""
TAKE = """
select submission_id, tenant, priority, expires_at from resend
 where due_at <= $1 order by due_at limit 1 for update skip locked
"""
# Lock first, look in the next statement: a receipt that is being applied is waited for.
LOCK = """
select t.id
  from submission s
  join message m on m.id between s.first_id and s.last_id and m.submission_id = s.id
  join message_state t on t.id = m.id
 where s.id = $1 order by t.id for update of t
"""
# Any other fact, were it a status that nobody knows, was told by the platform: it has the message.
UNRESOLVED = """
select m.id, m.channel
  from submission s
  join message m on m.id between s.first_id and s.last_id and m.submission_id = s.id
  join message_state t on t.id = m.id
 where s.id = $1 and s.content is not null and t.state = $2 and t.facts = $3 and m.resend_of is null
 order by m.id
"""
RESEND = """
with s as (
  insert into submission (id, tenant, batch_id, api, notifyurl, created_at, first_id, last_id, message_count, content)
  select $2, o.tenant, o.batch_id, o.api, o.notifyurl, $3, $4, $5, cardinality($7::uuid[]), o.content
    from submission o where o.id = $1
  returning id, tenant, batch_id, message_count
),
b as (update batch set last_id = greatest(last_id, $5) where id = (select batch_id from s)),
o as (
  insert into outbox (submission_id, tenant, family, priority, message_count, due_at, expires_at)
  select s.id, s.tenant, $8, $9, s.message_count, $3, $10 from s
),
m as (
  insert into message (id, tenant, origin, channel, created_at, batch_id, submission_id, resend_of, destination,
                       destination_type, destination_key, correlationid, correlation_key, callback_data, callback_key,
                       sender, template)
  select u.id, m.tenant, m.origin, m.channel, $3, m.batch_id, $2, m.id, m.destination, m.destination_type,
         m.destination_key, m.correlationid, m.correlation_key, m.callback_data, m.callback_key, m.sender, m.template
    from unnest($6::uuid[], $7::uuid[]) as u(old, id) join message m on m.id = u.old
   order by u.id
  returning id, tenant, origin, channel, resend_of
),
t as (
  insert into message_state (id, tenant, origin, channel, country, changed_at)
  select m.id, m.tenant, m.origin, m.channel, s.country, $3
    from m join message_state s on s.id = m.resend_of order by m.id
)
insert into change (at, message_id, version, tenant, origin, channel, country, old_state, new_state, new_conflict)
select $3, m.id, 0, m.tenant, m.origin, m.channel, s.country, null, 0, false
  from m join message_state s on s.id = m.resend_of order by m.id
"""
CLOSE = """
with r as (delete from resend where submission_id = $1)
update submission set content = case when $2 then content end where id = $1
"""


async def hold(connection: Connection, submissions: Sequence[SubmissionId], now: datetime, patience: timedelta) -> None:
    """Notes in the transaction that settles them that these are to be sent again, `patience` after their call."""
    await connection.execute(HOLD, submissions, now, patience)


@dataclass(frozen=True)
class Resent:
    """A submission that was due: the channels of its messages that were sent again, none if all was resolved."""

    submission_id: SubmissionId
    tenant: TenantId
    channels: list[Channel]


class Resending:
    """Looks after what is due to be sent again."""

    def __init__(self, pool: Pool, tenants: Tenants, clock: Callable[[], datetime], *, keep_content: bool) -> None:
        self._pool, self._tenants, self._clock, self._keep_content = pool, tenants, clock, keep_content

    async def resend_due(self) -> bool:
        """Queues anew what is due, 64 submissions at most; whether there may be more. Raises asyncpg.PostgresError."""
        for _ in range(MOST_AT_ONCE):
            async with self._pool.acquire() as connection, connection.transaction():
                resent = await self._resend_next(connection)
            if resent is None:
                return False
            self._count(resent)
        return True

    async def _resend_next(self, connection: Connection) -> Resent | None:
        now = self._clock()
        due = await connection.fetchrow(TAKE, now)
        if due is None:
            return None
        submission_id = SubmissionId(due["submission_id"])
        unresolved: list[asyncpg.Record] = []
        if self._may_go(due, now):
            await connection.execute(LOCK, submission_id)
            unresolved = await connection.fetch(UNRESOLVED, submission_id, int(State.UNCERTAIN), int(Fact.UNCERTAIN))
        if unresolved:
            await self._send_again(connection, due, [row["id"] for row in unresolved], now)
        await connection.execute(CLOSE, submission_id, self._keep_content)
        return Resent(submission_id, TenantId(due["tenant"]), [Channel(row["channel"]) for row in unresolved])

    def _may_go(self, due: asyncpg.Record, now: datetime) -> bool:
        """Whether its tenant still wants that, and the message is still worth it."""
        settings = self._tenants.settings_of(TenantId(due["tenant"]))
        wanted = settings is not None and settings.resend_uncertain is not None
        return wanted and (due["expires_at"] is None or due["expires_at"] > now)

    async def _send_again(self, connection: Connection, due: asyncpg.Record, old: list[UUID], now: datetime) -> None:
        submission_id, ids = new_id(), [new_id() for _ in old]
        await connection.execute(
            RESEND, due["submission_id"], submission_id, now, ids[0], ids[-1], old, ids,
            int(Family.PLATFORM), due["priority"], due["expires_at"],
        )  # fmt: skip

    def _count(self, resent: Resent) -> None:
        """Tells of what is committed."""
        if not resent.channels:
            return
        name = self._tenants.names.get(resent.tenant, "unknown")
        log.warning("uncertain_resent", extra={"submission_id": str(resent.submission_id)})
        metrics.RESENDS.labels(name).inc(len(resent.channels))
        for channel in resent.channels:
            metrics.MESSAGES.labels(channel.word, State.QUEUED.word, name, Feed.OWN.word).inc()
