"""What clients read of deliveries: figures by group, rates with their numerators and denominators, percentiles."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

import asyncpg
import msgspec
from msgspec import UNSET, UnsetType

from receiver.messages.lattice import Channel
from receiver.platform.codes import Class
from receiver.queries.statistics import PERCENTILES, Found
from receiver.queries.statistics_asked import ORIGINS, SIDES, Asked

A_TURN = 100  # groups: 3 ms, then others have the loop
WIDEST = 105 / 95  # of a class of lag_v1, of which it gives a time that is wrong by a twentieth at most
LATENCY_ERROR = 0.05
KINDS = {1: "accepted", 2: "submitted", 3: "delivered", 4: "told"}
ORIGIN_WORDS = {number: word for word, number in ORIGINS.items()}


class Rate(msgspec.Struct):
    """A part of a whole, and both of them; null where the whole is nothing."""

    value: float | None
    numerator: int
    denominator: int


class Percentiles(msgspec.Struct):
    """Seconds that a part of the messages did not exceed, and of how many that is known."""

    messages: int
    p50: float
    p90: float
    p95: float
    p99: float


class Maturity(msgspec.Struct):
    """How much of the group can still change. `mature`: nearly all that is to come has been heard of."""

    mature: bool
    settled: Rate


class Group(msgspec.Struct, kw_only=True):
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
    latencies: defaultdict[tuple[object, ...], dict[str, Percentiles]] = defaultdict(dict)
    for row in found.lags:
        latencies[tuple(row[name] for name in names)][KINDS[row["kind"]]] = _latency(row)
    groups: list[Group] = []
    for row in found.groups:
        if len(groups) % A_TURN == A_TURN - 1:
            await asyncio.sleep(0)
        key = tuple(row[name] for name in names)
        groups.append(_group(row, asked, tenant, latencies.get(key, {})))
    kept_from = found.kept_from
    return Deliveries(found.as_of, asked.begin, asked.end, kept_from, list(asked.by), LATENCY_ERROR, groups)


def seconds_of(lag_class: int) -> float:
    """A time in the middle of a class of lag_v1: wrong by 5 % at most, and by a millisecond below one."""
    return float(f"{0.95 * WIDEST ** (lag_class - 1) / 1000:.6g}") if lag_class > 1 else 0.001


SECONDS = tuple(seconds_of(lag_class) for lag_class in range(256))


def rate(numerator: int, denominator: int) -> Rate:
    """A part of a whole; no value where there is no whole."""
    return Rate(round(numerator / denominator, 6) if denominator else None, numerator, denominator)


def _latency(row: asyncpg.Record) -> Percentiles:
    p50, p90, p95, p99 = (SECONDS[row[f"p{p}"]] for p in PERCENTILES)
    return Percentiles(row["messages"], p50, p90, p95, p99)


def _group(row: asyncpg.Record, asked: Asked, tenant: str, latency: dict[str, Percentiles]) -> Group:
    parts = sum(row[name] for name in PARTS)
    final = row["delivered"] + row["failed"] - row["refused"] + row["at_ceiling"]
    return Group(
        **_keys(row, asked.by, tenant),  # type: ignore[arg-type]
        **{name: row[name] for name in COUNTS},
        failed_by_class={one.word: row[f"class_{int(one)}"] for one in Class if row[f"class_{int(one)}"]},
        other=row["messages"] - parts,
        confirmed_rate=rate(row["delivered_there"], row["delivered_there"] + row["failed_there"]),
        delivered_of_accepted=rate(row["delivered_there"], row["accepted_there"]),
        read_of_delivered=rate(row["read_readable"], row["delivered_readable"]),
        coverage=rate(final, row["accepted"]),
        maturity=Maturity(not row["young"], rate(row["settled"], row["messages"])),
        latency=latency if asked.latency else UNSET,
    )


PARTS = ("queued", "not_sent", "uncertain", "pending", "at_ceiling", "no_receipt", "delivered", "failed")
COUNTS = (*PARTS, "messages", "accepted", "read", "refused", "conflict")


def _keys(row: Mapping[str, object], by: Sequence[str], tenant: str) -> dict[str, object]:
    """The columns of the group, as clients spell them."""
    keys: dict[str, object] = {}
    for name in by:
        value = tenant if name == "tenant" else row[name]
        if name in ("hour", "day"):
            keys["at"] = value
        elif name == "channel":
            keys[name] = Channel(value).word  # type: ignore[arg-type]
        elif name == "origin":
            keys[name] = ORIGIN_WORDS[value]  # type: ignore[index]
        elif name == "code_class":
            keys[name] = None if value is None else Class(value).word  # type: ignore[arg-type]
        else:
            keys[name] = value if name in SIDES else value or None
    return keys
