"""Reading Server-Sent Events by the book, however the bytes are cut: the HTML standard, 9.2.6."""

import re
from typing import NamedTuple

from receiver.client.errors import Garbled

LONGEST_LINE = 1 << 20  # a change is some hundred bytes; what is no stream must not fill the memory
LONGEST_EVENT = 4 << 20
_END = re.compile(rb"\r\n|\n|\r")
_DIGITS = re.compile(rb"[0-9]{1,9}")


class Event(NamedTuple):
    """One event: its name, its data, and the last id that was told by then."""

    name: str
    data: str
    id: str


class EventParser:
    """Takes bytes as they come and gives events. What has no empty line behind it yet is no event."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        """The id to go on from: of the last event that was complete."""
        self.retry: int | None = None
        """Milliseconds that the other side asks us to wait before we come again."""
        self._rest = bytearray()
        self._seen = 0  # bytes of the rest in which there is no end of a line
        self._begun = self._after_return = False
        self._name, self._id = "", last_id
        self._data: list[str] = []
        self._size = 0

    def feed(self, part: bytes) -> list[Event]:
        """The events that are complete with this part. Raises Garbled for a line or an event without bounds."""
        self._rest += part
        found: list[Event] = []
        begin = 0
        while (end := _END.search(self._rest, max(begin, self._seen))) is not None:
            if self._after_return and end.start() == begin and end.group() == b"\n":
                begin = end.end()  # a CR LF that was cut in two
                self._after_return = False
                continue
            # of a CR at the very end nobody knows yet whether an LF follows; the line is complete all the same
            self._after_return = end.group() == b"\r" and end.end() == len(self._rest)
            line = bytes(self._rest[begin : end.start()])
            _check_length(len(line))
            begin = end.end()
            if (event := self._line(line)) is not None:
                found.append(event)
        if begin < len(self._rest):
            self._after_return = False
        del self._rest[:begin]
        self._seen = len(self._rest)
        _check_length(self._seen)
        return found

    def _line(self, line: bytes) -> Event | None:
        if not self._begun:
            self._begun, line = True, line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                self._size += len(value) + 1
                if self._size > LONGEST_EVENT:
                    raise Garbled(f"this is no stream of a receiver: an event is over {LONGEST_EVENT} bytes")
                self._data.append(_text(value))
            case b"event":
                self._name = _text(value)
            case b"id" if b"\0" not in value:
                self._id = _text(value)
            case b"retry" if _DIGITS.fullmatch(value):
                self.retry = int(value)
        return None

    def _dispatch(self) -> Event | None:
        self.last_id = self._id
        name, data = self._name or "message", self._data
        self._name, self._data, self._size = "", [], 0
        return Event(name, "\n".join(data), self.last_id) if data else None


def _check_length(length: int) -> None:
    if length > LONGEST_LINE:
        raise Garbled(f"this is no stream of a receiver: a line of it is longer than {LONGEST_LINE} bytes")


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
