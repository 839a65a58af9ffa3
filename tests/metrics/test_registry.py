"""What is written down for Prometheus: the same text in turns as at once, and nobody waits for all of it."""

import asyncio

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client import Info as PrometheusInfo

from receiver.metrics.registry import AT_A_TIME, scrape, scrape_in_turns


def filled() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("empty", "of which there is no series", ("a",), registry=registry)
    Gauge("one", 'with "quotes", a \\ and a\nline', registry=registry).set(float("nan"))
    PrometheusInfo("built", "-", registry=registry).info({"version": "1"})
    for name, series in (("few", 3), ("just", AT_A_TIME), ("many", 4 * AT_A_TIME + 1)):
        counter = Counter(name, f"{name} of them", ("a", "b"), registry=registry)
        for n in range(series):
            counter.labels(f'v"{n}', "x\ny").inc(n)
    times = Histogram("times", "-", ("a",), registry=registry)
    for n in range(100):
        times.labels(f"{n}").observe(n)
    return registry


def test_in_turns_it_is_the_text_that_it_is_at_once() -> None:
    registry = filled()
    assert scrape(registry) == generate_latest(registry)
    assert asyncio.run(scrape_in_turns(registry)) == generate_latest(registry)


def test_others_have_a_turn_meanwhile() -> None:
    async def main() -> int:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        running = asyncio.create_task(other())
        await scrape_in_turns(filled())
        running.cancel()
        return turns

    assert asyncio.run(main()) > 8


def test_between_two_turns_series_may_come_and_go_and_none_is_made_before_its_turn() -> None:
    registry, asked = CollectorRegistry(), 0
    gauge = Gauge("many", "-", ("a",), registry=registry)

    def ask() -> float:
        nonlocal asked
        asked += 1
        return 1.0

    for n in range(4 * AT_A_TIME):
        gauge.labels(f"{n}").set_function(ask)

    async def main() -> tuple[int, bytes, bytes]:
        scrapes = [asyncio.create_task(scrape_in_turns(registry)) for _ in range(2)]
        await asyncio.sleep(0)  # each has had one turn
        in_one_turn = asked
        gauge.clear()
        gauge.labels("new").set(2)
        first, second = await asyncio.gather(*scrapes)
        return in_one_turn, first, second

    in_one_turn, first, second = asyncio.run(main())
    assert in_one_turn == 2 * AT_A_TIME
    assert first == second
    assert first.count(b"\nmany{") == 4 * AT_A_TIME
    assert b'many{a="new"} 2.0' in scrape(registry)
