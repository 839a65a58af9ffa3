"""How long it takes: each span once a message, by the platform's clock, and nothing of what is old news."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Metric

from receiver import metrics
from receiver.database.pool import connect
from receiver.ids import born_at
from receiver.messages.told import Feed
from receiver.metrics.times import DELIVERY_BUCKETS, Times
from tests.metrics.figures import HOUR, MINUTE, SECOND, Service, info, times
from tests.support import Database, now

ONE, TWO = "447700900101", "447700900102"


def in_service(database: Database, work: Callable[[Service], Awaitable[None]]) -> None:
    async def wrapped() -> None:
        connection = await connect(database.dsn, "tests")
        await work(Service(connection, database_tenant))
        await connection.close()

    database_tenant = database.tenant()
    asyncio.run(wrapped())


@settings(deadline=None)
@given(st.lists(st.floats(-5, 300_000, allow_nan=False)))
def test_a_group_taken_at_once_is_what_one_by_one_would_have_been(seconds: list[float]) -> None:
    together = Times("a", "-", buckets=DELIVERY_BUCKETS, registry=CollectorRegistry())
    singly = Times("a", "-", buckets=DELIVERY_BUCKETS, registry=CollectorRegistry())
    together.take(seconds)
    for second in seconds:
        singly.observe(max(second, 0.0))
    [had], [want] = together.collect(), singly.collect()
    assert [s.value for s in had.samples] == pytest.approx([s.value for s in want.samples])


def test_the_bounds_that_alerts_and_dashboards_name_are_there() -> None:
    bounds = [sample.labels["le"] for sample in _family().samples if sample.name.endswith("_bucket")]
    named = "0.05 0.25 0.5 1.0 2.0 5.0 10.0 30.0 60.0 300.0 900.0 3600.0 14400.0 43200.0 86400.0 259200.0 +Inf"
    assert bounds == named.split()


def _family() -> Metric:
    lag = Times("a", "-", buckets=DELIVERY_BUCKETS, registry=CollectorRegistry())
    [family] = lag.collect()
    return family


def test_each_span_of_a_message_is_observed_once_however_often_it_is_told(database: Database) -> None:
    async def work(service: Service) -> None:
        [message, other] = await service.send([ONE, TWO])
        accepted = born_at(message) + 3 * SECOND
        await service.answer([message, other], at=accepted)
        assert times(metrics.ACCEPTED_SECONDS, service.name) == pytest.approx((2, 6), abs=0.1)
        told = [
            info(message, "Submitted", ONE, accepted + 2 * SECOND),
            info(message, "Delivered", ONE, accepted + 20 * SECOND),
            info(other, "Submitted", TWO, accepted + 4 * SECOND),
        ]
        for _ in range(3):
            await service.tell(told)
        await service.tell([info(message, "Submitted", ONE, accepted + 1 * SECOND)])  # late, and changes no state
        assert times(metrics.SUBMITTED_SECONDS, service.name) == pytest.approx((2, 6), abs=0.01)
        assert times(metrics.DELIVERY, service.name) == pytest.approx((1, 20), abs=0.01)

    in_service(database, work)


def test_what_was_told_before_the_answer_counts_from_the_hand_in(database: Database) -> None:
    async def work(service: Service) -> None:
        [message] = await service.send([ONE])
        began = born_at(message)
        await service.tell([info(message, "Submitted", ONE, began + 2 * SECOND)])
        await service.tell([info(message, "Delivered", ONE, began + 5 * SECOND)])
        await service.answer([message], at=began + 9 * SECOND)
        assert times(metrics.SUBMITTED_SECONDS, service.name) == pytest.approx((1, 2), abs=0.01)
        assert times(metrics.DELIVERY, service.name) == pytest.approx((1, 5), abs=0.01)
        assert times(metrics.ACCEPTED_SECONDS, service.name) == pytest.approx((1, 9), abs=0.01)

    in_service(database, work)


@pytest.mark.parametrize("feed", [Feed.IMPORT, Feed.REPLAY], ids=lambda feed: feed.word)
def test_old_news_is_no_time_of_today(database: Database, feed: Feed) -> None:
    async def work(service: Service) -> None:
        [message] = await service.send([ONE])
        await service.answer([message])
        lags = times(metrics.RECEIPT_LAG, "")
        told = [info(message, status, ONE, now() - HOUR) for status in ("Submitted", "Delivered")]
        await service.tell(told, feed)
        assert times(metrics.SUBMITTED_SECONDS, service.name) == (0, 0)
        assert times(metrics.DELIVERY, service.name) == (0, 0)
        assert times(metrics.RECEIPT_LAG, "") == lags

    in_service(database, work)


def test_the_lag_of_a_receipt_is_from_the_platforms_time_to_ours_once_each(database: Database) -> None:
    async def work(service: Service) -> None:
        [message] = await service.send([ONE])
        await service.answer([message])
        before, told = times(metrics.RECEIPT_LAG, ""), info(message, "Delivered", ONE, now() - 10 * MINUTE)
        await service.tell([told])
        await service.tell([told])  # a duplicate
        await service.tell([info(message, "Submitted", ONE, now() + timedelta(hours=1))])  # a clock that runs ahead
        await service.tell([info(message, "Clicked", ONE)])  # without a time
        after = times(metrics.RECEIPT_LAG, "")
        assert (after[0] - before[0], after[1] - before[1]) == pytest.approx((2, 600), abs=5)

    in_service(database, work)
