"""A tenant's way out: who goes first, how many a second, and what holds it up for all processes."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from receiver import metrics
from receiver.database.pool import Connection
from receiver.ids import TenantId
from receiver.platform.apis import Api
from receiver.sending import claims, lanes
from receiver.sending.campaign import check_campaign
from receiver.sending.claimer import Claimer
from receiver.sending.claims import Share
from receiver.sending.lanes import Family, Lane, lane_of
from receiver.sending.request import Request
from tests.sending.platforms import Call, Platform, Reply, queued, recording_platform, refused
from tests.sending.senders import ACCEPTED, LEASE, QUEUED, Sender, called, hand_in, sender, take_in, until, value
from tests.support import Database, run

LANE = "select {} from lane where family = 1"
STATES = "select array_agg(state order by id)::text from message_state"


def numbers(count: int, first: int = 447700900100) -> list[str]:
    return [str(first + n) for n in range(count)]


def quiet_platform() -> Platform:
    """One that is never called."""
    return Platform(url="http://127.0.0.1:9")


async def hand_in_each(one: Sender, count: int, **more: Any) -> list[str]:
    """So many submissions of one message each; their numbers."""
    found = numbers(count, 447700900100 + await value(one, "select count(*) from message"))
    for number in found:
        await hand_in(one, number, **more)
        one.at += timedelta(microseconds=1)
    return found


async def claimed(one: Sender, connection: Connection, limit: int, turn: int) -> list[str]:
    """The numbers of what is claimed next, in order."""
    lane = lane_of(one.tenants.id_of("default"), Api.MESSAGING)
    found = await claims.claim(connection, [Share(lane, limit, turn=turn)], one.at, limit, LEASE)
    return [load.recipients[0].value for load in await claims.load(connection, [c.submission_id for c in found])]


@pytest.mark.parametrize("at_a_time", [1, 3, 8, 40])
def test_the_urgent_go_first_then_the_oldest_and_one_of_eight_is_of_the_lowest(
    database: Database, at_a_time: int
) -> None:
    async def main() -> None:
        async with sender(database, quiet_platform()) as one:
            low = await hand_in_each(one, 6, priority="1")
            normal = await hand_in_each(one, 8)
            high = await hand_in_each(one, 12, priority="3")
            async with one.pool.acquire() as connection:
                order: list[str] = []
                while found := await claimed(one, connection, at_a_time, len(order)):
                    order += found
        assert sorted(order) == sorted(low + normal + high)
        for numbers_of_one in (low, normal, high):
            assert [n for n in order if n in numbers_of_one] == numbers_of_one, "the oldest of them first"
        assert [n for n in order if n not in low] == high + normal
        # 20 others: then the lowest have all turns
        assert [order.index(number) for number in low] == [7, 15, 22, 23, 24, 25]

    run(main())


def test_two_claims_at_once_share_what_is_due(database: Database) -> None:
    async def main() -> None:
        async with sender(database, quiet_platform()) as one:
            all_numbers = await hand_in_each(one, 30)
            async with one.pool.acquire() as first, one.pool.acquire() as second:
                found: list[str] = []
                while part := await asyncio.gather(claimed(one, first, 4, 0), claimed(one, second, 4, 0)):
                    if not any(part):
                        break
                    found += [n for numbers_of_one in part for n in numbers_of_one]
        assert sorted(found) == all_numbers

    run(main())


def claimer(one: Sender) -> Claimer:
    return Claimer(one.tenants, LEASE, lambda: one.at)


@pytest.mark.parametrize("rate", [0.5, 7.0, 40.0])
def test_two_processes_together_keep_the_rate_to_the_message(database: Database, rate: float) -> None:
    async def main() -> None:
        async with sender(database, quiet_platform(), rate=rate) as one, one.pool.acquire() as connection:
            for number in numbers(30):
                await hand_in(one, number, str(int(number) + 1000), str(int(number) + 2000))
            if rate == 40:
                await hand_in(one, *numbers(600, 447700910000))
            both = claimer(one), claimer(one)
            began, sent = one.at, 0
            for step in range(1_000):
                for each in both:
                    found = [claim for claim, _ in await each.claim(connection, 16)]
                    sent += sum(claim.message_count for claim in found)
                allowed = rate + rate * (one.at - began).total_seconds()
                on_credit = 600 if sent > 90 else 3
                assert sent <= allowed + on_credit, f"step {step}"
                one.at += timedelta(seconds=0.1)
                if not await value(one, "select exists (select from outbox where lease_until is null)"):
                    break
            seconds = (one.at - began).total_seconds()
            if rate == 40:
                assert sent == 690
                # 90 in calls of three: the first 40 at once; then the large call, on credit
                assert seconds == pytest.approx((90 - 40) / 40, abs=0.3)
                one.at += timedelta(seconds=14.5)  # 600 are paid off at 40 a second, but for what was left
                await hand_in(one, "447700900001")
                assert await both[0].claim(connection, 16) == []
                one.at += timedelta(seconds=1)
                assert len(await both[1].claim(connection, 16)) == 1
            else:
                assert sent >= rate * seconds - 3
                assert sent <= rate + rate * seconds + 3

    run(main())


def test_a_rate_is_kept_on_the_wire_by_two_dispatchers_and_all_is_sent(database: Database) -> None:
    async def main(platform: Platform) -> None:
        loop = asyncio.get_running_loop()
        async with (
            sender(database, platform, rate=30.0) as one,
            sender(database, platform, rate=30.0) as other,
        ):
            for each in (one, other):
                each.dispatcher._claimer._clock = each.dispatcher._clock = now_of(each)
            await hand_in(one, "447700900001")
            await hand_in_each(one, 89)
            began = loop.time()
            one.start()
            other.start()
            await until(one, "select count(*) from outbox", 0)
            took = loop.time() - began
            await one.stop()
            await other.stop()
        assert len(platform.calls) == 90
        assert took >= (90 - 30) / 30 - 0.1

    with recording_platform() as platform:
        run(main(platform))


def now_of(one: Sender) -> Any:
    """A clock that runs on from the sender's time."""
    loop, began, at = asyncio.get_running_loop(), asyncio.get_running_loop().time(), one.at
    return lambda: at + timedelta(seconds=loop.time() - began)


def test_being_too_fast_holds_the_lane_and_is_no_failure_and_one_at_a_time_finds_out(database: Database) -> None:
    async def main(platform: Platform) -> None:
        platform.reply = lambda _: refused("7020")
        async with sender(database, platform) as one:
            await hand_in_each(one, 6)
            one.start()
            await until(one, LANE.format("pauses"), 1)
            await until(one, "select count(*) from outbox where lease_until is not null", 0)
            under_way = len(platform.calls)
            assert 1 <= under_way <= 4, "those that were under way, and no more"
            assert await value(one, STATES) == "{0,0,0,0,0,0}"
            paused = await value(one, LANE.format("paused_until")) - one.at
            assert timedelta(seconds=1) <= paused <= timedelta(seconds=2)

            one.at += timedelta(seconds=3)  # one tries, and is refused again: twice as long
            await until(one, LANE.format("pauses"), 2)
            await until(one, "select count(*) from outbox where lease_until is not null", 0)
            assert len(platform.calls) == under_way + 1
            paused = await value(one, LANE.format("paused_until")) - one.at
            assert timedelta(seconds=2) <= paused <= timedelta(seconds=4)

            platform.reply = lambda _: None if not platform.let_go.wait(5) else queued("t")
            one.at += timedelta(seconds=5)
            await called(platform, under_way + 2)
            for _ in range(3):
                assert await one.dispatcher._claim() == 0, "the others wait for the one that tries"
            platform.let_go.set()
            await until(one, "select count(*) from outbox", 0)
            assert await value(one, LANE.format("pauses")) == 0
            assert await value(one, "select max(failures) from outbox") is None
            assert await value(one, "select count(*) from message_state where state = 10") == 6
            await one.stop()
        assert len(platform.calls) == under_way + 7

    with recording_platform() as platform:
        run(main(platform))


def test_the_platform_says_how_long_to_wait_after_429(database: Database) -> None:
    async def main(platform: Platform) -> None:
        platform.reply = lambda _: (429, b"slow down")
        platform.headers["retry-after"] = "7"
        async with sender(database, platform) as one:
            await hand_in(one, "447700900001")
            one.start()
            await until(one, LANE.format("pauses"), 1)
            assert await value(one, LANE.format("paused_until")) - one.at == timedelta(seconds=7)
            await until(one, "select failures from outbox where lease_until is null", 0)
            assert [w for w in one.dispatcher.trouble.values() if "slow down" in w and "default" in w]
            await one.stop()

    with recording_platform() as platform:
        run(main(platform))


def test_what_fails_waits_by_itself_and_twice_as_long_each_time(database: Database) -> None:
    async def main(platform: Platform) -> None:
        platform.replies["447700900001"] = lambda _: refused("7006")
        async with sender(database, platform) as one:
            for failures, least, most in ((1, 1, 2), (2, 2, 4), (3, 4, 8)):
                if failures == 1:
                    await hand_in(one, "447700900001")
                    one.start()
                await until(one, "select failures from outbox where lease_until is null", failures)
                wait = await value(one, "select due_at from outbox") - one.at
                assert timedelta(seconds=least) <= wait <= timedelta(seconds=most)
                await hand_in(one, "447700900002")  # the lane is free for the others
                await until(one, "select count(*) from message_state where state = 10", failures)
                one.at += timedelta(seconds=most)
            await one.stop()

    with recording_platform() as platform:
        run(main(platform))


def stopped_metric() -> float | None:
    return metrics.REGISTRY.get_sample_value("receiver_lane_stopped", {"tenant": "default"})


@pytest.mark.parametrize("reply", [refused("7001"), refused("7002"), refused("7007"), (401, b"who are you?")])
def test_refused_credentials_stop_the_lane_for_all_and_one_message_a_minute_is_the_probe(
    database: Database, reply: Reply
) -> None:
    async def main(platform: Platform) -> None:
        platform.reply = lambda _: reply
        async with sender(database, platform, at_once=1) as one, sender(database, platform) as other:
            await hand_in_each(one, 5)
            one.start()
            await until(one, LANE.format("stopped_at is not null"), True)
            await until(one, "select count(*) from outbox where lease_until is not null", 0)
            calls = len(platform.calls)
            assert calls == 1
            assert await value(one, STATES) == "{0,0,0,0,0}"
            assert await value(one, "select max(failures) from outbox") == 0
            assert await value(one, "select outcome from attempt limit 1") == "later"

            other.at = one.at + timedelta(seconds=59)
            assert await other.dispatcher._claim() == 0, "it sees that the lane is stopped"
            await other.dispatcher._tidying.tidy()
            for each in (one, other):
                assert [w for w in each.dispatcher.trouble.values() if "credentials" in w and "default" in w]
            assert stopped_metric() == 1

            await one.stop()
            other.at = one.at + timedelta(seconds=61)
            other.start()
            await until(other, LANE.format("probe_at"), other.at + timedelta(seconds=60))
            await until(other, "select count(*) from outbox where lease_until is not null", 0)
            assert len(platform.calls) == calls + 1, "one probe"
            assert await value(other, STATES) == "{0,0,0,0,0}"

            platform.reply = lambda _: queued("t")
            other.at += timedelta(seconds=61)
            await until(other, "select count(*) from outbox", 0)
            await until(other, LANE.format("stopped_at is null"), True)
            async with asyncio.timeout(10):
                while other.dispatcher.trouble:  # noqa: ASYNC110 (it is told after the lane)
                    await asyncio.sleep(0.01)
            await other.dispatcher._tidying.tidy()
            assert stopped_metric() == 0
            assert await value(other, "select count(*) from message_state where state = 10") == 5
            await other.stop()

    with recording_platform() as platform:
        run(main(platform))


def test_an_answer_that_was_under_way_when_the_lane_stopped_does_not_open_it(database: Database) -> None:
    async def main(platform: Platform) -> None:
        def good_late(_: Call) -> Reply:
            platform.let_go.wait(10)
            return queued("t")

        platform.replies["447700900100"] = good_late
        platform.reply = lambda _: refused("7001")
        async with sender(database, platform) as one:
            await hand_in_each(one, 2)
            one.start()
            await until(one, LANE.format("stopped_at is not null"), True)
            platform.let_go.set()
            await until(one, "select count(*) from message_state where state = 10", 1)
            assert await value(one, LANE.format("stopped_at is not null")) is True
            await one.stop()

    with recording_platform() as platform:
        run(main(platform))


def test_campaign_has_credentials_and_a_lane_of_its_own(database: Database) -> None:
    async def main(platform: Platform) -> None:
        platform.replies["ann@example.com"] = lambda _: (200, b'{"code":401,"description":"not authorised"}')
        token = "a token for tests only"
        async with sender(database, platform, campaign_url=platform.url, campaign_token=token) as one:
            event = check_campaign({"event-id": "1", "event-key": "ann@example.com"})
            assert isinstance(event, Request)
            await take_in(one, event)
            one.start()
            await until(one, "select stopped_code from lane where family = 2", "401")
            await hand_in(one, "447700900001")
            await until(one, "select count(*) from message_state where state = 10", 1)
            assert await value(one, "select count(*) from outbox") == 1
            await one.stop()

    with recording_platform() as platform:
        run(main(platform))


def test_a_lane_is_that_of_the_credentials() -> None:
    tenant = TenantId(1)
    assert {api: lane_of(tenant, api).family for api in Api} == {
        Api.MESSAGING: Family.PLATFORM,
        Api.MESSAGING_V2: Family.PLATFORM,
        Api.EVENTS: Family.PLATFORM,
        Api.CAMPAIGN: Family.CAMPAIGN,
    }


def test_a_lane_of_nobody_is_not_in_trouble(database: Database) -> None:
    async def main() -> None:
        async with sender(database, quiet_platform()) as one, one.pool.acquire() as connection:
            lane = Lane(one.tenants.id_of("default"), Family.PLATFORM)
            await lanes.reopen(connection, lane)
            assert await lanes.in_trouble(connection) == []
            assert await value(one, "select count(*) from lane") == 0

    run(main())


def test_what_waits_for_a_free_call_and_expires_meanwhile_is_never_sent(database: Database) -> None:
    async def main(platform: Platform) -> None:
        def hold(_: Call) -> Reply:
            platform.let_go.wait(10)
            return queued("t")

        platform.replies["447700900001"] = hold
        async with sender(database, platform, at_once=1) as one:
            await hand_in(one, "447700900001")
            expiry = (one.at + timedelta(seconds=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
            one.start()
            await called(platform, 1)
            await hand_in(one, "447700900002", expiry=expiry)
            one.dispatcher.wake()
            await until(one, "select count(*) from submission where sent_at is not null", 2)  # marked a little ahead
            one.at += timedelta(seconds=10)
            platform.let_go.set()
            await until(one, "select count(*) from outbox", 0)
            assert await value(one, STATES) == f"{{{ACCEPTED},41}}"
            await one.stop()
        assert len(platform.calls) == 1

    with recording_platform() as platform:
        run(main(platform))


def test_closing_gives_back_what_was_claimed_ahead(database: Database) -> None:
    async def main(platform: Platform) -> None:
        def hold(_: Call) -> Reply:
            platform.let_go.wait(10)
            return queued("t")

        platform.reply = hold
        async with sender(database, platform, at_once=1) as one:
            await hand_in_each(one, 4)
            one.start()
            await called(platform, 1)
            await until(one, "select count(*) > 1 from outbox where lease_until is not null", True)
            stopping = asyncio.create_task(one.stop())
            platform.let_go.set()
            await stopping
            assert await value(one, "select count(*) from outbox where lease_until is null") == 3
            assert await value(one, "select count(*) from submission where sent_at is not null") == 1
            assert await value(one, STATES) == f"{{{ACCEPTED},{QUEUED},{QUEUED},{QUEUED}}}"
        assert len(platform.calls) == 1

    with recording_platform() as platform:
        run(main(platform))
