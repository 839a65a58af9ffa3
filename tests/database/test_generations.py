"""Generations of keys: the next one is made ahead, and an old one goes when nothing that is kept needs it."""

from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from receiver.database.partitions import rotate_keys
from receiver.database.pool import Connection, Pool, connect
from receiver.upkeep.retention import RetentionKeeper
from tests.database.past import DAYS, LONG_AGO, add_week, tell, telling, with_pool
from tests.support import Database


def test_a_generation_goes_when_the_messages_of_its_time_have_gone(database: Database) -> None:
    tenant = database.tenant()

    async def work(pool: Pool, connection: Connection) -> None:
        await add_week(connection, LONG_AGO)
        await tell(connection, *(telling(tenant, f"t-{n}", week=LONG_AGO) for n in range(3)))
        keeper = RetentionKeeper(pool, DAYS)
        await connection.execute("update key_generation set current = 2")
        await connection.execute("insert into past_generation values (1, $1)", datetime(2020, 1, 1, tzinfo=UTC))
        await connection.execute("create table message_key_g2 partition of message_key for values in (2)")
        # two of them were given to younger messages; of one the present generation has a key, too
        young = (await tell(connection, telling(tenant, "young"))).messages[0]
        await connection.execute("delete from message_key where generation = 2")
        keys = await connection.fetch("select transid_key from message_key order by transid_key")
        await connection.execute("update message_key set message_id = $1 where transid_key = any($2::bytea[])", young,
                                 [keys[0]["transid_key"], keys[1]["transid_key"]])  # fmt: skip
        await connection.execute(
            "insert into message_key select 2, tenant, transid_key, leg_key, message_id from message_key"
            " where transid_key = $1", keys[1]["transid_key"],
        )  # fmt: skip
        await keeper.once()
        rows = await connection.fetch(
            "select generation, transid_key, message_id from message_key order by transid_key"
        )
        assert [tuple(row) for row in rows] == [(2, keys[n]["transid_key"], young) for n in range(2)]
        assert await connection.fetchval("select to_regclass('message_key_g1')") is None
        assert await connection.fetchval("select count(*) from past_generation") == 0
        await keeper.once()

    with_pool(database, work)


def test_a_generation_in_which_kept_messages_were_born_stays(database: Database) -> None:
    async def work(pool: Pool, connection: Connection) -> None:
        oldest = await connection.fetchval("select min(starts_on) from week")
        start = datetime.combine(oldest, datetime.min.time(), UTC)
        await connection.execute("update key_generation set current = 2")
        await connection.execute("insert into past_generation values (1, $1)", start + timedelta(seconds=1))
        await RetentionKeeper(pool, DAYS).once()
        assert await connection.fetchval("select to_regclass('message_key_g1') is not null")

    with_pool(database, work)


def test_the_next_generation_is_made_before_it_is_needed(database: Database) -> None:
    async def work(pool: Pool, connection: Connection) -> None:
        def made(number: int) -> Awaitable[bool]:
            return connection.fetchval("select to_regclass($1) is not null", f"message_key_g{number}")

        assert await rotate_keys(connection) is None
        assert await made(2)
        holder = await connect(database.dsn, "holder")
        async with holder.transaction():
            await holder.execute("lock table only message_key in share row exclusive mode")
            with pytest.raises(asyncpg.LockNotAvailableError):  # the one after it could not be made
                await rotate_keys(connection, timedelta(0))
        assert await connection.fetchval("select current from key_generation") == 2, "it began all the same"
        await holder.close()
        assert not await made(3)
        assert await rotate_keys(connection) is None
        assert await made(3)
        assert await connection.fetchval("select number from past_generation") == 1

    with_pool(database, work)


def test_a_generation_that_began_in_the_future_of_a_wrong_clock_ends_now(database: Database) -> None:
    async def work(pool: Pool, connection: Connection) -> None:
        await connection.execute("update key_generation set rotated_at = now() + interval '1 year'")
        assert await rotate_keys(connection) == 2
        assert await rotate_keys(connection) is None

    with_pool(database, work)
