"""What statistics are asked for, read from query parameters: every wrong one is named at once."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from starlette.datastructures import QueryParams

from receiver.messages.lattice import Channel
from receiver.queries.parameters import Parameters
from receiver.web import FieldError

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
DEFAULT_RANGE, MOST_RANGE, MOST_HOURLY = timedelta(days=7), timedelta(days=400), timedelta(days=100)
MOST_GROUPS = 5_000  # some 7 MB of answer
LONGEST_VALUE = {"sender": 128, "template": 128, "carrier": 64}  # characters by which messages are counted

SIDES = {"sender": 1, "template": 2, "carrier": 3}
ALL, ALL_COUNTRIES = 0, 4  # the sides of `cohort` without a value
GROUPINGS = ("hour", "day", "channel", "tenant", "country", "origin", *SIDES, "code_class")
CHANNELS = {channel.word: int(channel) for channel in Channel}
ORIGINS = {"issued": 1, "observed": 2, "recorded": 3}
NO_COUNTRY = "none"
_COUNTRY = re.compile(r"[A-Za-z]{2}|001")

PARAMETERS = {
    "by": f"How to group, with commas: {', '.join(GROUPINGS)}. One of hour and day, one of the last four at most.",
    "from": "Messages born at or after this time (RFC 3339, with a zone), down to the full hour. Default: 7 days back.",
    "to": "Messages born before this time, up to the full hour. Default: now.",
    "channel": f"Only these channels: {', '.join(CHANNELS)}.",
    "country": "Only recipients of these countries: ISO 3166, such as GB; none for those without one.",
    "origin": "Only messages of these origins: issued, observed, recorded. Without it each origin is a group.",
    "sender": "Only messages of these senders.",
    "template": "Only messages of these templates.",
    "carrier": "Only messages of these carriers.",
    "latency": "false: without the percentiles, which takes less time.",
}


@dataclass(frozen=True)
class Asked:
    """Which messages, and how they are grouped. Several values of one filter mean any of them."""

    by: tuple[str, ...]
    begin: datetime
    end: datetime
    channels: list[int]
    countries: list[str]
    origins: list[int]
    values: list[str]
    side: int
    latency: bool

    @property
    def hourly(self) -> bool:
        """Whether each hour is a group, so that no days can be read."""
        return "hour" in self.by

    def spans(self) -> tuple[tuple[datetime, datetime], tuple[datetime, datetime], tuple[datetime, datetime]]:
        """The hours before the first whole day, the whole days, and the hours after them."""
        if self.hourly:
            return (self.begin, self.end), (self.end, self.end), (self.end, self.end)
        first, last = -_floor(-self.begin.timestamp(), DAY), _floor(self.end.timestamp(), DAY)
        if first >= last:
            return (self.begin, self.end), (self.end, self.end), (self.end, self.end)
        days = _at(first), _at(last)
        return (self.begin, days[0]), days, (days[1], self.end)


def read_asked(given: QueryParams, now: Callable[[], datetime]) -> Asked | list[FieldError]:
    """What is asked for, or every parameter that is wrong."""
    parameters = Parameters(given, PARAMETERS)
    if parameters.errors:
        return parameters.errors
    by = _groupings(parameters)
    filters = [name for name in SIDES if parameters.texts(name)]
    sides = dict.fromkeys([*filters, *(name for name in SIDES if name in by)])
    if filters and len(sides) > 1:
        parameters.wrong(filters[-1], "one of sender, template and carrier at most, as filter and in `by` together")
    countries = _countries(parameters)
    channels, origins = parameters.choose("channel", CHANNELS), parameters.choose("origin", ORIGINS)
    latency = parameters.choose_one("latency", {"true": True, "false": False})
    begin, end = _range(parameters, now(), hourly="hour" in by)
    if parameters.errors:
        return parameters.errors
    if not origins:
        by.add("origin")
    side = SIDES[next(iter(sides))] if sides else ALL if countries or "country" in by else ALL_COUNTRIES
    return Asked(
        by=tuple(name for name in GROUPINGS if name in by),
        begin=begin,
        end=end,
        channels=channels,
        countries=countries,
        origins=origins,
        values=[text[: LONGEST_VALUE[name]] for name in filters for text in parameters.texts(name)],
        side=side,
        latency=latency is not False and "code_class" not in by,
    )


def _groupings(parameters: Parameters) -> set[str]:
    by = {name.strip() for text in parameters.texts("by") for name in text.split(",")}
    if by - set(GROUPINGS):
        parameters.wrong("by", f"it takes, with commas, {', '.join(GROUPINGS)}")
    if {"hour", "day"} <= by:
        parameters.wrong("by", "by the hour or by the day, not both")
    if len(by & {*SIDES, "code_class"}) > 1:
        parameters.wrong("by", "one of sender, template, carrier, code_class at most")
    return by


def _countries(parameters: Parameters) -> list[str]:
    countries = []
    for text in parameters.texts("country"):
        if text != NO_COUNTRY and not _COUNTRY.fullmatch(text):
            parameters.wrong("country", f"it takes two letters such as GB, 001, or {NO_COUNTRY}")
        countries.append("" if text == NO_COUNTRY else text.upper())
    return countries


def _range(parameters: Parameters, now: datetime, *, hourly: bool) -> tuple[datetime, datetime]:
    begin, end = parameters.span("from", "to")
    end = _at(-_floor(-(end or now).timestamp(), HOUR))
    begin = _at(_floor(begin.timestamp(), HOUR)) if begin else end - DEFAULT_RANGE
    most = MOST_HOURLY if hourly else MOST_RANGE
    if begin >= end:
        parameters.wrong("from", "it is not before to, which is now by default")
    elif end - begin > most:
        parameters.wrong("from", f"{most.days} days at most{' by the hour' if hourly else ''}")
    return begin, end


def _floor(seconds: float, unit: timedelta) -> int:
    """The last full hour or day before a time, in seconds since 1970."""
    return math.floor(seconds / unit.total_seconds()) * int(unit.total_seconds())


def _at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
