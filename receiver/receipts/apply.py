"""The one way in: `apply` brings a group of receipts into the database, at least once told, exactly once in effect.

Every feed calls it. It may be called again with the same receipts, in any order, by any number of processes.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from receiver.database.pool import Connection
from receiver.ids import MessageId
from receiver.messages.changes import Change, change_of
from receiver.messages.store import MOST_TRIES, may_try_again
from receiver.messages.told import Feed, Reject, Told

APPLY = "select * from apply_receipts_v1($1, $2, $3, $4::told_v1[], $5::reject_v1[])"

RESULTS = {1: "applied", 2: "duplicate", 3: "late", 4: "forged"}


class Applied(NamedTuple):
    """What became of a group: a result and a message (None: forged) for each receipt, in order, and the changes."""

    results: list[str]
    changes: list[Change]
    messages: list[MessageId | None]


async def apply(
    connection: Connection,
    intake: UUID,
    at: datetime,
    feed: Feed,
    group: Sequence[Told],
    rejects: Sequence[Reject] = (),
) -> Applied:
    """Applies `group` and keeps `rejects` in one transaction; on return both are durable.

    `intake` names the group in the ledger. Raises asyncpg.PostgresError, asyncpg.InterfaceError or OSError: then
    nothing is known of the group, and it may be applied again.
    """
    for tries_left in range(MOST_TRIES - 1, -1, -1):
        try:
            return await apply_once(connection, intake, at, feed, group, rejects)
        except asyncpg.PostgresError as error:
            if not tries_left or not may_try_again(error):
                raise
    raise AssertionError("the last try returns or raises")


async def apply_once(
    connection: Connection,
    intake: UUID,
    at: datetime,
    feed: Feed,
    group: Sequence[Told],
    rejects: Sequence[Reject] = (),
) -> Applied:
    """`apply` without a second try, for one who holds a transaction open: it may be taken back."""
    row = await connection.fetchrow(APPLY, intake, at, feed, group, rejects)
    assert row is not None
    outcomes, messages, changes = row
    return Applied(
        [RESULTS[outcome] for outcome in outcomes or ()],
        [change_of(change) for change in changes or ()],
        messages or [],
    )
