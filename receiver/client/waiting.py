"""Waiting for a message: for longer than one call may last, and through a receiver that starts anew meanwhile."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from receiver.client.asking import seen
from receiver.client.calls import message_call, refusal
from receiver.client.errors import ApiError, NoAnswer
from receiver.client.message_shapes import Look, MessageWithTimeline
from receiver.client.steps import Ask, Manners, Sleep, Steps, Tries, may_pass

LONGEST_CALL = 55.0  # seconds; the receiver takes 60, and many a proxy cuts at 60
SHORTEST_CALL = 0.05

ARRIVED = frozenset({"delivered", "read"})
WITH_THE_OPERATOR = ARRIVED | {"submitted", "ended"}

Until = Literal["final", "delivered", "submitted", "change"]
Outcome = Literal["reached", "unreachable", "timeout"]


class Waited(NamedTuple):
    """What the message is now, and whether what was waited for is so.

    `unreachable`: its last word is another, and it will not be so any more. `timeout`: not yet.
    """

    message: MessageWithTimeline
    outcome: Outcome


def is_reached(message: Mapping[str, Any], until: Until) -> bool:
    """Whether what is waited for is so. A change is none by itself: it takes two looks."""
    match until:
        case "final":
            return bool(message["final"])
        case "delivered":
            return message["state"] in ARRIVED
        case "submitted":
            return message["state"] in WITH_THE_OPERATOR or message["submitted_at"] is not None
        case "change":
            return False


def wait(
    message_id: str,
    until: Until,
    seconds: float,
    manners: Manners,
    clock: Callable[[], float] = time.monotonic,
) -> Steps[Waited]:
    """The message when it is so, will never be so, or `seconds` have passed. Raises ApiError, NoAnswer.

    Once the receiver has answered, it is waited for until then, whatever befalls it.
    """
    deadline = clock() + seconds
    first: Look | None = None
    last: MessageWithTimeline | None = None
    tries = Tries()
    while True:
        left = deadline - clock()
        if first is None:
            call = message_call(message_id)  # what is so already is answered at once, and a wrong id is told
        else:
            call = message_call(message_id, max(SHORTEST_CALL, min(left, LONGEST_CALL)), until, first.etag)
        try:
            answer = yield Ask(call)
            if answer.status >= 400:
                raise refusal(answer, manners.url)
        except (ApiError, NoAnswer) as error:
            pause = tries.pause(error)
            if not may_pass(error) or (last is None and tries.failures > manners.retries):
                raise
            if clock() + pause >= deadline:
                if last is None:
                    raise
                return Waited(last, "timeout")
            yield Sleep(pause)
            continue
        found = seen(answer, manners.url)
        first, last = first or found, found.message or last
        assert last is not None
        changed = until == "change" and found.message is not None and found.etag != first.etag
        if changed or is_reached(last, until):
            return Waited(last, "reached")
        if until != "change" and last["final"]:
            return Waited(last, "unreachable")
        ended = answer.headers.get("x-wait")
        if until != "change" and ended == "met":  # the receiver knows the facts themselves
            return Waited(last, "reached")
        if clock() >= deadline:
            return Waited(last, "timeout")
        if call.patience and ended != "timeout":  # it was not waited: that process ends
            yield Sleep(min(tries.pause(), max(0.0, deadline - clock())))
        else:
            tries.failures = 0
