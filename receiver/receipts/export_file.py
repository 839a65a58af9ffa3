"""A file of receipts, in pieces: from chunks of bytes to single bodies, each with the position behind it.

JSON of any shape: the platform's export (one array), a body a line, bodies one behind the other, pretty-printed or not.
CSV is in `receipts/export_csv.py`. Never more than a body and a chunk is held. What is torn becomes a piece with its
reason, and reading goes on where the next body begins.
"""

import re
from collections.abc import Iterator
from typing import Protocol

from receiver.receipts.export_csv import CsvSplitter, header_of
from receiver.receipts.pieces import HEAD, Piece, cut_off, too_large

_SEPARATORS = re.compile(rb"(?:[\s,\x00]++|\xef\xbb\xbf)*+")
_BOM = b"\xef\xbb\xbf"
# All up to the next bracket, or up to a quote whose string has not ended; whole strings are passed over.
_NEXT = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+(["{}\[\]]?)', re.DOTALL)
# Outside of an array no string goes on in a line that begins with a brace: the line before was torn.
_NEXT_LINE = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\\n]++|\\.|\n(?!\{))*+")*+(["{}\[\]]?)', re.DOTALL)
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_TEXT_LINE = re.compile(rb'"(?:[^"\\\n]++|\\.|\n(?!\{))*+"', re.DOTALL)
_ENCODED_TWICE = re.compile(rb'"\s*[{\[]')
_TORN_LINE = re.compile(rb"\n(?=\{)")
_VALUE_MAY_FOLLOW = b"{[,:"
_LAST_SIGN = re.compile(rb"(\S)\s*\Z")
_FIRST_KEY = re.compile(rb'\{\s*"([A-Za-z_-]{1,64})"')
# Where the next body begins, for who has lost his way: behind a comma, outside of an array also behind a body or on a
# line of its own. Never behind a colon: there stands what a wrapper holds.
_MARK = rb',\s*(?=\{\s*"(?:%s)")'
_MARK_OUTSIDE = rb'(?<=\})(?=\{\s*"(?:%s)")|\n(?=\{)'
_OUTER_KEYS = (b"df_payload", b"deliveryInfoNotification", b"requestData")
_LONGEST_MARK = 256
_END_OF_GARBAGE = {True: re.compile(rb"[,\]\n]"), False: re.compile(rb"\n")}
_CLOSES = {b"}": b"{", b"]": b"["}


class Splitter(Protocol):
    """Takes a file in chunks of any size."""

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        """The pieces that are complete with this chunk. It must be taken to its end before the next chunk."""

    def end(self) -> Iterator[Piece]:
        """What is left when the file has ended."""

    def go_on_at(self, position: int) -> None:
        """The next chunk begins behind the piece that ended there."""


class NoExport(Exception):
    """The file is none of the forms that can be read."""


def form_of(head: bytes, largest: int, *, whole: bool = False) -> Splitter | None:
    """How a file that begins with `head` is split; None: more of it is needed. Raises NoExport.

    `whole`: there is no more of it. A body over `largest` bytes is not taken.
    """
    whole = whole or len(head) >= HEAD
    if not whole and _BOM.startswith(head[: len(_BOM)]):
        return None
    start = _SEPARATORS.match(head).end()  # type: ignore[union-attr]  # it matches nothing at least
    if start == len(head):
        return JsonSplitter(largest) if whole else None
    sign = head[start : start + 1]
    if sign in b"{[":
        return JsonSplitter(largest, in_arrays=sign == b"[")
    if not whole and b"\n" not in head[start:]:
        return None
    header = header_of(head)
    if header is not None:
        return CsvSplitter(header, largest)
    if _ENCODED_TWICE.match(head, start):
        return JsonSplitter(largest)
    if b"\n{" in head:  # lines of a log that begins within one
        return JsonSplitter(largest)
    if not whole:
        return None
    raise NoExport(
        "it is neither JSON nor CSV whose first line names fields of a receipt (transid, deliveryStatus, code, …)"
    )


class JsonSplitter:
    """Splits JSON; see the module."""

    def __init__(self, largest: int, *, in_arrays: bool = False) -> None:
        """`in_arrays`: the file begins with one. Who goes on within it has not seen its bracket."""
        self._largest, self._in_arrays = largest, in_arrays
        self._buffer, self._base = b"", 0
        self._at = 0  # in the buffer: where the open body begins, or where the next one is looked for
        self._scan = 0  # up to where the open body is known
        self._open = bytearray()  # its brackets
        self._in_body = self._in_array = False
        self._lost: str | None = None  # why the end of the open body is unknown
        self._lost_bytes, self._lost_head = 0, b""
        self._keys: set[bytes] | None = None

    def go_on_at(self, position: int) -> None:
        """See Splitter."""
        self._base, self._in_array = position, position > 0 and self._in_arrays

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        """See Splitter."""
        self._buffer += chunk
        yield from self._pieces(last=False)
        self._base += self._at
        self._buffer, self._scan, self._at = self._buffer[self._at :], self._scan - self._at, 0

    def end(self) -> Iterator[Piece]:
        """See Splitter."""
        yield from self._pieces(last=True)

    def _pieces(self, *, last: bool) -> Iterator[Piece]:
        while (step := self._step(last)) is not False:
            if isinstance(step, Piece):
                yield step

    def _step(self, last: bool) -> Piece | bool:
        """A piece, or whether there is more to do with what is in the buffer."""
        if self._lost is not None:
            return self._found_again(last)
        return self._rest_of_body(last) if self._in_body else self._next_begins(last)

    def _next_begins(self, last: bool) -> bool:
        found = _SEPARATORS.match(self._buffer, self._at)
        assert found is not None
        self._at = found.end()
        rest = len(self._buffer) - self._at
        if not rest or (rest < len(_BOM) and not last and _BOM.startswith(self._buffer[self._at :])):
            return False
        sign = self._buffer[self._at : self._at + 1]
        if sign == b"]" or (sign == b"[" and not self._in_array):
            self._in_array = sign == b"["
            self._at += 1
            return True
        self._in_body, self._scan = True, self._at
        self._open.clear()
        return True

    def _rest_of_body(self, last: bool) -> Piece | bool:
        first = self._buffer[self._at : self._at + 1]
        if _ENCODED_TWICE.match(self._buffer, self._at):
            text = (_TEXT if self._in_array else _TEXT_LINE).match(self._buffer, self._at)
            return self._done(text.end()) if text else self._unfinished(last, in_text=True)
        if first not in b"{[":
            return self._garbage(last)
        pattern = _NEXT if self._in_array else _NEXT_LINE
        while True:
            found = pattern.match(self._buffer, self._scan)
            assert found is not None
            sign, after = found[1], found.end()
            if sign in (b"", b'"'):
                self._scan = found.start(1)
                return self._unfinished(last, in_text=bool(sign))
            if sign in b"{[":
                if sign == b"{" and self._is_next_line(after - 1):
                    return self._torn_before(after - 1, "the next one begins in the middle of it")
                self._open += sign
            elif self._open[-1:] != _CLOSES[sign]:
                return self._lose("its brackets do not match")
            else:
                self._open.pop()
            self._scan = after
            if not self._open:
                return self._done(after)

    def _unfinished(self, last: bool, *, in_text: bool) -> Piece | bool:
        """What to do with an open body of which the buffer has no more."""
        if in_text and not self._in_array and (torn := _TORN_LINE.search(self._buffer, self._scan)):
            return self._torn_before(torn.end(), "the next one begins in the middle of a text")
        if last:
            return self._lose("the file ends in the middle of it")
        return self._lose("") if len(self._buffer) - self._at > self._largest else False

    def _is_next_line(self, brace: int) -> bool:
        """Whether a brace at the beginning of a line can't belong to the open body: no value may stand there."""
        if self._in_array or not self._open or self._buffer[brace - 1 : brace] != b"\n":
            return False
        sign = _LAST_SIGN.search(self._buffer[max(self._at, brace - 64) : brace])
        return sign is not None and sign[1] not in _VALUE_MAY_FOLLOW

    def _garbage(self, last: bool) -> Piece | bool:
        """What begins like no body, up to where the next one may begin. It is a body for the reader to refuse."""
        found = _END_OF_GARBAGE[self._in_array].search(self._buffer, self._scan)
        if found is not None or last:
            return self._done(found.start() if found else len(self._buffer))
        self._scan = len(self._buffer)
        return self._lose("") if self._scan - self._at > self._largest else False

    def _done(self, end: int) -> Piece | bool:
        if end - self._at > self._largest:
            return self._lose("")
        body = self._buffer[self._at : end]
        if self._keys is None:
            self._keys = {*_OUTER_KEYS, *_FIRST_KEY.findall(body[:256])[:1]}
        self._in_body, self._at = False, end
        return Piece(body, self._base + end)

    def _torn_before(self, next_one: int, detail: str) -> Piece:
        where, body = self._base + self._at, self._buffer[self._at : next_one].rstrip()
        self._in_body, self._at = False, next_one
        return Piece(body[:HEAD], self._base + next_one, cut_off(where, detail))

    def _lose(self, why: str) -> bool:
        """The open body can't be taken, and where it ends is unknown: from now on the next one is looked for."""
        self._lost, self._lost_bytes, self._lost_head, self._in_body = why, 0, b"", False
        return True

    def _found_again(self, last: bool) -> Piece | bool:
        """What was lost, once the next body begins, or the file has ended."""
        mark = (_MARK if self._in_array else _MARK + b"|" + _MARK_OUTSIDE).replace(
            b"%s", b"|".join(sorted(self._keys or _OUTER_KEYS))
        )
        found = re.compile(mark, re.IGNORECASE).search(self._buffer, self._at + (not self._lost_bytes))
        end, blank = found.start() if found else len(self._buffer) - (0 if last else _LONGEST_MARK), 0
        if end > self._at:
            part = self._buffer[self._at : end]
            self._lost_head += part[: HEAD - len(self._lost_head)]
            self._lost_bytes += len(part)
            blank = len(part) - len(part.rstrip())
            self._at = end
        if found is None and not last:
            return False
        where, size = self._base + self._at - self._lost_bytes, self._lost_bytes - blank
        fault = cut_off(where, self._lost or "") if size <= self._largest else too_large(where, size)
        self._lost = None
        return Piece(self._lost_head.rstrip(), self._base + self._at, fault)
