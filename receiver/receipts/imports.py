"""Files of receipts in Postgres: how far each has been read and what came of it, told with every group."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import msgspec

from receiver.database.pool import Connection
from receiver.ids import TenantId
from receiver.receipts.group import Stored

KEPT = timedelta(days=90)  # so long it is remembered how far a file came
COUNTS = "received, applied, duplicate, late, quarantined, forged"

FIND = f"select position, done_at, {COUNTS} from import where tenant = $1 and identity = $2"
BEGIN = """
insert into import (tenant, identity, name, bytes, began_at, at) values ($1, $2, $3, $4, $5, $5)
    on conflict (tenant, identity) do update
       set name = excluded.name, position = 0, received = 0, applied = 0, duplicate = 0, quarantined = 0, forged = 0,
           late = 0, began_at = excluded.began_at, at = excluded.at, done_at = null
"""
LOCK = f"select position, {COUNTS} from import where tenant = $1 and identity = $2 for update"
ADVANCE = f"""
update import
   set position = $3, at = $4, received = received + $5, applied = applied + $6, duplicate = duplicate + $7,
       late = late + $8, quarantined = quarantined + $9, forged = forged + $10
 where tenant = $1 and identity = $2 returning {COUNTS}
"""
DONE = "update import set done_at = $3, at = $3 where tenant = $1 and identity = $2"
FORGET_OLD = "delete from import where at < $1"


class Counts(msgspec.Struct):
    """What became of receipts: `received` is the sum of the others."""

    received: int = 0
    applied: int = 0
    duplicate: int = 0
    late: int = 0
    quarantined: int = 0
    forged: int = 0


class Progress(msgspec.Struct):
    """How far a file has been read, and what came of it until there."""

    position: int
    counts: Counts


async def start(
    connection: Connection,
    tenant: TenantId,
    identity: bytes,
    name: str,
    size: int,
    at: datetime,
    *,
    restart: bool = False,
) -> Progress:
    """Where to go on: behind what is in, for a file that was cut off; else at its beginning, and nothing is counted.

    What nobody went on with for KEPT is forgotten.
    """
    await connection.execute(FORGET_OLD, at - KEPT)
    row = None if restart else await connection.fetchrow(FIND, tenant, identity)
    if row is not None and row["done_at"] is None:
        return _progress(row)
    await connection.execute(BEGIN, tenant, identity, name, size, at)
    return Progress(0, Counts())


async def lock(connection: Connection, tenant: TenantId, identity: bytes) -> Progress | None:
    """How far it is. Nobody else goes on with it until the transaction ends."""
    row = await connection.fetchrow(LOCK, tenant, identity)
    return None if row is None else _progress(row)


async def advance(
    connection: Connection, tenant: TenantId, identity: bytes, position: int, at: datetime, more: Counts
) -> Counts:
    """Everything before `position` is in, once the caller's transaction is; returns what came of all of it."""
    numbers = (more.received, more.applied, more.duplicate, more.late, more.quarantined, more.forged)
    row = await connection.fetchrow(ADVANCE, tenant, identity, position, at, *numbers)
    assert row is not None
    return _counts(row)


async def done(connection: Connection, tenant: TenantId, identity: bytes, at: datetime) -> None:
    """The file has been read to its end: the next time it is read from its beginning."""
    await connection.execute(DONE, tenant, identity, at)


def counts_of(stored: Stored) -> Counts:
    """What became of a group."""
    results = Counter(result for _, _, applied in stored.parts for result in applied.results)
    rejects = sum(len(rejects) for _, rejects, _ in stored.parts)
    return Counts(
        received=results.total() + rejects,
        applied=results["applied"],
        duplicate=results["duplicate"],
        late=results["late"],
        quarantined=rejects,
        forged=results["forged"],
    )


def _progress(row: Any) -> Progress:
    return Progress(row["position"], _counts(row))


def _counts(row: Any) -> Counts:
    return Counts(**{field: row[field] for field in Counts.__struct_fields__})
