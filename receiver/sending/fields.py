"""What every check needs: the broken rules in the codes of one API, and the fields that several bodies share.

No function here raises for a value that JSON can hold.
"""

import re
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import Any

import httpx2

from receiver.platform.times import moment
from receiver.web import FieldError

LONGEST_CORRELATIONID = 50  # bytes
LONGEST_NOTIFYURL = 2_048  # characters
LONGEST_NAME = 1_024  # characters of a destination, of an event's id or key
_LARGEST_NUMBER = 256  # bits: far beyond any id, and far below where Python refuses to write a number down

_SURROGATE = re.compile("[\ud800-\udfff]")
_NEVER_IN_A_URL = re.compile("[\x00-\x20\x7f-\x9f\\\\\ud800-\udfff]")
_AUTHORITY = re.compile(r"https?://([^/?#]+)", re.IGNORECASE)


class Broken(ABC):
    """The rules that a body breaks. Each API has codes of its own for what is missing and for what is wrong."""

    def __init__(self) -> None:
        self.errors: list[FieldError] = []

    @abstractmethod
    def missing(self, pointer: str, detail: str) -> None:
        """Notes a mandatory field that is not there."""

    @abstractmethod
    def wrong(self, pointer: str, detail: str) -> None:
        """Notes a value that is not allowed."""


def is_empty(value: Any) -> bool:
    """Whether `value` says nothing: absent, null, blank, no items."""
    return value is None or (isinstance(value, str) and not value.strip()) or value in ([], {})


def size(text: str) -> int:
    """The length of `text` in bytes of UTF-8."""
    return len(text.encode("utf-8", "surrogatepass"))


def has_surrogate(text: str) -> bool:
    """Whether `text` holds half a character, which UTF-8 can't write."""
    return _SURROGATE.search(text) is not None


def part(key: str) -> str:
    """A key as a part of a JSON pointer, bounded, and fit to be answered."""
    return _SURROGATE.sub("?", key[:256]).replace("~", "~0").replace("/", "~1")


def plain(text: str, pointer: str, broken: Broken) -> str:
    """`text`, which is going to be stored as text: noted if Postgres can't take it."""
    if "\0" in text:
        broken.wrong(pointer, "the NUL character is not allowed")
    if has_surrogate(text):
        broken.wrong(pointer, "half a surrogate pair is no character")
    return text


def name_of(value: Any) -> str | None:
    """A string, or a whole number as it is read; None for what is neither."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= _LARGEST_NUMBER:
        return str(value)
    return value if isinstance(value, str) else None


def mandatory_name(body: dict[str, Any], key: str, pointer: str, broken: Broken) -> str:
    """The id that `body` must hold under `key`; empty if it was noted as broken."""
    value = body.get(key)
    name = name_of(value)
    if is_empty(value):
        broken.missing(pointer, f"{key} is mandatory")
    elif name is None:
        broken.wrong(pointer, f"{key} must be a string")
    elif len(name) > LONGEST_NAME:
        broken.wrong(pointer, f"{key} has {LONGEST_NAME} characters at most")
    else:
        return plain(name, pointer, broken)
    return ""


def correlationid_of(holder: dict[str, Any], pointer: str, broken: Broken) -> str | None:
    """The correlationid of the object at `pointer`, measured in bytes."""
    value = holder.get("correlationid")
    if value in (None, ""):
        return None
    pointer = f"{pointer}/correlationid"
    if not isinstance(value, str):
        broken.wrong(pointer, "correlationid must be a string")
        return None
    if size(value) > LONGEST_CORRELATIONID:
        broken.wrong(pointer, f"correlationid has {size(value)} bytes, {LONGEST_CORRELATIONID} at most")
    return plain(value, pointer, broken)


def expiry_of(body: dict[str, Any], broken: Broken) -> datetime | None:
    """After which moment nothing is sent; a time without a zone is in UTC."""
    value = body.get("expiry")
    if value in (None, ""):
        return None
    when = moment(value, UTC) if isinstance(value, str) else None
    if when is None:
        broken.wrong("/expiry", "expiry must be a time such as 2030-04-12T13:00:19.456Z")
    return when


def notifyurl_of(body: dict[str, Any], broken: Broken) -> str | None:
    """The client's own notifyurl, as it was given. Which addresses may be told is judged where they are told."""
    value = body.get("notifyurl")
    if value in (None, ""):
        return None
    if not isinstance(value, str) or not _is_url(value):
        detail = (
            f"notifyurl must be an http(s) URL with a host, without a user, {LONGEST_NOTIFYURL:,} characters at most"
        )
        broken.wrong("/notifyurl", detail)
        return None
    return value


def _is_url(text: str) -> bool:
    """Parsed by the client that would post to it, so that both mean the same host."""
    authority = _AUTHORITY.match(text)
    if len(text) > LONGEST_NOTIFYURL or _NEVER_IN_A_URL.search(text) or not authority or "@" in authority[1]:
        return False
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, ValueError):
        return False
    return bool(url.host) and (url.port is None or 0 < url.port < 65_536)
