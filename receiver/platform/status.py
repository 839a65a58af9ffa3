"""The transaction status: what the platform itself knows of a message by now, whether it has told it or not.

What its answer says is read here, liberally: it is documented by one example. Nothing in here raises.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any
from urllib.parse import quote

import msgspec

from receiver.messages.lattice import FAMILIES, Channel, Fact
from receiver.platform.calls import seconds_of
from receiver.platform.wire import LONGEST_TEXT
from receiver.platform.words import fact_of, squeeze

PATH = "/resources/v1/messaging/status/"

_THROTTLED = frozenset({"7020"})
OTHERS = "others"
_REFUSED = frozenset({"7001", "7002", "7007"})
# It does not take this question: that is no trouble of the tenant, and must not hold up the others.
_NOT_TAKEN = frozenset({"7003", "7004"})
_NOT_TAKEN_HTTP = frozenset({400, 404, 410, 414, 422})
_NAMES = {
    "transactionid": "transid",
    "transid": "transid",
    "channel": "channel",
    "to": "to",
    "destination": "to",
    "status": "status",
    "datecreated": "date_created",
    "lastupdated": "last_updated",
    "errorcode": "error_code",
    "errormessage": "error_message",
}
# The example repeats the whole request: what was sent to somebody is not kept a second time.
_NOT_KEPT = frozenset({"body"})
MOST_ENTRIES = 5_000  # a submission has 1,000 messages
LARGEST_KEPT = 8192  # bytes of an entry as it came; a larger one is kept by its known fields


class Result(Enum):
    """What came of asking. The values are labels of a metric."""

    ANSWERED = "answered"
    UNKNOWN = "unknown"  # the platform knows no such transid, or no more, or takes it for none
    THROTTLED = "throttled"
    REFUSED = "refused"  # our credentials
    FAULT = "fault"  # no answer, or none that can be read


@dataclass(frozen=True)
class Entry:
    """What the platform knows of one message, as texts: free of NUL, lone surrogates and blanks around them."""

    transid: str = ""
    channel: str = ""
    to: str = field(default="", repr=False)
    status: str = ""
    date_created: str = ""
    last_updated: str = ""
    error_code: str = ""
    error_message: str = ""
    raw: bytes = field(default=b"", repr=False)
    """The entry's own bytes, without what was sent; from them alone the entry is read again."""

    def with_what_we_asked_for(self, transid: str, channel: str, to: str) -> "Entry":
        """The entry with what it leaves out, in its bytes too."""
        missing = {
            name: text
            for name, text in (("transid", transid), ("channel", channel), ("to", to))
            if not getattr(self, name)
        }
        if not missing:
            return self
        whole = replace(self, **missing)  # type: ignore[arg-type]
        return replace(whole, raw=_encoded(_fields(whole)))


@dataclass(frozen=True)
class Answer:
    """What the platform answered to a question for one transid."""

    result: Result
    entries: tuple[Entry, ...] = ()
    retry_after: float | None = None
    """Seconds for which the platform asked us to wait."""
    description: str = ""
    is_list: bool = False
    """Whether it is a list of messages, be it an empty one: what answered knows this question, and let us in."""


def path_of(transid: str) -> str:
    """Where one asks for `transid`, whatever characters it has."""
    return PATH + quote(transid.encode("utf-8", "replace"), safe="")


def answer_of(http_status: int, body: bytes, retry_after: str | None = None) -> Answer:
    """What an answer says: entries, or the trouble that there is. A code decides before the HTTP status does."""
    value = _value(body)
    wait = seconds_of(retry_after)
    if (code := _code_of(value)) is not None:
        return Answer(_trouble_of(code), retry_after=wait, description=f"code {code}")
    described = f"HTTP {http_status}"
    if http_status == 429:
        return Answer(Result.THROTTLED, retry_after=wait, description=described)
    if http_status in (401, 403):
        return Answer(Result.REFUSED, description=described)
    if http_status in _NOT_TAKEN_HTTP:
        return Answer(Result.UNKNOWN, description=described)
    if not 200 <= http_status < 300:
        return Answer(Result.FAULT, retry_after=wait, description=described)
    listed = _listed(value)
    if listed is None:
        return Answer(Result.FAULT, description=f"{described}, and no list of messages")
    if len(listed) > MOST_ENTRIES:  # more than anybody asked for, and a minute of work
        return Answer(Result.FAULT, description=f"{described}, and a list of more than {MOST_ENTRIES} messages")
    entries = tuple(_entries(listed, body))
    if entries:
        return Answer(Result.ANSWERED, entries, is_list=True)
    if listed:
        return Answer(Result.FAULT, description=f"{described}, and a list in which no message can be read")
    return Answer(Result.UNKNOWN, description=f"{described}, an empty list", is_list=True)


def no_answer(error: str) -> Answer:
    """The platform was not reached, or did not answer; `error` says it in a word."""
    return Answer(Result.FAULT, description=error)


def entry_of(raw: bytes) -> Entry | None:
    """The entry in its own bytes, as `answer_of` left them; None where there is none."""
    value = _value(raw)
    return _entry(value, raw) if isinstance(value, dict) else None


def fact_of_status(channel: Channel, status: str) -> Fact:
    """What a status of this API proves on `channel`.

    It has one word, failed, for every way of not arriving. Where a channel tells two of them apart that is the weaker
    one: a receipt that says Failed can still raise it, and nothing could ever lower it. A call's `others` may be one
    that was dropped, which proves nothing alone.
    """
    fact = fact_of(channel, status)
    if channel is Channel.VOICE and squeeze(status) == OTHERS:
        return Fact.ENDED
    if fact is Fact.FAILED and FAMILIES[channel].ill & Fact.UNDELIVERED:
        return Fact.UNDELIVERED
    return fact


def _trouble_of(code: str) -> Result:
    if code in _THROTTLED:
        return Result.THROTTLED
    if code in _NOT_TAKEN:
        return Result.UNKNOWN
    return Result.REFUSED if code in _REFUSED else Result.FAULT


def _value(body: bytes) -> Any:
    """The JSON value of a body; None for what is none. Encodings and control characters must not hide an answer."""
    try:
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return json.loads(body.decode("utf-8-sig", "replace"), strict=False)
    except (ValueError, RecursionError):
        return None


def _code_of(value: Any) -> str | None:
    """The code of a failure: in v1's envelope, or bare as v2 has it; None where there is none."""
    said = value.get("response", value) if isinstance(value, dict) else None
    first = said[0] if isinstance(said, list) and said else said
    if not isinstance(first, dict) or any(_name(key) == "status" for key in first):
        return None
    return _text(first.get("code")) or None


def _listed(value: Any) -> list[Any] | None:
    """The entries of an answer: a list, one that stands alone, or either in an envelope."""
    if isinstance(value, dict) and isinstance(inner := value.get("response"), list | dict):
        value = inner
    if isinstance(value, dict):
        return [value] if value else None
    return value if isinstance(value, list) else None


def _entries(listed: list[Any], body: bytes) -> Iterator[Entry]:
    """What can be read of the entries, in order."""
    slices: list[Any] = []
    try:
        slices = msgspec.json.decode(body, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    for place, value in enumerate(listed):
        if isinstance(value, dict):
            entry = _entry(value, bytes(slices[place]) if len(slices) == len(listed) else None)
            if entry is not None:
                yield entry


def _entry(value: dict[str, Any], raw: bytes | None) -> Entry | None:
    """One entry; None for what has no status. `raw`: its bytes, where they are known."""
    texts: dict[str, str] = {}
    for key, told in value.items():
        name = _NAMES.get(_name(key))
        if name and not texts.get(name):
            texts[name] = _text(told)
    if not texts.get("status"):
        return None
    if texts.get("error_code") == "0":  # there is no error
        texts["error_code"] = ""
    entry = Entry(**texts)  # type: ignore[arg-type]  # none of them is `raw`
    if raw is None or any(_name(key) in _NOT_KEPT for key in value):
        try:
            raw = _encoded({key: told for key, told in value.items() if _name(key) not in _NOT_KEPT})
        except (ValueError, RecursionError):  # what could be read may be too deep to be written
            raw = _encoded(_fields(entry))
    return replace(entry, raw=raw if len(raw) <= LARGEST_KEPT else _encoded(_fields(entry)))


def _fields(entry: Entry) -> dict[str, str]:
    """The known fields in the platform's spelling."""
    return {
        "transactionid": entry.transid,
        "channel": entry.channel,
        "to": entry.to,
        "status": entry.status,
        "date_created": entry.date_created,
        "last_updated": entry.last_updated,
        "error_code": entry.error_code,
        "error_message": entry.error_message,
    }


def _encoded(value: dict[str, Any]) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half a character
        return json.dumps(value, separators=(",", ":")).encode()


def _name(key: str) -> str:
    return key[:64].lower().replace("_", "").replace("-", "")


def _text(value: Any) -> str:
    """A field as bounded text that Postgres can hold; a number as it reads."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):  # a number of more than 4,300 digits
        return ""
    return text.strip()[:LONGEST_TEXT].encode("utf-8", "replace").decode().replace("\0", "\ufffd").strip()
