"""An index on a partitioned table that is written to meanwhile: Postgres can't make one concurrently by itself."""

from receiver.database.pool import Connection
from receiver.errors import DatabaseError

PARTITIONS = "select inhrelid::regclass::text as name from pg_inherits where inhparent = $1::regclass order by 1"
# A try that was killed leaves one that is kept up to date and never used.
INVALID = "select exists (select from pg_index where indexrelid = to_regclass($1) and not indisvalid)"
# No waiting in front of others here: it lets writers pass, and has to wait for those who were there before.
PATIENT = "set lock_timeout = 0; set statement_timeout = 0"
LOCK_TIMEOUT = "select current_setting('lock_timeout')"
STATEMENT_TIMEOUT = "select current_setting('statement_timeout')"
ROUNDS = 3


async def add_index(connection: Connection, table: str, name: str, definition: str) -> None:
    """Adds the index `name` on `definition`, such as `(carrier, message_id)`; may be called again after a failure.

    The connection is in no transaction. Names are ours, never a user's. Raises asyncpg.LockNotAvailableError when the
    table is in use for longer than the connection's lock_timeout, DatabaseError when weeks come faster than it works.
    """
    # Empty, and not used before every partition has its part. What partitions are made from now on have theirs at once.
    await connection.execute(f"create index if not exists {name} on only {table} {definition}")
    for _ in range(ROUNDS):
        for row in await connection.fetch(PARTITIONS, table):
            partition = row["name"]
            part = f"{name}{partition.removeprefix(table)}"
            await _build(connection, partition, part, definition)
            await connection.execute(f"alter index {name} attach partition {part}")
        if not await connection.fetchval(INVALID, name):
            return
    raise DatabaseError(f"the index {name} is not whole yet: run `receiver migrate` again")


async def _build(connection: Connection, partition: str, part: str, definition: str) -> None:
    lock, statement = await connection.fetchval(LOCK_TIMEOUT), await connection.fetchval(STATEMENT_TIMEOUT)
    await connection.execute(PATIENT)
    try:
        if await connection.fetchval(INVALID, part):
            await connection.execute(f"drop index concurrently {part}")
        await connection.execute(f"create index concurrently if not exists {part} on {partition} {definition}")
    finally:
        if not connection.is_closed():
            await connection.execute(f"set lock_timeout = '{lock}'; set statement_timeout = '{statement}'")
