"""What an operation asks of whoever runs it, and how long it waits before it asks again.

An operation is a generator of steps. It knows the rules and touches no socket and no clock but the one for deadlines;
Client and AsyncClient walk it, each in its own way, and hand back what came of each step.
"""

import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from receiver.client.calls import Answer, Call, refusal
from receiver.client.errors import ApiError, NoAnswer

T = TypeVar("T")

TEMPORARY = frozenset({429, 502, 503, 504})
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 30.0  # seconds
LONGEST_ASKED = 600.0  # seconds that anybody may ask us to wait: more is a mistake, and no clock takes 1e300
LEAST_PAUSE = 0.2  # where `Retry-After: 0` would have us ask without a pause


@dataclass(frozen=True, slots=True)
class Ask:
    """Make the call and give its Answer. NoAnswer is thrown where there is none."""

    call: Call


@dataclass(frozen=True, slots=True)
class Open:
    """Make the call and give the head of its Answer; of a refusal the whole. `silence`: seconds until it is lost."""

    call: Call
    silence: float


@dataclass(frozen=True, slots=True)
class Read:
    """Give the next bytes of what was opened, none at its end. NoAnswer is thrown where it was lost before."""


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Tell(Generic[T]):
    """Hand these to the caller."""

    values: Sequence[T]


Step = Ask | Open | Read | Sleep
Steps = Generator[Step, Any, T]
Flow = Generator[Step | Tell[T], Any, None]


@dataclass(frozen=True)
class Manners:
    """How to treat one receiver. `retries`: how often a call that may be repeated is, at most."""

    url: str
    retries: int = 2


class Tries:
    """How often in a row it failed, and how long to wait after that."""

    def __init__(self) -> None:
        self.failures = 0

    def pause(self, error: ApiError | NoAnswer | None = None, least: float = 0.0) -> float:
        """One more failure: seconds until the next try. What the receiver asks for and a little more, or doubling."""
        self.failures += 1
        asked = error.retry_after if isinstance(error, ApiError) else None
        if asked is not None:
            return max(LEAST_PAUSE, min(asked, LONGEST_ASKED) * random.uniform(1.0, 1.1))
        doubled = min(FIRST_PAUSE * 2.0 ** min(self.failures - 1, 10), LONGEST_PAUSE)
        return max(
            min(least, LONGEST_PAUSE) * random.uniform(1.0, 1.5), random.uniform(0.5, 1.0) * doubled
        )  # never all at once


def may_pass(error: ApiError | NoAnswer) -> bool:
    """Whether the same call may do better later."""
    return not isinstance(error, ApiError) or error.status in TEMPORARY


def asked(call: Call, manners: Manners) -> Steps[Answer]:
    """The answer to a call, where it is repeatable after some tries. Raises ApiError, NoAnswer."""
    tries = Tries()
    while True:
        error: ApiError | NoAnswer
        try:
            answer: Answer = yield Ask(call)
            if answer.status < 400:
                return answer
            error = refusal(answer, manners.url)
        except NoAnswer as lost:
            error = lost
        if not call.repeatable or not may_pass(error) or tries.failures >= manners.retries:
            raise error
        pause = tries.pause(error)
        if pause > LONGEST_PAUSE:  # whoever calls may know something better to do
            raise error
        yield Sleep(pause)
