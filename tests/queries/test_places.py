"""Places for costly reads: few at once, first come first served, and resting while receipts come."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from receiver.queries.places import WAITING, Places
from receiver.web import Problem
from tests.support import run


async def hold(places: Places, until: asyncio.Event, order: list[int], number: int, *, patient: bool = False) -> None:
    async with places.one(patient=patient):
        order.append(number)
        await until.wait()


async def turns(rounds: int = 3) -> None:
    for _ in range(rounds):
        await asyncio.sleep(0)


def in_loop(work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(10):
            await work()

    run(main())


def test_no_more_than_the_places_that_there_are_and_in_the_order_of_coming() -> None:
    async def work() -> None:
        places, order, ends = Places(lambda: False, 2), list[int](), [asyncio.Event() for _ in range(5)]
        tasks = [asyncio.create_task(hold(places, end, order, number)) for number, end in enumerate(ends)]
        await turns()
        assert order == [0, 1]
        for number, end in enumerate(ends):
            end.set()
            await turns()
            assert order == list(range(min(number + 3, 5)))
        await asyncio.gather(*tasks)

    in_loop(work)


def test_who_waits_too_long_is_refused_and_leaves_no_trace() -> None:
    async def work() -> None:
        places, order, end = Places(lambda: False, 1, patience=0.01), list[int](), asyncio.Event()
        first = asyncio.create_task(hold(places, end, order, 0))
        patient = asyncio.create_task(hold(places, end, order, 1, patient=True))
        await turns()
        with pytest.raises(Problem) as refused:
            await hold(places, end, order, 2)
        assert (refused.value.status, refused.value.code) == (503, "reads_under_way")
        end.set()
        await asyncio.gather(first, patient)
        assert order == [0, 1]
        await hold(places, end, order, 3)

    in_loop(work)


def test_a_crowd_is_refused_at_once() -> None:
    async def work() -> None:
        places, order, end = Places(lambda: False, 1, patience=60), list[int](), asyncio.Event()
        tasks = [asyncio.create_task(hold(places, end, order, number)) for number in range(1 + WAITING)]
        await turns()
        with pytest.raises(Problem):
            await hold(places, end, order, -1)
        end.set()
        await asyncio.gather(*tasks)
        assert sorted(order) == list(range(1 + WAITING))

    in_loop(work)


def test_who_goes_while_he_waits_takes_no_place_along() -> None:
    async def work() -> None:
        places, order, end = Places(lambda: False, 1), list[int](), asyncio.Event()
        first = asyncio.create_task(hold(places, end, order, 0))
        await turns()
        gone = asyncio.create_task(hold(places, end, order, 1))
        await turns()
        end.set()
        gone.cancel()
        await asyncio.gather(first, gone, return_exceptions=True)
        await hold(places, end, order, 2)
        assert order == [0, 2]

    in_loop(work)


@pytest.mark.parametrize("live", [True, False], ids=["receipts come", "nobody tells"])
def test_a_place_rests_as_long_as_receipts_come(live: bool) -> None:
    async def work() -> None:
        places = Places(lambda: live, 1, rests=10.0)
        used = time.monotonic()
        async with places.one():
            await asyncio.sleep(0.02)
        used = time.monotonic() - used
        began = time.monotonic()
        async with places.one():
            rested = time.monotonic() - began
        assert rested > 5 * used if live else rested < used

    in_loop(work)
