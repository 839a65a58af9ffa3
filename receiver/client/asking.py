"""What can be asked of a receiver and is answered at once, page by page where there are many."""

from collections.abc import Mapping
from typing import Any, cast

from receiver.client.calls import Answer, Call, message_call, object_of, pairs, part, send_call
from receiver.client.explain_shapes import Explanation
from receiver.client.figure_shapes import Batch, Deliveries
from receiver.client.message_shapes import Look, Message, MessageWithTimeline, Page, Sent
from receiver.client.steps import Flow, Manners, Steps, Tell, asked

NOT_MODIFIED = 304


def answered(call: Call, manners: Manners, *proof: str) -> Steps[dict[str, Any]]:
    """The object that a call is answered with; it bears one of `proof`. Raises ApiError, NoAnswer."""
    return object_of((yield from asked(call, manners)), manners.url, *proof)


def send(body: Mapping[str, Any], idempotency_key: str | None, manners: Manners) -> Steps[Sent]:
    """Hands in a body. Raises ApiError, NoAnswer."""
    answer = yield from asked(send_call(body, idempotency_key), manners)
    sent = object_of(answer, manners.url, "messages")
    if "idempotency-replayed" in answer.headers:
        sent["replayed"] = True
    return cast(Sent, sent)


def look(message_id: str, wait: float | None, until: str | None, etag: str | None, manners: Manners) -> Steps[Look]:
    """One message, as soon as it is so or `wait` seconds have passed. Raises ApiError, NoAnswer."""
    return seen((yield from asked(message_call(message_id, wait, until, etag), manners)), manners.url)


def get(message_id: str, manners: Manners) -> Steps[MessageWithTimeline]:
    """One message as it is now. Raises ApiError, NoAnswer."""
    return cast(MessageWithTimeline, (yield from answered(message_call(message_id), manners, "id")))


def seen(answer: Answer, url: str) -> Look:
    """What an answer shows of a message. Raises ApiError for what shows none."""
    etag = answer.headers.get("etag")
    if answer.status == NOT_MODIFIED:
        return Look(None, etag)
    return Look(cast(MessageWithTimeline, object_of(answer, url, "id")), etag)


def explain(message_id: str, manners: Manners) -> Steps[Explanation]:
    """Why a message is in its state. Raises ApiError, NoAnswer."""
    call = Call("GET", f"/v1/messages/{part(message_id)}/explain")
    return cast(Explanation, (yield from answered(call, manners, "steps")))


def batch(batch_id: str, manners: Manners) -> Steps[Batch]:
    """The figures of a batch. Raises ApiError, NoAnswer."""
    return cast(Batch, (yield from answered(Call("GET", f"/v1/batches/{part(batch_id)}"), manners, "batch_id")))


def stats(parameters: Mapping[str, Any], manners: Manners) -> Steps[Deliveries]:
    """Figures of delivery. Raises ApiError, NoAnswer."""
    call = Call("GET", "/v1/stats/delivery", pairs(parameters))
    return cast(Deliveries, (yield from answered(call, manners, "groups")))


def page(filters: Mapping[str, Any], manners: Manners) -> Steps[Page]:
    """One page of a search. Raises ApiError, NoAnswer."""
    return cast(Page, (yield from answered(Call("GET", "/v1/messages", pairs(filters)), manners, "messages")))


def find(filters: Mapping[str, Any], manners: Manners) -> Flow[Message]:
    """All messages that the filters let through, page after page. Raises ApiError, NoAnswer."""
    asks = dict(filters)
    while True:
        found = yield from page(asks, manners)
        yield Tell(found["messages"])
        if not found.get("next_cursor"):
            return
        asks["cursor"] = found["next_cursor"]
        asks.pop("total", None)  # it is told once
