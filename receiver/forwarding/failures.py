"""Failures, as the change log tells them: what one snapshot sees and an earlier one did not, and the notices of them.

To read, to put into the queue of forwards and to remember how far it came are one transaction, and the row of `noticed`
is locked first: each change is told once, whoever dies. docs/decisions/0024-failure-notices.md
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import asyncpg

from receiver.database.pool import Connection
from receiver.forwarding.digest import FailureDigest
from receiver.forwarding.rhythm import PATIENCE
from receiver.ids import TenantId
from receiver.messages.log_steps import changes_of_step, end_of_step

MOST = 20_000  # changes of one step: a tenth of a second
FEW = 80  # transactions of 256 receipts at most: no need to look how many changes they wrote
FIRST = "first"  # nobody has looked before
OLDEST = timedelta(hours=24)  # a failure of longer ago is no news

# Who finds it locked leaves it: somebody reads. A later statement has a later snapshot than this row.
LOCK = """
select n.snapshot::text as snapshot, n.floor_seq,
       n.cluster = p.system_identifier and n.at > statement_timestamp() - $1::interval as is_good
  from noticed n, pg_control_system() p for update of n skip locked
"""
# At the present. In another cluster, whose numbers mean nothing here, what stands in the log by now is of the old one.
_HERE = """
select p.system_identifier as cluster, pg_current_snapshot() as snapshot, statement_timestamp() as at,
       (select case when q.is_called then q.last_value else 0 end from change_seq q) as floor_seq
  from pg_control_system() p
"""
BEGIN = f"""
insert into noticed (cluster, snapshot, at, floor_seq) {_HERE} on conflict (one_row) do nothing
"""
BEGIN_ANEW = f"""
update noticed set cluster = h.cluster, snapshot = h.snapshot, at = h.at, floor_seq = h.floor_seq from ({_HERE}) h
"""
_COLUMNS = """seq, message_id, version, at, tenant, origin, channel, feed, country, old_state, new_state, new_class"""
_FAILURE = """i.tenant = any($4::smallint[]) and (i.new_state between 40 and 46 or i.new_state in (30, 65))
        and i.new_state is distinct from i.old_state"""
# Into the failed states from outside of them: what is worse than it was is the same failure. Code and ids are read for
# those alone that are told.
FAILED = f"""
with told as materialized (
  select c.* from ({changes_of_step(_COLUMNS, _FAILURE)}) c
    join unnest($4::smallint[], $5::boolean[], $6::boolean[], $7::boolean[], $8::boolean[])
         as w(tenant, no_receipt, cancelled, observed, imported) on w.tenant = c.tenant
   where (w.observed or c.origin <> 2) and (w.imported or c.feed is distinct from 2)
     and case c.new_state
         when 30 then w.no_receipt
         when 40 then w.cancelled and (c.old_state is null or not (c.old_state between 41 and 46 or c.old_state = 65))
         else c.old_state is null or not (c.old_state between case when w.cancelled then 40 else 41 end and 46
                                          or c.old_state = 65) end
)
select c.*, m.batch_id, m.correlationid, m.callback_data, r.code, r.channel as code_channel, r.feed as code_feed
  from told c
  left join lateral (select i.batch_id, i.correlationid, i.callback_data from message i
                      where i.id = c.message_id offset 0) m on true
  left join lateral (select i.reason_key from message_state i where i.id = c.message_id offset 0) s on true
  left join lateral (select i.code, i.channel, i.feed from receipt i
                      where i.message_id = c.message_id and i.fingerprint = substring(s.reason_key from 4) offset 0) r
    on c.new_state <> 30
 order by c.seq
"""
ADVANCE = "update noticed set snapshot = $1::text::pg_snapshot, at = $2"

QUEUE = """
insert into forward (tenant, message_id, fingerprint, url, created_at, due_at, expires_at, body)
select u.tenant, u.message_id, u.fingerprint, u.url, $6, $6, $7, u.body
  from unnest($1::smallint[], $2::uuid[], $3::bytea[], $4::text[], $5::bytea[])
       with ordinality as u(tenant, message_id, fingerprint, url, body, n)
 order by u.n
on conflict on constraint forward_once do nothing
"""
# One that is tried just now is tried again, if it must be, at the new address.
REDIRECT = """
update forward f set url = u.url
  from unnest($1::smallint[], $2::text[]) as u(tenant, url)
 where f.tenant = u.tenant and f.body is not null and f.url <> u.url
"""

DIGESTS = "select tenant, began_at, figures::text as figures from failure_digest order by tenant"
KEEP_DIGEST = """
insert into failure_digest (tenant, began_at, figures) values ($1, $2, $3::text::jsonb)
on conflict (tenant) do update set figures = excluded.figures
"""
END_DIGEST = "delete from failure_digest where tenant = $1"


class Wanted(NamedTuple):
    """A tenant whose failures are told, and which of them."""

    tenant: TenantId
    no_receipt: bool
    cancelled: bool
    observed: bool
    imported: bool


class Notice(NamedTuple):
    """What goes on: the body, for one address. `message_id` and `fingerprint` are the same whenever it is made."""

    tenant: TenantId
    message_id: UUID
    fingerprint: bytes
    url: str
    body: bytes


class Begun(NamedTuple):
    """The transaction's place in the log. `begun`: in place of a read, it was put at the present, and why."""

    snapshot: str
    floor: int
    begun: str | None = None


class Read(NamedTuple):
    """Failures of a step, in order, up to when the log is read now, and whether there is more."""

    rows: "Sequence[asyncpg.Record]"
    more: bool


async def begin(connection: Connection) -> Begun | None:
    """Locks the place up to which the log has been read. None: another process reads."""
    row = await connection.fetchrow(LOCK, OLDEST)
    if row is None:
        if (await connection.execute(BEGIN)).endswith(" 0"):
            return None
        row, begun = await connection.fetchrow(LOCK, OLDEST), FIRST
    elif row["is_good"]:
        return Begun(row["snapshot"], row["floor_seq"])
    else:
        await connection.execute(BEGIN_ANEW)
        row, begun = await connection.fetchrow(LOCK, OLDEST), "restored, or a day behind"
    assert row is not None
    return Begun(row["snapshot"], row["floor_seq"], begun)


async def read(connection: Connection, place: Begun, wanted: Sequence[Wanted], most: int = MOST) -> Read:
    """The failures that have come into the log, of `most` changes or one transaction's more; moves the place on."""
    end = await end_of_step(connection, place.snapshot, place.floor, most, FEW)
    columns = [list(column) for column in zip(*wanted, strict=True)] or [[], [], [], [], []]
    rows = await connection.fetch(FAILED, place.snapshot, end.snapshot, place.floor, *columns)
    await connection.execute(ADVANCE, end.snapshot, end.at)
    return Read(rows, end.more)


async def queue(connection: Connection, notices: Sequence[Notice], now: datetime) -> None:
    """Puts notices into the queue of forwards, due now."""
    if notices:
        columns = [list(column) for column in zip(*notices, strict=True)]
        await connection.execute(QUEUE, *columns, now, now + PATIENCE)


async def redirect(connection: Connection, urls: Mapping[TenantId, str]) -> None:
    """What waits, or was given up, goes to these addresses from now on."""
    await connection.execute(REDIRECT, list(urls), list(urls.values()))


async def digests(connection: Connection) -> dict[TenantId, FailureDigest]:
    """What waits to be told in one notice, by tenant."""
    rows = await connection.fetch(DIGESTS)
    return {TenantId(row["tenant"]): FailureDigest.of(row["began_at"], json.loads(row["figures"])) for row in rows}


async def keep_digest(connection: Connection, tenant: TenantId, digest: FailureDigest) -> None:
    """Stores what waits."""
    await connection.execute(KEEP_DIGEST, tenant, digest.began_at, json.dumps(digest.figures()))


async def end_digest(connection: Connection, tenant: TenantId) -> None:
    """Nothing waits any more."""
    await connection.execute(END_DIGEST, tenant)
