"""The figures of deliveries: rates by example, ceilings, maturity, ragged ends, percentiles."""

import asyncio
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from receiver.database.pool import Pool, open_pool
from receiver.ids import TenantId
from receiver.messages.cells import COLUMNS
from receiver.messages.lattice import Channel, State
from receiver.messages.patience import waits_of
from receiver.platform.codes import Class
from receiver.queries import statistics
from receiver.queries.statistics_asked import Asked, read_asked
from receiver.queries.statistics_views import Deliveries, Group, deliveries_of
from receiver.waits import DEFAULTS
from tests.support import Database, now

TODAY = now().replace(hour=0, minute=0, second=0, microsecond=0)
NOON = TODAY - timedelta(days=1, hours=12)  # of the day before yesterday
CELL = """
insert into cohort_state as t (at, hours, tenant, side, value, channel, country, origin, conflict, {0})
select w.at, w.hours, $2, s.side, case when s.side in (0, 4) then '' else $7 end, $3,
       case s.side when 4 then '' else $4 end, $5, $6, $8
  from (values (date_trunc('hour', $1::timestamptz), 1), (date_trunc('day', $1::timestamptz, 'UTC'), 24)) w(at, hours)
 cross join (values (0), (4), (1)) s(side) where s.side <> 1 or $7 <> ''
on conflict (tenant, hours, side, value, at, channel, country, origin, conflict)
do update set {0} = t.{0} + excluded.{0}
"""
COLUMN = {(column.state, column.code_class): column.name for column in COLUMNS}
LAG = """
insert into cohort_lag (at, hours, tenant, side, value, channel, country, origin, kind, counts)
select $1, 24, $2, 4, '', 1, '', 1, 3, sum(('1e' || 12 * lag_v1(0, to_timestamp(s)))::numeric)
  from unnest($3::float8[]) s
"""


async def born(
    pool: Pool,
    tenant: TenantId,
    state: State,
    messages: int,
    *,
    at: datetime = NOON,
    channel: Channel = Channel.SMS,
    country: str = "GB",
    origin: int = 1,
    code_class: Class = Class.UNKNOWN,
    conflict: bool = False,
    sender: str = "",
) -> None:
    """Messages that were born in an hour and are in a state now."""
    statement = CELL.format(COLUMN[state, code_class])
    await pool.execute(statement, at, tenant, channel, country, origin, conflict, sender, messages)


async def answer(pool: Pool, tenant: TenantId, query: str, at: datetime | None = None) -> Deliveries:
    """What the door answers."""
    asked = read_asked(QueryParams(query), lambda: at or now())
    assert isinstance(asked, Asked), asked
    async with pool.acquire() as connection:
        found = await statistics.deliveries(connection, tenant, asked, waits_of(DEFAULTS))
    return await deliveries_of(found, asked, "default")


def with_pool(database: Database, work: Any) -> None:
    tenant = database.tenant()

    async def wrapped() -> None:
        pool = await open_pool(database.dsn, "statistics", 2, writer=False)
        await work(pool, tenant)
        await pool.close()

    asyncio.run(wrapped())


def counts(groups: Sequence[Group], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(getattr(group, name) for name in names) for group in groups]


def test_the_rates_of_the_worked_example(database: Database) -> None:
    """The example of docs/statistics.md."""

    async def work(pool: Pool, tenant: TenantId) -> None:
        await born(pool, tenant, State.DELIVERED, 900)
        await born(pool, tenant, State.READ, 20)
        await born(pool, tenant, State.UNDELIVERED, 40, code_class=Class.RECIPIENT)
        await born(pool, tenant, State.FAILED, 10, code_class=Class.PLATFORM)
        await born(pool, tenant, State.REFUSED, 5, code_class=Class.CONTENT)
        await born(pool, tenant, State.NO_RECEIPT, 12)
        await born(pool, tenant, State.SUBMITTED, 8)
        await born(pool, tenant, State.QUEUED, 2)
        await born(pool, tenant, State.CANCELLED, 2)
        await born(pool, tenant, State.UNCERTAIN, 1)
        (group,) = (await answer(pool, tenant, "origin=issued")).groups
        assert (group.messages, group.queued, group.not_sent, group.uncertain) == (1000, 2, 2, 1)
        assert (group.accepted, group.pending, group.no_receipt, group.at_ceiling, group.other) == (990, 8, 12, 0, 0)
        assert (group.delivered, group.read, group.failed, group.refused) == (920, 20, 55, 5)
        assert group.failed_by_class == {"recipient": 40, "content": 5, "platform": 10}
        rate = group.confirmed_rate
        assert (rate.numerator, rate.denominator, rate.value) == (920, 975, round(920 / 975, 6))
        rate = group.delivered_of_accepted
        assert (rate.numerator, rate.denominator) == (920, 990)
        assert (group.coverage.numerator, group.coverage.denominator) == (970, 990)
        assert group.read_of_delivered.value is None, "an SMS is never told to be read"
        assert (group.maturity.settled.numerator, group.maturity.settled.denominator) == (989, 1000)

    with_pool(database, work)


def test_what_a_channel_never_tells_is_in_no_rate_of_it(database: Database) -> None:
    async def work(pool: Pool, tenant: TenantId) -> None:
        await born(pool, tenant, State.SUBMITTED, 70, channel=Channel.APPLE)
        await born(pool, tenant, State.ACCEPTED, 10, channel=Channel.APPLE)
        await born(pool, tenant, State.ACCEPTED, 30, channel=Channel.CAMPAIGN)
        await born(pool, tenant, State.FAILED, 5, channel=Channel.APPLE)
        await born(pool, tenant, State.READ, 6, channel=Channel.WHATSAPP)
        await born(pool, tenant, State.DELIVERED, 2, channel=Channel.WHATSAPP)
        found = {group.channel: group for group in (await answer(pool, tenant, "by=channel")).groups}
        apple, campaign, whatsapp = found["apple"], found["campaign"], found["whatsapp"]
        assert (apple.at_ceiling, apple.pending, apple.failed) == (70, 10, 5)
        assert (apple.confirmed_rate.value, apple.confirmed_rate.denominator) == (None, 0)
        assert apple.coverage.value == round(75 / 85, 6)
        assert campaign.coverage.value == 1.0
        assert (whatsapp.read_of_delivered.numerator, whatsapp.read_of_delivered.denominator) == (6, 8)
        (both,) = (await answer(pool, tenant, "")).groups
        assert (both.confirmed_rate.numerator, both.confirmed_rate.denominator) == (8, 8)
        assert both.messages == 123
        await born(pool, tenant, State.READ, 9, channel=Channel.INSTAGRAM)
        (all_,) = (await answer(pool, tenant, "")).groups
        assert all_.confirmed_rate.numerator == 17
        assert all_.read_of_delivered == both.read_of_delivered, "Instagram tells of no delivery without the reading"

    with_pool(database, work)


def test_a_message_that_arrives_without_an_answer_was_accepted(database: Database) -> None:
    async def work(pool: Pool, tenant: TenantId) -> None:
        await born(pool, tenant, State.DELIVERED, 7, origin=2)
        (group,) = (await answer(pool, tenant, "")).groups
        assert (group.origin, group.accepted, group.coverage.value) == ("observed", 7, 1.0)

    with_pool(database, work)


def test_each_grouping_and_filter(database: Database) -> None:
    async def work(pool: Pool, tenant: TenantId) -> None:
        await born(pool, tenant, State.DELIVERED, 3, sender="SHOP")
        await born(pool, tenant, State.DELIVERED, 4, country="FR", sender="PARCEL", at=NOON + timedelta(hours=2))
        await born(pool, tenant, State.FAILED, 5, country="", channel=Channel.EMAIL, code_class=Class.POLICY)
        await born(pool, tenant, State.DELIVERED, 6, origin=3, conflict=True)
        await born(pool, TenantId(99), State.DELIVERED, 1000)

        async def ask(query: str, *names: str) -> list[tuple[Any, ...]]:
            return counts((await answer(pool, tenant, query)).groups, *names, "messages")

        assert await ask("") == [(12,), (6,)]
        assert await ask("by=tenant&origin=recorded", "tenant") == [("default", 6)]
        assert await ask("by=country&origin=issued", "country") == [(None, 5), ("FR", 4), ("GB", 3)]
        assert await ask("by=country&origin=issued&country=none&country=fr", "country") == [(None, 5), ("FR", 4)]
        assert await ask("by=sender&origin=issued", "sender") == [("PARCEL", 4), ("SHOP", 3)]
        assert await ask("sender=SHOP", "origin") == [("issued", 3)]
        assert await ask("by=channel&channel=email&origin=issued", "channel") == [("email", 5)]
        assert await ask("by=code_class&origin=issued", "code_class") == [("policy", 5), (None, 7)]
        assert await ask("by=hour&origin=issued", "at") == [(NOON, 8), (NOON + timedelta(hours=2), 4)]
        assert await ask("by=day&origin=issued", "at") == [(NOON.replace(hour=0), 12)]
        assert await ask("origin=issued&origin=recorded") == [(18,)]
        assert (await answer(pool, tenant, "origin=recorded")).groups[0].conflict == 6
        await born(pool, tenant, State.CANCELLED, 2, at=NOON - timedelta(days=3))
        await born(pool, tenant, State.UNDELIVERED, 8, at=NOON - timedelta(days=3))
        old = f"by=code_class&origin=issued&to={NOON - timedelta(days=2):%Y-%m-%dT%H:00:00Z}"
        assert await ask(old, "code_class", "failed", "not_sent") == [("unknown", 8, 0, 8), (None, 0, 2, 2)]

    with_pool(database, work)


def test_ragged_ends_are_read_by_the_hour(database: Database) -> None:
    """From any hour to any hour of four days, by days and by hours, come to the same as the sum of the hours."""

    async def work(pool: Pool, tenant: TenantId) -> None:
        begin = TODAY - timedelta(days=4)
        hours = [begin + timedelta(hours=n) for n in range(96)]
        for n, hour in enumerate(hours):
            await born(pool, tenant, State.DELIVERED, n + 1, at=hour)
        for first, last in (
            (0, 96),
            (0, 1),
            (5, 20),
            (23, 25),
            (3, 24),
            (24, 72),
            (20, 80),
            (47, 49),
            (95, 96),
            (1, 95),
        ):
            span = f"from={hours[first]:%Y-%m-%dT%H:20:00Z}&to={hours[last - 1]:%Y-%m-%dT%H:59:00Z}"
            wanted = sum(range(first + 1, last + 1))
            for by in ("", "by=day&", "by=hour&"):
                found = await answer(pool, tenant, by + span)
                assert (found.begin, found.end) == (hours[first], hours[last - 1] + timedelta(hours=1))
                assert sum(group.messages for group in found.groups) == wanted, (by, first, last)

    with_pool(database, work)


def test_a_group_is_mature_when_nearly_all_that_comes_has_come(database: Database) -> None:
    async def work(pool: Pool, tenant: TenantId) -> None:
        hour = TODAY - timedelta(hours=10)
        await pool.execute("update folded set at = $1", hour + timedelta(hours=2))
        await born(pool, tenant, State.SUBMITTED, 4, at=hour)
        await born(pool, tenant, State.DELIVERED, 6, at=hour)

        async def mature(query: str = "") -> tuple[bool, float | None]:
            (group,) = (await answer(pool, tenant, f"by=hour&to={TODAY:%Y-%m-%dT%H:00:00Z}&{query}")).groups
            return group.maturity.mature, group.maturity.settled.value

        assert await mature() == (True, 0.6), "an SMS usually takes 15 minutes"
        learn = "insert into usual_time values (1, $1, $2, 100, now())"
        await pool.execute(learn, "", 7000.0)
        assert await mature() == (False, 0.6), "here nearly two hours"
        await pool.execute(learn, "GB", 1800.0)
        assert await mature() == (False, 0.6)
        assert await mature("country=GB") == (True, 0.6), "in this country half an hour"
        await pool.execute("update folded set at = $1", hour + timedelta(hours=1 + 72))
        assert await mature() == (True, 1.0), "three days are all the patience that an SMS has"

    with_pool(database, work)


_SECONDS = st.lists(st.floats(0.002, 3e6), min_size=1, max_size=400)


def test_percentiles_are_within_five_percent_of_the_exact_ones(database: Database) -> None:
    tenant = database.tenant()
    with asyncio.Runner() as runner:
        pool = runner.run(open_pool(database.dsn, "statistics", 1, writer=False))
        day = datetime(NOON.year, NOON.month, NOON.day, tzinfo=UTC)
        query = f"by=day&origin=issued&from={day:%Y-%m-%dT%H:%M:%SZ}&to={day + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"

        @given(seconds=_SECONDS)
        @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        def example(seconds: list[float]) -> None:
            async def work() -> None:
                await pool.execute("delete from cohort_lag")
                await pool.execute(LAG, day, tenant, seconds)
                (group,) = (await answer(pool, tenant, query)).groups
                assert isinstance(group.latency, dict)
                found = group.latency["delivered"]
                assert found.messages == len(seconds)
                for percent in (50, 90, 95, 99):
                    exact = sorted(seconds)[math.ceil(len(seconds) * percent / 100) - 1]
                    assert getattr(found, f"p{percent}") == pytest.approx(exact, rel=0.0501)

            runner.run(work())

        runner.run(born(pool, tenant, State.DELIVERED, 1))
        example()
        runner.run(pool.close())
