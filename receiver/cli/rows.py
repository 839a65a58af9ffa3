"""Reads a file of recipients row by row: CSV with a header, or JSON Lines. Never holds more than a row."""

import csv
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO

from receiver.errors import ReceiverError

JSON_SUFFIXES = {".jsonl", ".ndjson"}
LONGEST_LINE = 1 << 20  # characters of a line of JSON; a field of CSV is bounded at 131,072 by the csv module
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
OPTIONS = {";": "';'", "\t": "tab", "|": "'|'"}  # as they are typed


class Row(NamedTuple):
    """One row below the header; the first is number 1. `fault` says why it can't be sent as it stands."""

    number: int
    fields: Mapping[str, str]
    fault: str | None = None


class RowFile:
    """A file of recipients that can be read again and again. `columns` are those of its header."""

    def __init__(self, path: Path, separator: str = ",") -> None:
        """Opens the file once for its header. Raises ReceiverError for what is no such file."""
        self.path = path
        self._json = path.suffix.lower() in JSON_SUFFIXES
        self.separator = separator = "\t" if separator == "tab" else separator
        if len(separator) != 1 or separator in '"\r\n':
            raise ReceiverError(f"--separator is {separator!r}: it takes one character")
        if not path.is_file():
            raise ReceiverError(f"{path} is no file" if path.exists() else f"{path} is not there")
        with self._open() as file:
            self.columns = self._first_columns(file)

    def rows(self) -> Iterator[Row]:
        """Every row in order; blank lines do not count. Raises ReceiverError for what can't be read any further."""
        with self._open() as file:
            yield from self._json_rows(file) if self._json else self._csv_rows(file)

    @contextmanager
    def _open(self) -> Iterator[TextIO]:
        try:
            # a line break inside quotes is the csv module's to judge, hence newline=""
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                yield file
        except UnicodeDecodeError:
            raise ReceiverError(f"{self.path} is not UTF-8: save it as `CSV UTF-8`, or convert it") from None
        except OSError as error:
            raise ReceiverError(f"{self.path} can't be read: {error.strerror}") from None

    def _first_columns(self, file: TextIO) -> tuple[str, ...]:
        if self._json:
            first = next(self._json_rows(file), None)
            if first is None:
                raise ReceiverError(f"{self.path} is empty")
            if first.fault:
                raise ReceiverError(f"{self.path}: the first line must be a JSON object: {first.fault}")
            return tuple(first.fields)
        try:
            header = next(csv.reader(file, delimiter=self.separator, strict=True), None)
        except csv.Error as error:
            raise ReceiverError(f"{self.path}: the header can't be read: {error}") from None
        return self._checked(header)

    def _checked(self, header: list[str] | None) -> tuple[str, ...]:
        if not header or not any(name.strip() for name in header):
            raise ReceiverError(f"{self.path} has no header: its first line must name the columns")
        columns = tuple(name.strip() for name in header)
        for character, word in SEPARATORS.items():
            if len(columns) == 1 and character in columns[0] and character != self.separator:
                raise ReceiverError(f"{self.path} is separated by {word}: give --separator {OPTIONS[character]}")
        if "" in columns:
            raise ReceiverError(f"{self.path}: column {columns.index('') + 1} of the header has no name")
        for name in columns:
            if columns.count(name) > 1:
                raise ReceiverError(f"{self.path}: the header names {name!r} twice")
        return columns

    def _csv_rows(self, file: TextIO) -> Iterator[Row]:
        reader = csv.reader(file, delimiter=self.separator, strict=True)
        number, wanted = 0, len(self.columns)
        try:
            next(reader, None)
            for values in reader:
                if not values:
                    continue
                number += 1
                fields = dict(zip(self.columns, values, strict=False))
                fault = None
                if len(values) != wanted:
                    fault = f"the row has {len(values)} fields, the header {wanted}"
                yield Row(number, fields, fault)
        except csv.Error as error:
            where = f"row {number + 1} (before line {reader.line_num + 1})"
            raise ReceiverError(f"{self.path}: {where} can't be read: {error}: is a quote open or doubled?") from None

    def _json_rows(self, file: TextIO) -> Iterator[Row]:
        number = 0
        while line := file.readline(LONGEST_LINE):
            if len(line) == LONGEST_LINE:
                raise ReceiverError(f"{self.path}: line {number + 1} is longer than {LONGEST_LINE} characters")
            if not line.strip():
                continue
            number += 1
            yield _json_row(number, line)


def _json_row(number: int, line: str) -> Row:
    try:
        value = json.loads(line, parse_float=str)  # as it was written: a long number is no float
    except (ValueError, RecursionError) as error:
        return Row(number, {"line": line.rstrip("\r\n")}, f"no JSON: {error}")
    if not isinstance(value, dict):
        return Row(number, {"line": line.rstrip("\r\n")}, "no JSON object")
    fields, fault = {}, None
    for name, field in value.items():
        if isinstance(field, dict | list):
            fault = fault or f"{name} is an object or a list: it takes a text or a number"
        fields[name] = field if isinstance(field, str) else "" if field is None else json.dumps(field)
    try:
        "".join(fields.values()).encode()
    except UnicodeEncodeError:
        fault = "half of a surrogate pair is no character"
    return Row(number, fields, fault)
