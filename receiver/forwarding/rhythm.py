"""When a receipt that was not taken goes on again: as the platform would, and then for three days more."""

from datetime import datetime, timedelta
from enum import StrEnum

from receiver.platform.retries import GIVEN_UP_AT_ONCE

# The platform's own three, and then a longer one: 5, 15, 30 and 60 minutes, and each hour until the row expires.
DELAYS = tuple(timedelta(minutes=minutes) for minutes in (1, 1, 1, 5, 15, 30, 60))
PATIENCE = timedelta(hours=72)  # the same in forward_v1


class Result(StrEnum):
    """What came of one try."""

    TAKEN = "taken"
    RETRIED = "retried"
    GIVEN_UP = "given_up"
    REFUSED = "refused"
    GONE = "gone"  # the receipt itself went with its week
    DROPPED = "dropped"


def result_of(status: int) -> Result:
    """What an answer means, by the list of the platform; the platform tells nothing again after a 2xx either."""
    if 200 <= status < 300:
        return Result.TAKEN
    return Result.GIVEN_UP if status in GIVEN_UP_AT_ONCE else Result.RETRIED


def is_trouble(status: int | None) -> bool:
    """Whether the host itself is in trouble: it can't be reached (None), is too busy, or fails."""
    return status is None or status >= 500 or status in (408, 429)


def next_try(attempts: int, now: datetime, expires_at: datetime) -> datetime | None:
    """When it is tried again after `attempts` tries; None: no more."""
    at = now + DELAYS[min(max(attempts, 1), len(DELAYS)) - 1]
    return at if at < expires_at else None
