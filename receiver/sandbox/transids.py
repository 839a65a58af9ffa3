"""Transids: how many of them an answer bears, and which of them receipts repeat. Nobody has documented it."""

from collections.abc import Sequence
from typing import Literal
from uuid import uuid4

#   request   one for the whole request, in the answer and in every receipt
#   entry     one for each entry of `destination`
#   value     one for each value of each entry
#   suffixed  one for the whole request in the answer; receipts bear it with `_0`, `_1`, ... by value
Transids = Literal["request", "entry", "value", "suffixed"]


def new_transid() -> str:
    """A transid that no other run has given out, seeded or not: receivers keep them for weeks."""
    return str(uuid4())


def give_out(form: Transids, entries: Sequence[int]) -> tuple[list[str], list[tuple[str, str]]]:
    """The transids of the answer, and for each value the one it was answered under and the one its receipts bear.

    `entries` holds, for each value, the place of its entry.
    """
    match form:
        case "request":
            one = new_transid()
            return [one], [(one, one)] * len(entries)
        case "suffixed":
            one = new_transid()
            return [one], [(one, f"{one}_{place}") for place in range(len(entries))]
        case "entry":
            by_entry = {entry: new_transid() for entry in entries}
            return list(by_entry.values()), [(by_entry[entry],) * 2 for entry in entries]
        case "value":
            each = [new_transid() for _ in entries]
            return each, [(one, one) for one in each]
