"""How often a key may call: a bucket of calls for each key, in this process alone."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

MOST_BUCKETS = 10_000  # of 300 bytes each, 3 MB; the key that called longest ago begins anew with a full one


class Allowance(NamedTuple):
    """What a key may do by now. `limit` calls at most; `reset`: whole seconds until all of them are there again.

    `wait`: whole seconds after which it may call again; 0: this call is let in.
    """

    limit: int
    remaining: int
    reset: int
    wait: int

    def headers(self) -> list[tuple[bytes, bytes]]:
        """As three headers: the form of the IETF draft up to -06, which clients know."""
        return [
            (b"ratelimit-limit", b"%d" % self.limit),
            (b"ratelimit-remaining", b"%d" % self.remaining),
            (b"ratelimit-reset", b"%d" % self.reset),
        ]


class Rates:
    """A bucket for each key that called of late. It holds a minute's worth of calls and fills up evenly."""

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`rate`: calls a minute for a key without a number of its own; 0: no limit."""
        self._rate, self._clock = rate, clock
        self._buckets: OrderedDict[int, tuple[float, float]] = OrderedDict()  # calls left, and when it was counted

    def take(self, key_id: int, own: int | None = None) -> Allowance | None:
        """Takes one call out of the key's bucket; None where there is no limit. `own` is the key's own rate."""
        rate = self._rate if own is None else own
        if not rate:
            return None
        now = self._clock()
        left, at = self._buckets.get(key_id, (float(rate), now))
        left = min(left + (now - at) * rate / 60, rate)
        wait = 0
        if left >= 1:
            left -= 1
        else:
            wait = max(math.ceil((1 - left) * 60 / rate), 1)
        self._buckets[key_id] = left, now
        self._buckets.move_to_end(key_id)
        if len(self._buckets) > MOST_BUCKETS:
            self._buckets.popitem(last=False)
        return Allowance(rate, int(left), math.ceil((rate - left) * 60 / rate), wait)
