"""How far each spool has been drained, in Postgres: told in the transaction that applies what was drained."""

from uuid import UUID

from receiver.database.pool import Connection
from receiver.messages.told import Feed

LOCK = "select last_seq from spool where id = $1 for update"
ADVANCE = """
insert into spool (id, last_seq, drained_at) values ($1, $2, now())
    on conflict (id) do update set last_seq = excluded.last_seq, drained_at = excluded.drained_at
"""
PROBE = """
insert into spool (id, last_seq, drained_at) values ($1, 0, now())
    on conflict (id) do update set drained_at = excluded.drained_at
"""
IS_IN = "select exists (select from intake where id = $1 and feed = $2)"
HAS_A_WEEK = "select exists (select from week where first_id <= $1 and $1 < end_id)"


async def last_seq(connection: Connection, spool: UUID) -> int:
    """The last number of a spool that is in; 0 for none. Nobody else drains this spool until the transaction ends."""
    found: int | None = await connection.fetchval(LOCK, spool)
    return found or 0


async def advance(connection: Connection, spool: UUID, seq: int) -> None:
    """Everything up to `seq` is in, once the caller's transaction is."""
    await connection.execute(ADVANCE, spool, seq)


async def probe(connection: Connection, spool: UUID) -> None:
    """Commits something. Raises what a commit of receipts would."""
    await connection.execute(PROBE, spool)


async def is_in(connection: Connection, key: UUID, feed: Feed) -> bool:
    """Whether the group of that key was committed."""
    return bool(await connection.fetchval(IS_IN, key, feed))


async def has_a_week(connection: Connection, key: UUID) -> bool:
    """Whether the ledger has room for a row of that id: its week is there."""
    return bool(await connection.fetchval(HAS_A_WEEK, key))
