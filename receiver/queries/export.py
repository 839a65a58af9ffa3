"""All messages that filters let through, page after page: as lines of JSON, or as rows of CSV for a spreadsheet."""

import csv
import io
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from receiver.database.pool import Pool
from receiver.ids import TenantId, born_at, first_id_at
from receiver.queries import search
from receiver.queries.filters import Filters
from receiver.queries.finding import GREATEST, LEAST
from receiver.queries.places import Places
from receiver.queries.views import Message, message_fields

PAGE = 250  # messages: some 10 ms of this process's time
# A search without a name reads all messages of its time: no statement reads more of it than a day, and of a busy day a
# part that takes it about a second. It is stopped after ten (READ_SECONDS), and a smaller part is tried then.
SLICE, LEAST_SLICE = timedelta(days=1), timedelta(seconds=10)
SHORT_SECONDS, LONG_SECONDS = 0.5, 1.0

# The columns of CSV, in their order. They may be added to at the end.
REASON = ("code", "class", "text", "description")
COLUMNS = (
    *("id", "state", "final", "overdue", *(f"reason_{name}" for name in REASON), "conflict", "channel"),
    *("destination", "destination_type", "origin", "correlationid", "sent_correlationid", "callbackData", "transid"),
    *("batch_id", "resend_of", "sender", "template", "created_at", "sent_at", "accepted_at", "submitted_at"),
    *("delivered_at", "read_at", "failed_at", "changed_at", "clicks", "complaints"),
)
# What a spreadsheet would take for a formula gets an apostrophe; a number with its sign is none.
FORMULA = re.compile(r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")  # the last four are the first ones in full width
NUMBER = re.compile(r"[+-]?[0-9]+")


class Pages:
    """The pages of an export, newest first. Between two of them it holds neither a connection nor a place."""

    def __init__(self, pool: Pool, places: Places, tenant: TenantId, filters: Filters) -> None:
        self._pool, self._places, self._tenant = pool, places, tenant
        self._filters = replace(filters, limit=PAGE)

    async def encoded(self, encode: Callable[[Sequence[asyncpg.Record]], bytes]) -> AsyncIterator[tuple[bytes, int]]:
        """Page after page, as `encode` makes them: some bytes, and how many messages they are."""
        below = min([one for one in (self._filters.to_id, _after(self._filters)) if one], default=GREATEST)
        floor = self._filters.from_id or LEAST
        slices = Slices(whole=self._filters.is_named)
        begun = False
        while below > floor:
            async with self._places.one(patient=True):  # what it takes to encode counts too: it is the same processor
                async with self._pool.acquire() as connection:
                    if not begun:
                        floor, begun = max(floor, await search.oldest(connection) or GREATEST), True
                        if below <= floor:
                            return
                    low = max(floor, slices.begin(below))
                    filters = replace(self._filters, from_id=low, to_id=below, position=None)
                    began = time.monotonic()
                    try:
                        found = await search.many(connection, self._tenant, filters)
                    except asyncpg.QueryCanceledError:
                        if not slices.narrow():
                            raise
                        continue
                slices.took(time.monotonic() - began)
                page = encode(found.rows), len(found.rows)
            below = found.next.id if found.next and found.next.id else low
            if page[1]:
                yield page


class Slices:
    """How much of the time one statement reads: less after one that took long, more again after a short one."""

    def __init__(self, whole: bool) -> None:
        """`whole`: begins with all of it, as a name leads to few messages."""
        self._width = None if whole else SLICE

    def begin(self, below: UUID) -> UUID:
        """The id with which the part of the time begins that is read next."""
        if self._width is None:
            return LEAST
        now = datetime.now(UTC)
        newest = now if below >= first_id_at(now) else born_at(below)  # an id of somebody else's may be of any time
        return first_id_at(newest - self._width)

    def took(self, seconds: float) -> None:
        """The last statement took so many seconds."""
        if self._width is None:
            return
        if seconds > LONG_SECONDS:
            self._width = max(self._width / 2, LEAST_SLICE)
        elif seconds < SHORT_SECONDS:
            self._width = min(self._width * 2, SLICE)

    def narrow(self) -> bool:
        """The last statement was stopped: a much smaller part from now on. False: it was the smallest already."""
        if self._width == LEAST_SLICE:
            return False
        self._width = SLICE if self._width is None else max(self._width / 16, LEAST_SLICE)
        return True


def _after(filters: Filters) -> UUID | None:
    return filters.position.id if filters.position else None


def lines(rows: Sequence[asyncpg.Record]) -> bytes:
    """NDJSON: a message a line, with the fields of GET /v1/messages."""
    encode = msgspec.json.Encoder().encode_lines
    return encode([Message(**message_fields(row)) for row in rows])  # type: ignore[arg-type]


def head() -> bytes:
    """The first row of CSV."""
    return _csv([COLUMNS])


def cells(rows: Sequence[asyncpg.Record]) -> bytes:
    """CSV (RFC 4180): a message a row, with COLUMNS."""
    return _csv([[_cell(value) for value in _values(message_fields(row))] for row in rows])


def _values(message: dict[str, Any]) -> list[object]:
    reason = message["reason"]
    flat = message | {
        f"reason_{name}": getattr(reason, "code_class" if name == "class" else name, None) for name in REASON
    }
    return [flat[column] for column in COLUMNS]


def _cell(value: object) -> str:
    """A value as a cell: nothing that a spreadsheet would calculate."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    text = str(value)
    return f"'{text}" if FORMULA.match(text) and not NUMBER.fullmatch(text) else text


def _csv(rows: Sequence[Sequence[str]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\r\n").writerows(rows)
    return out.getvalue().encode("utf-8", "replace")
