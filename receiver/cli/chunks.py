"""Cuts a file of recipients into chunks of 1,000 rows, and each chunk into calls: rows with equal bodies share one."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from receiver.cli.body_template import BodyTemplate
from receiver.cli.rows import Row
from receiver.errors import ReceiverError
from receiver.sending.destinations import ID_TYPES, MOST_ENTRIES
from receiver.sending.fields import LONGEST_CORRELATIONID

# The grid never depends on an option: a call's key is its first row, and another grid would make other calls.
ROWS_A_CHUNK = MOST_ENTRIES
DESTINATION, CORRELATIONID = "destination", "correlationid"


class Entry(NamedTuple):
    """A row that can be sent: its entry of `destination`, and the row itself for the case that it is refused."""

    row: Row
    destination: Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """Rows of one chunk whose bodies are equal: one POST, 1,000 entries at most."""

    values: Mapping[str, str]  # of the columns that the body names
    entries: list[Entry]


@dataclass
class Chunk:
    """Neighbouring rows; the unit in which progress is kept. `rejected` are rows with the reason."""

    first: int
    last: int = 0
    calls: list[Call] = field(default_factory=list)
    rejected: list[tuple[Row, str]] = field(default_factory=list)
    digest: str = ""

    @property
    def rows(self) -> int:
        return self.last - self.first + 1


class Reading:
    """How a row becomes an entry: which column is the recipient, of which id type, and the correlationid."""

    def __init__(self, columns: Iterable[str], template: BodyTemplate, id_type: str | None) -> None:
        """Raises ReceiverError where no recipient is named, or a placeholder names no column."""
        columns = tuple(columns)
        if id_type is not None and id_type not in ID_TYPES:
            raise ReceiverError(f"--id-type {id_type!r} is none: it takes {', '.join(ID_TYPES)}")
        self.column, self.id_type = _recipient(columns, id_type)
        self._template, self._needed = template, (self.column, *template.columns)
        if missing := [name for name in template.columns if name not in columns]:
            names = ", ".join(f"{{{name}}}" for name in missing)
            raise ReceiverError(f"{template.path} names {names}: the file has only {', '.join(columns)}")

    def entry(self, row: Row) -> tuple[Entry, tuple[str, ...]] | str:
        """A row's entry and the values that its body needs, or why it can't be sent."""
        if row.fault:
            return row.fault
        fields = row.fields
        for name in self._needed:
            if name not in fields:
                return f"the row has no {name}"
        value = fields[self.column].strip()
        if not value:
            return f"{self.column} is empty"
        destination: dict[str, Any] = {self.id_type: [value]}
        own = fields.get(CORRELATIONID, "").strip()
        if not own and self._template.correlationid:
            own = self._template.correlationid.fill(fields)
        if len(own.encode()) > LONGEST_CORRELATIONID:
            return f"the correlationid has {len(own.encode())} bytes, {LONGEST_CORRELATIONID} at most"
        if own:
            destination["correlationid"] = own
        return Entry(row, destination), tuple(fields[name] for name in self._template.body_columns)

    def body(self, call: Call) -> dict[str, Any]:
        """The whole body of a call."""
        return {**self._template.fill(call.values), DESTINATION: [entry.destination for entry in call.entries]}

    def chunks(self, rows: Iterable[Row], ends: Callable[[int], int | None] = lambda _: None) -> Iterator[Chunk]:
        """The chunks of `rows`. `ends` says where the chunk with this first row ended when it was cut before."""
        chunk: Chunk | None = None
        end = 0
        for row in rows:
            if chunk is None:
                chunk, calls, digest = Chunk(row.number), dict[tuple[str, ...], Call](), hashlib.sha256()
                end = ends(row.number) or row.number + ROWS_A_CHUNK - 1
            read = self.entry(row)
            if isinstance(read, str):
                chunk.rejected.append((row, read))
                digest.update(b"null\n")
            else:
                entry, values = read
                if values not in calls:
                    calls[values] = Call(dict(zip(self._template.body_columns, values, strict=True)), [])
                calls[values].entries.append(entry)
                digest.update(json.dumps([entry.destination, values]).encode() + b"\n")
            chunk.last = row.number
            if row.number == end:
                yield _closed(chunk, calls, digest)
                chunk = None
        if chunk is not None:
            yield _closed(chunk, calls, digest)


def _closed(chunk: Chunk, calls: Mapping[tuple[str, ...], Call], digest: "hashlib._Hash") -> Chunk:
    chunk.calls, chunk.digest = list(calls.values()), digest.hexdigest()[:32]
    return chunk


def _recipient(columns: tuple[str, ...], id_type: str | None) -> tuple[str, str]:
    """The column that names the recipient, and of which id type it is."""
    if id_type is not None and id_type in columns:
        return id_type, id_type
    if DESTINATION in columns:
        return DESTINATION, id_type or "msisdn"
    named = [name for name in columns if name in ID_TYPES]
    if id_type is not None:
        raise ReceiverError(
            f"no column names the recipient: --id-type {id_type} needs a column {id_type} or destination"
        )
    if not named:
        raise ReceiverError(f"no column names the recipient: name one destination, or {', '.join(ID_TYPES)}")
    if len(named) > 1:
        raise ReceiverError(f"{' and '.join(named)} may both be the recipient: say which with --id-type")
    return named[0], named[0]
