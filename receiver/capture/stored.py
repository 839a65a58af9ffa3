"""What is captured: messages by id or by the platform's transid, and all that was told of them."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from receiver.database.pool import Connection
from receiver.ids import TenantId, parse_id, transid_root
from receiver.messages.told import transid_digest

MOST_MESSAGES = 100  # of one transid: a call to as many recipients, or an event with as many children

# $1 the tenant, $2 ids, $3 the digest of a transid. What was merged is looked for where it went; a child is filed under
# its event's id.
FIND = """
with named as materialized (
  select i.id from message_state i where i.id = any($2::uuid[]) and i.tenant = $1
  union
  select k.message_id from message_key k where k.transid_key = $3 and k.tenant = $1
  union
  select k.message_id from message_key k
   where k.transid_key = any(select uuid_send(e) from unnest($2::uuid[]) e) and k.tenant = $1)
select distinct coalesce(s.merged_into, s.id) as id
  from named n join message_state s on s.id = n.id
 order by 1 limit $4
"""
MESSAGES = """
select m.id, m.origin, m.channel, m.created_at, m.batch_id, m.submission_id, m.parent_id, m.resend_of, m.destination,
       m.destination_type, m.correlationid, m.callback_data, m.sender, m.template,
       s.state, s.facts, s.conflict, s.transid, s.reason_class, s.reason_key is not null as has_reason,
       r.code as reason_code
  from message m
  join message_state s on s.id = m.id
  left join receipt r on r.message_id = m.id and r.fingerprint = substring(s.reason_key from 4)
 where m.id = any($1::uuid[])
 order by m.id
"""
RECEIPTS = """
select message_id, fingerprint, feed, channel, fact, reason_class, received_at, told_at, status, code, description,
       destination, destination_key, subtid, device, carrier, message_count, transid, raw
  from receipt where message_id = any($1::uuid[])
 order by received_at, coalesce(told_at, received_at), fingerprint
"""

Rows = Sequence[asyncpg.Record]


async def load(connection: Connection, tenant: TenantId, name: str) -> tuple[Rows, Rows]:
    """The messages that `name` names, by their age, and their receipts in order of arrival; both empty: there are none.

    `name` is the id of a message, or a transid. An event brings its children with it.
    """
    identity = parse_id(name)
    ids: list[UUID] = [identity] if identity else []
    key = transid_digest(transid_root(name))
    found = [row["id"] for row in await connection.fetch(FIND, tenant, ids, key, MOST_MESSAGES)]
    return await connection.fetch(MESSAGES, found), await connection.fetch(RECEIPTS, found)
