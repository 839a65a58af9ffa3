"""Every request shape of the platform's documents, named: the samples, and what its tables allow beside them."""

from typing import Any

from tests.sending.asking import REQUESTS, sample

Body = dict[str, Any]

OTT = "OTT-Messaging"
EVENTS = {"custom-event.json"}
CAMPAIGN = {"campaign-event.json"}

# One value of each id type. Any of them may come with any channel.
IDS = {
    "msisdn": "447700900101",
    "customerid": "Cust-9",
    "email": "Jo.Bloggs@Example.com",
    "android_pushid": "APA91b-a",
    "ios_pushid": "0f74c2",
    "chrome_pushid": "chrome-1",
    "firefox_pushid": "push-1@key-1",
    "safari_pushid": "safari-1",
    "psid": "1254477777772919",
    "twitterid": "@Jo",
    "wechat_user_id": "wx-1",
}
TEMPLATE: Body = {"template": "1138", "parameters": {"parameter1": "Jo", "amount": 12.5, "nested": {"a": [1, None]}}}
ATTACHMENT: Body = {"contentType": "image", "file": "https://example.com/a.jpg?x=1&y=ü", "size": "10"}

# The fullest block of each delivery channel, with fields that no document knows.
BLOCKS: dict[str, Body] = {
    "sms": {"sms": {"type": "1", "text": "Grüße 💥", "senderid": "PARCEL", "media-path": "/m/1", "x-unknown": [1, {}]}},
    "voice": {"voice": {"callflowid": "917", "cli": "448000000000", "x-unknown": None}},
    "push": {
        "push": {
            "pushref": "p-1",
            "ios": {"text": "Hello", "badge": 3, "sound": "ping", "extras": {"customtags": {"k": "v"}}},
            "android": {"text": "Hello", "priority": "5", "extras": {}},
            "windows": {"text": "Hello", "x-unknown": True},
            "web": {
                "title": "Hi",
                "text": "Hello",
                "url": "https://example.com/",
                "actiontext": "Go",
                "platorm_types": ["chrome", "safari", "firefox"],
                "extras": {"a": "b"},
            },
            "interactive": {"type": "yesno", "buttons": [{"id": "1", "title": "Yes"}, {"id": "2", "title": "No"}]},
        }
    },
    "rt": {
        "appmessaging": {
            "senderid": "shop",
            "text": "Hello",
            "message": {"body": "Hello"},
            "notification": {"title": "Hi"},
            "extras": {"customtags": {"key1": "object1"}},
            "priority": "2",
            "attachments": [ATTACHMENT, ATTACHMENT],
            "interactive": {"type": "list", "items": ["a", "b"]},
        }
    },
    "appmessaging": {"appmessaging": {"senderid": 12, "attachments": [ATTACHMENT]}},
    "fb": {OTT: {"fb": {"attachment": {"type": "template", "payload": {"elements": [{"title": "T", "n": 1}]}}}}},
    "twitter": {OTT: {"twitter": {"text": "Grüße", "media": ["m-1"]}}},
    "wa": {OTT: {"wa": {"type": "text", "text": {"body": "Hello", "preview_url": False}, "x-unknown": "y"}}},
    "wechat": {OTT: {"wechat": {"text": "Hello", "attachment": {"type": "news", "articles": [{}]}}}},
}
EXPIRIES = (
    "2030-04-12T13:00:19.456Z",
    "2030-04-12T18:30:19.456+5:30",
    "2030-04-12T18:30:19.456+05:30",
    "2030-04-12T18:51:19",
    "",
)
PRIORITIES = ("1", "2", "3", 1, 3, "4", "urgent", "", None)
ROUTES = ("IMMD", "LCGD", "LCBE", "")
SMARTLINKS = [{"linkid": "12", "validity": "60"}, {"linkid": 13, "validity": 60, "x": "y"}, {"linkid": "14"}]


def _messaging(word: str, channels: Body | None = None, **more: Any) -> Body:
    body = {"deliverychannel": word, "channels": channels or BLOCKS[word], "destination": [{"customerid": ["cust-9"]}]}
    return body | more


def _variants() -> dict[str, Body]:
    """Other blocks that the documents allow."""
    sms = {
        "flash": {"type": "2", "text": "Hello"},
        "binary": {"type": "3", "body": "0aFF"},
        "unicode": {"type": "4", "text": "Привет"},
        "a number as type": {"type": 1, "text": "Hello"},
        "no type": {"text": "x" * 1_024},
    }
    shapes = {f"sms, {name}": _messaging("sms", {"sms": block}) for name, block in sms.items()}
    voice: dict[str, Body] = {
        "media": {"media": {"url": "https://example.com/a.wav"}},
        "promptid": {"promptid": 12},
        "a call flow and a prompt": {"callflowid": "917", "promptid": "12"},
    }
    shapes |= {f"voice, {name}": _messaging("voice", {"voice": block}) for name, block in voice.items()}
    ott: dict[str, tuple[str, Body]] = {
        "fb, text": ("fb", {"fb": {"text": "Hello"}}),
        "fb, spelt Messenger": ("fb", {"Messenger": {"text": "Hello"}}),
        "wa, text": ("wa", {"wa": {"text": "Hello"}}),
        "wa, another type": ("wa", {"wa": {"type": "image", "image": {"link": "https://example.com/a.jpg"}}}),
        "wechat, attachment": ("wechat", {"wechat": {"attachment": ATTACHMENT}}),
        "twitter, 140 bytes": ("twitter", {"twitter": {"text": "é" * 70}}),
    }
    return shapes | {name: _messaging(word, {OTT: block}) for name, (word, block) in ott.items()}


def _composed() -> dict[str, Body]:
    foreign = {name: block for channels in BLOCKS.values() for name, block in channels.items() if name != OTT}
    networks: Body = {
        OTT: {name: block for word in ("fb", "twitter", "wa", "wechat") for name, block in BLOCKS[word][OTT].items()}
    }
    everything = foreign | networks | {"rcs": {"a": 1}, "email": None}
    shapes: dict[str, Body] = {}
    for word, channels in BLOCKS.items():
        name = next(iter(channels))
        block: Body = {name: {word: {}} if name == OTT else {}}
        shapes[f"{word}, full block"] = _messaging(word)
        shapes[f"{word}, template alone"] = _messaging(word, block, message=TEMPLATE)
        shapes[f"{word}, template and text"] = _messaging(word, message=TEMPLATE)
        shapes[f"{word}, smart links"] = _messaging(word, channels | {"smartlinks": SMARTLINKS})
        shapes[f"{word}, blocks of all others"] = _messaging(word, everything | channels)
        shapes[f"{word}, all id types"] = _messaging(word, destination=[{key: [value]} for key, value in IDS.items()])
    return shapes


def _fields() -> dict[str, Body]:
    shapes = {f"expiry {told!r}": _messaging("sms", expiry=told) for told in EXPIRIES}
    shapes |= {f"priority {told!r}": _messaging("sms", priority=told) for told in PRIORITIES}
    shapes |= {f"route {told!r}": _messaging("sms", route=told) for told in ROUTES}
    shapes["callback data of 2,000 characters"] = _messaging("sms", callbackData="é" * 2_000)
    shapes["unknown fields beside the known"] = _messaging("sms") | {"x-unknown": {"a": [True, None, 1.5]}, "tags": []}
    shapes["correlationid of 50 bytes"] = _messaging("sms", correlationid="é" * 25)
    shapes["entries of several values and ids of their own"] = _messaging(
        "sms",
        correlationid="of the request",
        callbackData="$(callbackData)",
        notifyurl="https://example.com/receipts?a=1",
        destination=[
            {"msisdn": ["447700900111", "+44 7700 900112", "12345"], "correlationid": "of the entry"},
            {"correlationid": "first here", "customerid": ["B", "a", "b"]},
            {"email": ["jo@example.com"]},
            {"firefox_pushid": ["p-1@k-1", "p-2@k-2"], "correlationid": ""},
        ],
    )
    return shapes


def _events() -> dict[str, Body]:
    events = [
        {"evtid": "1201", "correlationid": "evt-1", "parameters": {"a": "1", "n": 12.5, "deep": {"x": [None, {}]}}},
        {"evtid": "1201", "parameters": {}},
        {"evtid": 1202, "correlationid": "", "x-unknown": [1]},
        {"correlationid": "é" * 25, "evtid": "1203", "parameters": None},
    ]
    shapes: dict[str, Body] = {f"expiry {told!r}": {"expiry": told, "events": events[:1]} for told in EXPIRIES}
    shapes["several events"] = {"events": events, "notifyurl": "https://example.com/e", "x-unknown": {"a": 1}}
    return shapes


_NAMES = sorted(path.name for path in REQUESTS.glob("*.json"))
MESSAGING_SHAPES: dict[str, Body] = (
    {name: sample(name) for name in _NAMES if name not in EVENTS | CAMPAIGN} | _composed() | _variants() | _fields()
)
EVENT_SHAPES: dict[str, Body] = {name: sample(name) for name in EVENTS} | _events()
CAMPAIGN_SHAPES: dict[str, Body] = {
    **{name: sample(name) for name in CAMPAIGN},
    "no params": {"event-id": "e-1", "event-key": "Jo.Bloggs@Example.com"},
    "params of every kind": {
        "event-id": 12,
        "event-key": "device-1",
        "event-params": {
            "n": 1.5,
            "yes": True,
            "list": ["a", None],
            "empty": "",
            "Null": "Null",
            "ü": {"null": "null"},
        },
        "x-unknown": 1,
    },
    "400 params": {"event-id": "e-1", "event-key": "447700900101", "event-params": {f"p{n}": "v" for n in range(400)}},
}
