"""The destination of a request: its entries and their values, each of which asks for one message."""

from dataclasses import dataclass
from typing import Any

from receiver.ids import normalise_destination
from receiver.sending.fields import LONGEST_NAME, Broken, correlationid_of, is_empty, name_of, part, plain
from receiver.web import FieldError

TOO_MANY = "7009"

MOST_ENTRIES = 1_000  # what the client wrote
MOST_MESSAGES = 10_000  # what it comes to

ID_TYPES = (
    "msisdn",
    "customerid",
    "email",
    "android_pushid",
    "ios_pushid",
    "chrome_pushid",
    "firefox_pushid",
    "safari_pushid",
    "psid",
    "twitterid",
    "wechat_user_id",
)


@dataclass(frozen=True)
class Asked:
    """One message that a request asks for: one value of one entry, or one event.

    `normalised` keeps two messages of one recipient out of one submission; events have no recipient, and differ.
    """

    id_type: str
    value: str
    normalised: str
    correlationid: str | None


def destinations_of(body: dict[str, Any], correlationid: str | None, broken: Broken) -> list[Asked]:
    """The messages that `body` asks for; an entry's own correlationid overrides the request's."""
    entries = body.get("destination")
    if is_empty(entries) and not isinstance(entries, dict):
        broken.missing("/destination", f"destination is mandatory: an array of 1 to {MOST_ENTRIES:,} entries")
    elif not isinstance(entries, list):
        broken.wrong("/destination", "destination must be an array")
    elif len(entries) > MOST_ENTRIES:
        _too_many(f"destination has {len(entries)} entries, {MOST_ENTRIES:,} at most", broken)
    elif (number := sum(_values(entry) for entry in entries)) > MOST_MESSAGES:
        _too_many(f"destination holds {number} values, {MOST_MESSAGES:,} at most", broken)
    else:
        return [
            asked
            for index, entry in enumerate(entries)
            for asked in _entry(entry, f"/destination/{index}", correlationid, broken)
        ]
    return []


def _too_many(detail: str, broken: Broken) -> None:
    broken.errors.append(FieldError("/destination", TOO_MANY, detail))


def _values(entry: Any) -> int:
    lists = entry.values() if isinstance(entry, dict) else ()
    return sum(len(values) for values in lists if isinstance(values, list))


def _entry(entry: Any, pointer: str, correlationid: str | None, broken: Broken) -> list[Asked]:
    if not isinstance(entry, dict):
        broken.wrong(pointer, "an entry must be an object with one list of ids")
        return []
    own = correlationid_of(entry, pointer, broken) or correlationid
    types = [key for key in entry if key != "correlationid"]
    known = [key for key in types if key in ID_TYPES]
    for key in types:
        if key not in ID_TYPES:
            broken.wrong(f"{pointer}/{part(key)}", f"unknown id type: it takes {', '.join(ID_TYPES)}")
    if not types:
        broken.missing(pointer, f"an entry needs a list of ids: {', '.join(ID_TYPES)}")
    if len(known) > 1:
        broken.wrong(pointer, f"an entry holds one id type, not {' and '.join(known)}")
    return [asked for key in known for asked in _list(key, entry[key], own, f"{pointer}/{key}", broken)]


def _list(key: str, values: Any, correlationid: str | None, pointer: str, broken: Broken) -> list[Asked]:
    if is_empty(values) and not isinstance(values, dict):
        broken.missing(pointer, f"{key} must be a list of one or more ids")
        return []
    if not isinstance(values, list):
        broken.wrong(pointer, f"{key} must be a list of ids")
        return []
    asked = (_value(key, value, correlationid, f"{pointer}/{i}", broken) for i, value in enumerate(values))
    return [one for one in asked if one]


def _value(key: str, value: Any, correlationid: str | None, pointer: str, broken: Broken) -> Asked | None:
    name = name_of(value)
    if is_empty(value):
        broken.missing(pointer, f"a {key} must be a string that is not empty")
        return None
    if name is None:
        broken.wrong(pointer, f"a {key} must be a string")
        return None
    if len(name) > LONGEST_NAME:
        broken.wrong(pointer, f"a {key} has {LONGEST_NAME:,} characters at most")
        return None
    name = plain(name, pointer, broken)  # as it was given: no document states what an id looks like but this one
    if key == "firefox_pushid" and not all(name.partition("@")[::2]):
        broken.wrong(pointer, "a firefox_pushid is pushid@key")
    return Asked(key, name, normalise_destination(name), correlationid)
