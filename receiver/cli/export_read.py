"""Reading what an unfinished file of an export holds: how many whole records, and the id of the last."""

from typing import BinaryIO, NamedTuple

from receiver.client import Format
from receiver.client.exporting import Records

CHUNK = 1 << 20


class Held(NamedTuple):
    """The id of the last whole record, None for none; how many there are; up to which byte they go."""

    after: str | None
    records: int
    bytes: int


def read_held(file: BinaryIO, form: Format) -> Held:
    """Reads a file from its beginning. Raises Garbled for what is no export."""
    records, count, whole_bytes = Records(form), 0, 0
    while part := file.read(CHUNK):
        whole = records.feed(part)
        count += count_records(whole, form)
        whole_bytes += len(whole)
    # a head without a record behind it is told again
    return Held(records.last_id, count, whole_bytes + len(records.head) if count else 0)


def count_records(part: bytes, form: Format) -> int:
    """How many whole records there are: an end of a line within quotes is part of a text."""
    if form == "ndjson":
        return part.count(b"\n")
    return sum(outside.count(b"\r\n") for outside in part.split(b'"')[::2])
