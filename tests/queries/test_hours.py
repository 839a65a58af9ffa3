"""A walk by state opens only hours that may hold one, and leaves no message out that is there in the same snapshot."""

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from receiver.database.partitions import week_of
from receiver.database.pool import Connection, connect, open_pool
from receiver.ids import (
    MessageId,
    SubmissionId,
    TenantId,
    destination_digest,
    digest,
    first_id_at,
    leg_digest,
    new_id,
)
from receiver.messages.lattice import State
from receiver.messages.store import connect as file_under
from receiver.messages.told import Feed, Told, transid_digest
from receiver.queries import hours, search
from receiver.queries.cursors import Position
from receiver.queries.filters import Filters
from receiver.queries.finding import GREATEST, LEAST, Finding
from receiver.receipts.apply import apply
from receiver.upkeep import folding
from tests.database.past import LONG_AGO, SENT, add_week
from tests.receipts.tellings import NUMBER, body, told_of
from tests.support import Database, now
from tests.upkeep.cohorts import folded
from tests.upkeep.rereading import reread, scope
from tests.upkeep.teller_process import OLDER

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LAST_WEEK = week_of(now()) - timedelta(weeks=1)
# What can be told of an SMS, and a state that none is ever in: with it, a search of failed ones takes this way too.
STATUSES = {"Submitted": State.SUBMITTED, "Delivered": State.DELIVERED, "Read": State.READ, "Failed": State.FAILED}
STATUSES |= {"Clicked": State.QUEUED, "Undelivered": State.UNDELIVERED, "Teleported": State.QUEUED}
FAILURES = ("Failed", "Undelivered")
NOBODY = State.ENDED
FILTERS = [[State.QUEUED], [State.SUBMITTED], [State.DELIVERED], [State.READ], [NOBODY], [State.FAILED, NOBODY]]
FILTERS += [[State.UNDELIVERED, NOBODY], [State.SUBMITTED, State.READ], [State.QUEUED, State.FAILED]]
PLAIN = """
select id from message_state
 where tenant = $1 and merged_into is null and state = any($2::smallint[]) and id >= $3 and id < $4
 order by id desc limit $5
"""
# Those of which the statistics do not know that there is any: the log alone does.
BY_THE_LOG_ALONE = """
select count(*) from message_state s
 where s.id = any($1::uuid[]) and not exists (
   select from cohort c
    where c.tenant = s.tenant and c.hours = 1 and c.side = 4 and c.state = s.state and c.messages > 0
      and c.at = date_trunc('hour', to_timestamp(minted_v1(s.id)), 'UTC'))
"""


@contextlib.asynccontextmanager
async def writing(database: Database) -> AsyncIterator[Connection]:
    """A connection to write with. It is cut off, for who fails leaves a transaction open."""
    connection = await connect(database.dsn, "tests")
    try:
        yield connection
    finally:
        connection.terminate()


@contextlib.asynccontextmanager
async def looking(database: Database, zone: str = "UTC") -> AsyncIterator[Connection]:
    """A connection as readers have it, perhaps in another zone."""
    pool = await open_pool(database.dsn, "queries", 1, writer=False)
    try:
        async with pool.acquire() as connection:
            await connection.execute(f"set timezone = '{zone}'")
            yield connection
    finally:
        pool.terminate()


def day(week: date, days: int = 0) -> datetime:
    """The beginning of a day of that week."""
    return datetime(week.year, week.month, week.day, tzinfo=UTC) + timedelta(days=days)


def id_at(at: datetime) -> UUID:
    """An id that was born then."""
    return UUID(int=first_id_at(at).int + new_id().int % (1 << 76) | 7 << 76 | 2 << 62)


def born(tenant: TenantId, transid: str, status: str, at: datetime) -> Told:
    """A receipt of a message that is not known: it is born then. Why it failed differs, as far as it is told."""
    code = ("", "7101", "7207", "7208")[sum(transid.encode()) % 4] if status in FAILURES else ""
    info = {"deliveryChannel": "SMS", "deliveryStatus": status, "destination": NUMBER, "code": code}
    return told_of(body(info, transid), tenant)._replace(fresh=MessageId(id_at(at)))


def by_state(*states: State, limit: int = 1000, begin: datetime | None = None, end: datetime | None = None) -> Filters:
    first, last = (first_id_at(at) if at else None for at in (begin, end))
    return Filters(state=sorted(map(int, states)), from_id=first, to_id=last, limit=limit)


async def tell(connection: Connection, *told: Told) -> None:
    await apply(connection, new_id(), now(), Feed.PUSH, told)


async def send(connection: Connection, tenant: TenantId, at: datetime) -> MessageId:
    """A message of ours with an id of then; it is handed in now."""
    message, submission = MessageId(id_at(at)), SubmissionId(id_at(at))
    names = NUMBER, destination_digest(NUMBER), "theirs", digest("theirs")
    await connection.execute(SENT, tenant, id_at(at), submission, message, now(), *names)
    return message


async def found(connection: Connection, tenant: TenantId, filters: Filters) -> list[UUID]:
    return [row["id"] for row in (await search.many(connection, tenant, filters)).rows]


async def plain(connection: Connection, tenant: TenantId, filters: Filters) -> list[UUID]:
    """The same, read from all messages."""
    end = min(one for one in (filters.to_id, filters.position and filters.position.id, GREATEST) if one)
    values = filters.state, filters.from_id or LEAST, end, filters.limit
    return [row["id"] for row in await connection.fetch(PLAIN, tenant, *values)]


async def opened(connection: Connection, tenant: TenantId, filters: Filters) -> "Counter[str]":
    """How often a search looks into the partitions of each table."""
    finding, looks = Finding(tenant, filters, filters.limit + 1), Counter[str]()
    text = await connection.fetchval("explain (analyze, format json) " + finding.page(), *finding.values)
    nodes = [json.loads(text)[0]["Plan"]]
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", ())
        looks[node.get("Relation Name", "").rpartition("_")[0]] += node["Actual Loops"]
    return looks


@dataclass
class World:
    """Who tells, and where: messages of two tenants in hours of a day or two, now and long ago, and in none else."""

    database: Database
    tenants: Sequence[TenantId]
    rng: random.Random = field(default_factory=lambda: random.Random(5))
    busy: bool = True
    """Whether anybody still tells."""

    def some_time(self) -> datetime:
        rng = self.rng
        begin = rng.choice((day(LONG_AGO, 6), day(LAST_WEEK, 2), day(LAST_WEEK, 6), day(LAST_WEEK, 7)))
        return begin + HOUR * rng.choice((0, 1, 5, 22, 23)) + timedelta(seconds=rng.choice((0, 1800, 3599.999)))

    def some_filters(self) -> Filters:
        """Any states, of any time; a third of them within an hour of each other, a page ends in one too."""
        rng, (begin, end) = self.rng, sorted((self.some_time(), self.some_time()))
        span = rng.choice(((None, None), (begin, None), (None, end), (begin, end), (begin, begin + HOUR / 2)))
        first, last = (first_id_at(at) if at else None for at in span)
        behind = Position(id=id_at(self.some_time())) if rng.random() < 0.2 else None
        states = sorted(map(int, rng.choice(FILTERS)))
        return Filters(state=states, from_id=first, to_id=last, position=behind, limit=rng.choice((1, 3, 40, 1000)))

    async def tells(self, name: str, rounds: int) -> None:
        """Births and moves, some of them misread; messages of ours, and some that turn out to be observed ones."""
        rng, tenant, told = self.rng, self.rng.choice(self.tenants), dict[str, None]()
        async with writing(self.database) as connection:
            for n in range(rounds):
                new = dict.fromkeys(f"{name}-{n}-{k}" for k in range(rng.randrange(1, 4)))
                transids = [*new, *rng.sample(sorted(told), min(len(told), 2))]
                group = [born(tenant, one, rng.choice(list(STATUSES)), self.some_time()) for one in transids]
                await tell(connection, *(OLDER.read(one) if rng.random() < 0.3 else one for one in group))
                told |= new
                ours, transid = await send(connection, tenant, self.some_time()), rng.choice(sorted(told))
                if rng.random() < 0.4:
                    del told[transid]
                    async with connection.transaction():
                        key = transid_digest(transid), leg_digest("", NUMBER), ours
                        await file_under(connection, now(), tenant, [key])
                await asyncio.sleep(rng.random() / 30)

    async def tells_long(self, name: str, rounds: int) -> None:
        """Births in transactions that are open for long: others begin behind them, and are folded before."""
        rng = self.rng
        async with writing(self.database) as connection:
            for n in range(rounds):
                async with connection.transaction():
                    status, tenant = rng.choice(list(STATUSES)), rng.choice(self.tenants)
                    group = [born(tenant, f"{name}-{n}-{k}", status, self.some_time()) for k in range(3)]
                    await tell(connection, *group)
                    await asyncio.sleep(rng.random() / 3)
                await asyncio.sleep(rng.random() / 4)

    async def folds(self) -> int:
        """In small steps; counts everything anew now and then. Returns how often it did."""
        counted = 0
        async with writing(self.database) as connection:
            while self.busy:
                await folding.fold(connection, self.rng.choice((1, 5, 60)))
                if self.rng.random() < 0.25:
                    with contextlib.suppress(asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError):
                        await folding.recount(connection)
                        counted += 1
                await asyncio.sleep(self.rng.random() / 5)
        return counted

    async def rereads(self) -> None:
        async with writing(self.database) as connection:
            while self.busy:
                await reread(connection, scope(*self.tenants, since=day(LONG_AGO)))
                await asyncio.sleep(0.2)

    async def looks(self) -> tuple[int, int]:
        """How often it looked, and how many that it found were known by the log alone."""
        looked = unfolded = 0
        async with looking(self.database) as connection:
            while self.busy:
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    for _ in range(8):
                        filters, tenant = self.some_filters(), self.rng.choice(self.tenants)
                        ids = await found(connection, tenant, filters)
                        assert ids == await plain(connection, tenant, filters), filters
                        unfolded += await connection.fetchval(BY_THE_LOG_ALONE, ids)
                        looked += 1
        return looked, unfolded


def test_at_any_moment_a_page_by_state_has_all_that_a_plain_reading_has(database: Database) -> None:
    """Some tell, in transactions short and long, one folds in small steps and counts anew, one re-reads, at random."""
    world = World(database, (database.tenant(), database.tenant("other")))

    async def told() -> None:
        tellers = [world.tells(f"t{n}", 40) for n in range(3)] + [world.tells_long(f"l{n}", 15) for n in range(2)]
        await asyncio.gather(*tellers)
        world.busy = False

    async def work() -> None:
        async with looking(database) as connection:
            await add_week(connection, LONG_AGO)
            _, counted, _, (looked, unfolded) = await asyncio.gather(
                told(), world.folds(), world.rereads(), world.looks()
            )
            assert counted > 0
            assert looked > 100
            assert unfolded > 100, "what the log alone knew of"
            for what in ("merged_into is not null", "state = 70", "state = 46"):
                assert await connection.fetchval(f"select count(*) from message_state where {what}") > 5, what
            assert await connection.fetchval("select count(*) from change where feed = 6") > 5, "re-read"
            await folded(database)
            for states in FILTERS:
                filters = by_state(*states)
                ids = await found(connection, world.tenants[0], filters)
                assert ids == await plain(connection, world.tenants[0], filters)
                looks = await opened(connection, world.tenants[0], filters)
                assert looks["message_state"] == len({(one.int >> 80) // 3_600_000 for one in ids}), "their hours alone"

    asyncio.run(work())


def test_an_hour_in_which_there_is_none_is_not_read(database: Database) -> None:
    """A week of messages that arrived, three an hour; a few were read, in two hours of two days."""
    tenant, other = database.tenant(), database.tenant("other")

    async def work() -> None:
        async with looking(database) as connection:
            monday = day(LAST_WEEK)
            times = [monday + HOUR * n / 3 + timedelta(seconds=1) for n in range(7 * 24 * 3)]
            await tell(connection, *(born(tenant, f"t{n}", "Delivered", at) for n, at in enumerate(times)))
            await tell(connection, *(born(tenant, f"t{n}", "Read", times[n]) for n in (100, 101, 300)))
            await tell(connection, *(born(other, f"o{n}", "Clicked", at) for n, at in enumerate(times) if n % 50 == 0))
            begin, end = monday, monday + 7 * DAY
            for known_by in ("the log", "the statistics"):
                for states, limit, hours_read in (
                    ((NOBODY,), 50, 0),
                    ((State.QUEUED,), 50, 0),  # those are another's
                    ((State.READ,), 50, 2),
                    ((State.DELIVERED,), 50, 17),  # one more than a page, three an hour
                    ((State.DELIVERED, State.READ), 5, 2),
                ):
                    looks = await opened(connection, tenant, by_state(*states, limit=limit, begin=begin, end=end))
                    assert looks["message_state"] == hours_read, (known_by, states)
                await folded(database)
            looks = await opened(connection, tenant, by_state(NOBODY, begin=begin, end=end))
            assert looks["cohort_state"] == 7, "a day is one look"
            looks = await opened(connection, tenant, by_state(State.READ, begin=begin, end=end))
            assert looks["cohort_state"] == 7 + 2 * 24

    asyncio.run(work())


async def spread(database: Database, connection: Connection, tenant: TenantId) -> Filters:
    """Messages that were read, here and there in a week, all of them folded; and a search that finds them."""
    times = [day(LAST_WEEK) + HOUR * n for n in (0, 1, 5, 23, 24, 47, 90, 167)]
    await tell(connection, *(born(tenant, f"t{n}", "Read", at) for n, at in enumerate(times)))
    await folded(database)
    return by_state(State.READ)


def test_what_the_statistics_do_not_know_of_is_passed_by(database: Database) -> None:
    """So the other tests prove something: where nothing is behind, the statistics alone say where there is any."""
    tenant = database.tenant()

    async def work() -> None:
        async with looking(database) as connection:
            filters = await spread(database, connection, tenant)
            assert len(await found(connection, tenant, filters)) == 8
            await connection.execute("update cohort_state set n70 = 0 where hours = 1 and at < $1", day(LAST_WEEK, 1))
            assert len(await found(connection, tenant, filters)) == 4
            await connection.execute("update cohort_state set n70 = 0 where hours = 24 and at < $1", day(LAST_WEEK, 2))
            assert len(await found(connection, tenant, filters)) == 2
            await connection.execute("delete from cohort_state")
            assert await found(connection, tenant, filters) == []
            await tell(connection, born(tenant, "new", "Read", day(LAST_WEEK) + HOUR * 23.99))
            assert len(await found(connection, tenant, filters)) == 2, "the new one, and the other of its hour"

    asyncio.run(work())


RESTORED, ERASED = "update folded set cluster = cluster + 1", "update folded set cluster = 0"
BEHIND, GONE = "update folded set at = now() - interval '25 hours'", "delete from folded"


@pytest.mark.parametrize("what", [RESTORED, ERASED, BEHIND, GONE])
def test_where_the_statistics_are_of_no_use_all_hours_are_opened(database: Database, what: str) -> None:
    tenant = database.tenant()

    async def work() -> None:
        async with looking(database) as connection:
            filters = await spread(database, connection, tenant)
            await connection.execute("delete from cohort_state")
            assert await found(connection, tenant, filters) == []
            await connection.execute(what)
            assert await found(connection, tenant, filters) == await plain(connection, tenant, filters)
            assert len(await found(connection, tenant, filters)) == 8

    asyncio.run(work())


def test_where_too_many_changes_are_not_folded_all_hours_are_opened(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = database.tenant()
    monkeypatch.setattr(hours, "MOST_UNFOLDED", 4)

    async def work() -> None:
        async with looking(database) as connection:
            filters = await spread(database, connection, tenant)
            await connection.execute("delete from cohort_state")
            for n in range(5):
                assert await found(connection, tenant, filters) == [], n
                await tell(connection, born(tenant, f"more {n}", "Delivered", now()))
            assert len(await found(connection, tenant, filters)) == 8

    asyncio.run(work())


def test_what_was_in_flight_when_others_were_folded_is_found(database: Database) -> None:
    """Also where its transaction began before many that are folded; what is not committed yet is not."""
    tenant = database.tenant()

    async def work() -> None:
        async with looking(database) as connection, writing(database) as slow:
            filters = await spread(database, connection, tenant)
            transaction = slow.transaction()
            await transaction.start()
            await tell(slow, born(tenant, "slow", "Read", day(LAST_WEEK) + HOUR * 40.5))
            for n in range(3):
                await tell(connection, born(tenant, f"quick {n}", "Read", day(LAST_WEEK) + HOUR * (60 + n)))
                assert len(await found(connection, tenant, filters)) == 9 + n
                await folded(database)
                assert len(await found(connection, tenant, filters)) == 9 + n
            await transaction.commit()
            assert len(await found(connection, tenant, filters)) == 12, "not folded yet"
            await folded(database)
            assert len(await found(connection, tenant, filters)) == 12

    asyncio.run(work())


# The last Sunday of March 2025 had 23 hours in London; 2 November 25 in New York. Days and hours are those of UTC.
ZONES = {"UTC": date(2025, 3, 24), "Europe/London": date(2025, 3, 24), "America/New_York": date(2025, 10, 27)}
ZONES |= {"Australia/Lord_Howe": date(2025, 10, 6), "Asia/Kolkata": date(2025, 3, 24)}


@pytest.mark.parametrize("zone", ZONES)
def test_the_bounds_of_hours_days_and_weeks_belong_to_what_begins_there(database: Database, zone: str) -> None:
    """In any zone of the session; with windows and pages that begin and end in mid hour, and ids of the future."""
    tenant, rng, week = database.tenant(), random.Random(2), ZONES[zone]
    bounds = [day(week), day(week, 3), day(week, 6), day(week, 7), day(LAST_WEEK, 7), day(LAST_WEEK, 15)]
    bounds = [at + HOUR * n for at in bounds for n in (-1, 0, 1, 23)]
    beside = [at + timedelta(milliseconds=n) for at in bounds for n in (-1_800_000, -1, 0, 1, 1_800_000)]

    async def work() -> None:
        async with looking(database, zone) as connection:
            for monday in (week - timedelta(weeks=1), week, week + timedelta(weeks=1)):
                await add_week(connection, monday)
            told = [born(tenant, f"t{n}", "Read", at) for n, at in enumerate(beside)]
            firsts = [MessageId(first_id_at(at)) for at in beside]
            await tell(connection, *(one._replace(fresh=first) for one, first in zip(told, firsts, strict=True)))
            for known_by in ("the log", "the statistics"):
                for _ in range(250):
                    begin, end = sorted(rng.sample(beside, 2))
                    if rng.random() < 0.5:
                        end = begin + HOUR * rng.choice((0.25, 0.5, 1, 24))
                    filters = by_state(State.READ, begin=begin, end=end, limit=rng.choice((2, 7, 1000)))
                    ids = await found(connection, tenant, filters)
                    assert ids == await plain(connection, tenant, filters), (known_by, begin, end)
                pages, behind = list[UUID](), search.Found((), Position())
                while behind.next:
                    filters = Filters(state=[State.READ], limit=7, position=behind.next if behind.next.id else None)
                    behind = await search.many(connection, tenant, filters)
                    pages += [row["id"] for row in behind.rows]
                assert sorted(pages, reverse=True) == pages
                assert len(pages) == len(set(beside)), "page by page"
                await folded(database)

    asyncio.run(work())
