"""Messaging v2: v1's body in other spelling, and an answer that is judged by its HTTP status first."""

from collections.abc import Sequence

from receiver.platform import messaging
from receiver.platform.codes import ANSWER_CODES
from receiver.platform.reading import bounded, judge_items, judge_status, read_object
from receiver.platform.wire import Answer, AnswerItem, Call, Outcome, Recipient

PATH = "/v2/messages"


def call(content: bytes, recipients: Sequence[Recipient], notifyurl: str) -> Call:
    """What every recipient gets, one entry a recipient, and where to tell."""
    return Call(PATH, messaging.body_of(content, recipients, notifyurl, "correlationId", "notifyUrl"))


def judge(status: int, body: bytes) -> Answer:
    """The answer to a call: 201 with a messageId accepts all entries; else a code of v1 decides, then the status."""
    said = read_object(body) or {}
    if 200 <= status < 300:
        if message_id := bounded(said.get("messageId")):
            return Answer(Outcome.ACCEPTED, (AnswerItem("", message_id, bounded(said.get("status"))),), status)
        return judge_status(status, body)
    code = bounded(said.get("code"))
    if code is None:
        return judge_status(status, body)
    item = AnswerItem(code, None, bounded(said.get("message")))
    if code == messaging.CODES.queued:  # an error that says queued: nothing tells which half is true
        return Answer(Outcome.UNCERTAIN, (item,), status, item.description)
    if code in ANSWER_CODES["messaging_v2"]:
        return judge_items(messaging.CODES, (item,), status)
    return judge_status(status, body, item)
