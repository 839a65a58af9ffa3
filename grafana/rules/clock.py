"""The times in the rules: as they are meant, or all of them divided by one number for a trial that can't wait."""

from dataclasses import dataclass

# The bounds of the histograms of times, as a scrape spells them.
BUCKETS = (
    *("0.05", "0.25", "0.5", "1.0", "2.0", "5.0", "10.0", "30.0", "60.0", "300.0", "900.0"),
    *("3600.0", "14400.0", "43200.0", "86400.0", "259200.0"),
)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_WORDS = {"s": "second", "m": "minute", "h": "hour", "d": "day"}


@dataclass(frozen=True)
class Clock:
    """Divides every time by `scale`; no range becomes shorter than `floor` seconds, or it would hold no two scrapes."""

    scale: float = 1.0
    floor: float = 0.0

    def range(self, time: str) -> str:
        """A stretch to look at (`30m`), as PromQL writes it."""
        return _spelled(self._range(time))

    def before(self, *times: str) -> str:
        """Several stretches one behind the other, as one: how far back the first of them begins."""
        return _spelled(sum(self._range(time) for time in times))

    def wait(self, time: str, least: float = 1.0) -> str:
        """How long something must last; `least` seconds for what takes its time whatever the scale."""
        return _spelled(max(_seconds(time) / self.scale, least))

    def seconds(self, time: str, least: float = 0.0) -> str:
        """A time as the number of seconds to compare a figure with; `least` as in `wait`."""
        return f"{max(_seconds(time) / self.scale, least):g}"

    def bucket(self, time: str) -> str:
        """The bound of a histogram of times that is nearest."""
        return min(BUCKETS, key=lambda bound: abs(float(bound) - _seconds(time) / self.scale))

    def words(self, time: str) -> str:
        """A stretch in words for a person: `30 minutes`."""
        return _words(self._range(time))

    def words_between(self, window: str, ago: str) -> str:
        """When a window of that length began that ended `ago`, and when it ended: `15 and 5 minutes`."""
        begin, end = self._range(window) + self._range(ago), self._range(ago)
        (number, unit), (_, other) = _parted(begin), _parted(end)
        return f"{number if unit == other else _words(begin)} and {_words(end)}"

    def bucket_words(self, time: str) -> str:
        """The bound of `bucket` in words."""
        return _words(float(self.bucket(time)))

    def _range(self, time: str) -> float:
        return max(_seconds(time) / self.scale, self.floor)


def _seconds(time: str) -> float:
    return float(time[:-1]) * _UNITS[time[-1]]


def _parted(seconds: float) -> tuple[int, str]:
    """A number and the largest unit in which it is whole; to the second."""
    whole = max(round(seconds), 1)
    unit = next(unit for unit in ("d", "h", "m", "s") if whole % _UNITS[unit] == 0)
    return whole // _UNITS[unit], unit


def _spelled(seconds: float) -> str:
    number, unit = _parted(seconds)
    return f"{number}{unit}"


def _words(seconds: float) -> str:
    number, unit = _parted(seconds)
    return f"{number} {_WORDS[unit]}{'' if number == 1 else 's'}"
