"""What the doors of those who send take and answer, as the OpenAPI document shows it."""

import msgspec

from receiver.openapi import ID, Operation, Parameter
from receiver.sending.body_schemas import CAMPAIGN, EVENTS, MESSAGING, SENT
from receiver.sending.idempotency import PARAMETER as IDEMPOTENCY_KEY


class AcceptedMessage(msgspec.Struct):
    """One message that was committed; `destination` of an event is its evtid, of a campaign event its event-key."""

    id: str
    destination: str
    correlationid: str | None
    state: str


class AcceptedBatch(msgspec.Struct):
    """The answer to a send: nothing in it can be lost any more."""

    batch_id: str
    messages: list[AcceptedMessage]


CEILING = "accepted"
CEILING_NOTE = "Webex Campaign tells no receipts: accepted is the most that will ever be known of this event."


class AcceptedCampaignEvent(AcceptedBatch):
    """The answer to a campaign event: it will be sent, and `ceiling` is the best state that it can reach."""

    ceiling: str = CEILING
    note: str = CEILING_NOTE


class CancelledMessage(msgspec.Struct):
    """A message that will never be sent."""

    id: str
    state: str


MESSAGING_EXAMPLE = {
    "deliverychannel": "sms",
    "channels": {"sms": {"text": "Your parcel is on its way", "senderid": "PARCEL"}},
    "destination": [{"msisdn": ["447700900001"], "correlationid": "order-4711"}],
}
EVENTS_EXAMPLE = {
    "events": [{"evtid": "parcel-late", "correlationid": "order-4711", "parameters": {"msisdn": "447700900001"}}]
}
CAMPAIGN_EXAMPLE = {"event-id": "birthday", "event-key": "447700900001", "event-params": {"name": "Ada"}}
SENT_EXAMPLE = {
    "request": MESSAGING_EXAMPLE,
    "answer": {
        "response": [{"code": "1001", "transid": "3f09295d-7c1e-4a52-9d0e-2f6c3b8a1d44", "description": "Queued"}]
    },
    "sent_at": "2026-11-21T10:00:00Z",
}


BATCH_ID = "01a1fda9-1081-7166-933f-71d19b1fd47b"
MESSAGE_ID = "01a1fda9-1081-71e3-be88-421eb67761fe"


def _answered(destination: str, correlationid: str | None, state: str, **more: str) -> dict[str, object]:
    """An answer to one message, as it looks."""
    message = {"id": MESSAGE_ID, "destination": destination, "correlationid": correlationid, "state": state}
    return {"batch_id": BATCH_ID, "messages": [message], **more}


SEND_CODES = {413: ("body_too_large",), 422: ("rule_broken", "tenant_cannot_send")}
REPLAYED = "Idempotency-Replayed"

OPERATIONS = (
    Operation(
        "POST",
        "/v1/messages",
        "send_messages",
        "Send messages: the platform's Messaging v1 body. Answered when everything is committed.",
        {202: ("Committed: the messages will be sent.", AcceptedBatch)},
        scope="send",
        description="Each value in `destination` is one message, and has an id of its own in the answer, in the order"
        " of the request. The platform is called afterwards: ask `GET /v1/messages/{id}` what became of it. Without an"
        " `Idempotency-Key` the same request twice is two messages a recipient.",
        parameters=[IDEMPOTENCY_KEY],
        body=MESSAGING,
        body_example=MESSAGING_EXAMPLE,
        codes=SEND_CODES,
        examples={202: _answered("447700900001", "order-4711", "queued")},
        headers={202: (REPLAYED,)},
    ),
    Operation(
        "POST",
        "/v1/events",
        "send_events",
        "Send events: the platform's Custom Event v1 body. What their flows send are their children.",
        {202: ("Committed: the events will be sent.", AcceptedBatch)},
        scope="send",
        description="An event has no recipient: its `destination` is its `evtid`, and accepted is the best state that"
        " it can reach. `GET /v1/messages/{id}` of it lists what its flow has sent.",
        parameters=[IDEMPOTENCY_KEY],
        body=EVENTS,
        body_example=EVENTS_EXAMPLE,
        codes=SEND_CODES,
        examples={202: _answered("parcel-late", "order-4711", "queued")},
        headers={202: (REPLAYED,)},
    ),
    Operation(
        "POST",
        "/v1/campaign-events",
        "send_campaign_event",
        "Send one Webex Campaign event. Accepted is the most that will ever be known of it.",
        {202: ("Committed: the event will be sent.", AcceptedCampaignEvent)},
        scope="send",
        parameters=[IDEMPOTENCY_KEY],
        body=CAMPAIGN,
        body_example=CAMPAIGN_EXAMPLE,
        codes=SEND_CODES,
        examples={202: _answered("447700900001", None, "queued", ceiling=CEILING, note=CEILING_NOTE)},
        headers={202: (REPLAYED,)},
    ),
    Operation(
        "POST",
        "/v1/messages/sent",
        "record_send",
        "Record a send that was made without the receiver, so that its receipts join and its silence is known.",
        {201: ("Recorded; nothing is sent. The states are those that the answer proves.", AcceptedBatch)},
        scope="send",
        parameters=[IDEMPOTENCY_KEY],
        body=SENT,
        body_example=SENT_EXAMPLE,
        codes={409: ("already_recorded",), 413: ("body_too_large",), 422: ("rule_broken",)},
        examples={201: _answered("447700900001", "order-4711", "accepted")},
        headers={201: (REPLAYED,)},
    ),
    Operation(
        "DELETE",
        "/v1/messages/{id}",
        "cancel_message",
        "Cancel a message that waits to be sent.",
        {200: ("It will never be sent; the same again for one that was cancelled before.", CancelledMessage)},
        scope="send",
        parameters=[Parameter("id", "The message's id.", "path", ID, MESSAGE_ID)],
        codes={404: ("message_not_found",), 409: ("not_issued", "too_late")},
        examples={200: {"id": MESSAGE_ID, "state": "cancelled"}},
    ),
)
