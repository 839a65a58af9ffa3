"""A Messaging v1 body with `{column}` placeholders, filled in for each row.

A placeholder may stand in any text of the body, alone or among words; `{{` and `}}` stand for the braces themselves.
What differs from recipient to recipient anyway is no part of the filled body: the template's own `correlationid` is
filled in for each entry of `destination`. So rows that fill the rest alike can share a call.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from receiver.errors import ReceiverError

_PARTS = re.compile(r"(\{\{|\}\}|\{[^{}]*\}|[{}])")
OURS = {"destination": "the recipients come from the file"}


class Text:
    """A text with placeholders: literal parts, and columns in between."""

    def __init__(self, text: str) -> None:
        """Raises ValueError, with a sentence, for braces that are neither placeholders nor doubled."""
        self._parts: list[tuple[str, str | None]] = []  # a literal and the column behind it
        literal = ""
        for part in _PARTS.split(text):
            if part in ("{{", "}}"):
                literal += part[0]
            elif part in ("{", "}"):
                raise ValueError(f"a lone {part} in {_short(text)}: for the brace itself write {part * 2}")
            elif part.startswith("{"):
                if not part[1:-1].strip():
                    raise ValueError(f"an empty placeholder in {_short(text)}: for the braces write {{{{}}}}")
                self._parts.append((literal, part[1:-1].strip()))
                literal = ""
            else:
                literal += part
        self._end = literal
        self.columns = tuple(dict.fromkeys(column for _, column in self._parts if column is not None))

    def fill(self, fields: Mapping[str, str]) -> str:
        """The text with the fields of a row. Raises KeyError for a column that the row has not."""
        return "".join(literal + fields[str(column)] for literal, column in self._parts) + self._end


class BodyTemplate:
    """The body of every call but its recipients. `columns` are those that its placeholders name."""

    def __init__(self, path: Path) -> None:
        """Reads and checks the template. Raises ReceiverError, one sentence, for what can't be one."""
        raw = _read(path)
        self.path, self.sha256 = path, hashlib.sha256(raw).hexdigest()
        try:
            body = json.loads(raw.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise ReceiverError(f"{path} is no JSON: {error}") from None
        if not isinstance(body, dict):
            raise ReceiverError(f"{path} holds no JSON object: it takes a Messaging v1 body without destination")
        for name, reason in OURS.items():
            if name in body:
                raise ReceiverError(f"{path} has a {name}: take it out, {reason}")
        self._places: dict[str, tuple[str, ...]] = {}
        try:
            own = body.pop("correlationid", None)
            self.correlationid = Text(str(own)) if own not in (None, "") else None
            self._body = self._parsed(body, "")
        except ValueError as error:
            raise ReceiverError(f"{path}: {error}") from None
        self.body_columns = tuple(dict.fromkeys(column for columns in self._places.values() for column in columns))
        own_columns = self.correlationid.columns if self.correlationid else ()
        self.columns = tuple(dict.fromkeys((*self.body_columns, *own_columns)))

    def fill(self, values: Mapping[str, str]) -> dict[str, Any]:
        """The body with the fields of a row. Raises KeyError for a column that the row has not."""
        filled: dict[str, Any] = _filled(self._body, values)
        return filled

    def is_of_a_row(self, pointer: str) -> bool:
        """Whether what stands at a JSON pointer of the body differs from row to row."""
        return any(
            pointer == place or pointer.startswith(f"{place}/") or (pointer and pointer == place.rpartition("/")[0])
            for place in self._places
        )

    def _parsed(self, value: Any, pointer: str) -> Any:
        if isinstance(value, str):
            text = Text(value)
            if not text.columns:
                return text.fill({})
            self._places[pointer] = text.columns
            return text
        if isinstance(value, list):
            return [self._parsed(item, f"{pointer}/{index}") for index, item in enumerate(value)]
        if isinstance(value, dict):
            return {name: self._parsed(item, f"{pointer}/{_escaped(name)}") for name, item in _named(value)}
        return value


def _named(value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, item in value.items():
        if any(part.startswith("{") and part.endswith("}") and len(part) > 2 for part in _PARTS.split(name)):
            raise ValueError(f"the name {name!r} holds a placeholder: only texts are filled in")
        yield name, item


def _filled(value: Any, fields: Mapping[str, str]) -> Any:
    if isinstance(value, Text):
        return value.fill(fields)
    if isinstance(value, list):
        return [_filled(item, fields) for item in value]
    if isinstance(value, dict):
        return {name: _filled(item, fields) for name, item in value.items()}
    return value


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "…")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ReceiverError(f"{path} can't be read: {error.strerror}") from None
