"""Changes as they happen, each once, through every loss: goes on from the last event that was complete."""

import json
from collections.abc import Mapping
from typing import Any

from receiver.client.calls import Call, pairs, refusal
from receiver.client.change_shapes import StreamEvent
from receiver.client.errors import ApiError, CannotResume, Garbled, NoAnswer
from receiver.client.events import Event, EventParser
from receiver.client.steps import Flow, Manners, Open, Read, Sleep, Tell, Tries, may_pass

SILENCE = 45.0  # seconds; the receiver says every 15 that it is there
LEAST_PAUSE = 0.2  # after a stream that ended in order
LAST_WORDS = ("closing", "dropped")


def stream(
    filters: Mapping[str, Any], last_event_id: str | None, manners: Manners, checkpoints: bool
) -> Flow[StreamEvent]:
    """The changes that the filters let through, for ever. Raises CannotResume, ApiError, NoAnswer, Garbled.

    NoAnswer comes only where nobody ever answered; later the receiver is waited for.
    """
    last, asks, tries, answered = last_event_id or "", pairs(filters), Tries(), False
    told = ("ready", "change", "checkpoint") if checkpoints else ("change",)
    least = 0.0
    while True:
        error: ApiError | NoAnswer | None = None
        parser = EventParser(last)
        headers = {"accept": "text/event-stream", "accept-encoding": "identity", "cache-control": "no-store"}
        if last:
            headers["last-event-id"] = last
        try:
            answer = yield Open(Call("GET", "/v1/stream", asks, headers), SILENCE)
            if answer.status >= 400:
                raise refusal(answer, manners.url)
            if not answer.headers.get("content-type", "").startswith("text/event-stream"):
                raise ApiError(answer.status, "no_receiver", f"{manners.url} is no receiver: it streams nothing")
            answered = True
            while part := (yield Read()):
                events = parser.feed(part)
                last = parser.last_id
                if events:
                    tries.failures = 0
                    if wanted := [_told(event) for event in events if event.name in told]:
                        yield Tell(wanted)
                    _end_where_nothing_resumes(events)
        except (ApiError, NoAnswer) as refused:
            error = refused
        if error is not None and (not may_pass(error) or (not answered and tries.failures >= manners.retries)):
            raise error
        least = parser.retry / 1000 if parser.retry is not None else least
        yield Sleep(tries.pause(error, max(LEAST_PAUSE, least)))


def _told(event: Event) -> StreamEvent:
    return StreamEvent(event.id, event.name, _data(event))


def _data(event: Event) -> Any:
    try:
        data = json.loads(event.data)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise Garbled(f"this is no stream of a receiver: the data of a {event.name} is no JSON object")
    return data


def _end_where_nothing_resumes(events: list[Event]) -> None:
    """Raises CannotResume where the last word of a stream is that there is no going on from where it was."""
    if events[-1].name in LAST_WORDS:
        data = _data(events[-1])
        if data.get("resume_from", "") is None and data.get("reason") == "restored":
            raise CannotResume(410, "restored", str(data.get("text", "the database has been restored")))
