"""What the doors of those who send take and answer, as the OpenAPI document shows it."""

from typing import Any

import msgspec

from receiver.openapi import Operation, Parameter
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


TEXT: dict[str, Any] = {"type": "string"}
OBJECT: dict[str, Any] = {"type": "object"}
NAME: dict[str, Any] = {"type": ["string", "integer"]}
CORRELATIONID = {"type": "string", "description": "Your own id: 50 bytes at most. Kept, returned, searchable."}
NOTIFYURL = {"type": "string", "format": "uri", "description": "Your own: each receipt is forwarded to it."}
EXPIRY = {"type": "string", "description": "After it nothing is sent, such as 2030-04-12T13:00:19.456Z."}

MESSAGING: dict[str, Any] = {
    "type": "object",
    "title": "Messaging v1",
    "required": ["deliverychannel", "channels", "destination"],
    "properties": {
        "deliverychannel": {
            "type": "string",
            "enum": ["sms", "voice", "push", "rt", "appmessaging", "fb", "twitter", "wa", "wechat"],
        },
        "channels": {**OBJECT, "description": "One block a channel; that of deliverychannel is mandatory and checked."},
        "destination": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1_000,
            "items": {
                **OBJECT,
                "description": "One list of ids under its type, such as msisdn, customerid or email.",
                "properties": {"correlationid": CORRELATIONID},
                "additionalProperties": {"type": "array", "items": NAME, "minItems": 1},
            },
        },
        "message": {"type": ["object", "null"], "properties": {"template": NAME, "parameters": OBJECT}},
        "correlationid": CORRELATIONID,
        "callbackData": {"type": "string", "maxLength": 2_000},
        "notifyurl": NOTIFYURL,
        "expiry": EXPIRY,
        "priority": {**NAME, "description": "1 low, 2 medium, 3 high."},
        "route": {"type": "string", "enum": ["IMMD", "LCGD", "LCBE", ""]},
    },
}
EVENTS: dict[str, Any] = {
    "type": "object",
    "title": "Custom Event v1",
    "required": ["events"],
    "properties": {
        "events": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1_000,
            "items": {
                "type": "object",
                "required": ["evtid"],
                "properties": {"evtid": NAME, "correlationid": CORRELATIONID, "parameters": OBJECT},
            },
        },
        "expiry": EXPIRY,
        "notifyurl": NOTIFYURL,
    },
}
CAMPAIGN: dict[str, Any] = {
    "type": "object",
    "title": "Webex Campaign event",
    "required": ["event-id", "event-key"],
    "properties": {
        "event-id": NAME,
        "event-key": {**NAME, "description": "The recipient; searchable as destination."},
        "event-params": {**OBJECT, "maxProperties": 400, "description": "24 KB at most; none null, NULL or null."},
    },
}
SENT: dict[str, Any] = {
    "type": "object",
    "required": ["request", "answer"],
    "properties": {
        "request": MESSAGING,
        "answer": {**OBJECT, "description": "What the platform replied, as it came."},
        "sent_at": {"type": "string", "format": "date-time", "description": "When it was sent; now, if left out."},
    },
}

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

PROBLEMS = (400, 401, 403, 409, 413, 422, 503)

OPERATIONS = (
    Operation(
        "POST",
        "/v1/messages",
        "send_messages",
        "Send messages: the platform's Messaging v1 body. Answered when everything is committed.",
        {202: ("Committed: the messages will be sent.", AcceptedBatch)},
        scope="send",
        parameters=[IDEMPOTENCY_KEY],
        body=MESSAGING,
        body_example=MESSAGING_EXAMPLE,
        problems=PROBLEMS,
    ),
    Operation(
        "POST",
        "/v1/events",
        "send_events",
        "Send events: the platform's Custom Event v1 body. What their flows send are their children.",
        {202: ("Committed: the events will be sent.", AcceptedBatch)},
        scope="send",
        parameters=[IDEMPOTENCY_KEY],
        body=EVENTS,
        body_example=EVENTS_EXAMPLE,
        problems=PROBLEMS,
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
        problems=PROBLEMS,
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
        problems=PROBLEMS,
    ),
    Operation(
        "DELETE",
        "/v1/messages/{id}",
        "cancel_message",
        "Cancel a message that waits to be sent.",
        {200: ("It will never be sent; the same again for one that was cancelled before.", CancelledMessage)},
        scope="send",
        parameters=[Parameter("id", "The message's id.", "path", {"type": "string", "format": "uuid"})],
        problems=(400, 401, 403, 404, 409, 503),
    ),
)
