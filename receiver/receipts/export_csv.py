"""CSV with the ids: each row becomes the body that the platform would have pushed, for the ordinary reader.

The first line names the fields, in any order and spelling of case; commas, semicolons or tabs between. A quoted field
may hold line breaks. A column that names no field of ours is told as well, but for `df_…`, which the export adds.
"""

import csv
import json
import re
from collections.abc import Iterator
from typing import NamedTuple

from receiver.receipts.body import Unreadable
from receiver.receipts.notification import DOCUMENTED
from receiver.receipts.pieces import HEAD, Piece, cut_off, too_large
from receiver.receipts.texts import NAMES

DELIMITERS = (",", ";", "\t")
_BESIDE = frozenset({"transid", "correlationid", "callbackdata", "subtid", "carrier", "requestid", "clientcorrelator"})
_KNOWN = frozenset(name for names in NAMES for name in names)
_SPELLINGS = {name.lower(): name for name in DOCUMENTED}
_BOM = b"\xef\xbb\xbf"
_END_OF_LINE = re.compile(rb"\r?\n")
MOST_TORN = 64  # rows: each is looked for up to the largest body. In a file with more of them a row ends with its line


class Header(NamedTuple):
    """The columns: the field that each tells (None: none), and what stands between them."""

    fields: tuple[str | None, ...]
    delimiter: str


def header_of(head: bytes) -> Header | None:
    """The header in the first line of a file that begins with `head`; None if it names nothing of a receipt."""
    line = head.removeprefix(_BOM).lstrip(b"\r\n").partition(b"\n")[0].decode("utf-8", "replace").rstrip("\r")
    delimiter = max(DELIMITERS, key=line.count)
    try:
        fields = tuple(map(_field, next(csv.reader([line], delimiter=delimiter), [])))
    except csv.Error:  # such as lines that end as on an old Macintosh
        return None
    named = [field.lower() for field in fields if field]
    return Header(fields, delimiter) if _KNOWN & set(named) and len(named) == len(set(named)) else None


def _field(column: str) -> str | None:
    column = column.strip()
    plain = re.sub(r"[\s_-]", "", column).lower()
    if plain in _KNOWN:
        return _SPELLINGS.get(plain, plain)
    return None if not column or column.lower().startswith("df_") or len(column) > 64 else column


class CsvSplitter:
    """Splits CSV whose header is known."""

    def __init__(self, header: Header, largest: int) -> None:
        self._header, self._largest = header, largest
        self._buffer, self._base = b"", 0
        self._is_below_header = False
        d = re.escape(header.delimiter).encode()
        # A quote counts only where a field begins, as for the csv module.
        fields = [rb'(?:"(?:[^"%b]++|"")*+"[^%b\n]*+|(?!")[^%b\n]*+)' % (ends, d, d) for ends in (b"", b"\n")]
        self._row, self._line = (re.compile(rb"%b(?:%b%b)*+\n" % (field, d, field)) for field in fields)
        self._torn = 0

    def go_on_at(self, position: int) -> None:
        """See Splitter."""
        self._base, self._is_below_header = position, position > 0

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        """See Splitter."""
        self._buffer += chunk
        yield from self._pieces(last=False)

    def end(self) -> Iterator[Piece]:
        """See Splitter."""
        if self._buffer and not self._buffer.endswith(b"\n"):
            self._buffer += b"\n"
        yield from self._pieces(last=True)

    def _pieces(self, *, last: bool) -> Iterator[Piece]:
        at = 0
        try:
            while at < len(self._buffer):
                row = (self._row if self._torn < MOST_TORN else self._line).match(self._buffer, at)
                torn = row is None and (last or self._is_long(at))
                if row is None and not torn:
                    return
                self._torn += torn
                end = row.end() if row else self._end_of_line(at)
                raw = self._buffer[at:end].removesuffix(b"\n").removesuffix(b"\r")
                where = self._base + at
                at = end
                if not raw.strip(b" \t") or raw == _BOM:
                    continue
                if not self._is_below_header:
                    self._is_below_header = True
                elif len(raw) > self._largest:
                    yield Piece(raw[:HEAD], self._base + at, too_large(where, len(raw)))
                elif torn:
                    yield Piece(raw[: self._largest], self._base + at, cut_off(where, "a quote is open"))
                else:
                    yield self._piece(raw, self._base + at)
        finally:
            self._base += at
            self._buffer = self._buffer[at:]

    def _is_long(self, at: int) -> bool:
        """Whether what begins at `at` and is no row will be none with what comes behind it either."""
        in_lines = self._torn >= MOST_TORN and self._buffer.find(b"\n", at) >= 0
        return in_lines or len(self._buffer) - at > self._largest

    def _end_of_line(self, at: int) -> int:
        """Where the line ends whose quote never ends: it alone is given up."""
        line = _END_OF_LINE.search(self._buffer, at)
        return line.end() if line else len(self._buffer)

    def _piece(self, raw: bytes, end: int) -> Piece:
        fields, delimiter = self._header
        try:
            values = next(csv.reader([raw.decode("utf-8", "replace")], delimiter=delimiter), [])
        except csv.Error as error:
            return Piece(raw, end, Unreadable("bad_row", str(error)))
        if len(values) != len(fields):
            detail = f"the row has {len(values)} fields, the header {len(fields)}"
            return Piece(raw, end, Unreadable("bad_row", detail))
        said = {field: value for field, value in zip(fields, values, strict=True) if field}
        beside = {field: said.pop(field) for field in list(said) if field.lower() in _BESIDE}
        body = json.dumps({"deliveryInfoNotification": {"deliveryInfo": said, **beside}}, ensure_ascii=False)
        return Piece(body.encode(), end)
