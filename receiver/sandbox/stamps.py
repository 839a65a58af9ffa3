"""Time stamps that are moved: the same spelling, another time."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final

_ISO: Final = re.compile(r"(\d{4}-\d\d-\d\d)([T ])(\d\d:\d\d:\d\d)(\D.*)?")
_COMPACT: Final = re.compile(r"\d{14}")
_EPOCH: Final = re.compile(r"[0-9]{10}|[0-9]{13}")
# The value under a key that holds a time stamp, also within a text that was encoded twice.
_STAMPED: Final = re.compile(
    r'(?P<key>\\*"(?:timestamp|deliverydate)\\*"\s*:\s*)(?:(?P<quote>\\*")(?P<text>[^"\\]+)|(?P<number>\d+))',
    re.IGNORECASE,
)


def moved(stamp: str, by: timedelta) -> str | None:
    """`stamp` moved by whole seconds, in the same spelling; None for what is no time."""
    text = stamp.strip()
    try:
        if found := _ISO.fullmatch(text):
            at = datetime.fromisoformat(f"{found[1]}T{found[3]}") + by
            return f"{at:%Y-%m-%d}{found[2]}{at:%H:%M:%S}{found[4] or ''}"
        if _COMPACT.fullmatch(text):
            return f"{datetime.strptime(text, '%Y%m%d%H%M%S') + by:%Y%m%d%H%M%S}"
        if _EPOCH.fullmatch(text):
            scale = 1 if len(text) == 10 else 1000
            return str(int(text) + int(by.total_seconds()) * scale).zfill(len(text))
        if text[:1].isalpha() and len(text) <= 64:
            return format_datetime(parsedate_to_datetime(text) + by)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return None


def all_moved(body: str, by: timedelta) -> str:
    """`body`, a JSON text, with each of its time stamps moved by whole seconds; what is no time stays."""
    return _STAMPED.sub(_mover(by), body)


def _mover(by: timedelta) -> Callable[[re.Match[str]], str]:
    def move(found: re.Match[str]) -> str:
        stamp = found["text"] or found["number"]
        return found["key"] + (found["quote"] or "") + (moved(stamp, by) or stamp)

    return move
