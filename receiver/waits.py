"""How long a channel's final word usually takes, and when it is given up: what the operator may choose of both.

Channels are words here, as settings spell them; `messages/patience.py` says what follows for a message.
"""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import NamedTuple

from receiver.environment import Reader


class Waits(NamedTuple):
    """Two times of a channel, both counted from the send."""

    usual: timedelta
    """After it a message without a final word is looked at, and the platform may be asked."""
    patience: timedelta
    """After it a message of which nothing final was told is `no_receipt`."""


_MINUTES, _HOUR, _HOURS, _DAYS = timedelta(minutes=15), timedelta(hours=1), timedelta(hours=72), timedelta(days=28)

# Every channel; docs/states.md gives the reasons. Each different usual time costs one more reading of the messages.
DEFAULTS: dict[str, Waits] = {
    "other": Waits(_MINUTES, _HOURS),
    "sms": Waits(_MINUTES, _HOURS),
    "voice": Waits(_MINUTES, timedelta(hours=6)),
    "push": Waits(_HOUR, _DAYS),
    "rt": Waits(_HOUR, _DAYS),
    "messenger": Waits(_HOUR, timedelta(days=7)),
    "twitter": Waits(_HOUR, timedelta(days=7)),
    "wechat": Waits(_HOUR, timedelta(days=7)),
    "whatsapp": Waits(_HOUR, _DAYS),
    "rcs": Waits(_HOUR, timedelta(days=7)),
    "email": Waits(_HOUR, timedelta(days=5)),
    "apple": Waits(_MINUTES, timedelta(hours=24)),
    "mms": Waits(_MINUTES, _HOURS),
    "instagram": Waits(_HOUR, timedelta(days=7)),
    "event": Waits(_MINUTES, timedelta(hours=24)),
    "campaign": Waits(_MINUTES, timedelta(hours=24)),
}
LEAST_USUAL = timedelta(seconds=5)  # below it the walk would meet what is being committed right now
MOST = timedelta(days=3650)  # the longest retention

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]{1,9})([smhd])")


def read_duration(text: str) -> timedelta | None:
    """`90s`, `15m`, `72h`, `28d`; None for what is none of them, for nothing, and for more than ten years."""
    found = _DURATION.fullmatch(text)
    duration = timedelta(seconds=int(found[1]) * UNITS[found[2]]) if found else timedelta(0)
    return duration if timedelta(0) < duration <= MOST else None


def duration_text(duration: timedelta) -> str:
    """A duration as settings spell it, in the largest unit that fits: `72h` is `3d`."""
    seconds = int(duration.total_seconds())
    unit = next(unit for unit in ("d", "h", "m", "s") if seconds % UNITS[unit] == 0)
    return f"{seconds // UNITS[unit]}{unit}"


def read_waits(reader: Reader) -> dict[str, Waits]:
    """USUAL_TIMES and PATIENCES over the defaults. What is wrong is added to the reader's problems."""
    waits = dict(DEFAULTS)
    for name, change in (("USUAL_TIMES", _with_usual), ("PATIENCES", _with_patience)):
        _change(reader, name, waits, change)
    for channel, wait in waits.items():
        if wait.usual >= wait.patience:
            reader.problems.append(
                f"the usual time of {channel} is {duration_text(wait.usual)} and its patience"
                f" {duration_text(wait.patience)}: RECEIVER_USUAL_TIMES must be less than RECEIVER_PATIENCES"
            )
    return waits


def longest_patience(waits: Mapping[str, Waits]) -> tuple[str, timedelta]:
    """The channel that is waited for longest, and how long."""
    channel = max(waits, key=lambda word: waits[word].patience)
    return channel, waits[channel].patience


def _with_usual(wait: Waits, duration: timedelta) -> Waits | None:
    return wait._replace(usual=duration) if duration >= LEAST_USUAL else None


def _with_patience(wait: Waits, duration: timedelta) -> Waits | None:
    return wait._replace(patience=duration)


def _change(
    reader: Reader, name: str, waits: dict[str, Waits], change: Callable[[Waits, timedelta], Waits | None]
) -> None:
    said = set[str]()
    for part in filter(None, (part.strip() for part in (reader.text(name) or "").split(","))):
        channel, _, text = (piece.strip().lower() for piece in part.partition("="))
        duration = read_duration(text)
        changed = change(waits[channel], duration) if channel in waits and duration else None
        if channel in said:
            reader.problems.append(f"RECEIVER_{name} names {channel} twice")
        elif channel not in waits:
            reader.problems.append(f"RECEIVER_{name} names {channel!r}: it takes {', '.join(waits)}")
        elif changed is None:
            reader.problems.append(
                f"RECEIVER_{name} has {part!r}: it takes a channel and a time such as sms=15m, in s, m, h or d,"
                f" from {duration_text(LEAST_USUAL)} to {duration_text(MOST)}"
            )
        else:
            waits[channel] = changed
        said.add(channel)
