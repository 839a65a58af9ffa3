"""A file of an export: it grows as FILE.part and gets its name when it is whole; what was asked is kept beside it."""

import fcntl
import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from receiver.cli.export_read import Held, read_held
from receiver.client import Format
from receiver.errors import ReceiverError

TIMES = ("created_from", "created_to")  # 24h ago is another time now: those of the first run stay


class ExportFile:
    """Opens FILE.part, new or to go on with; `finish` makes FILE of it."""

    def __init__(self, file: Path, form: Format, filters: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
        """Raises ReceiverError for what is in the way, or can't be written."""
        self._file = file
        self._part, self._asked = file.with_name(f"{file.name}.part"), file.with_name(f"{file.name}.part.json")
        self.filters = {name: _plain(value) for name, value in filters.items()}
        self._form = form
        if file.is_dir() or not file.parent.is_dir():
            raise ReceiverError(f"{file} can't be a file: {'it is a folder' if file.is_dir() else 'no such folder'}")
        if file.exists() and not overwrite:
            raise ReceiverError(f"{file} is there already: name another, or say --overwrite")
        if not resume and self._part.exists() and not overwrite:
            raise ReceiverError(
                f"{self._part} is of an export that did not end: say --resume, or --overwrite to begin anew"
            )
        if resume and not self._part.exists():
            raise ReceiverError(f"there is no {self._part} to go on with: leave out --resume")
        try:
            self._out = self._open(resume)
        except OSError as error:
            raise ReceiverError(f"{self._part} can't be written: {error.strerror}") from None

    def _open(self, resume: bool) -> BinaryIO:
        out = open(self._part, "r+b" if resume else "ab")  # noqa: SIM115 (closed in __exit__)
        try:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            out.close()
            raise ReceiverError(f"another process writes {self._part}: wait for it") from None
        held = Held(None, 0, 0)
        if resume:
            self._check_asked()
            held = read_held(out, self._form)
        else:
            asked = {"format": self._form, "filters": self.filters}
            self._asked.write_text(json.dumps(asked), "utf-8")
        self.after, self.records, self.bytes = held
        out.truncate(self.bytes)  # a record that was cut off is asked for again
        out.seek(self.bytes)
        return out

    def _check_asked(self) -> None:
        """Takes over the times of the first run. Raises ReceiverError where something else was asked then."""
        try:
            asked = json.loads(self._asked.read_text("utf-8"))
            form, filters = asked["format"], dict(asked["filters"])
        except (OSError, ValueError, LookupError, TypeError):
            raise ReceiverError(
                f"{self._asked} is lost, which says what was asked: begin anew with --overwrite"
            ) from None
        same = {name: value for name, value in filters.items() if name not in TIMES}
        given = {name: value for name, value in self.filters.items() if name not in TIMES}
        if form != self._form or (given and given != same):
            raise ReceiverError(
                f"{self._part} was begun with other filters, or as {form}: say the same, or --overwrite"
            )
        self.filters = filters

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._out.close()

    def write(self, part: bytes) -> None:
        """Adds whole records. Raises ReceiverError where the disk does not take them."""
        try:
            self._out.write(part)
        except OSError as error:
            raise ReceiverError(f"{self._part} can't be written: {error.strerror}. Go on with --resume") from None

    def finish(self) -> None:
        """All is there: FILE gets its name, whole and on the disk. Raises ReceiverError."""
        try:
            self._out.flush()
            os.fsync(self._out.fileno())
            os.replace(self._part, self._file)
            self._asked.unlink(missing_ok=True)
        except OSError as error:
            raise ReceiverError(f"{self._file} can't be written: {error.strerror}. Go on with --resume") from None


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
