"""Refusals at the receipts door: counted, and now and then a line in the log. Nothing of them is ever written."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from receiver import metrics
from receiver.access.signatures import Refusal

log = logging.getLogger("receiver.notify")

LOG_SECONDS = 60.0  # between two lines of one reason and tenant, however many are refused


@dataclass
class _Sample:
    told_at: float
    since: int = 0


class Refusals:
    """Counts what was refused. Holds one small entry for each reason and tenant, whoever knocks and how often."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: dict[tuple[Refusal, str], _Sample] = {}

    def count(self, refusal: Refusal, tenant: str) -> None:
        """One more. The log's line says how many there were since the last, and nothing of the request itself."""
        metrics.NOTIFY_REFUSALS.labels(refusal.value, tenant).inc()
        now = self._clock()
        sample = self._samples.setdefault((refusal, tenant), _Sample(told_at=now - LOG_SECONDS))
        sample.since += 1
        if now - sample.told_at >= LOG_SECONDS:
            log.warning("notify_refused", extra={"reason": refusal.value, "tenant": tenant, "refused": sample.since})
            sample.told_at, sample.since = now, 0
