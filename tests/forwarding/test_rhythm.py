"""After which answers a receipt goes on again, when, and when a host is left alone."""

from datetime import UTC, datetime, timedelta

import pytest

from receiver.forwarding.breakers import FIRST_OPEN, FORGOTTEN_AFTER, LONGEST_OPEN, MOST_FAILURES, Breakers
from receiver.forwarding.rhythm import PATIENCE, Result, next_try, result_of

BORN = datetime(2026, 3, 1, 12, tzinfo=UTC)
NEVER_AGAIN = {*range(300, 400), 400, 402, *range(404, 412), 414, 415, 416, 418, 505}
HOST = "https://client.example"


def test_every_answer_means_what_it_means_to_the_platform() -> None:
    for status in range(200, 600):
        expected = Result.TAKEN if status < 300 else Result.GIVEN_UP if status in NEVER_AGAIN else Result.RETRIED
        assert result_of(status) is expected, status


def test_the_rhythm_is_the_platform_s_and_then_a_longer_one_for_three_days() -> None:
    at, minutes, attempts = BORN, [], 0
    while True:
        attempts += 1
        due = next_try(attempts, at, BORN + PATIENCE)
        if due is None:
            break
        minutes.append(int((due - at).total_seconds() // 60))
        at = due
    assert minutes[:8] == [1, 1, 1, 5, 15, 30, 60, 60]
    assert set(minutes[7:]) == {60}
    assert BORN + PATIENCE - timedelta(hours=1) <= at < BORN + PATIENCE


def fail(breakers: Breakers, times: int, now: float) -> list[bool]:
    opened = []
    for _ in range(times):
        breakers.begin(HOST)
        opened.append(breakers.end(HOST, now, failed=True))
    return opened


def test_a_host_is_left_alone_after_five_failures_in_a_row() -> None:
    breakers = Breakers(8)
    fail(breakers, MOST_FAILURES - 1, 0)
    breakers.begin(HOST)
    breakers.end(HOST, 0, failed=False)
    assert fail(breakers, MOST_FAILURES, 0) == [False] * (MOST_FAILURES - 1) + [True]
    assert breakers.open_hosts() == [HOST]
    assert breakers.rooms(FIRST_OPEN - 0.1) == {HOST: 0}


def test_one_probe_decides_and_each_that_fails_doubles_the_time() -> None:
    breakers, now, waited = Breakers(8), 0.0, []
    fail(breakers, MOST_FAILURES, now)
    for _ in range(7):
        opened_at = now
        while breakers.rooms(now)[HOST] == 0:
            now += 1.0
        waited.append(now - opened_at)
        breakers.begin(HOST)
        assert breakers.rooms(now) == {HOST: 0}
        assert breakers.end(HOST, now, failed=True) is False  # it was open already
    assert waited == [30, 60, 120, 240, 480, 600, 600]
    assert waited[-1] == LONGEST_OPEN
    now += LONGEST_OPEN
    breakers.begin(HOST)
    breakers.end(HOST, now, failed=False)
    assert breakers.open_hosts() == []
    assert breakers.rooms(now) == {}


def test_a_call_that_proves_nothing_leaves_the_circuit_as_it_was() -> None:
    breakers = Breakers(8)
    fail(breakers, MOST_FAILURES, 0)
    breakers.begin(HOST)
    breakers.end(HOST, FIRST_OPEN, failed=None)
    assert breakers.open_hosts() == [HOST]
    assert breakers.rooms(FIRST_OPEN) == {HOST: 1}


def test_calls_that_were_under_way_when_it_opened_do_not_lengthen_it() -> None:
    breakers = Breakers(8)
    for _ in range(8):
        breakers.begin(HOST)
    assert breakers.rooms(0) == {HOST: 0}
    for _ in range(8):
        breakers.end(HOST, 0, failed=True)
    assert breakers.rooms(FIRST_OPEN) == {HOST: 1}


@pytest.mark.parametrize("failures", [1, MOST_FAILURES])
def test_a_host_of_which_nothing_is_heard_is_forgotten(failures: int) -> None:
    breakers = Breakers(8)
    fail(breakers, failures, 10_000)
    breakers.forget(10_000 + FORGOTTEN_AFTER)
    assert breakers.rooms(20_000) != {}
    breakers.forget(10_001 + FORGOTTEN_AFTER + FIRST_OPEN)
    assert breakers.rooms(20_000) == {}
