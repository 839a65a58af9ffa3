"""What clients read of deliveries: figures by group, rates with their numerators and denominators, percentiles."""

import asyncio
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from receiver.messages.cells import summed
from receiver.messages.lattice import Channel
from receiver.platform.codes import Class
from receiver.queries.statistics import Found
from receiver.queries.statistics_asked import ORIGINS, SIDES, Asked

A_TURN = 100  # groups: 3 ms, then others have the loop
WIDEST = 105 / 95  # of a class of lag_v1, of which it gives a time that is wrong by a twentieth at most
LATENCY_ERROR = 0.05
PERCENTILES = (50, 90, 95, 99)
KINDS = {1: "accepted", 2: "submitted", 3: "delivered", 4: "told"}
CLASS_WORDS = tuple(one.word for one in Class)
CHANNEL_WORDS = {int(channel): channel.word for channel in Channel}
ORIGIN_WORDS = {number: word for word, number in ORIGINS.items()}


class Rate(msgspec.Struct, gc=False):
    """A part of a whole, and both of them; null where the whole is nothing."""

    value: float | None
    numerator: int
    denominator: int


class Percentiles(msgspec.Struct, gc=False):
    """Seconds that a part of the messages did not exceed, and of how many that is known."""

    messages: int
    p50: float
    p90: float
    p95: float
    p99: float


class Maturity(msgspec.Struct, gc=False):
    """How much of the group can still change. `mature`: nearly all that is to come has been heard of."""

    mature: bool
    settled: Rate


class Group(msgspec.Struct, kw_only=True, gc=False):
    """The figures of one group. `messages` = queued + not_sent + uncertain + pending + at_ceiling + no_receipt +
    delivered + failed + other.
    """

    at: datetime | UnsetType = UNSET
    channel: str | UnsetType = UNSET
    tenant: str | UnsetType = UNSET
    country: str | UnsetType | None = UNSET
    origin: str | UnsetType = UNSET
    sender: str | UnsetType = UNSET
    template: str | UnsetType = UNSET
    carrier: str | UnsetType = UNSET
    code_class: str | UnsetType | None = UNSET
    messages: int
    queued: int
    not_sent: int
    uncertain: int
    accepted: int
    pending: int
    at_ceiling: int
    no_receipt: int
    delivered: int
    read: int
    failed: int
    refused: int
    failed_by_class: dict[str, int]
    conflict: int
    other: int
    confirmed_rate: Rate
    delivered_of_accepted: Rate
    read_of_delivered: Rate
    coverage: Rate
    maturity: Maturity
    latency: dict[str, Percentiles] | UnsetType = UNSET


class Deliveries(msgspec.Struct, rename={"begin": "from", "end": "to"}):
    """What became of the messages born from `from` to `to`, as far as it was counted at `as_of`."""

    as_of: datetime
    begin: datetime
    end: datetime
    kept_from: datetime | None
    by: list[str]
    latency_error: float
    groups: list[Group]


async def deliveries_of(found: Found, asked: Asked, tenant: str) -> Deliveries:
    """The answer. A long one lets others have the event loop now and then."""
    names = [name for name in asked.by if name != "tenant"]
    keyed = len(names)
    latencies: defaultdict[tuple[object, ...], dict[str, Percentiles]] = defaultdict(dict)
    for number, row in enumerate(map(tuple, found.lags)):
        if number % A_TURN == A_TURN - 1:
            await asyncio.sleep(0)
        known = percentiles(row[keyed + 1])
        if known:
            latencies[row[:keyed]][KINDS[row[keyed]]] = known
    fields = [_spelled(name) for name in names]
    ours = {"tenant": tenant} if "tenant" in asked.by else {}
    groups: list[Group] = []
    for number, row in enumerate(map(tuple, found.groups)):
        if number % A_TURN == A_TURN - 1:
            await asyncio.sleep(0)
        latency = latencies.get(row[:keyed], {}) if asked.latency else UNSET
        keys = {field: spell(value) for (field, spell), value in zip(fields, row, strict=False)}
        groups.append(_group(ours | keys, row[keyed:], latency))
    kept_from = found.kept_from
    return Deliveries(found.as_of, asked.begin, asked.end, kept_from, list(asked.by), LATENCY_ERROR, groups)


def seconds_of(lag_class: int) -> float:
    """A time in the middle of a class of lag_v1: wrong by 5 % at most, and by a millisecond below one."""
    return float(f"{0.95 * WIDEST ** (lag_class - 1) / 1000:.6g}") if lag_class > 1 else 0.001


SECONDS = tuple(seconds_of(lag_class) for lag_class in range(256))


def rate(numerator: int, denominator: int) -> Rate:
    """A part of a whole; no value where there is no whole."""
    return Rate(round(numerator / denominator, 6) if denominator else None, numerator, denominator)


@lru_cache(8_192)  # 4 MB: what is past hardly changes, and is asked for again
def percentiles(counts: bytes) -> Percentiles | None:
    """Of a number of `cohort_lag` as Postgres sends it; None where nothing is counted."""
    first, up_to = summed(counts)
    messages = up_to[-1]
    if messages <= 0:
        return None
    p50, p90, p95, p99 = (SECONDS[first + bisect_left(up_to, -(-messages * p // 100))] for p in PERCENTILES)
    return Percentiles(messages, p50, p90, p95, p99)


def _group(keys: dict[str, Any], figures: tuple[int, ...], latency: dict[str, Percentiles] | UnsetType) -> Group:
    (
        queued, not_sent, uncertain, at_ceiling, no_receipt, delivered, read, refused, *classes,
        messages, pending, failed, conflict, settled, young,
        accepted_there, delivered_there, failed_there, delivered_readable, read_readable,
    ) = figures  # fmt: skip
    negative = failed - refused
    accepted = pending + at_ceiling + no_receipt + delivered + negative
    parts = queued + not_sent + uncertain + pending + at_ceiling + no_receipt + delivered + failed
    return Group(
        **keys,
        messages=messages,
        queued=queued,
        not_sent=not_sent,
        uncertain=uncertain,
        accepted=accepted,
        pending=pending,
        at_ceiling=at_ceiling,
        no_receipt=no_receipt,
        delivered=delivered,
        read=read,
        failed=failed,
        refused=refused,
        failed_by_class={word: n for word, n in zip(CLASS_WORDS, classes, strict=True) if n},
        conflict=conflict,
        other=messages - parts,
        confirmed_rate=rate(delivered_there, delivered_there + failed_there),
        delivered_of_accepted=rate(delivered_there, accepted_there),
        read_of_delivered=rate(read_readable, delivered_readable),
        coverage=rate(delivered + negative + at_ceiling, accepted),
        maturity=Maturity(not young, rate(settled, messages)),
        latency=latency,
    )


def _spelled(name: str) -> tuple[str, Callable[[Any], object]]:
    """The field of a grouping, and how clients spell what it has."""
    if name in ("hour", "day"):
        return "at", lambda value: value
    if name == "channel":
        return name, CHANNEL_WORDS.__getitem__
    if name == "origin":
        return name, ORIGIN_WORDS.__getitem__
    if name == "code_class":
        return name, lambda value: None if value is None else CLASS_WORDS[value]
    return name, lambda value: value if name in SIDES else value or None
