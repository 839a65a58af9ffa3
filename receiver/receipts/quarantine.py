"""The quarantine in Postgres: bodies in which no receipt could be read or believed, found again by page and by id."""

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import asyncpg

from receiver.database.pool import Connection
from receiver.ids import TenantId

# What a replay came to; stored. `never`: there was none.
APPLIED, PARTLY, NOT_APPLIED, NEVER = "applied", "partly", "not_applied", "never"
REPLAYED = (NEVER, NOT_APPLIED, PARTLY, APPLIED)

COLUMNS = """q.week, q.digest, q.tenant, q.submission_id, q.reason, q.detail, q.headers, q.first_at, q.last_at, q.told,
       q.replayed_at, q.replay_result, octet_length(q.body) as size"""

# The page is chosen before any body is opened: a sort of whole bodies would read them all. first_at never changes,
# so a body that is told again between two pages does not move.
PAGE = f"""
with page as materialized (
  select week, digest, tenant from quarantine
   where tenant = $1 and ($2::text[] is null or reason = any($2))
     and ($3::text[] is null or coalesce(replay_result, 'never') = any($3))
     and ($4::timestamptz is null or last_at >= $4) and ($5::timestamptz is null or first_at < $5)
     and ($6::timestamptz is null or (first_at, digest, week) < ($6, $7::bytea, $8::date))
   order by first_at desc, digest desc, week desc limit $9
)
select {COLUMNS}, substring(q.body from 1 for $10) as body
  from page join quarantine q using (week, digest, tenant)
 order by q.first_at desc, q.digest desc, q.week desc
"""

ONE = f"select {COLUMNS}, q.body from quarantine q where q.week = $1 and q.digest = $2 and q.tenant = $3"

MARK = """
update quarantine set replayed_at = $4, replay_result = $5 where week = $1 and digest = $2 and tenant = $3
"""

MESSAGES = """
select m.id, m.origin, m.submission_id, s.state
  from message m join message_state s on s.id = m.id where m.id = any($1::uuid[])
"""

_ID = re.compile(r"([0-9]{8})-([0-9a-f]{32})")


@dataclass(frozen=True)
class Place:
    """Where a body lies: the week in which it was kept, and its digest. With a tenant it is the row's key."""

    week: date
    digest: bytes

    def __str__(self) -> str:
        return f"{self.week:%Y%m%d}-{self.digest.hex()}"


def parse_place(text: str) -> Place | None:
    """The place of an id such as `20261116-<32 hex digits>`; None for what is no id."""
    found = _ID.fullmatch(text.strip().lower())
    try:
        return Place(datetime.strptime(found[1], "%Y%m%d").date(), bytes.fromhex(found[2])) if found else None
    except ValueError:  # the 99th of a month
        return None


@dataclass(frozen=True)
class Wanted:
    """Which bodies of a tenant: None lets all through. A body was told from first_at to last_at."""

    reasons: Sequence[str] | None = None
    replayed: Sequence[str] | None = None
    told_from: datetime | None = None
    told_to: datetime | None = None


@dataclass(frozen=True)
class Found:
    """A page, newest first, and behind which row the next one begins."""

    rows: Sequence[asyncpg.Record]
    next_after: "Mark | None"


@dataclass(frozen=True)
class Mark:
    """The last row of a page."""

    first_at: datetime
    place: Place


async def page(
    connection: Connection, tenant: TenantId, wanted: Wanted, limit: int, preview: int, after: Mark | None = None
) -> Found:
    """At most `limit` bodies, each cut at `preview` bytes."""
    at = (after.first_at, after.place.digest, after.place.week) if after else (None, None, None)
    choice = (wanted.reasons, wanted.replayed, wanted.told_from, wanted.told_to)
    rows = await connection.fetch(PAGE, tenant, *choice, *at, limit + 1, preview)
    if len(rows) <= limit:
        return Found(rows, None)
    last = rows[limit - 1]
    return Found(rows[:limit], Mark(last["first_at"], place_of(last)))


async def one(connection: Connection, tenant: TenantId, place: Place) -> asyncpg.Record | None:
    """The whole row, if the tenant has it."""
    return await connection.fetchrow(ONE, place.week, place.digest, tenant)


async def mark_replayed(connection: Connection, tenant: TenantId, place: Place, at: datetime, result: str) -> None:
    """Writes down what the last replay came to; a row that was trimmed meanwhile stays away."""
    await connection.execute(MARK, place.week, place.digest, tenant, at, result)


async def messages(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, asyncpg.Record]:
    """Origin, submission and state of messages, by id."""
    return {row["id"]: row for row in await connection.fetch(MESSAGES, ids)}


def place_of(row: asyncpg.Record) -> Place:
    """The place of a row."""
    return Place(row["week"], row["digest"])


_EPOCH = datetime.fromtimestamp(0, UTC)


def cursor_of(mark: Mark, query: str) -> str:
    """A cursor: opaque, and good only for the query that gave it."""
    micros = (mark.first_at - _EPOCH) // timedelta(microseconds=1)
    raw = micros.to_bytes(8, "big", signed=True) + mark.place.week.toordinal().to_bytes(4, "big") + mark.place.digest
    return base64.urlsafe_b64encode(raw + _seal(query)).rstrip(b"=").decode()


def read_cursor(cursor: str, query: str) -> Mark | None:
    """Where the page begins; None for what is no cursor of this query."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        if len(raw) != 36 or raw[28:] != _seal(query):
            return None
        first_at = _EPOCH + timedelta(microseconds=int.from_bytes(raw[:8], "big", signed=True))
        return Mark(first_at, Place(date.fromordinal(int.from_bytes(raw[8:12], "big")), raw[12:28]))
    except (binascii.Error, ValueError, OverflowError):
        return None


def _seal(query: str) -> bytes:
    return hashlib.blake2b(query.encode("utf-8", "surrogatepass"), digest_size=8).digest()
