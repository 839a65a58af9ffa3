"""Exports as they stream: whole records only, and on from the last of them after a broken connection."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from receiver.client.calls import Call, pairs, refusal
from receiver.client.errors import ApiError, Garbled, NoAnswer
from receiver.client.message_shapes import Message
from receiver.client.steps import LONGEST_PAUSE, Flow, Manners, Open, Read, Sleep, Tell, Tries, may_pass

T = TypeVar("T")
Format = Literal["ndjson", "csv"]

TYPES: dict[Format, str] = {"ndjson": "application/x-ndjson", "csv": "text/csv"}

SILENCE = 120.0  # seconds: a search without a name may read for long before it finds one
LONGEST_RECORD = 16 << 20
MOST_TRIES = 10  # in a row that brought nothing new: some minutes


class Records:
    """Cuts what comes into whole records, and knows the id of the last one."""

    def __init__(self, form: Format, has_head: bool = True) -> None:
        self.last_id: str | None = None
        self.head = b""
        """Of CSV: the names of the columns, once they have come."""
        self._form = form
        self._awaits_head = form == "csv" and has_head
        self._rest = bytearray()

    def feed(self, part: bytes) -> bytes:
        """The records that are whole with this part, without the head. Raises Garbled for what is none."""
        self._rest += part
        end = _end_of_records(self._rest, self._form)
        whole = bytes(self._rest[:end])
        del self._rest[:end]
        if len(self._rest) > LONGEST_RECORD:
            raise Garbled(f"this is no export of a receiver: a record is over {LONGEST_RECORD} bytes")
        if whole and self._awaits_head:
            first = whole.index(b"\r\n") + 2  # no name of a column holds one
            self.head, whole, self._awaits_head = whole[:first], whole[first:], False
        if whole:
            self.last_id = _id_of(whole[_begin_of_last(whole, self._form) :], self._form)
        return whole

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left of a record that was cut off."""
        return not self._rest and not self._awaits_head


def export(
    filters: Mapping[str, Any],
    form: Format,
    after: str | None,
    manners: Manners,
    read: Callable[[bytes], Sequence[T]],
) -> Flow[T]:
    """All messages that the filters let through, behind the one with the id `after`.

    `read` makes whole records of bytes. The head of CSV comes first, and not with `after`.
    Raises ApiError, NoAnswer, Garbled.
    """
    tries, answered, head_is_told = Tries(), False, after is not None
    while True:
        records = Records(form)
        call = Call("GET", "/v1/messages/export", pairs({**filters, "format": form, "after": after}))
        error: ApiError | NoAnswer
        try:
            answer = yield Open(call, SILENCE)
            if answer.status >= 400:
                raise refusal(answer, manners.url)
            if answer.status != 200 or not answer.headers.get("content-type", "").startswith(TYPES[form]):
                # an empty page of a proxy, or a redirection, must not pass for an export of nothing
                raise ApiError(answer.status, "no_receiver", f"{manners.url} is no receiver: it exports nothing")
            answered = True
            while part := (yield Read()):
                whole = records.feed(part)
                if records.head and not head_is_told:
                    head_is_told = True
                    yield Tell(read(records.head))
                if whole:
                    tries.failures, after = 0, records.last_id
                    yield Tell(read(whole))
            if records.is_whole:
                return
            error = NoAnswer(f"the export of {manners.url} was cut off")
        except (ApiError, NoAnswer) as failed:
            error = failed
        most = MOST_TRIES if answered else manners.retries
        if not may_pass(error) or tries.failures >= most:
            raise error
        pause = tries.pause(error)
        if pause > LONGEST_PAUSE and not answered:  # too many exports: whoever calls may want to hear of it
            raise error
        yield Sleep(pause)


def messages(whole: bytes) -> Sequence[Message]:
    """The messages of some lines. Raises Garbled."""
    try:
        found: list[Message] = [json.loads(line) for line in whole.split(b"\n") if line]
    except (ValueError, RecursionError):
        raise Garbled("this is no export of a receiver: a line of it is no JSON") from None
    return found


def _end_of_records(rest: bytearray, form: Format) -> int:
    """Where the last whole record ends."""
    if form == "ndjson":
        return rest.rfind(b"\n") + 1
    end = rest.rfind(b"\r\n")
    while end >= 0 and rest.count(b'"', 0, end) % 2:  # within quotes it is part of a text
        end = rest.rfind(b"\r\n", 0, end)
    return end + 2 if end >= 0 else 0


def _begin_of_last(whole: bytes, form: Format) -> int:
    if form == "ndjson":
        return whole.rfind(b"\n", 0, len(whole) - 1) + 1
    begin = whole.rfind(b"\r\n", 0, len(whole) - 2)
    while begin >= 0 and whole.count(b'"', 0, begin) % 2:
        begin = whole.rfind(b"\r\n", 0, begin)
    return begin + 2 if begin >= 0 else 0


def _id_of(record: bytes, form: Format) -> str:
    """The id of a record. Raises Garbled."""
    try:
        found = json.loads(record)["id"] if form == "ndjson" else record.partition(b",")[0].decode().strip('"')
    except (ValueError, LookupError, TypeError, RecursionError):
        raise Garbled("this is no export of a receiver: a record of it has no id") from None
    return str(found)
