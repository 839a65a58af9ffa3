"""Bodies put into quarantine by hand, as an older reader would have left them."""

from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID

import asyncpg

from receiver.database.partitions import week_of
from receiver.database.pool import Connection
from receiver.ids import TenantId
from receiver.receipts.quarantine import Place, one
from tests.support import now

PUT = """
insert into quarantine (week, digest, tenant, submission_id, reason, detail, body, headers, first_at, last_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)
"""


async def put(
    connection: Connection,
    tenant: TenantId,
    body: bytes,
    reason: str = "reader_failed",
    *,
    submission: UUID | None = None,
    at: datetime | None = None,
    headers: str = '{"content-type": "application/json"}',
) -> Place:
    """One row, in the week of now; `at` is when it was told."""
    at = at or now()
    place = Place(week_of(now()), sha256(body + reason.encode() + at.isoformat().encode()).digest()[:16])
    await connection.execute(PUT, place.week, place.digest, tenant, submission, reason, "KeyError", body, headers, at)
    return place


async def row(connection: Connection, tenant: TenantId, place: Place) -> asyncpg.Record:
    """The row of a place that is there."""
    found = await one(connection, tenant, place)
    assert found is not None
    return found


def minutes_ago(minutes: int) -> datetime:
    """A time before now."""
    return now() - timedelta(minutes=minutes)
