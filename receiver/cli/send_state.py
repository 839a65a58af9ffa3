"""What was sent of a file, beside it: one line of JSON when a chunk is begun, and one when it is finished.

A line is appended and flushed; a line that a killed process left half is cut off. A file of recipients may grow: rows
behind those that were sent are sent by the next run. What was sent may not change: each chunk's digest is compared.
"""

import fcntl
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

from receiver.cli.chunks import Chunk
from receiver.errors import ReceiverError

FORMAT = 1
# The receiver keeps a key for 24 hours; an hour of them for clocks that differ and calls that are tried again.
KEYS_KEPT = timedelta(hours=23)
LABELS = {"template": "another template", "job": "another job", "id_type": "another id type"}


@dataclass(frozen=True)
class Begun:
    """A chunk as a line tells of it."""

    last: int
    digest: str
    at: datetime
    done: bool = False
    sent: int = 0
    rejected: int = 0


class SendState:
    """The state file of one job, locked while it is open. Raises ReceiverError where it belongs to another."""

    def __init__(self, path: Path, head: Mapping[str, str]) -> None:
        self.path = path
        self._chunks: dict[int, Begun] = {}
        self._file = _opened(path)
        try:
            self._read(head)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "SendState":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def resumed(self) -> bool:
        """Whether an earlier run left something here."""
        return bool(self._chunks)

    @property
    def unfinished(self) -> list[range]:
        """The rows of each chunk that an earlier run began and did not finish: they are done again as a whole."""
        return [range(first, begun.last + 1) for first, begun in self._chunks.items() if not begun.done]

    def last_of(self, first: int) -> int | None:
        """The last row of the chunk that began at this row in an earlier run."""
        return self._chunks[first].last if first in self._chunks else None

    def finished(self, chunk: Chunk) -> Begun | None:
        """What became of a chunk that an earlier run finished. Raises ReceiverError where its rows changed."""
        known = self._chunks.get(chunk.first)
        if known is None:
            return None
        if (known.last, known.digest) != (chunk.last, chunk.digest):
            raise ReceiverError(
                f"rows {chunk.first} to {known.last} are not those that {self.path} tells of: rows may be added "
                "behind, those that were sent must stay as they were; send changed rows from a file of their own"
            )
        return known if known.done else None

    def is_too_old(self, chunk: Chunk, now: datetime) -> bool:
        """Whether the receiver may have forgotten the keys of a chunk that was begun and never finished."""
        known = self._chunks.get(chunk.first)
        return known is not None and not known.done and now - known.at > KEYS_KEPT

    def begin(self, chunk: Chunk, now: datetime) -> None:
        """Notes a chunk before its first call, once."""
        if chunk.first not in self._chunks:
            line = {"begun": [chunk.first, chunk.last], "digest": chunk.digest, "at": now.isoformat(timespec="seconds")}
            self._append(line)

    def finish(self, chunk: Chunk, batches: list[str], sent: int, now: datetime) -> None:
        """Notes that every row of a chunk was sent or rejected."""
        line = {"done": [chunk.first, chunk.last], "sent": sent, "rejected": len(chunk.rejected)}
        self._append({**line, "at": now.isoformat(timespec="seconds"), "batches": batches})

    def _append(self, line: Mapping[str, Any]) -> None:
        self._write(line)
        self._note(line)

    def _write(self, line: Mapping[str, Any]) -> None:
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise ReceiverError(f"{self.path} can't be written: {error.strerror}") from None

    def _note(self, line: Mapping[str, Any]) -> None:
        if "done" in line:
            first, sent, rejected = line["done"][0], line["sent"], line["rejected"]
            self._chunks[first] = replace(self._chunks[first], done=True, sent=sent, rejected=rejected)
        else:
            first, last = line["begun"]
            self._chunks[first] = Begun(last, line["digest"], datetime.fromisoformat(line["at"]))

    def _read(self, head: Mapping[str, str]) -> None:
        whole = 0
        for number, line in enumerate(self._file):
            if not line.endswith(b"\n") and (number or line.startswith(b'{"format"')):
                break  # a process was killed while it wrote
            try:
                told = json.loads(line)
                if number:
                    self._note(told)
                else:
                    self._compare(told, head)
            except (ValueError, KeyError, TypeError):
                raise ReceiverError(f"{self.path} is no state of a sending: line {number + 1} is not one") from None
            whole += len(line)
        self._file.truncate(whole)
        self._file.seek(whole)
        if not whole:
            self._write({"format": FORMAT, **head})

    def _compare(self, told: Mapping[str, Any], head: Mapping[str, str]) -> None:
        if told["format"] != FORMAT:
            raise ReceiverError(f"{self.path} was written by another version of this program")
        way_out = "give --state with a new file if this is another sending"
        if told["receiver"] != head["receiver"]:
            raise ReceiverError(f"{self.path} tells of a sending to {told['receiver']}: {way_out}")
        for name, label in LABELS.items():
            if told[name] != head[name]:
                raise ReceiverError(f"{self.path} tells of a sending with {label}: {way_out}")


def _opened(path: Path) -> IO[bytes]:
    try:
        file = path.open("r+b" if path.exists() else "x+b")
    except OSError as error:
        raise ReceiverError(f"{path} can't be written: {error.strerror}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ReceiverError(f"{path} is in use: another run is sending this file") from None
    return file
