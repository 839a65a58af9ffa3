"""Giving up: a receipt of our own says that nothing final was told in all the time that a channel has."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime

import asyncpg
import msgspec

from receiver.database.pool import Connection
from receiver.ids import MessageId, SubmissionId, TenantId
from receiver.messages.changes import Change
from receiver.messages.lattice import Channel, Fact
from receiver.messages.patience import SWEPT
from receiver.messages.store import apply_known
from receiver.messages.told import Feed, Told, told_by_us
from receiver.upkeep import awaiting
from receiver.waits import Waits, duration_text

# Locked and looked at again: something may have been told since. In order, like every writer.
STILL_SILENT = """
select s.id from message_state s
 where s.id = any($1::uuid[]) and s.state = any($2::smallint[]) and not is_final_v1(s.state, s.channel)
   and s.merged_into is null
 order by s.id for update
"""
# When it went out, by our clock: the platform's may say that it took a message before that.
NAMES = """
select m.id, m.tenant, m.channel, m.submission_id, m.destination, m.destination_key, s.sent_at
  from unnest($1::uuid[]) as u(id)
 cross join lateral (select * from message i where i.id = u.id offset 0) m
  left join lateral (select i.sent_at from submission i where i.id = m.submission_id offset 0) s on true
"""


async def give_up(
    connection: Connection, ids: Sequence[MessageId], waits: Mapping[Channel, Waits], now: datetime
) -> list[Change]:
    """Makes those that are still silent `no_receipt`, and awaits none of them any more; returns what changed.

    Those that waited here for most of their time, and went out less than a patience ago, are looked at again then.
    One transaction. The receipt of a message is the same whoever writes it, so that two of us write one. Raises
    asyncpg.PostgresError: then nothing was done, and the next look comes here again.
    """
    async with connection.transaction():
        await connection.execute(awaiting.BY_INDEX)
        rows = await connection.fetch(STILL_SILENT, ids, [int(state) for state in SWEPT])
        silent = [MessageId(row["id"]) for row in rows]
        told, early = list[Told](), dict[MessageId, datetime]()
        for row in await connection.fetch(NAMES, silent):
            patient = waits[Channel(row["channel"])]
            if row["sent_at"] is not None and row["sent_at"] + patient.patience > now:
                early[MessageId(row["id"])] = row["sent_at"] + patient.patience
            else:
                told.append(_told(row, patient, now))
        ids = [one.candidate for one in told if one.candidate is not None]
        changes = await apply_known(connection, now, Feed.OWN, ids, told) if told else []
        await awaiting.leave(connection, ids)
        await awaiting.put_off(connection, early)
    return changes


def _told(row: asyncpg.Record, waits: Waits, now: datetime) -> Told:
    text = f"Nothing final was told within {duration_text(waits.patience)} of the send."
    told = told_by_us(
        tenant=TenantId(row["tenant"]),
        submission_id=SubmissionId(row["submission_id"]),
        message_id=MessageId(row["id"]),
        channel=Channel(row["channel"]),
        destination=row["destination"],
        fact=Fact.NO_RECEIPT,
        fingerprint=hashlib.sha256(b"\x01own\0" + row["id"].bytes + b"\0NO_RECEIPT").digest()[:16],
        at=now,
        status="no_receipt",
        code=None,
        code_class=0,
        description=text,
        transid=None,
        raw=msgspec.json.encode({"no_receipt_after": duration_text(waits.patience)}),
    )
    # what was erased has a digest of its own, by which it stays the same recipient
    return told._replace(destination_key=row["destination_key"])
