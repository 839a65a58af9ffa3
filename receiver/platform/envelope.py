"""The platform's own envelope, as our drop-in doors answer in it: Messaging v1 and Custom Event v1."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec

from receiver.platform.wire import Answer, AnswerItem, Outcome

INVALID_JSON, INVALID, FAULT, INACTIVE = "7000", "7004", "7006", "7007"

# In the words of the documents; the codes that we may have to answer with ourselves.
DESCRIPTIONS = {
    "1001": "Queued",
    "1002": "Queued",
    "7000": "Invalid JSON",
    "7001": "Authentication failed.",
    "7002": "Service key missing",
    "7003": "Mandatory parameters missing",
    "7004": "Invalid parameters",
    "7005": "Internal error occurred",
    "7006": "Internal error occurred",
    "7007": "Service inactive",
    "7009": "Max number of destinations exceeded",
    "7020": "Max transaction limit exceeded",
    "7025": "Mandatory custom parameters missing",
}


JSON = "application/json"


# The envelope as the contract shows it.
_SAID: dict[str, Any] = {
    "type": "object",
    "required": ["code", "description", "transid"],
    "properties": {
        "code": {"type": "string", "description": "1001 or 1002: queued. Else why not: the platform's code."},
        "description": {"type": "string"},
        "transid": {"type": "string", "description": "The platform's id."},
    },
}
SCHEMA = {
    "type": "object",
    "title": "The platform's envelope",
    "required": ["response"],
    "properties": {"response": {"anyOf": [{"type": "array", "items": _SAID, "minItems": 1}, _SAID]}},
}
_TRANSID = "3f09295d-9eb3-4c9e-8ee8-a3272e5f00c1"
EXAMPLE = {"response": [{"code": "1001", "transid": _TRANSID, "description": "Queued"}]}
EVENT_EXAMPLE = {"response": [{"code": "1002", "transid": _TRANSID, "description": "Queued"}]}
REFUSED_EXAMPLE = {"response": {"code": "7004", "description": "Invalid parameters", "transid": _TRANSID}}
FAULT_EXAMPLE = {"response": {"code": "7006", "description": "Internal error occurred", "transid": _TRANSID}}


class Reply(NamedTuple):
    """What goes back to a client of a drop-in door."""

    status: int
    body: bytes
    content_type: str = JSON
    replayed: bool = False


class _Item(msgspec.Struct):
    code: str
    transid: str
    description: str


class _Refusal(msgspec.Struct):
    code: str
    description: str
    transid: str


def refusal(code: str, detail: str = "") -> bytes:
    """The envelope of failure: an object, with a transid of its own."""
    description = DESCRIPTIONS.get(code, "Failed")
    described = f"{description}: {detail}" if detail else description
    return msgspec.json.encode({"response": _Refusal(code, described, str(uuid4()))})


def queued(items: Iterable[AnswerItem]) -> bytes:
    """The envelope of success: an array."""
    return msgspec.json.encode(
        {"response": [_Item(i.code, i.transid or "", i.description or DESCRIPTIONS.get(i.code, "")) for i in items]}
    )


def reply(answers: Sequence[Answer], queued_code: str, *, spelt_so: bool, places: Sequence[Sequence[int]]) -> Reply:
    """The word to a client whose request took these calls: the platform's own bytes where it was one.

    `spelt_so`: the api that was called answers in this envelope; v2 does not. `places`: of each call, where its
    messages stand in the request.

    What nobody answered, or could not be sent, is 7006 under HTTP 200. Of several calls, one that was queued makes
    the request queued: the entries of the others bear their code.
    """
    first = answers[0]
    if len(answers) == 1 and spelt_so and first.http_status is not None and first.raw:
        told = first.content_type or ""
        return Reply(first.http_status, first.raw, told if told.isascii() and told.isprintable() and told else JSON)
    if not any(answer.outcome is Outcome.ACCEPTED for answer in answers):
        # who hears a refusal may send all of it again: nothing of it may have been sent
        doubtful = (answer for answer in answers if answer.outcome is Outcome.UNCERTAIN)
        said = next(doubtful, first)
        # what expired is not to be sent again as it is, which 7006 would suggest
        return Reply(200, refusal(code_of(said), said.description or "" if said.outcome is Outcome.EXPIRED else ""))
    placed = [pair for answer, own in zip(answers, places, strict=True) for pair in _placed(answer, own, queued_code)]
    return Reply(200, queued(item for _, item in sorted(placed, key=lambda pair: pair[0])))


def _placed(answer: Answer, places: Sequence[int], queued_code: str) -> Iterator[tuple[int, AnswerItem]]:
    """What one call of several says, and of which message: what was not queued is said of each."""
    if answer.outcome is not Outcome.ACCEPTED:
        for place in places:
            yield place, AnswerItem(code_of(answer), str(uuid4()), answer.description)
        return
    each = len(answer.items) == len(places)
    for number, item in enumerate(answer.items):
        # v2 has one word for queued; the client of this door knows its own
        said = item if item.code else AnswerItem(queued_code if item.transid else FAULT, item.transid, None)
        yield places[number if each else 0], said


def code_of(answer: Answer) -> str:
    """The platform's code of a call that was not taken; 7006 where it said none, 7004 for what had expired."""
    if answer.outcome is Outcome.EXPIRED:
        return INVALID
    code = answer.code
    return code if answer.outcome is not Outcome.UNCERTAIN and code and code.isdigit() else FAULT
