"""Where a reader stands in the change log: a snapshot, or a place between two, and how a client carries it.

docs/decisions/0020-stream-cursor.md says why a number is not enough.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

VERSION = 1
MARK_BYTES = CHECK_BYTES = 4
LONGEST_ID = 6_000  # characters: 1,000 transactions in flight in both snapshots take 3,500
MOST_IN_FLIGHT = 1_000


class Cut(NamedTuple):
    """A snapshot of the database: whose changes are seen. `at` is its time.

    `low` and `high` are numbers of the log's sequence as it stood before and after the snapshot was taken: what is seen
    was numbered `high` at most, and who began later numbers from above `low`.
    """

    xmin: int
    xmax: int
    in_flight: tuple[int, ...]
    low: int
    high: int
    at: datetime

    @classmethod
    def read(cls, text: str, low: int, high: int, at: datetime) -> "Cut":
        """A cut from what Postgres writes for a pg_snapshot."""
        xmin, xmax, listed = text.split(":")
        return cls(int(xmin), int(xmax), tuple(int(xid) for xid in listed.split(",") if xid), low, high, at)

    @property
    def snapshot(self) -> str:
        """As Postgres reads it."""
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, self.in_flight))}"


@dataclass(frozen=True, slots=True)
class Position:
    """All that `until` sees has been read. With `before`: of what only `until` sees, what is numbered up to `seq`."""

    until: Cut
    before: Cut | None = None
    seq: int = 0


class BadPosition(ValueError):
    """It is no position, or none of this database."""


def window_of(cluster: int, before: Cut, until: Cut) -> bytes:
    """What the ids of all changes of one window have in common."""
    return _head(cluster, until) + _packed(until) + b"\1" + _packed(before) + _number(int(before.at.timestamp()))


def id_within(window: bytes, seq: int) -> str:
    """The id of a change of that window."""
    return _sealed(window + _number(seq))


def id_of(cluster: int, position: Position) -> str:
    """The id of a position."""
    if position.before is not None:
        return id_within(window_of(cluster, position.before, position.until), position.seq)
    return _sealed(_head(cluster, position.until) + _packed(position.until) + b"\0")


def read_id(text: str) -> tuple[bytes, Position]:
    """The mark of the cluster where it was given, and the position. Raises BadPosition for what is no id."""
    if len(text) > LONGEST_ID:
        raise BadPosition(text[:20])
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise BadPosition(text[:20]) from None
    if len(raw) < 12 or raw[0] != VERSION or _check(raw[:-CHECK_BYTES]) != raw[-CHECK_BYTES:]:
        raise BadPosition(text[:20])
    numbers = _numbers(raw[1 + MARK_BYTES : -CHECK_BYTES])
    try:
        position = _unpacked(numbers)
    except (StopIteration, OverflowError, OSError, ValueError):
        raise BadPosition(text[:20]) from None
    return raw[1 : 1 + MARK_BYTES], position


def mark_of(cluster: int) -> bytes:
    """What stands for a cluster in an id."""
    return hashlib.blake2b(str(cluster).encode(), digest_size=MARK_BYTES).digest()


def _head(cluster: int, until: Cut) -> bytes:
    return bytes([VERSION]) + mark_of(cluster) + _number(int(until.at.timestamp()))


def _packed(cut: Cut) -> bytes:
    """Numbers of 7 bits a byte; each transaction by its distance from the one before."""
    parts = [_number(cut.xmin), _number(cut.xmax - cut.xmin), _number(len(cut.in_flight))]
    last = cut.xmin
    for xid in cut.in_flight:
        parts.append(_number(xid - last))
        last = xid
    return b"".join([*parts, _number(cut.low), _number(cut.high - cut.low)])


def _unpacked(numbers: Iterator[int]) -> Position:
    at = datetime.fromtimestamp(next(numbers), UTC)
    until = _cut(numbers, at)
    if next(numbers) == 0:
        return Position(until)
    before = _cut(numbers, at)
    begun, seq = datetime.fromtimestamp(next(numbers), UTC), next(numbers)
    if seq > until.high:
        raise ValueError("no place in that window")
    return Position(until, before._replace(at=begun), seq)


def _cut(numbers: Iterator[int], at: datetime) -> Cut:
    xmin = next(numbers)
    xmax = xmin + next(numbers)
    in_flight, last = [], xmin
    for _ in range(next(numbers)):
        last += next(numbers)
        in_flight.append(last)
    low = next(numbers)
    cut = Cut(xmin, xmax, tuple(in_flight), low, low + next(numbers), at)
    is_ordered = list(in_flight) == sorted(set(in_flight)) and (not in_flight or in_flight[-1] < xmax)
    if not (xmin > 0 and xmax < 1 << 62 and cut.high < 1 << 62 and is_ordered):
        raise ValueError("no snapshot")
    return cut


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _numbers(raw: bytes) -> Iterator[int]:
    value = shift = 0
    for byte in raw:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield value
            value = shift = 0


def _sealed(payload: bytes) -> str:
    return base64.urlsafe_b64encode(payload + _check(payload)).rstrip(b"=").decode()


def _check(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=CHECK_BYTES).digest()
