"""The cells of the statistics: which messages a column of `cohort_state` counts, what a number of `cohort_lag` says.

A row of `cohort_state` counts the messages of one cell, a column a state; those that failed have one a class.
"""

import struct
from itertools import accumulate
from operator import add
from typing import NamedTuple

from receiver.messages.lattice import NEGATIVE_STATES, State

CLASSES = range(7)  # platform/codes.py Class


class Column(NamedTuple):
    """A column, and whom it counts. States without a reason have the class 0."""

    name: str
    state: State
    code_class: int


COLUMNS = tuple(
    column
    for state in State
    for column in (
        [Column(f"n{int(state)}_{one}", state, one) for one in CLASSES]
        if state in NEGATIVE_STATES
        else [Column(f"n{int(state)}", state, 0)]
    )
)
NAMES = tuple(column.name for column in COLUMNS)

# A number of `cohort_lag` counts the class n of lag_v1 in its decimal digits from 12 n on: adding two adds up all
# classes at once, and Postgres keeps neither the zeros before nor those behind.
DIGITS = 12
_A_CLASS = 10**DIGITS
_BY_TEN_THOUSAND = tuple(n * 10_000 for n in range(10_000))


def counted(counts: int) -> dict[int, int]:
    """How many there are of each class of which there are any, lowest first.

    A class may be short of some for a moment, while the fold has seen them leave and not come: it borrows of the next.
    """
    found, lag_class = dict[int, int](), 0
    while counts:
        counts, here = divmod(counts, _A_CLASS)
        if here >= _A_CLASS // 2:
            here, counts = here - _A_CLASS, counts + 1
        if here:
            found[lag_class] = here
        lag_class += 1
    return found


class Summed(NamedTuple):
    """Classes from `first` on: how many messages have each of them or a lower one."""

    first: int
    up_to: list[int]


def summed(sent: bytes) -> Summed:
    """The sums of a number as Postgres sends it (numeric_send): groups of four digits, the highest first."""
    digits, weight, sign, _ = struct.unpack_from(">HhHH", sent)
    if not digits:
        return Summed(0, [0])
    before = 2 - weight % 3
    behind = -(before + digits) % 3
    groups = struct.unpack(f">{before + digits + behind}H", bytes(2 * before) + sent[8:] + bytes(2 * behind))
    first = weight // 3 + 1 - len(groups) // 3
    if sign or any(groups[0::3]):  # a hundred million of one class, or one that is short of some
        return _of_any(groups, first, negative=bool(sign))
    here, more = groups[::-3], groups[-2::-3]  # the lowest class first
    if any(more):
        return Summed(first, list(accumulate(map(add, here, map(_BY_TEN_THOUSAND.__getitem__, more)))))
    return Summed(first, list(accumulate(here)))


def _of_any(groups: tuple[int, ...], first: int, *, negative: bool) -> Summed:
    whole = 0
    for group in groups:
        whole = whole * 10_000 + group
    here = counted(-whole if negative else whole)
    return Summed(first, list(accumulate(max(here.get(n, 0), 0) for n in range(max(here) + 1))))
