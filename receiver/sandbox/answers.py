"""What Messaging v1 replies to a request at once: the two envelopes, and the codes."""

from collections.abc import Iterable
from enum import StrEnum
from uuid import uuid4

import msgspec


class Code(StrEnum):
    """The codes of Messaging v1 that the sandbox answers with."""

    QUEUED = "1001"
    INVALID_JSON = "7000"
    NOT_AUTHENTICATED = "7001"
    KEY_MISSING = "7002"
    MANDATORY_MISSING = "7003"
    INVALID = "7004"
    INTERNAL = "7006"
    TOO_MANY_DESTINATIONS = "7009"
    TOO_MANY_TRANSACTIONS = "7020"


_DESCRIPTIONS = {
    Code.QUEUED: "Queued",
    Code.INVALID_JSON: "Invalid JSON",
    Code.NOT_AUTHENTICATED: "Authentication failed.",
    Code.KEY_MISSING: "Service key missing",
    Code.MANDATORY_MISSING: "Mandatory parameters missing",
    Code.INVALID: "Invalid parameters",
    Code.INTERNAL: "Internal error occurred",
    Code.TOO_MANY_DESTINATIONS: "Max number of destinations exceeded",
    Code.TOO_MANY_TRANSACTIONS: "Max transaction limit exceeded",
}


class Refused(Exception):
    """The request is answered with `code`; `detail` says which field, and never repeats its value."""

    def __init__(self, code: Code, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail


class _Queued(msgspec.Struct):
    code: str
    transid: str
    description: str


class _Refusal(msgspec.Struct):
    code: str
    description: str
    transid: str


def new_transid() -> str:
    """A transid that no other run has given out, seeded or not: receivers keep them for weeks."""
    return str(uuid4())


def queued(transids: Iterable[str]) -> bytes:
    """The envelope of success: an array."""
    answers = [_Queued(Code.QUEUED, transid, _DESCRIPTIONS[Code.QUEUED]) for transid in transids]
    return msgspec.json.encode({"response": answers})


def refusal(refused: Refused) -> bytes:
    """The envelope of failure: an object, with a transid of its own."""
    description = _DESCRIPTIONS[refused.code]
    if refused.detail:
        description = f"{description}: {refused.detail}"
    return msgspec.json.encode({"response": _Refusal(refused.code, description, new_transid())})
