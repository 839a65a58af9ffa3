"""The rows of the self-probe: one for each probe of the last day. None of them is a receipt."""

from uuid import UUID

from receiver.database.pool import Pool
from receiver.probe.calling import Result

# A day of one a minute is 1,440 rows.
BEGIN = """
with old as (delete from probe where posted_at < now() - interval '1 day')
insert into probe (id, posted_at) values ($1, now())
"""
HAS_ARRIVED = "select arrived_at is not null from probe where id = $1"
JUDGE = "update probe set result = $2 where id = $1"


async def begin(pool: Pool, identity: UUID) -> None:
    """Makes the row of a probe that goes out now. Whoever takes it only marks a row that is there."""
    async with pool.acquire() as connection:
        await connection.execute(BEGIN, identity)


async def has_arrived(pool: Pool, identity: UUID) -> bool:
    """Whether somebody took the probe, and committed it here."""
    async with pool.acquire() as connection:
        return bool(await connection.fetchval(HAS_ARRIVED, identity))


async def judge(pool: Pool, identity: UUID, result: Result) -> None:
    """Keeps what came of a probe."""
    async with pool.acquire() as connection:
        await connection.execute(JUDGE, identity, result.value)
