"""Lanes share the calls under way: one whose platform hangs, or that has much to send, does not keep others waiting."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from receiver.platform.wire import Outcome
from receiver.sending import claims
from receiver.sending.campaign import check_campaign
from receiver.sending.claims import Share
from receiver.sending.lanes import Family, Lane
from receiver.sending.request import Request, check
from receiver.tenant_settings import Tenant
from tests.sending.platforms import Call, Platform, Reply, one_transid, recording_platform, sms
from tests.sending.senders import LEASE, Sender, called, hand_in, sender, take_in, until, value
from tests.support import PLATFORM_KEY, Database, run

TIMEOUT = 15.0  # of a call: what has to wait for one that hangs has not gone before
SOON = 12.0  # on a slow machine; one or two seconds are usual
AT_ONCE = 16
LEFT = "select count(*) from outbox"


def tenant(name: str, platform: Platform, **more: Any) -> Tenant:
    return Tenant(name, platform_url=platform.url, platform_key=PLATFORM_KEY, **more)


async def hand_in_each(one: Sender, name: str, count: int, first: int = 447700900100, **more: Any) -> None:
    """So many submissions of one message each."""
    for number in range(first, first + count):
        await hand_in(one, str(number), tenant=name, **more)
        one.at += timedelta(microseconds=1)


async def seconds_until_called(one: Sender, platform: Platform, count: int) -> float:
    """How long it takes from now until the platform has been called so often."""
    began = time.monotonic()
    one.dispatcher.wake()
    async with asyncio.timeout(60):
        while len(platform.calls) < count:  # noqa: ASYNC110 (it is called from another thread)
            await asyncio.sleep(0.01)
    return time.monotonic() - began


class Counting:
    """Answers after a while, and counts the calls that it has at once."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.now, self.most = seconds, 0, 0
        self._lock = threading.Lock()

    def __call__(self, call: Call) -> Reply:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.seconds)
        with self._lock:
            self.now -= 1
        return one_transid(call)


def never(_: Call) -> Reply:
    return None


def beside_one_that_hangs(main: Callable[[Platform, Platform], Coroutine[Any, Any, None]]) -> None:
    """Runs it with two platforms, of which the first never answers."""
    with recording_platform() as hanging, recording_platform() as healthy:
        hanging.reply = never
        run(main(hanging, healthy))


async def assert_sends_while_it_hangs(one: Sender, hanging: Platform, healthy: Platform, name: str) -> None:
    """What this tenant hands in goes out soon, while all that waits for the platform that hangs goes on waiting."""
    one.start()
    await called(hanging, 4)
    await hand_in_each(one, name, 20)
    assert await seconds_until_called(one, healthy, 20) < SOON
    await one.kill()


@pytest.mark.parametrize("rate", [None, 1000.0], ids=["no rate", "with a rate"])
def test_a_healthy_tenant_sends_while_the_platform_of_another_hangs(database: Database, rate: float | None) -> None:
    async def main(hanging: Platform, healthy: Platform) -> None:
        others = [tenant("healthy", healthy, rate=rate)]
        async with sender(database, hanging, AT_ONCE, others, TIMEOUT, rate=rate) as one:
            one.dispatcher._claimer._clock = one.dispatcher._clock = lambda: datetime.now(UTC)
            await hand_in_each(one, "default", 80)
            one.start()
            await called(hanging, AT_ONCE)  # all of them, for no other waits
            await hand_in_each(one, "healthy", 40)
            assert await seconds_until_called(one, healthy, 40) < SOON
            assert len(hanging.calls) == AT_ONCE
            await hand_in_each(one, "healthy", 40, 447700900200)
            assert await seconds_until_called(one, healthy, 80) < SOON / 3, "nothing of it waits any more"
            await one.kill()

    beside_one_that_hangs(main)


def test_a_healthy_tenant_sends_while_the_platforms_of_many_hang(database: Database) -> None:
    async def main(hanging: Platform, healthy: Platform) -> None:
        names = [f"hanging-{n}" for n in range(5)]
        others = [tenant("healthy", healthy), *(tenant(name, hanging) for name in names)]
        async with sender(database, hanging, 4, others, TIMEOUT) as one:
            for name in names:
                await hand_in_each(one, name, 10)
            await assert_sends_while_it_hangs(one, hanging, healthy, "healthy")

    beside_one_that_hangs(main)


def test_a_campaign_that_hangs_does_not_hold_up_the_messages_of_its_tenant(database: Database) -> None:
    async def main(hanging: Platform, healthy: Platform) -> None:
        token = "a token for tests only"
        async with sender(database, healthy, timeout=TIMEOUT, campaign_url=hanging.url, campaign_token=token) as one:
            for n in range(12):
                event = check_campaign({"event-id": "1", "event-key": f"ann-{n}@example.com"})
                assert isinstance(event, Request)
                await take_in(one, event)
            await assert_sends_while_it_hangs(one, hanging, healthy, "default")

    beside_one_that_hangs(main)


def test_a_drop_in_door_finds_a_free_call_while_the_platform_of_another_hangs(database: Database) -> None:
    async def main(hanging: Platform, healthy: Platform) -> None:
        async with sender(database, hanging, 4, [tenant("healthy", healthy)], TIMEOUT) as one:
            await hand_in_each(one, "default", 20)
            one.start()
            await called(hanging, 4)
            request = check(sms("447700900001"))
            assert isinstance(request, Request)
            accepted = await take_in(one, request, "healthy", in_line_lease=LEASE)
            (answer,) = await one.dispatcher.send_now(accepted.submissions, one.tenants.id_of("healthy"), SOON)
            assert answer.outcome is Outcome.ACCEPTED
            await one.kill()

    beside_one_that_hangs(main)


def test_a_large_sending_of_one_tenant_does_not_hold_up_the_few_messages_of_another(database: Database) -> None:
    async def main(large: Platform, small: Platform) -> None:
        large.reply = small.reply = Counting(0.1)
        async with sender(database, large, 4, [tenant("small", small)]) as one:
            await hand_in_each(one, "default", 300)
            one.start()
            await called(large, 20)
            await hand_in_each(one, "small", 10)
            await seconds_until_called(one, small, 10)
            assert len(large.calls) < 200, "they took turns"
            await until(one, f"{LEFT} where tenant <> 1", 0)
            await one.kill()

    with recording_platform() as large, recording_platform() as small:
        run(main(large, small))


def test_a_tenant_alone_has_all_calls_however_long_they_take_and_never_more(database: Database) -> None:
    async def main(platform: Platform) -> None:
        platform.reply = slow = Counting(2.5)
        async with sender(database, platform, 8) as one:
            await hand_in_each(one, "default", 20)
            one.start()
            await until(one, LEFT, 0)
            await one.stop()
        assert slow.most == 8
        assert len(platform.calls) == 20

    with recording_platform() as platform:
        run(main(platform))


def test_of_a_lane_whose_platform_fell_silent_few_are_called_until_one_is_answered(database: Database) -> None:
    async def main(platform: Platform) -> None:
        platform.reply = never
        async with sender(database, platform, AT_ONCE, timeout=3.0) as one:
            await hand_in_each(one, "default", 60)
            one.start()
            await called(platform, AT_ONCE + 1)  # the first have timed out
            await until(one, f"{LEFT} where lease_until is not null and attempts > 0", await few_are_held(one))
            assert len(platform.calls) <= AT_ONCE + 4
            all_at_once = threading.Barrier(AT_ONCE, timeout=10)
            platform.reply = one_transid
            await until(one, "select count(*) > 0 from message_state where state = 10", True)
            platform.reply = together(all_at_once)
            await called(platform, AT_ONCE + 20)
            assert not all_at_once.broken
            await one.kill()

    async def few_are_held(one: Sender) -> int:
        async with asyncio.timeout(5):
            while (held := await value(one, f"{LEFT} where lease_until is not null")) > 8:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return int(held)

    with recording_platform() as platform:
        run(main(platform))


def together(barrier: threading.Barrier) -> Callable[[Call], Reply]:
    """Answers when so many calls are there."""

    def reply(call: Call) -> Reply:
        barrier.wait()
        return one_transid(call)

    return reply


@pytest.mark.parametrize("at_a_time", [1, 3, 8, 60])
def test_lanes_take_turns_and_each_keeps_its_own_order(database: Database, at_a_time: int) -> None:
    async def main() -> None:
        nowhere = Platform(url="http://127.0.0.1:9")
        async with sender(database, nowhere, others=[tenant("other", nowhere)]) as one:
            for name in ("default", "other"):
                await hand_in_each(one, name, 3, 447700900100, priority="1")
                await hand_in_each(one, name, 10, 447700900200)
                await hand_in_each(one, name, 10, 447700900300, priority="3")
            async with one.pool.acquire() as connection:
                lanes = [Lane(one.tenants.id_of(name), Family.PLATFORM) for name in ("default", "other")]
                order: dict[Lane, list[str]] = {lane: [] for lane in lanes}
                while True:
                    shares = [Share(lane, at_a_time, turn=len(order[lane]), busy=len(order[lane])) for lane in lanes]
                    found = await claims.claim(connection, shares, one.at, at_a_time, LEASE)
                    if not found:
                        break
                    loads = await claims.load(connection, [c.submission_id for c in found])
                    for claim, load in zip(found, loads, strict=True):
                        order[claim.lane].append(load.recipients[0].value)
                        assert abs(len(order[lanes[0]]) - len(order[lanes[1]])) <= 1
        low = [str(447700900100 + n) for n in range(3)]
        rest = [str(first + n) for first in (447700900300, 447700900200) for n in range(10)]
        for found_of_one in order.values():
            assert [number for number in found_of_one if number not in low] == rest
            assert [found_of_one.index(number) for number in low] == [7, 15, 22]

    run(main())


def test_a_lane_gets_no_more_of_a_claim_than_its_room(database: Database) -> None:
    async def main() -> None:
        nowhere = Platform(url="http://127.0.0.1:9")
        async with sender(database, nowhere, others=[tenant("other", nowhere)]) as one:
            lanes = [Lane(one.tenants.id_of(name), Family.PLATFORM) for name in ("default", "other")]
            await hand_in_each(one, "default", 5, priority="3")
            await hand_in_each(one, "default", 5, 447700900200, priority="1")
            await hand_in_each(one, "other", 9)
            async with one.pool.acquire() as connection:
                shares = [Share(lanes[0], 2), Share(lanes[1], 99)]
                found = await claims.claim(connection, shares, one.at, 10, LEASE)
            assert [[c.lane for c in found].count(lane) for lane in lanes] == [2, 8]
            assert await value(one, f"{LEFT} where lease_until is null") == 9

    run(main())
