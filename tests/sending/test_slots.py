"""The calls under way, whatever order they begin, end and are given up in."""

import asyncio
import random
from collections import Counter

from hypothesis import example, given, settings
from hypothesis import strategies as st

from receiver.ids import TenantId
from receiver.platform.wire import Answer, Outcome
from receiver.sending.lanes import Family, Lane
from receiver.sending.slots import Slots, most_under_way
from tests.support import run

LANES = [Lane(TenantId(n), Family.PLATFORM) for n in range(4)]
ANSWERED, UNANSWERED = Answer(Outcome.ACCEPTED, http_status=200), Answer(Outcome.UNCERTAIN)


async def settle() -> None:
    """Lets everything go on that can."""
    for _ in range(8):
        await asyncio.sleep(0)


@settings(deadline=None)
@example(1, 1129, 47)
@given(st.integers(1, 9), st.integers(0, 2**32), st.integers(1, 60))
def test_no_slot_is_lost_or_given_twice_and_none_is_free_while_a_lane_with_room_waits(
    number: int, seed: int, steps: int
) -> None:
    async def main() -> None:
        chance, slots = random.Random(seed), Slots(number)
        under_way: Counter[Lane] = Counter()
        calls: list[tuple[asyncio.Event, asyncio.Task[None]]] = []
        all_tasks: list[asyncio.Task[None]] = []

        async def one(lane: Lane, end: asyncio.Event) -> None:
            async with slots.call(lane) as call:
                under_way[lane] += 1
                try:
                    await end.wait()
                    call.ended(chance.choice([ANSWERED, UNANSWERED]))
                finally:
                    under_way[lane] -= 1

        for _ in range(steps):
            if calls and chance.random() < 0.45:
                end, task = calls.pop(chance.randrange(len(calls)))
                end.set() if chance.random() < 0.6 else task.cancel()
            else:
                end = asyncio.Event()
                all_tasks.append(asyncio.create_task(one(chance.choice(LANES), end)))
                calls.append((end, all_tasks[-1]))
            if chance.random() < 0.7:  # else several things happen at once
                await settle()
                waiting = any(slots.under_way(lane) > under_way[lane] for lane in LANES)
                assert slots.free == number - under_way.total() >= 0
                assert not (waiting and slots.free), "no lane is at its own bound here: none is slow"
        for end, _task in calls:
            end.set()
        await asyncio.wait_for(asyncio.gather(*all_tasks, return_exceptions=True), 10)
        assert slots.free == number
        assert not any(slots.under_way(lane) for lane in LANES)

    run(main())


def test_a_call_that_is_long_leaves_its_slot_to_the_other_lanes_alone() -> None:
    async def main() -> None:
        told = asyncio.Event()
        slots, end, begun = Slots(2, told.set, long_seconds=0.01), asyncio.Event(), Counter[Lane]()

        async def one(lane: Lane) -> None:
            async with slots.call(lane) as call:
                begun[lane] += 1
                await end.wait()
                call.ended(UNANSWERED)

        tasks = [asyncio.create_task(one(LANES[0])) for _ in range(5)]
        await told.wait()
        while slots.free < 2:  # noqa: ASYNC110 (both become long)
            await asyncio.sleep(0.001)
        assert slots.is_stuck(LANES[0])
        assert begun[LANES[0]] == 2
        for lane in LANES[1:]:
            tasks += [asyncio.create_task(one(lane)) for _ in range(3)]
        while begun.total() < 8:  # noqa: ASYNC110 (each lane in its time)
            await asyncio.sleep(0.001)
        assert set(begun.values()) == {2}, "each lane has as many as there are slots, and no more"
        end.set()
        await asyncio.gather(*tasks)
        assert slots.free == 2
        assert slots.is_silent(LANES[0])

    run(main())


def test_however_many_lanes_hang_the_calls_are_bounded() -> None:
    async def main() -> None:
        slots, begun = Slots(2, long_seconds=0.001), 0

        async def one(lane: Lane) -> None:
            nonlocal begun
            async with slots.call(lane):
                begun += 1
                await asyncio.Event().wait()

        lanes = [Lane(TenantId(n), Family.PLATFORM) for n in range(30)]
        tasks = [asyncio.create_task(one(lane)) for lane in lanes]
        async with asyncio.timeout(5):
            while begun < most_under_way(2):  # noqa: ASYNC110 (each in its time)
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        assert begun == most_under_way(2)
        assert slots.free == 0
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert slots.free == 2

    run(main())


def test_a_free_slot_goes_to_the_lane_with_the_fewest_calls() -> None:
    async def main() -> None:
        slots, order, ends = Slots(3), list[int](), [asyncio.Event() for _ in range(8)]

        async def one(lane: Lane, number: int) -> None:
            async with slots.call(lane):
                order.append(number)
                await ends[number].wait()

        tasks = [asyncio.create_task(one(LANES[0], n)) for n in range(6)]
        await settle()
        tasks += [asyncio.create_task(one(LANES[1], n)) for n in (6, 7)]
        await settle()
        assert order == [0, 1, 2]
        ends[0].set()
        await settle()
        assert order == [0, 1, 2, 6], "before those that waited longer"
        ends[6].set()
        await settle()
        assert order[4:] == [7]
        for end in ends:
            end.set()
        await asyncio.gather(*tasks)
        assert [n for n in order if n < 6] == [0, 1, 2, 3, 4, 5]

    run(main())


def test_who_is_cancelled_in_the_moment_of_his_turn_leaves_his_slot_to_the_next() -> None:
    async def main(turns: int) -> bool:
        slots, end, begun = Slots(1), asyncio.Event(), list[str]()

        async def one(name: str, until: asyncio.Event) -> None:
            async with slots.call(LANES[0]):
                begun.append(name)
                await until.wait()

        first = asyncio.create_task(one("first", end))
        await settle()
        second = asyncio.create_task(one("second", asyncio.Event()))
        third = asyncio.create_task(one("third", end))
        await settle()
        end.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait_for(asyncio.gather(first, second, third, return_exceptions=True), 5)
        assert slots.free == 1
        return "second" in begun

    assert {run(main(turns)) for turns in range(6)} == {False, True}, "before its turn, after it, and between the two"
