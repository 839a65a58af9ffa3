"""The platform's time stamps, in all the spellings in which they have been seen."""

import re
from datetime import UTC, datetime, timedelta, tzinfo
from email.utils import parsedate_to_datetime

_SHORT_OFFSET = re.compile(r"([+-])(\d)(:?\d\d)$")
_EPOCH = re.compile(r"[0-9]{10}|[0-9]{13}")
_EARLIEST, _LATEST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def moment(text: str, zone: tzinfo) -> datetime | None:
    """A time stamp as told, in UTC; bare ones are in `zone`; None for what is no time, or outside 1990 to 2100.

    `2015-04-12T18:30:19.456+5:30`, with its one-digit hour, is the platform's own documented spelling.
    """
    if not text or len(text) > 64:
        return None
    try:
        if _EPOCH.fullmatch(text):
            when = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=int(text.ljust(13, "0")))
        elif text[0].isdigit():
            when = datetime.fromisoformat(_SHORT_OFFSET.sub(r"\g<1>0\2\3", text))
        else:
            when = parsedate_to_datetime(text)
        when = (when if when.tzinfo else when.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError, TypeError):
        return None
    return when if _EARLIEST <= when < _LATEST else None
