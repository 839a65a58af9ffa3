"""The bodies that senders hand in, as JSON Schema: what the checks of this room demand, as far as a schema can say it.

A body that fits may still break a rule of the platform (422); fields that are not named here go out as they are.
"""

from typing import Any

from receiver.sending.campaign import MOST_PARAMS
from receiver.sending.channel_blocks import WAYS
from receiver.sending.destinations import ID_TYPES, MOST_ENTRIES
from receiver.sending.events import MOST_EVENTS
from receiver.sending.fields import LONGEST_NAME, LONGEST_NOTIFYURL
from receiver.sending.request import LONGEST_CALLBACK, ROUTES

NAME: dict[str, Any] = {"type": ["string", "integer"], "minLength": 1, "maxLength": LONGEST_NAME}
OBJECT: dict[str, Any] = {"type": "object"}
CORRELATIONID = {
    "type": ["string", "null"],
    "maxLength": 50,
    "description": "Your own id: 50 bytes at most. Kept, returned, searchable.",
}
NOTIFYURL = {
    "type": ["string", "null"],
    "format": "uri",
    "maxLength": LONGEST_NOTIFYURL,
    "description": "Your own: each receipt is forwarded to it. Http or https, with a host, without a user.",
}
EXPIRY = {
    "type": ["string", "null"],
    "description": "After it nothing is sent: such as 2030-04-12T13:00:19.456Z. Without a zone it is UTC.",
    "examples": ["2030-04-12T13:00:19.456Z"],
}
BLOCK: dict[str, Any] = {"type": "object", "additionalProperties": True}

CHANNELS: dict[str, Any] = {
    "type": "object",
    "description": "One block a channel. That of `deliverychannel` is mandatory and checked; the others go out as they"
    " are. Where `message` names a template a block may be without text.",
    "properties": {
        "sms": {
            **BLOCK,
            "description": "Of sms.",
            "properties": {
                "text": {"type": "string", "description": "1,024 bytes at most."},
                "senderid": {**NAME, "minLength": 0, "description": "Whom the recipient sees as the sender."},
                "type": {
                    "type": ["string", "integer"],
                    "description": "1 text (by default), 2 flash, 3 binary, 4 unicode.",
                },
                "body": {"type": "string", "description": "Of type 3: hex digits, two a byte."},
            },
        },
        "voice": {
            **BLOCK,
            "description": "Of voice: callflowid or promptid, or media.",
            "properties": {"callflowid": NAME, "promptid": NAME, "media": {}, "cli": NAME},
        },
        "push": {
            **BLOCK,
            "description": "Of push: a block a system, with `text` of 4,096 bytes at most.",
            "properties": {"ios": BLOCK, "android": BLOCK, "windows": BLOCK, "web": BLOCK},
        },
        "appmessaging": {
            **BLOCK,
            "description": "Of rt and appmessaging.",
            "properties": {"text": {"type": "string"}, "senderid": NAME},
        },
        "OTT-Messaging": {
            **BLOCK,
            "description": "Of fb, twitter, wa and wechat: a block a network, with `text`, or an attachment.",
            "properties": {"fb": BLOCK, "twitter": BLOCK, "wa": BLOCK, "wechat": BLOCK},
        },
        "smartlinks": {
            "type": ["array", "null"],
            "items": {
                **BLOCK,
                "required": ["linkid"],
                "properties": {"linkid": NAME, "validity": {"description": "Minutes."}},
            },
        },
    },
}

MESSAGING: dict[str, Any] = {
    "type": "object",
    "title": "Messaging v1",
    "required": ["deliverychannel", "channels", "destination"],
    "properties": {
        "deliverychannel": {"type": "string", "enum": list(WAYS), "description": "By which channel it goes."},
        "channels": CHANNELS,
        "destination": {
            "type": "array",
            "minItems": 1,
            "maxItems": MOST_ENTRIES,
            "description": "Whom it goes to: entries with one list of ids each; every id is one message.",
            "items": {
                "type": "object",
                "minProperties": 1,
                "description": "One list of ids under its type, and a correlationid for these if you like.",
                "properties": {
                    "correlationid": CORRELATIONID,
                    **{name: {"type": "array", "items": NAME, "minItems": 1} for name in ID_TYPES},
                },
                "additionalProperties": False,
            },
        },
        "message": {
            "type": ["object", "null"],
            "description": "A template of the platform, in place of a text.",
            "required": ["template"],
            "properties": {"template": NAME, "parameters": {"type": ["object", "null"]}},
        },
        "correlationid": CORRELATIONID,
        "callbackData": {
            "type": ["string", "null"],
            "maxLength": LONGEST_CALLBACK,
            "description": "Yours to use: kept, returned, searchable.",
        },
        "notifyurl": NOTIFYURL,
        "expiry": EXPIRY,
        "priority": {"description": "1 low, 2 medium (by default), 3 high."},
        "route": {
            "type": ["string", "null"],
            "enum": [*ROUTES, "", None],
            "description": "Which way the platform takes.",
        },
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
            "maxItems": MOST_EVENTS,
            "items": {
                "type": "object",
                "required": ["evtid"],
                "properties": {
                    "evtid": {**NAME, "description": "The event's id on the platform."},
                    "correlationid": CORRELATIONID,
                    "parameters": {"type": ["object", "null"], "description": "They go out as they are."},
                },
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
        "event-id": {**NAME, "description": "The event's id in Webex Campaign."},
        "event-key": {**NAME, "description": "The recipient; searchable as destination."},
        "event-params": {
            "type": "object",
            "maxProperties": MOST_PARAMS,
            "description": "24 KB at most; none of them null, NULL or null.",
        },
    },
}
SENT: dict[str, Any] = {
    "type": "object",
    "title": "A send that was made elsewhere",
    "required": ["request", "answer"],
    "properties": {
        "request": {**MESSAGING, "description": "The body as it was sent."},
        "answer": {
            **OBJECT,
            "required": ["response"],
            "description": "What the platform replied, as it came: an array of entries, or one object.",
            "properties": {
                "response": {
                    "type": ["array", "object"],
                    "items": {
                        "type": "object",
                        "properties": {"code": NAME, "transid": {"type": "string"}, "description": {}},
                    },
                }
            },
        },
        "sent_at": {
            "type": ["string", "null"],
            "format": "date-time",
            "description": "When it was sent, with a zone; now, if left out.",
        },
    },
}
