"""What the platform replies to a request at once: its codes, and the envelopes of its APIs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import msgspec

from receiver.sandbox.transids import new_transid

JSON: Final[Mapping[str, str]] = {"content-type": "application/json"}


class Code(StrEnum):
    """The codes of Messaging and of Custom Event; what one means hangs on the API."""

    QUEUED = "1001"
    EVENT_QUEUED = "1002"
    INVALID_JSON = "7000"
    NOT_AUTHENTICATED = "7001"
    KEY_MISSING = "7002"
    MANDATORY_MISSING = "7003"
    INVALID = "7004"
    EVENT_INTERNAL = "7005"
    INTERNAL = "7006"
    SERVICE_INACTIVE = "7007"
    TOO_MANY_DESTINATIONS = "7009"
    TOO_MANY_TRANSACTIONS = "7020"
    CUSTOM_MISSING = "7025"
    INVALID_XML = "7027"


class CampaignCode(StrEnum):
    """The codes of Webex Campaign."""

    INVALID_JSON = "1001"
    MANDATORY_MISSING = "1002"
    NO_RECOMMENDATION = "1003"
    NOT_FOUND = "404"
    METHOD = "405"
    THROTTLED = "429"
    NOT_AUTHORISED = "430"
    EXPIRED = "498"
    FAILED = "499"
    INTERNAL = "500"
    GATEWAY = "502"


MESSAGING: Final[Mapping[str, str]] = {
    Code.QUEUED: "Queued",
    Code.INVALID_JSON: "Invalid JSON",
    Code.NOT_AUTHENTICATED: "Authentication failed.",
    Code.KEY_MISSING: "Service key missing",
    Code.MANDATORY_MISSING: "Mandatory parameters missing",
    Code.INVALID: "Invalid parameters",
    Code.INTERNAL: "Internal error occurred",
    Code.SERVICE_INACTIVE: "Service inactive",
    Code.TOO_MANY_DESTINATIONS: "Max number of destinations exceeded",
    Code.TOO_MANY_TRANSACTIONS: "Max transaction limit exceeded",
}
EVENT: Final[Mapping[str, str]] = {
    Code.EVENT_QUEUED: "Queued",
    Code.INVALID_JSON: "Invalid JSON",
    Code.NOT_AUTHENTICATED: "Authentication failed.",
    Code.KEY_MISSING: "Service key missing",
    Code.INVALID: "Invalid parameters/values",
    Code.EVENT_INTERNAL: "Internal error occurred",
    Code.SERVICE_INACTIVE: "Service inactive",
    Code.TOO_MANY_TRANSACTIONS: "Max transaction limit exceeded",
    Code.CUSTOM_MISSING: "Mandatory custom parameters missing",
    Code.INVALID_XML: "Invalid XML",
}
CAMPAIGN: Final[Mapping[str, str]] = {
    CampaignCode.INVALID_JSON: "Invalid input JSON",
    CampaignCode.MANDATORY_MISSING: "Mandatory field missing",
    CampaignCode.NO_RECOMMENDATION: "No recommendation available",
    CampaignCode.NOT_FOUND: "Not found",
    CampaignCode.METHOD: "Method not allowed",
    CampaignCode.THROTTLED: "Throttled",
    CampaignCode.NOT_AUTHORISED: "Not authorised",
    CampaignCode.EXPIRED: "Token invalid or expired",
    CampaignCode.FAILED: "Failed",
    CampaignCode.INTERNAL: "Internal error",
    CampaignCode.GATEWAY: "Bad gateway",
}


class Refused(Exception):
    """The request is answered with `code`; `detail` says which field, and never repeats its value."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code = str(code)
        self.detail = detail

    def in_words(self, descriptions: Mapping[str, str]) -> str:
        """The description, by the table of one API."""
        description = descriptions.get(self.code, "Failed")
        return f"{description}: {self.detail}" if self.detail else description


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer."""

    status: int
    body: bytes
    word: str
    """What the ledger counts it as: its code, or where it has none, its status."""
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)


class _Queued(msgspec.Struct):
    code: str
    transid: str
    description: str


class _Refusal(msgspec.Struct):
    code: str
    description: str
    transid: str


def queued(transids: Iterable[str], code: Code = Code.QUEUED) -> Answer:
    """The envelope of success in v1: an array."""
    answers = [_Queued(code, transid, "Queued") for transid in transids]
    return Answer(200, msgspec.json.encode({"response": answers}), code)


def refusal(refused: Refused, descriptions: Mapping[str, str], status: int) -> Answer:
    """The envelope of failure in v1: an object, with a transid of its own."""
    told = _Refusal(refused.code, refused.in_words(descriptions), new_transid())
    return Answer(status, msgspec.json.encode({"response": told}), refused.code)


def v2_queued(transid: str, correlationid: str) -> Answer:
    """The success of Messaging v2; receipts bear its messageId as their transid."""
    body = {
        "requestTimestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "messageId": transid,
        "correlationId": correlationid,
        "status": "queued",
    }
    return Answer(201, msgspec.json.encode(body), Code.QUEUED)


def v2_refusal(refused: Refused, status: int | None) -> Answer:
    """The failure of Messaging v2: bad credentials have no body."""
    if refused.code in (Code.NOT_AUTHENTICATED, Code.KEY_MISSING):
        return Answer(status or 401, b"", refused.code, {})
    body = {"code": refused.code, "message": refused.in_words(MESSAGING)}
    return Answer(status or 400, msgspec.json.encode(body), refused.code)


def campaign_queued(transaction_id: str) -> Answer:
    """The success of Webex Campaign."""
    return Answer(200, msgspec.json.encode({"transaction-id": transaction_id}), "accepted")


def campaign_refusal(refused: Refused, status: int) -> Answer:
    """The failure of Webex Campaign; its code is a number."""
    code: int | str = int(refused.code) if refused.code.isdecimal() else refused.code
    return Answer(status, msgspec.json.encode({"code": code, "description": refused.in_words(CAMPAIGN)}), refused.code)


def bare(status: int) -> Answer:
    """A failure without a code, as from a gateway in front of the platform."""
    page = f"<html><head><title>{status}</title></head><body>{status}</body></html>".encode()
    return Answer(status, page, str(status), {"content-type": "text/html"})
