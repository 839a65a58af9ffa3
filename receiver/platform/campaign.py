"""Webex Campaign events: the request as the client wrote it, and an answer that is judged by its body alone."""

from receiver.platform.codes import ANSWER_CODES
from receiver.platform.reading import Codes, bounded, judge_items, judge_status, read_object
from receiver.platform.wire import Answer, AnswerItem, Call, Outcome, Trouble

PATH = "/imicampaignapi/resources/v3/events"

# The same rows come as a `code` in the body and as HTTP statuses without one.
CODES = Codes(
    queued=None,
    later={
        "401": Trouble.CREDENTIALS,
        "403": Trouble.CREDENTIALS,
        "430": Trouble.CREDENTIALS,
        "498": Trouble.CREDENTIALS,
        # The address is wrong, not the event, and nobody has read it: it can wait until the address is mended.
        "404": Trouble.UNREACHABLE,
        "405": Trouble.UNREACHABLE,
        "429": Trouble.THROTTLED,
    },
    # Internal error and bad gateway say nothing of how far the event had come. It may run its flow all the same, and
    # a second one would write to the recipient twice: unlike 7006, no document says that nothing was taken.
    doubtful=frozenset({"500", "502", "503", "504"}),
)


def call(content: bytes) -> Call:
    """The event as it is: this API takes neither a correlationid nor a notifyurl."""
    return Call(PATH, content)


def judge(status: int, body: bytes) -> Answer:
    """The answer to a call. A transaction-id accepts and a code refuses, under whatever HTTP status."""
    said = read_object(body) or {}
    code, transid = bounded(said.get("code")), bounded(said.get("transaction-id"))
    if code is not None:
        item = AnswerItem(code, transid, bounded(said.get("description")))
        if transid is not None and code not in ANSWER_CODES["campaign"]:  # an id accepts, and the code is news to us
            return Answer(Outcome.UNCERTAIN, (item,), status, item.description)
        return judge_items(CODES, (item,), status)
    if transid is not None:
        return Answer(Outcome.ACCEPTED, (AnswerItem("", transid, None),), status)
    return judge_status(status, body)
