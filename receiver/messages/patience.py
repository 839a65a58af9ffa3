"""What is to be done about a message whose final word has not come by its channel's usual time.

Pure: what is known of the message and a clock in, one decision out. `upkeep/awaiter.py` carries it out.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import NamedTuple

from receiver.messages.lattice import Channel, State, is_final
from receiver.waits import Waits

# The platform tells a receipt again for about four minutes before it drops it: what comes within them was pushed.
TELLING = timedelta(seconds=240)
# The states that a run-out patience ends: sent for certain, and nothing final was told.
SWEPT = frozenset({State.ACCEPTED, State.SUBMITTED, State.ENDED})


class Seen(NamedTuple):
    """What is known of a message that is waited for. `state` None: it went with its week."""

    state: State | None
    merged: bool = False
    since: datetime | None = None
    """When it was sent, by our clock."""
    heard_at: datetime | None = None
    """When its first final receipt came in, by whatever feed; None: none did, the final word was ours or an answer."""
    pushed: bool = False
    """Whether the platform told any final receipt by itself."""
    walked: bool = True
    """Whether the walk has passed it. Before that it may neither be counted nor left: the walk would do so again."""
    has_transid: bool = False
    """Whether there is anything that the platform could be asked for."""


class What(Enum):
    """What is to be done."""

    LEAVE = "leave"
    PUSHED = "pushed"
    """Leave it, and count that the platform told by itself."""
    MISSED = "missed"
    """Leave it, and count that we had to find out."""
    GIVE_UP = "give up"
    LATER = "later"


class Decision(NamedTuple):
    """What is to be done; the times are those of LATER."""

    what: What
    look_at: datetime | None = None
    overdue_at: datetime | None = None
    poll_at: datetime | None = None
    """From when on the platform may be asked; None: there is nothing to ask for."""


def waits_of(channels: Mapping[str, Waits]) -> dict[Channel, Waits]:
    """The operator's choice, by channel."""
    return {channel: channels[channel.word] for channel in Channel}


def grace(waits: Waits) -> timedelta:
    """How long after the first final receipt of another feed a push still counts as one."""
    return min(TELLING, waits.usual)


def decide(seen: Seen, channel: Channel, waits: Waits, expected: timedelta, now: datetime) -> Decision:
    """What to do about a message now. `expected`: nearly all of its kind have their final word by then."""
    if seen.state is None or seen.merged or seen.state is State.NO_RECEIPT or seen.since is None:
        return Decision(What.LEAVE)
    if is_final(seen.state, channel):
        return _of_final(seen, waits, now)
    overdue_at = seen.since + min(expected, waits.patience)
    look_at = now + _gap(now - seen.since, waits)
    if now < overdue_at:
        look_at = min(look_at, overdue_at)
    if seen.state in SWEPT:
        end = seen.since + waits.patience
        if now >= end:
            return Decision(What.GIVE_UP)
        look_at = min(look_at, end)
    poll_at = max(now, seen.since + waits.usual) if seen.has_transid else None
    return Decision(What.LATER, look_at, overdue_at, poll_at)


def _of_final(seen: Seen, waits: Waits, now: datetime) -> Decision:
    if not seen.walked:
        return Decision(What.LATER, now + waits.usual)
    if seen.heard_at is None:
        return Decision(What.LEAVE)
    if seen.pushed:
        return Decision(What.PUSHED)
    end = seen.heard_at + grace(waits)
    return Decision(What.MISSED) if now >= end else Decision(What.LATER, min(end, now + waits.usual))


def _gap(age: timedelta, waits: Waits) -> timedelta:
    """Until the next look: a quarter of the message's age, between the usual time and a quarter of the patience."""
    return max(min(age, waits.patience) / 4, waits.usual)
