"""Leases: one holder at a time, by the database's clock, and one that stops believing before the others begin."""

import asyncio
from collections.abc import Awaitable, Callable

from receiver.database.leases import MARGIN_SECONDS, Leases
from receiver.database.pool import Pool, open_pool
from tests.support import Database


def with_pool(database: Database, work: Callable[[Pool], Awaitable[None]]) -> None:
    async def main() -> None:
        pool = await open_pool(database.dsn, "tests", 4, writer=True)
        try:
            await work(pool)
        finally:
            pool.terminate()

    asyncio.run(main())


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def candidate(pool: Pool, *duties: str, ttl: float = 60.0, clock: Clock | None = None) -> Leases:
    leases = Leases(pool, ttl=ttl, clock=clock or Clock())
    for name in duties:
        leases.duty(name)
    return leases


def test_one_of_many_holds_a_duty_and_renews_it(database: Database) -> None:
    async def work(pool: Pool) -> None:
        candidates = [candidate(pool, "sweeping", "ironing") for _ in range(8)]
        for _ in range(3):
            await asyncio.gather(*(one.renew() for one in candidates))
            for duty in ("sweeping", "ironing"):
                assert sum(one.held(duty) for one in candidates) == 1
        lasts = await pool.fetchval("select until - taken_at from duty where name = 'sweeping'")
        assert lasts.total_seconds() > 60, "renewed, and still taken by the first"

    with_pool(database, work)


def test_a_duty_that_nobody_renews_goes_to_the_next_by_the_clock_of_the_database(database: Database) -> None:
    async def work(pool: Pool) -> None:
        first, second = candidate(pool, "sweeping"), candidate(pool, "sweeping")
        await first.renew()
        await second.renew()
        assert (first.held("sweeping"), second.held("sweeping")) == (True, False)
        await pool.execute("update duty set until = now()")
        await second.renew()
        await first.renew()
        assert (first.held("sweeping"), second.held("sweeping")) == (False, True)

    with_pool(database, work)


def test_a_duty_of_a_dead_holder_is_taken_although_the_clock_of_the_database_was_put_back(database: Database) -> None:
    async def work(pool: Pool) -> None:
        dead, next_one = candidate(pool, "sweeping"), candidate(pool, "sweeping")
        await dead.renew()
        await next_one.renew()
        assert not next_one.held("sweeping")
        await pool.execute("update duty set taken_at = taken_at + interval '1 hour', until = until + interval '1 hour'")
        await next_one.renew()
        assert next_one.held("sweeping")
        await dead.renew()
        assert not dead.held("sweeping")

    with_pool(database, work)


def test_a_holder_that_can_not_renew_stops_believing_before_its_lease_ends(database: Database) -> None:
    async def work(pool: Pool) -> None:
        clock = Clock()
        holder = candidate(pool, "sweeping", ttl=7.0, clock=clock)
        held = holder.duty("ironing")
        await holder.renew()
        clock.now += 7.0 - MARGIN_SECONDS - 0.01
        assert holder.held("sweeping")
        assert held()
        clock.now += 0.02
        assert not holder.held("sweeping")
        assert not held()

    with_pool(database, work)


def test_what_is_given_back_is_taken_at_once(database: Database) -> None:
    async def work(pool: Pool) -> None:
        first, second = candidate(pool, "sweeping"), candidate(pool, "sweeping", "ironing")
        running = asyncio.create_task(first.run())
        while not first.held("sweeping"):  # noqa: ASYNC110 (there is no event for it)
            await asyncio.sleep(0.01)
        await second.renew()
        assert (second.held("sweeping"), second.held("ironing")) == (False, True)
        await first.close()
        await running
        assert not first.held("sweeping")
        await second.renew()
        assert second.held("sweeping")
        assert await pool.fetchval("select place from duty where name = 'sweeping'")

    with_pool(database, work)
