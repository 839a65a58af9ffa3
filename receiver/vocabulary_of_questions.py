"""What the doors of those who ask take and do: one schema for one name, whichever door takes it.

`operation.parameter` is meant where a name means something else at one door.
"""

from typing import Any

from receiver.openapi import ID, TEXT, TIME, YES_NO, several, whole, words
from receiver.queries.export_routes import FORMATS
from receiver.queries.filters import DEFAULT_LIMIT, GROUPS, LEAST_DIGITS, MOST_DIGITS, MOST_LIMIT, ORDERS
from receiver.queries.statistics_asked import GROUPINGS
from receiver.queries.stream import Change
from receiver.vocabulary import CHANNEL, CLASS, ORIGIN, STATE

Schema = dict[str, Any]

NAMES: Schema = several(TEXT)
COUNTRY: Schema = {"type": "string", "pattern": "^([A-Za-z]{2}|001)$"}

SCHEMAS: dict[str, Schema] = {
    **dict.fromkeys(("transid", "correlationid", "callbackData", "destination", "code", "sender"), NAMES),
    **dict.fromkeys(("template", "carrier"), NAMES),
    "destination_end": several({"type": "string", "pattern": f"^[0-9]{{{LEAST_DIGITS},{MOST_DIGITS}}}$"}),
    "channel": several(CHANNEL),
    "state": several(STATE),
    "class": several(CLASS),
    "origin": several(ORIGIN),
    "batch_id": several(ID),
    "country": several(COUNTRY),
    **dict.fromkeys(("final", "conflict", "overdue", "total", "latency"), YES_NO),
    **dict.fromkeys(("created_from", "created_to", "changed_from", "changed_to", "from", "to"), TIME),
    "order": words(*ORDERS) | {"default": "created"},
    "limit": whole(1, MOST_LIMIT, DEFAULT_LIMIT),
    "format": words(*FORMATS),
    **dict.fromkeys(("find_messages.state", "export_messages.state"), several(words(*GROUPS))),
    "find_messages.cursor": TEXT,
    "export_messages.after": ID,
    "stream_changes.id": several(ID),
    "stream_changes.from": TEXT,
    "delivery_statistics.by": several(words(*GROUPINGS)),
    "delivery_statistics.country": several({"type": "string", "pattern": "^([A-Za-z]{2}|001|none)$"}),
}
# Several values in one, with commas between them.
IN_ONE = {"delivery_statistics.by"}
EXAMPLES: dict[str, Any] = {
    "find_messages.destination": ["+44 7700 900001"],
    "find_messages.limit": 10,
    "export_messages.created_from": "2026-11-20T00:00:00Z",
    "export_messages.format": "ndjson",
    "stream_changes.final": True,
    "delivery_statistics.by": ["day", "channel"],
    "delivery_statistics.from": "2026-11-01T00:00:00Z",
    "get_message.wait": 30,
    "get_message.until": "final",
    "get_message.id": "01a1fda7-9714-779d-a3fc-b1fa03eda994",
    "explain_message.id": "01a1fda7-9714-779d-a3fc-b1fa03eda994",
    "get_batch.batch_id": "01a1fda7-9714-7744-ac87-585453bf37e5",
}

DESCRIPTIONS = {
    "get_message": """\
Without `wait` it answers at once. With `wait` it answers as soon as `until` is met, or can never be met any more,
or the seconds are over: the message as it is then, or 304 where your ETag still holds; `X-Wait` says how (met, timeout,
or draining: ask again at once). `until`: `final` (by default), `delivered`, `submitted`, or `change`, which is any
change since the `ETag` in `If-None-Match`. To wait for longer, call again. The id of an observed message that turned
out to be another answers with that one, and `merged_from` is set.""",
    "explain_message": """\
For support: each receipt, the rule that it met, why it did not count where it did not, and by when what is still
expected.""",
    "get_batch": """\
`batch_id` is that of the answer to a send.""",
    "find_messages": """\
Without the timelines: `GET /v1/messages/{id}` has them. A search by a name (transid, correlationid, callbackData,
destination, batch_id) costs what its page costs; give another one a time. `order=changed` lists what changed last
first, within 24 hours. `destination` is taken as it is written: `+44 7700 900001`, `00447700900001` and
`447700900001` are one. In `next_cursor` stands where to go on; it belongs to its parameters.""",
    "export_messages": """\
All of them, in constant memory, as fast as you read; with `Accept-Encoding: gzip` packed. An export that breaks off
goes on with `after=` the id of the last whole line and the same filters.""",
    "delivery_statistics": """\
Messages are counted in the hour or day in which they were born (`from` to `to`, full hours). A rate has its
numerator and denominator beside it. `origin` is always a group, unless it is a filter. One of sender, template,
carrier and code_class at most. `maturity` says how much can still change.""",
    "stream_changes": """\
Server-sent events. Each has `event`, `id` and `data`, which is JSON on one line:

- `ready`: the first, at once. `{"resumed": true}` where you came with an id.
- `change`: a message has changed: `data` is a `Change`.
- `checkpoint`: once a minute while nothing comes: a newer id to resume from.
- `dropped`: the last one: you read too slowly. `resume_from` is the id to come back with.
- `closing`: the last one: `reason` is draining, key, database or restored.

A line that begins with a colon comes in 15 seconds of silence. Resume with `Last-Event-ID: ` the id of the last
event that you have dealt with, within 24 hours: each change comes once, in order. After `410 event_too_old` open a
stream without an id, and read what you missed with `GET /v1/messages`.""",
}
# Structs that no schema refers to.
ALSO: dict[str, tuple[type, ...]] = {"stream_changes": (Change,)}
