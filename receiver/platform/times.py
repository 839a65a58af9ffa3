"""The platform's time stamps, in all the spellings in which they have been seen."""

import re
from datetime import UTC, datetime, timedelta, tzinfo
from email.utils import parsedate_to_datetime

_SHORT_OFFSET = re.compile(r" ?([+-])(\d)(:?\d\d)$")
_NO_OFFSET = re.compile(r"[+-]\d\d?:?[6-9]\d$")  # minutes beyond the hour, which Python would add up
_COMPACT = re.compile(r"(\d{8})(\d{6})")
_EPOCH = re.compile(r"[0-9]{10}|[0-9]{13}")
_EARLIEST, _LATEST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def moment(text: str, zone: tzinfo) -> datetime | None:
    """A time stamp as told, in UTC; bare ones are in `zone`; None for what is no time, or outside 1990 to 2100.

    `2015-04-12T18:30:19.456+5:30`, with its one-digit hour, is the platform's own documented spelling.
    """
    if (len(text) == 29 or len(text) == 24) and (when := _as_told_today(text)) is not None:
        return when if _EARLIEST <= when < _LATEST else None
    if not text or len(text) > 64 or _NO_OFFSET.search(text):
        return None
    try:
        if _EPOCH.fullmatch(text):
            when = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=int(text.ljust(13, "0")))
        elif text.isdigit() and len(text) not in (8, 14):
            return None  # 201607201123456 would be read as a date, a separator and a time
        elif text[0].isdigit():
            when = _from_iso(text)
        else:
            when = parsedate_to_datetime(text)
        when = (when if when.tzinfo else when.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError, TypeError, IndexError, AttributeError):
        return None
    return when if _EARLIEST <= when < _LATEST else None


def _as_told_today(text: str) -> datetime | None:
    """A time stamp of 29 or 24 characters as today's platform writes it, `…T13:53:13.749+01:00` or `…Z`, in UTC;
    None for all others.

    What the patterns of `moment` make sure of, such a stamp shows by its length and a few of its characters.
    """
    if len(text) == 29:
        if text[23] not in "+-" or text[26] != ":" or text[27] > "5":
            return None
    elif text[23] != "Z":
        return None
    if text[10] != "T" or not text[0].isdigit():
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _from_iso(text: str) -> datetime:
    """ISO 8601, and what is nearly it: an offset of one digit, a blank before the zone, UTC in letters, no signs."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        if compact := _COMPACT.fullmatch(text):
            return datetime.fromisoformat(f"{compact[1]}T{compact[2]}")
        text = _SHORT_OFFSET.sub(r"\g<1>0\2\3", text)
        text = re.sub(r" (?:UTC|GMT)$", "Z", text)
        return datetime.fromisoformat(re.sub(r" (?=[+-]\d\d:?\d\d$)", "", text))
