"""How far each spool has been drained, in Postgres: told in the transaction that applies what was drained."""

from uuid import UUID

from receiver.database.pool import Connection
from receiver.messages.told import Feed

# Written, not only read: this locks a spool too that was never drained, and waits for a first drain still under way.
HOLD = """
insert into spool (id, last_seq, drained_at) values ($1, 0, now())
    on conflict (id) do update set drained_at = excluded.drained_at
    returning last_seq
"""
ADVANCE = "update spool set last_seq = $2, drained_at = now() where id = $1"
IS_IN = "select exists (select from intake where id = $1 and feed = $2)"
HAS_A_WEEK = "select exists (select from week where first_id <= $1 and $1 < end_id)"


async def hold(connection: Connection, spool: UUID) -> int:
    """The last number of a spool that is in, 0 for none: all up to it is in, and nothing behind it was drained.

    Nobody else drains this spool until the caller's transaction ends.
    """
    return int(await connection.fetchval(HOLD, spool))


async def advance(connection: Connection, spool: UUID, seq: int) -> None:
    """Everything up to `seq` is in, once the caller's transaction is, which holds the spool."""
    await connection.execute(ADVANCE, spool, seq)


async def probe(connection: Connection, spool: UUID) -> None:
    """Commits something. Raises what a commit of receipts would."""
    await connection.fetchval(HOLD, spool)


async def is_in(connection: Connection, key: UUID, feed: Feed) -> bool:
    """Whether the ledger has that key: then the group that was spooled under it is in."""
    return bool(await connection.fetchval(IS_IN, key, feed))


async def has_a_week(connection: Connection, key: UUID) -> bool:
    """Whether the ledger has room for a row of that id: its week is there."""
    return bool(await connection.fetchval(HAS_A_WEEK, key))
