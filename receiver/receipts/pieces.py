"""What a file of receipts is cut into, whatever its form."""

from typing import NamedTuple

from receiver.receipts.body import Unreadable

HEAD = 64 * 1024  # bytes of a file that tell its form, and of a body over the limit that are kept


class Piece(NamedTuple):
    """A body, or with a `fault` what could not be one; `end` is the position behind it in the unpacked file."""

    body: bytes
    end: int
    fault: Unreadable | None = None


def cut_off(position: int, detail: str) -> Unreadable:
    """The reason for a body that is torn."""
    return Unreadable("cut_off", f"from byte {position} of the file on: {detail}")


def too_large(position: int, size: int) -> Unreadable:
    """The reason for a body over the limit."""
    return Unreadable("too_large", f"from byte {position} of the file on: {size} bytes; the beginning is kept")
