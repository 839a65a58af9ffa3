"""The registry of this process's figures, and what Prometheus reads of it."""

import asyncio
from collections.abc import Iterator
from itertools import islice

from prometheus_client import CollectorRegistry, Metric, disable_created_metrics, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.samples import Sample

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody asks for
REGISTRY = CollectorRegistry()
UNKNOWN = float("nan")  # of a gauge: this process does not know

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
AT_A_TIME = 250  # series: 3 ms


def scrape(registry: CollectorRegistry = REGISTRY) -> bytes:
    """All figures in Prometheus' text format."""
    return b"".join(text for text, _ in _texts(registry))


async def scrape_in_turns(registry: CollectorRegistry = REGISTRY) -> bytes:
    """The same, some series at a time: with thousands of them nobody waits for all."""
    texts: list[bytes] = []
    since = 0
    for text, series in _texts(registry):
        texts.append(text)
        since += series
        if since >= AT_A_TIME:
            since = 0
            await asyncio.sleep(0)
    return b"".join(texts)


class _Part:
    """Some series of one name, for who writes down a registry."""

    def __init__(self, family: Metric, samples: list[Sample]) -> None:
        self._part = Metric(family.name, family.documentation, family.type)
        self._part.samples = samples

    def collect(self) -> list[Metric]:
        return [self._part]


def _families(registry: CollectorRegistry) -> Iterator[tuple[Metric, Iterator[Sample]]]:
    """Each name with its series, made one by one: their own collect() makes the thousands of a name at once."""
    for metric in tuple(registry._collector_to_names):
        assert isinstance(metric, MetricWrapperBase)
        [family] = metric.describe()
        yield family, (sample._replace(name=family.name + sample.name) for sample in metric._samples())


def _texts(registry: CollectorRegistry) -> Iterator[tuple[bytes, int]]:
    """Piece by piece, and how many series are in each."""
    for family, samples in _families(registry):
        has_begun = False
        while (part := list(islice(samples, AT_A_TIME))) or not has_begun:
            text = generate_latest(_Part(family, part))
            if has_begun:  # the two lines of its name and type stand before its first series
                text = text.split(b"\n", 2)[2]
            has_begun = True
            yield text, len(part)
