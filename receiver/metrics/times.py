"""A histogram that takes the times of a whole group at once: a look-up and a lock a bucket, not a time."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from prometheus_client import Histogram

# From a platform next door to the 72 hours in which a handset may come back. 5 minutes and a quarter of an hour are
# what objectives name, an hour and 4 what is late, half a day and a day what phones take that are off at night.
DELIVERY_BUCKETS = (0.05, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600, 72 * 3600)


class Times(Histogram):
    """Seconds that something took. A clock that runs ahead makes no time less than nothing."""

    def take(self, seconds: Sequence[float]) -> None:
        """Observes all of them."""
        times = sorted(seconds)
        self._sum.inc(sum(times[bisect_left(times, 0.0) :]))
        below = 0
        for bound, bucket in zip(self._upper_bounds, self._buckets, strict=True):
            if below < (upto := bisect_right(times, bound)):
                bucket.inc(upto - below)
                below = upto
