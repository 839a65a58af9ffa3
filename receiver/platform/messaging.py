"""Messaging v1: its request, and its answer, in which the code decides and never the HTTP status."""

from collections.abc import Sequence

import msgspec

from receiver.platform.reading import Codes, envelope_items, judge_items, judge_status
from receiver.platform.wire import Answer, Call, Recipient, Trouble

PATH = "/resources/v1/messaging"

CODES = Codes(
    queued="1001",
    later={
        "7001": Trouble.CREDENTIALS,
        "7002": Trouble.CREDENTIALS,
        "7006": Trouble.FAULT,
        "7007": Trouble.CREDENTIALS,
        "7020": Trouble.THROTTLED,
    },
    # The word of Custom Event for queued: under the wrong API it proves neither the one nor the other.
    doubtful=frozenset({"1002"}),
)


def call(content: bytes, recipients: Sequence[Recipient], notifyurl: str) -> Call:
    """What every recipient gets, one entry a recipient, and where to tell."""
    return Call(PATH, body_of(content, recipients, notifyurl, "correlationid", "notifyurl"))


def body_of(content: bytes, recipients: Sequence[Recipient], notifyurl: str, correlationid: str, notify: str) -> bytes:
    """`content` to the byte, with our entries and our notifyurl in the spelling of a version."""
    body: dict[str, object] = dict(msgspec.json.decode(content, type=dict[str, msgspec.Raw]))
    for theirs in ("correlationid", "correlationId", "notifyurl", "notifyUrl"):  # they are ours to say
        body.pop(theirs, None)
    body["destination"] = [{r.id_type: [r.value], correlationid: str(r.message_id)} for r in recipients]
    body[notify] = notifyurl
    return msgspec.json.encode(body)


def judge(status: int, body: bytes) -> Answer:
    """The answer to a call. The code decides: v1 answers 200 for failures too."""
    items = envelope_items(body)
    return judge_items(CODES, items, status) if items else judge_status(status, body)
