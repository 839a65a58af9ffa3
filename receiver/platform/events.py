"""Custom Event v1: its request, and its answer, most likely in v1's envelope with codes of its own."""

from collections.abc import Sequence

import msgspec

from receiver.platform.reading import Codes, envelope_items, judge_items, judge_status
from receiver.platform.wire import Answer, Call, Recipient, Trouble

PATH = "/resources/v1/events/externalevent"

CODES = Codes(
    queued="1002",
    later={
        "7001": Trouble.CREDENTIALS,
        "7005": Trouble.FAULT,
        "7020": Trouble.THROTTLED,
        # Documented for Messaging alone. A service that has no key or is not live has them here too, if anywhere,
        # and an event that waits is mended more easily than one that was refused.
        "7002": Trouble.CREDENTIALS,
        "7006": Trouble.FAULT,
        "7007": Trouble.CREDENTIALS,
    },
    # The word of Messaging for queued: under the wrong API it proves neither the one nor the other.
    doubtful=frozenset({"1001"}),
)


def call(content: bytes, recipients: Sequence[Recipient], notifyurl: str) -> Call:
    """The client's body to the byte, but for our id in each event, in the recipients' order, and where to tell.

    Raises ValueError when there are not as many events as recipients.
    """
    body: dict[str, object] = dict(msgspec.json.decode(content, type=dict[str, msgspec.Raw]))
    events = msgspec.json.decode(msgspec.json.encode(body["events"]), type=list[dict[str, msgspec.Raw]])
    body["events"] = [
        {**event, "correlationid": str(recipient.message_id)}
        for event, recipient in zip(events, recipients, strict=True)
    ]
    body["notifyurl"] = notifyurl
    return Call(PATH, msgspec.json.encode(body))


def judge(status: int, body: bytes) -> Answer:
    """The answer to a call. The code decides, by the table of this API."""
    items = envelope_items(body)
    return judge_items(CODES, items, status) if items else judge_status(status, body)
