"""The way in for receipts that somebody asked for: whose they are is known, so nothing is joined and nobody is born."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from receiver.database.pool import Connection
from receiver.ids import MessageId
from receiver.messages.changes import change_of
from receiver.messages.store import MERGED_MEANWHILE
from receiver.messages.told import Feed, Told
from receiver.receipts.apply import RESULTS, Applied

APPLY_ASKED = "select * from apply_asked_v1($1, $2, $3, $4, $5::told_v1[])"


class NotTheSame(Exception):
    """One of the messages was merged or dropped since it was looked at: whoever asked looks again."""


async def apply_asked(
    connection: Connection, intake: UUID, at: datetime, feed: Feed, ids: Sequence[MessageId], group: Sequence[Told]
) -> Applied:
    """Applies `group`, each to the message in its place of `ids`, with a row in the ledger; on return it is durable.

    Nothing of it is done where it raises: NotTheSame, asyncpg.PostgresError, asyncpg.InterfaceError or OSError.
    """
    try:
        row = await connection.fetchrow(APPLY_ASKED, intake, at, feed, ids, group)
    except asyncpg.PostgresError as error:
        if error.sqlstate == MERGED_MEANWHILE:
            raise NotTheSame from None
        raise
    assert row is not None
    outcomes, changes = row
    results = [RESULTS[outcome] for outcome in outcomes or ()]
    return Applied(results, [change_of(change) for change in changes or ()], list(ids))
