"""A key may call so often a minute, and is told how often still."""

from receiver.access.rates import MOST_BUCKETS, Rates


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def let_in(rates: Rates, key: int, calls: int, own: int | None = None) -> int:
    """How many of `calls` at one moment are let in."""
    taken = [rates.take(key, own) for _ in range(calls)]
    return sum(allowance is None or not allowance.wait for allowance in taken)


def test_a_minute_s_worth_may_go_at_once_and_comes_back_evenly() -> None:
    clock = Clock()
    rates = Rates(60, clock)
    assert let_in(rates, 1, 100) == 60
    clock.now += 10
    assert let_in(rates, 1, 100) == 10
    clock.now += 3600
    assert let_in(rates, 1, 100) == 60


def test_the_client_is_told_what_is_left_and_when_to_come_back() -> None:
    clock = Clock()
    rates = Rates(2, clock)
    assert rates.take(1) == (2, 1, 30, 0)
    assert rates.take(1) == (2, 0, 60, 0)
    assert rates.take(1) == (2, 0, 60, 30)
    clock.now += 29.5
    assert rates.take(1) == (2, 0, 31, 1)
    clock.now += 0.5
    refused_cost_nothing = rates.take(1)
    assert refused_cost_nothing == (2, 0, 60, 0)
    assert refused_cost_nothing.headers() == [
        (b"ratelimit-limit", b"2"),
        (b"ratelimit-remaining", b"0"),
        (b"ratelimit-reset", b"60"),
    ]


def test_each_key_has_a_bucket_of_its_own_and_its_own_rate_wins() -> None:
    rates = Rates(3, Clock())
    assert let_in(rates, 1, 10) == 3
    assert let_in(rates, 2, 10) == 3
    assert let_in(rates, 3, 10, own=5) == 5


def test_with_zero_there_is_no_limit_but_for_a_key_with_its_own() -> None:
    rates = Rates(0, Clock())
    assert rates.take(1) is None
    assert let_in(rates, 2, 10, own=4) == 4


def test_the_buckets_are_bounded_and_who_calls_keeps_his() -> None:
    rates = Rates(1, Clock())
    assert let_in(rates, 0, 2) == 1
    for key in range(1, MOST_BUCKETS + 100):
        rates.take(key)
        if key % 1_000 == 0:
            assert let_in(rates, 0, 1) == 0
    assert len(rates._buckets) == MOST_BUCKETS
