"""How facts that are ours come to a message: its birth, and what we know of it without a receipt."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from receiver.database.pool import Connection
from receiver.ids import Digest, MessageId, TenantId
from receiver.messages.changes import Change, change_of
from receiver.messages.told import Feed, Told

APPLY_KNOWN = "select apply_known_v1($1, $2, $3, $4::told_v1[])"
CONNECT = "select connect_v1($1, $2::claim_v1[])"

# A deadlock's loser, and one that met a merge, look again; both are rare, and ten times in a row is a fault.
MOST_TRIES = 10
MERGED_MEANWHILE = "RX001"


async def apply_known(
    connection: Connection, at: datetime, feed: Feed, ids: Sequence[MessageId], group: Sequence[Told]
) -> list[Change]:
    """Applies facts whose messages are known, inside the caller's transaction; returns what changed."""
    changes = await connection.fetchval(APPLY_KNOWN, at, feed, ids, group)
    return [change_of(change) for change in changes or ()]


async def connect(
    connection: Connection,
    at: datetime,
    tenant: TenantId,
    keys: Sequence[tuple[Digest, Digest, MessageId]],
) -> list[Change]:
    """Files issued messages under what the platform calls them, inside the caller's transaction.

    `keys` are (transid, leg, message). A message that was observed under such a key becomes a tombstone of ours.
    """
    if not keys:
        return []
    claims = [(tenant, transid, leg, leg, message, True, None) for transid, leg, message in keys]
    return [change_of(change) for change in await connection.fetchval(CONNECT, at, claims) or ()]


def may_try_again(error: asyncpg.PostgresError) -> bool:
    """Whether the same transaction may succeed when it is run once more: a deadlock, or a merge met on the way."""
    return error.sqlstate == MERGED_MEANWHILE or (error.sqlstate or "").startswith("40")
