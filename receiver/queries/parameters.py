"""Reading query parameters: every wrong one is named at once, and nothing is asked of the database before."""

from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from starlette.datastructures import QueryParams

from receiver.asked_time import asked_time
from receiver.web import FieldError

T = TypeVar("T")

MOST_VALUES = 100  # of all parameters together
LONGEST_VALUE = 4_000
YES_NO = {"true": True, "false": False, "yes": True, "no": False}


class Parameters:
    """The parameters of one query. What is wrong with them gathers in `errors`."""

    def __init__(self, given: QueryParams, known: Mapping[str, str]) -> None:
        self.errors: list[FieldError] = []
        self._given = given
        items = given.multi_items()
        if len(items) > MOST_VALUES:
            self.errors.append(FieldError("", "too_many_parameters", f"{len(items)} parameters, {MOST_VALUES} at most"))
            self._given = QueryParams()
            return
        for name in dict.fromkeys(name for name, _ in items):
            if name not in known:
                self.errors.append(FieldError(name[:64], "unknown_parameter", f"it takes {', '.join(known)}"))
        good = []
        for name, value in items:
            if "\0" in value or len(value) > LONGEST_VALUE:
                self.wrong(name[:64], f"no NUL, and {LONGEST_VALUE} characters at most")
            elif name in known and not value:
                self.wrong(name, "it is empty: leave it out, or give it a value")
            else:
                good.append((name, value))
        self._given = QueryParams(good)  # what can't be read at all is not read further

    def wrong(self, name: str, detail: str) -> None:
        """One more parameter is wrong."""
        self.errors.append(FieldError(name, "bad_parameter", detail))

    def texts(self, name: str) -> list[str]:
        """All its values, as they came."""
        return self._given.getlist(name)

    def single(self, name: str) -> str | None:
        """Its one value."""
        values = self._given.getlist(name)
        if len(values) > 1:
            self.wrong(name, "it takes one value")
        return values[0] if values else None

    def choose(self, name: str, table: Mapping[str, T]) -> list[T]:
        """What its values mean, which are words of `table`."""
        values = dict.fromkeys(self._given.getlist(name))
        if any(value not in table for value in values):
            self.wrong(name, f"it takes one of {', '.join(table)}")
        return [table[value] for value in values if value in table]

    def choose_one(self, name: str, table: Mapping[str, T]) -> T | None:
        """What its one value means."""
        self.single(name)
        chosen = self.choose(name, table)
        return chosen[0] if chosen else None

    def ids(self, name: str, what: str) -> list[UUID]:
        """Its values as ids."""
        found = []
        for value in self._given.getlist(name):
            try:
                found.append(UUID(value))
            except ValueError:
                self.wrong(name, f"it takes {what}")
        return found

    def time(self, name: str) -> datetime | None:
        """Its one value as a time, in UTC."""
        return asked_time(name, self.single(name), self.errors)

    def span(self, begin: str, end: str) -> tuple[datetime | None, datetime | None]:
        """Two times, the second after the first."""
        first, last = self.time(begin), self.time(end)
        if first and last and first >= last:
            self.wrong(end, f"it is not after {begin}")
        return first, last

    def whole(self, name: str, least: int, most: int, default: int) -> int:
        """Its one value as a whole number."""
        text = self.single(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and least <= int(text) <= most):
            self.wrong(name, f"it takes a number from {least} to {most}")
            return default
        return int(text)
