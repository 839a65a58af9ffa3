"""Where a page begins: opaque to clients, and good only for the query that gave it."""

import base64
import binascii
import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)
NOT_BOUND = ("cursor", "limit", "total")  # parameters that may differ from page to page


@dataclass(frozen=True)
class Position:
    """What the page before ended with: an id; in the order of changes a number of the change log, or time and id."""

    id: UUID | None = None
    seq: int | None = None
    changed_at: datetime | None = None


def query_of(items: Iterable[tuple[str, str]], tenant: int) -> str:
    """What a cursor is bound to: the tenant and all parameters, in any order."""
    return repr((tenant, sorted(item for item in items if item[0] not in NOT_BOUND)))


def cursor_of(position: Position, query: str) -> str:
    """A cursor of this query."""
    if position.seq is not None:
        raw = struct.pack(">q", position.seq)
    else:
        assert position.id is not None
        at = position.changed_at
        raw = position.id.bytes + (struct.pack(">Q", (at - _EPOCH) // _MICROSECOND) if at else b"")
    return base64.urlsafe_b64encode(raw + _mark(query)).rstrip(b"=").decode()


def read_cursor(cursor: str, query: str) -> Position | None:
    """Where the page begins; None for what is no cursor of this query."""
    try:
        whole = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    raw, mark = whole[:-8], whole[-8:]
    if mark != _mark(query):
        return None
    try:
        return _position(raw)
    except (OverflowError, struct.error, ValueError):  # bytes of nobody's
        return None


def _position(raw: bytes) -> Position:
    if len(raw) == 8:
        return Position(seq=struct.unpack(">q", raw)[0])
    if len(raw) == 24:
        return Position(id=UUID(bytes=raw[:16]), changed_at=_EPOCH + struct.unpack(">Q", raw[16:])[0] * _MICROSECOND)
    return Position(id=UUID(bytes=raw))


def _mark(query: str) -> bytes:
    return hashlib.blake2b(query.encode("utf-8", "surrogatepass"), digest_size=8).digest()
