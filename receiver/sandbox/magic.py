"""Magic destinations: sms numbers whose fate is fixed, in the range reserved for fiction.

447700900000 to 447700900999 are never given to a subscriber, so that a request that strays to the
real platform reaches nobody. The numbers are matched without a leading `+`.
"""

from dataclasses import dataclass
from typing import Final

from receiver.sandbox.script import (
    DELIVERED_SCRIPT,
    EARLY_SCRIPT,
    INVALID_SENDER,
    OUT_OF_COVERAGE,
    SILENT_SCRIPT,
    TWICE_SCRIPT,
    Script,
    failed,
    undelivered,
)

DELIVERED: Final = "447700900001"
UNDELIVERED: Final = "447700900002"
FAILED: Final = "447700900003"
SILENT: Final = "447700900004"
TWICE: Final = "447700900005"
EARLY: Final = "447700900006"


@dataclass(frozen=True, slots=True)
class Magic:
    """One row of the table."""

    name: str
    number: str
    happens: str
    script: Script


TABLE: Final = (
    Magic("delivered", DELIVERED, "Submitted, then Delivered 7500", DELIVERED_SCRIPT),
    Magic("undelivered", UNDELIVERED, "Submitted, then Undelivered 7207", undelivered(OUT_OF_COVERAGE)),
    Magic("failed", FAILED, "Failed 7101, never Submitted", failed(INVALID_SENDER)),
    Magic("silent", SILENT, "queued, and no receipt ever", SILENT_SCRIPT),
    Magic("twice", TWICE, "Submitted, Delivered, and both again in that order, byte for byte", TWICE_SCRIPT),
    Magic("early", EARLY, "Submitted and Delivered are told before the submission is answered", EARLY_SCRIPT),
)

_BY_NUMBER: Final = {row.number: row.script for row in TABLE}


def script_of(number: str) -> Script | None:
    """The fixed script of `number` (no leading `+`), or None for an ordinary one."""
    return _BY_NUMBER.get(number)
