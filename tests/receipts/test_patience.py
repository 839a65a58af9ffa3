"""Who waits too long for a body is cancelled, and nobody else."""

import asyncio

import pytest

from receiver.receipts.patience import Patience


async def wait(patience: Patience, event: asyncio.Event) -> str:
    task = patience.begin()
    try:
        await event.wait()
    except asyncio.CancelledError:
        return "cancelled"
    finally:
        patience.end(task)
    return "came"


def test_a_task_that_waits_too_long_is_cancelled() -> None:
    async def work() -> str:
        return await asyncio.wait_for(wait(Patience(0.05), asyncio.Event()), 10)

    assert asyncio.run(work()) == "cancelled"


def test_a_task_that_comes_to_its_end_is_left_alone_afterwards() -> None:
    async def work() -> tuple[str, str]:
        patience, came = Patience(0.05), asyncio.Event()
        came.set()
        first = await wait(patience, came)
        last = await wait(patience, asyncio.Event())  # by now the first would have been cancelled as well
        return first, last

    assert asyncio.run(work()) == ("came", "cancelled")


@pytest.mark.parametrize("number", [2, 20])
def test_of_many_only_those_are_cancelled_that_began_long_ago(number: int) -> None:
    async def work() -> list[str]:
        patience, came = Patience(0.2), asyncio.Event()
        early = [asyncio.create_task(wait(patience, asyncio.Event())) for _ in range(number)]
        await early[0]
        late = [asyncio.create_task(wait(patience, came)) for _ in range(number)]
        await asyncio.sleep(0)
        came.set()
        return [*await asyncio.gather(*early), *await asyncio.gather(*late)]

    assert asyncio.run(work()) == ["cancelled"] * number + ["came"] * number


def test_it_takes_heart_again_after_a_time_without_anybody() -> None:
    async def work() -> list[str]:
        patience = Patience(0.05)
        return [await wait(patience, asyncio.Event()) for _ in range(3)]

    assert asyncio.run(work()) == ["cancelled"] * 3
