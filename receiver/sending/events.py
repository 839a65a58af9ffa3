"""What a client may ask of Custom Event v1, checked before anything is written: 7025 missing, 7004 wrong."""

from typing import Any

from receiver.messages.lattice import Channel
from receiver.platform.apis import Api
from receiver.sending.content import encoded
from receiver.sending.destinations import Asked
from receiver.sending.fields import Broken, correlationid_of, expiry_of, is_empty, mandatory_name, notifyurl_of
from receiver.sending.request import NORMAL_PRIORITY, Request
from receiver.web import FieldError

MISSING, WRONG = "7025", "7004"

MOST_EVENTS = 1_000  # a rule of ours: the platform states none


class EventsBroken(Broken):
    """The broken rules in the codes of Custom Event."""

    def missing(self, pointer: str, detail: str) -> None:
        self.errors.append(FieldError(pointer, MISSING, detail))

    def wrong(self, pointer: str, detail: str) -> None:
        self.errors.append(FieldError(pointer, WRONG, detail))


def check_events(body: Any) -> Request | list[FieldError]:
    """The request in `body` (a decoded JSON value), one message an event, or every rule that it breaks."""
    broken = EventsBroken()
    if not isinstance(body, dict):
        broken.wrong("", "the body must be a JSON object")
        return broken.errors
    messages = _events(body.get("events"), broken)
    expires_at = expiry_of(body, broken)
    notifyurl = notifyurl_of(body, broken)
    content = encoded({k: v for k, v in body.items() if k != "notifyurl"}, broken)
    if broken.errors:
        return broken.errors
    return Request(
        api=Api.EVENTS,
        channel=Channel.EVENT,
        content=content,
        messages=tuple(messages),
        callback_data=None,
        sender=None,
        template=None,
        priority=NORMAL_PRIORITY,
        expires_at=expires_at,
        notifyurl=notifyurl,
    )


def _events(events: Any, broken: Broken) -> list[Asked]:
    if is_empty(events) and not isinstance(events, dict):
        broken.missing("/events", f"events is mandatory: an array of 1 to {MOST_EVENTS:,} events")
    elif not isinstance(events, list):
        broken.wrong("/events", "events must be an array")
    elif len(events) > MOST_EVENTS:
        broken.wrong("/events", f"there are {len(events)} events, {MOST_EVENTS:,} at most in a call")
    else:
        asked = (_event(event, index, broken) for index, event in enumerate(events))
        return [one for one in asked if one]
    return []


def _event(event: Any, index: int, broken: Broken) -> Asked | None:
    pointer = f"/events/{index}"
    if not isinstance(event, dict):
        broken.wrong(pointer, "an event must be an object with evtid, correlationid and parameters")
        return None
    if not isinstance(event.get("parameters"), dict | None):
        broken.wrong(f"{pointer}/parameters", "parameters must be an object")
    evtid = mandatory_name(event, "evtid", f"{pointer}/evtid", broken)
    # No two events are the same recipient, whatever their evtid: they may stand in one submission.
    return Asked("event", evtid, str(index), correlationid_of(event, pointer, broken))
