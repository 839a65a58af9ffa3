"""What a process has claimed and not called for yet: how much of it, of which lanes, and what goes next."""

import math
from collections import Counter, deque
from collections.abc import Sequence

from receiver.sending.caller import Work
from receiver.sending.lanes import Lane
from receiver.sending.slots import Slots

AHEAD_SECONDS = 0.25  # claimed ahead is what will be called within that time, as calls last now
STARTING_POINT = 0.5  # seconds that a call lasts, before the first has been measured


class Stock:
    """Submissions that are ours, in the order in which they are to go, until their calls begin.

    What waits of a lane whose calls hang does not count: the others are claimed and sent as if it were not there.
    """

    def __init__(self, slots: Slots, concurrency: int) -> None:
        self._slots, self._concurrency = slots, concurrency
        self._claimed: deque[Work] = deque()
        self._marked: Counter[Lane] = Counter()  # those that wait for a slot
        self._call_seconds, self._mark_seconds = STARTING_POINT, 0.0

    def add(self, works: Sequence[Work]) -> None:
        """What was claimed goes behind the others."""
        self._claimed += works

    def put_back(self, works: Sequence[Work]) -> None:
        """What could not be marked goes before the others."""
        self._claimed.extendleft(reversed(works))

    def take_all(self) -> list[Work]:
        """Everything that is not marked."""
        found = [*self._claimed]
        self._claimed.clear()
        return found

    def waits_for_a_slot(self, lane: Lane) -> None:
        """One more was marked."""
        self._marked[lane] += 1

    def waits_no_more(self, lane: Lane) -> None:
        """One that was marked has its slot, or never gets one."""
        self._marked[lane] -= 1

    def call_took(self, seconds: float) -> None:
        """So long a call had its slot."""
        self._call_seconds += (seconds - self._call_seconds) / 16

    def marking_took(self, seconds: float) -> None:
        """So long it took to mark a group."""
        self._mark_seconds += (seconds - self._mark_seconds) / 8

    def wanted(self) -> int:
        """How many to claim now: none before half of what was claimed ahead is gone.

        More are ahead while calls are short; while they are long others find what is left.
        """
        ahead = self._soon(AHEAD_SECONDS, most=2) + max(self._slots.free - self._going(self._marked), 0)
        held = self._going(self._held())
        return ahead - held if held <= ahead // 2 else 0

    def shares(self, lanes: Sequence[Lane], limit: int) -> list[tuple[int, int]]:
        """Of a claim of `limit`, for each lane: how many it may have at most, and how many it counts as having."""
        held = self._held()
        return [
            (
                max(self._kept(lane) - held[lane], 0) if self._is_slow(lane) else limit,
                held[lane] + self._slots.under_way(lane) + self._slots.weight(lane),
            )
            for lane in lanes
        ]

    def take_next(self) -> list[Work]:
        """What is to be marked now: as far ahead of a free slot as marking takes; of a lane that hangs only one."""
        ahead = max(self._soon(2 * self._mark_seconds), self._concurrency // 4)
        room = max(self._slots.free + ahead - self._going(self._marked), 0)
        marked, taken, left = self._marked.copy(), list[Work](), list[Work]()
        while self._claimed and len(taken) < room:
            work = self._claimed.popleft()
            lane = work.claim.lane
            if marked[lane] < self._slots.room(lane) + (1 if self._is_slow(lane) else ahead):
                marked[lane] += 1
                taken.append(work)
            else:
                left.append(work)
        self.put_back(left)
        return taken

    def take_surplus(self) -> list[Work]:
        """What was claimed of a lane before its platform fell silent, and would wait here for long."""
        if not any(self._slots.is_silent(lane) for lane in self._held()):
            return []
        kept, surplus, seen = deque[Work](), list[Work](), Counter[Lane]()
        for work in self._claimed:
            lane = work.claim.lane
            seen[lane] += 1
            is_surplus = self._slots.is_silent(lane) and seen[lane] > self._slots.most(lane)
            (surplus if is_surplus else kept).append(work)
        self._claimed = kept
        return surplus

    def _held(self) -> Counter[Lane]:
        return Counter(work.claim.lane for work in self._claimed)

    def _going(self, numbers: Counter[Lane]) -> int:
        """Their sum, without the lanes whose calls hang."""
        return sum(number for lane, number in numbers.items() if not self._is_slow(lane))

    def _is_slow(self, lane: Lane) -> bool:
        return self._slots.is_slow(lane) or self._slots.is_stuck(lane)

    def _kept(self, lane: Lane) -> int:
        """How many of a slow lane to have claimed."""
        return min(self._soon(AHEAD_SECONDS), self._slots.most(lane))

    def _soon(self, seconds: float, most: float = 1) -> int:
        """How many calls begin within that time, as long as calls last now: one to `most` for each slot."""
        rounds = seconds / max(self._call_seconds, 0.001)
        return max(math.ceil(self._concurrency * min(rounds, most)), 1)
