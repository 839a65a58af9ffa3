"""The rows that were not sent, each with its number and the reason: mended, the file can be sent itself."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from receiver.cli.rows import JSON_SUFFIXES, Row, RowFile
from receiver.errors import ReceiverError

NUMBER, REASON = "row", "reason"


def rejects_path(file: Path) -> Path:
    """Where the rejected rows of a file go: beside it, in its own format."""
    return file.with_name(f"{file.name}.rejected{'.jsonl' if file.suffix.lower() in JSON_SUFFIXES else '.csv'}")


class Rejects:
    """A file that is made with the first rejected row. `separator` and `columns` are those of the file that is sent.

    Rows that an earlier run wrote down and did not finish come again (`unfinished`): each stands in the file once.
    """

    def __init__(
        self, path: Path, columns: Sequence[str], separator: str, *, resumed: bool, unfinished: Sequence[range] = ()
    ) -> None:
        """Raises ReceiverError for a file that an earlier sending left and nobody has moved away."""
        if not resumed and path.exists():
            raise ReceiverError(f"{path} is there already, of an earlier sending: move it away")
        self.path, self._json = path, path.suffix == ".jsonl"
        self._separator = separator
        self._columns = [NUMBER, REASON, *(name for name in columns if name not in (NUMBER, REASON))]
        self._file: IO[str] | None = None
        self._there = self._numbers(unfinished) if unfinished and path.exists() else frozenset()

    def _numbers(self, among: Sequence[range]) -> frozenset[int]:
        """Which of these rows the file holds."""
        told = (row.fields.get(NUMBER, "") for row in RowFile(self.path, self._separator).rows())
        numbers = (int(number) for number in told if number.isascii() and number.isdigit())
        return frozenset(number for number in numbers if any(number in rows for rows in among))

    def write(self, rejected: Sequence[tuple[Row, str]]) -> None:
        """Appends rows and flushes. Raises ReceiverError when the file can't be written."""
        rejected = [(row, reason) for row, reason in rejected if row.number not in self._there]
        if not rejected:
            return
        try:
            if self._file is None:
                self._file = self.path.open("a", encoding="utf-8", newline="")
                if not self._json and not self._file.tell():
                    csv.writer(self._file, delimiter=self._separator).writerow(self._columns)
            for row, reason in rejected:
                self._row({**row.fields, NUMBER: str(row.number), REASON: reason}, self._file)
            self._file.flush()
        except OSError as error:
            raise ReceiverError(f"{self.path} can't be written: {error.strerror}") from None

    def _row(self, fields: dict[str, str], file: IO[str]) -> None:
        if self._json:
            file.write(json.dumps(fields) + "\n")
        else:
            values = [fields.get(name, "") for name in self._columns]
            csv.writer(file, delimiter=self._separator).writerow(values)

    def close(self) -> None:
        """Closes the file, where there is one."""
        if self._file is not None:
            self._file.close()
