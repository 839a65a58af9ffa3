"""How fast the platform is asked: a budget for each tenant, pauses when it has had enough, nobody waits for another."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver import metrics
from receiver.platform.status import Result
from receiver.upkeep.reconciler_pace import MOST_FAULT_SECONDS, MOST_THROTTLED_SECONDS, Pace, gap
from receiver.waits import DEFAULTS
from tests.support import Database, cloned, eventually
from tests.upkeep.asking import Asked, Clock, Scene, asked_platform, emptied, entry, found, play, refused


@pytest.fixture(scope="module")
def clone(postgres: str, template: str) -> Iterator[Database]:
    with cloned(postgres, template, "reconciler_pace") as made:
        yield made


@pytest.fixture
def database(clone: Database) -> Database:
    """One for all tests of this file, empty for each."""
    return emptied(clone)


@pytest.fixture
def platform() -> Iterator[Asked]:
    with asked_platform() as made:
        yield made


def paused(clock: Clock, pace: Pace) -> float:
    """Seconds until the next call may begin."""
    began = clock.seconds
    while pace.room == 0 and clock.seconds - began < 10_000:
        clock.move(0.5)
    return clock.seconds - began


def pace_of(per_minute: int = 6_000) -> tuple[Clock, Pace]:
    clock = Clock()
    return clock, Pace(per_minute, lambda: clock.seconds)


def tried(pace: Pace, result: Result, retry_after: float | None = None) -> None:
    pace.begin()
    pace.end(result, retry_after)


def test_a_throttled_tenant_pauses_twice_as_long_each_time_until_it_is_answered() -> None:
    clock, pace = pace_of()
    pauses = []
    for _ in range(8):
        tried(pace, Result.THROTTLED)
        pauses.append(paused(clock, pace))
    assert pauses == [30, 60, 120, 240, 480, 960, 1800, MOST_THROTTLED_SECONDS]
    tried(pace, Result.ANSWERED)
    assert pace.room > 0
    tried(pace, Result.THROTTLED)
    assert paused(clock, pace) == 30


def test_a_retry_after_is_kept_to() -> None:
    clock, pace = pace_of()
    tried(pace, Result.THROTTLED, 7.0)
    assert paused(clock, pace) == 7
    tried(pace, Result.FAULT, 90.0)
    assert paused(clock, pace) == 90


def test_of_two_calls_that_meet_one_trouble_only_the_first_makes_the_pause_longer() -> None:
    clock, pace = pace_of()
    pace.begin()
    pace.begin()
    pace.end(Result.THROTTLED)
    pace.end(Result.THROTTLED)
    assert paused(clock, pace) == 30


def test_what_ends_in_a_pause_began_before_it_and_does_not_shorten_it() -> None:
    for second in (Result.ANSWERED, Result.UNKNOWN, Result.FAULT, Result.REFUSED):
        clock, pace = pace_of()
        pace.begin()
        pace.begin()
        pace.end(Result.THROTTLED, 400.0)
        pace.end(second)
        assert paused(clock, pace) == 400, second
        assert pace.trouble is Result.THROTTLED
        tried(pace, Result.ANSWERED)
        assert pace.trouble is None


@pytest.mark.parametrize(("first", "wait"), [(Result.FAULT, None), (Result.THROTTLED, 7.0)], ids=["fault", "throttled"])
def test_what_ends_in_a_pause_may_ask_for_a_longer_one(first: Result, wait: float | None) -> None:
    clock, pace = pace_of()
    pace.begin()
    pace.begin()
    pace.end(first, wait)
    pace.end(Result.THROTTLED, 90.0)
    assert (paused(clock, pace), pace.trouble) == (90, Result.THROTTLED)


def test_refused_credentials_pause_for_five_minutes_and_faults_for_a_minute_at_most() -> None:
    clock, pace = pace_of()
    tried(pace, Result.REFUSED)
    assert paused(clock, pace) == 300
    pauses = []
    for _ in range(8):
        tried(pace, Result.FAULT)
        pauses.append(paused(clock, pace))
    assert pauses == [1, 2, 4, 8, 16, 32, 60, MOST_FAULT_SECONDS]


def test_after_a_trouble_one_call_goes_out_alone() -> None:
    clock, pace = pace_of()
    assert pace.room == 2
    tried(pace, Result.FAULT)
    clock.move(1)
    assert pace.room == 1
    pace.begin()
    assert pace.room == 0


@given(st.integers(1, 6_000), st.lists(st.floats(0.01, 30), min_size=1, max_size=60))
def test_no_stretch_of_time_sees_more_calls_than_the_budget_and_a_second_s_worth(
    per_minute: int, moves: list[float]
) -> None:
    clock, pace = pace_of(per_minute)
    begun = 0
    for seconds in moves:
        while pace.room:
            pace.begin()
            pace.end(Result.ANSWERED)
            begun += 1
        clock.move(seconds)
        assert begun <= max(per_minute / 60, 1) + clock.seconds * per_minute / 60 + 1e-6


@pytest.mark.parametrize("channel", sorted(DEFAULTS))
def test_each_gap_is_three_times_the_one_before_and_the_last_question_comes_before_the_patience_ends(
    channel: str,
) -> None:
    waits = DEFAULTS[channel]
    age, gaps = waits.usual, [waits.usual]
    while (pause := gap(waits.usual, waits.patience, len(gaps))) is not None:
        assert pause > timedelta()
        age += pause
        gaps.append(pause)
        assert len(gaps) < 12
    assert all(later == 3 * earlier for earlier, later in pairwise(gaps[:-1]))
    assert gaps[-1] <= 3 * gaps[-2]
    assert age == pytest.approx(waits.patience * 0.95, rel=0.001)
    assert gap(waits.usual, waits.patience, 10_000) is None


def test_the_budget_is_kept(database: Database, platform: Asked) -> None:
    platform.reply = lambda transid: found(entry("", "sent", transid))

    async def work(scene: Scene) -> None:
        messages = await scene.queued([f"t-{n}" for n in range(30)], *(f"4477009{n:05}" for n in range(30)))
        await scene.awaits(*messages)
        reconciler = scene.reconciler()
        for second in range(10):
            await scene.rounds(reconciler, 4, seconds=0.25)
            assert second + 1 <= len(platform.questions) <= second + 2
        assert len(set(platform.questions)) == len(platform.questions)

    play(database, work, platform, polls_per_minute=60)


def test_a_budget_of_none_asks_nothing(database: Database, platform: Asked) -> None:
    async def work(scene: Scene) -> None:
        await scene.awaits(*await scene.queued("t-1", "447700900001"))
        await scene.rounds(scene.reconciler(), 3, seconds=60)
        assert platform.questions == []

    play(database, work, platform, polls_per_minute=0)


@pytest.mark.parametrize(
    ("trouble", "http", "seconds"),
    [("7020", None, 30), ("throttled", (429, b"slow down"), 7), ("7001", None, 300), ("unauthorised", (401, b""), 300)],
)
def test_a_platform_that_has_had_enough_is_left_alone_and_the_question_is_not_counted(
    database: Database, platform: Asked, trouble: str, http: Any, seconds: int
) -> None:
    platform.headers = {"retry-after": "7"} if trouble == "throttled" else {}
    platform.reply = lambda _transid: http or refused(trouble)

    async def work(scene: Scene) -> None:
        messages = await scene.queued(["t-1", "t-2", "t-3"], *(f"4477009{n:05}" for n in range(3)))
        await scene.awaits(*messages)
        duty = [True]
        reconciler = scene.reconciler(lambda: duty[0])
        await scene.rounds(reconciler, seconds=0)
        assert len(platform.questions) <= 2  # those that were under way
        met = len(platform.questions)
        rows = [await scene.row(message) for message in messages]
        assert [(row["polls"], row["poll_at"] <= scene.clock.at) for row in rows] == [(0, True)] * 3
        assert bool(reconciler.warnings()) is (seconds == 300)
        duty[0] = False
        assert reconciler.warnings() == [], "another process asks now, and knows"
        duty[0] = True
        await scene.rounds(reconciler, seconds - 1, seconds=1)
        assert len(platform.questions) == met
        platform.reply = lambda transid: found(entry("", "delivered", transid))
        scene.clock.move(1)
        await scene.rounds(reconciler, 4)
        assert sorted(platform.questions[met:]) == ["t-1", "t-2", "t-3"]
        assert reconciler.warnings() == []

    play(database, work, platform)


@pytest.mark.parametrize("reply", [(500, b""), (200, b"<html>"), (502, b"bad gateway")], ids=["500", "a page", "502"])
def test_a_fault_counts_as_a_try_and_the_gap_grows(database: Database, platform: Asked, reply: Any) -> None:
    platform.reply = lambda _transid: reply

    async def work(scene: Scene) -> None:
        [message] = await scene.queued("t-1", "447700900001")
        await scene.awaits(message)
        reconciler = scene.reconciler()
        await scene.rounds(reconciler, seconds=0)
        row = await scene.row(message)
        assert (row["polls"], row["poll_at"] - scene.clock.at) == (1, timedelta(minutes=45))
        scene.clock.move(45 * 60)
        await scene.rounds(reconciler, seconds=0)
        row = await scene.row(message)
        assert (row["polls"], row["poll_at"] - scene.clock.at) == (2, timedelta(minutes=135))

    play(database, work, platform)


def test_a_platform_that_hangs_does_not_delay_another_tenant_s(database: Database, platform: Asked) -> None:
    platform.reply = lambda _transid: None

    async def work(scene: Scene) -> None:
        numbers = [f"4477009{n:05}" for n in range(20)]
        there = scene.tenants.id_of("tenant-1")
        stuck = await scene.queued([f"stuck-{n}" for n in range(20)], *numbers)
        fine = await scene.queued([f"fine-{n}" for n in range(20)], *numbers, tenant=there)
        await scene.awaits(*stuck, *fine)
        reconciler = scene.reconciler()
        running = asyncio.create_task(reconciler.run())
        await asyncio.to_thread(eventually, lambda: len(other.questions) == 20, seconds=14)
        assert len(platform.questions) == 2
        await reconciler.close()
        await running
        assert await scene.connection.fetchval("select count(*) from message_state where state = 60") >= 18

    with asked_platform() as other:
        other.reply = lambda transid: found(entry("", "delivered", transid))
        play(database, work, platform, other, timeout=15)


def sample(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels) or 0.0


def test_calls_are_counted_by_what_came_of_them(database: Database, platform: Asked) -> None:
    def counted() -> dict[str, float]:
        return {
            result.value: sample("receiver_polls_total", result=result.value, tenant="default") for result in Result
        }

    before = counted()
    replies: dict[str, Callable[[], Any]] = {
        "answered": lambda: found(entry("4915112345678", "delivered", "of another")),
        "unknown": lambda: (404, b""),
        "fault": lambda: (500, b""),
    }
    platform.reply = lambda transid: replies[transid]()
    dropped = sample("receiver_poll_entries_dropped_total", tenant="default")

    async def work(scene: Scene) -> None:
        await scene.awaits(*await scene.queued(list(replies), *(f"4477009{n:05}" for n in range(3))))
        await scene.rounds(scene.reconciler(), 5)

    play(database, work, platform)
    assert {kind: counted()[kind] - before[kind] for kind in before if counted()[kind] != before[kind]} == {
        "answered": 1, "unknown": 1, "fault": 1}  # fmt: skip
    assert sample("receiver_poll_entries_dropped_total", tenant="default") == dropped + 1


def test_a_reconciler_that_is_closed_leaves_its_calls_and_ends_at_once(database: Database, platform: Asked) -> None:
    platform.reply = lambda _transid: None

    async def work(scene: Scene) -> None:
        [message] = await scene.queued("t-1", "447700900001")
        await scene.awaits(message)
        reconciler = scene.reconciler()
        running = asyncio.create_task(reconciler.run())
        await asyncio.to_thread(eventually, lambda: platform.questions)
        async with asyncio.timeout(3):
            await reconciler.close()
            await running
        row = await scene.row(message)
        assert (row["polls"], row["poll_at"] > scene.clock.at) == (1, True)

    play(database, work, platform)
