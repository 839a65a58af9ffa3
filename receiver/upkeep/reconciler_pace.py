"""How fast a tenant's platform is asked, and when it is left alone. Memory of one process: it only ever delays."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from receiver.messages.lattice import Channel
from receiver.platform.status import Result
from receiver.waits import Waits

CALLS_OF_ONE = 2  # of a tenant at once; one while it is in trouble
THROTTLED_SECONDS, MOST_THROTTLED_SECONDS = 30.0, 1800.0  # doubling, where the platform names no time
REFUSED_SECONDS = 300.0
FAULT_SECONDS, MOST_FAULT_SECONDS = 1.0, 60.0  # doubling: one that hangs holds a call for a quarter of a minute
GROWTH = 3
MOST_GAPS = 16  # after them the usual 5 seconds have become ten years
LAST = 0.95  # of a channel's patience: the last question comes a little before nobody waits any more

_TROUBLES = frozenset({Result.THROTTLED, Result.REFUSED, Result.FAULT})


@dataclass
class Pace:
    """A tenant's budget as a bucket of calls (a second's worth, one at least), and its pauses. Times in seconds."""

    per_minute: int
    monotonic: Callable[[], float]
    under_way: int = 0
    trouble: Result | None = None
    _tokens: float = field(init=False)
    _filled_at: float = field(init=False)
    _paused_until: float = field(default=float("-inf"), init=False)
    _in_a_row: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._tokens, self._filled_at = self._most, self.monotonic()

    @property
    def _most(self) -> float:
        return max(self.per_minute / 60, 1.0)

    @property
    def is_paused(self) -> bool:
        """Whether the platform is left alone now."""
        return self.monotonic() < self._paused_until

    @property
    def room(self) -> int:
        """How many calls may begin now."""
        if self.is_paused:
            return 0
        now = self.monotonic()
        self._tokens = min(self._tokens + (now - self._filled_at) * self.per_minute / 60, self._most)
        self._filled_at = now
        at_once = 1 if self.trouble else CALLS_OF_ONE
        # what adds up to a whole call may be a hair below one
        return max(min(int(self._tokens + 1e-9), at_once - self.under_way), 0)

    def begin(self) -> None:
        """A call goes out."""
        self._tokens -= 1
        self.under_way += 1

    def end(self, result: Result, retry_after: float | None = None) -> None:
        """What came of it. What ends in a pause began before it: it may make that longer, but not shorter."""
        self.under_way -= 1
        if result not in _TROUBLES:
            if not self.is_paused:
                self.trouble, self._in_a_row = None, 0
            return
        again, now = self.trouble is result, self.monotonic()
        if not self.is_paused:
            in_a_row = self._in_a_row + 1 if again else 1
            until = now + self._pause(result, retry_after, in_a_row)
        else:
            in_a_row = self._in_a_row if again else 1
            until = now + ((retry_after or 0.0) if again else self._pause(result, retry_after, 1))
        if until > self._paused_until:
            self.trouble, self._in_a_row, self._paused_until = result, in_a_row, until

    def _pause(self, result: Result, retry_after: float | None, in_a_row: int) -> float:
        doubled = 2.0 ** min(in_a_row - 1, 16)
        if result is Result.REFUSED:
            return REFUSED_SECONDS
        if result is Result.THROTTLED:
            return retry_after or min(THROTTLED_SECONDS * doubled, MOST_THROTTLED_SECONDS)
        return max(retry_after or 0.0, min(FAULT_SECONDS * doubled, MOST_FAULT_SECONDS))


def gap(usual: timedelta, patience: timedelta, polls: int) -> timedelta | None:
    """How long after `polls` calls a message is asked about again; None: no more.

    The first call is at the usual time; each pause is three times the one before. Where the next call would come after
    the channel's patience, one comes a little before its end, and it is the last.
    """
    times = int(GROWTH ** min(polls, MOST_GAPS))
    age, pause, last = usual * (times - 1) / (GROWTH - 1), usual * times, patience * LAST
    if age + pause <= last:
        return pause
    return last - age if age < last else None


def gaps(waits: Mapping[Channel, Waits]) -> Callable[[Channel, int], timedelta | None]:
    """`gap` by channel."""
    return lambda channel, polls: gap(waits[channel].usual, waits[channel].patience, polls)
