"""Who is to be forgotten: one recipient, and how the recipient is recognised in texts and bodies of others."""

import re
from dataclasses import dataclass

from receiver.ids import Digest, destination_digest, normalise_destination

# Shorter ones stand in too many texts by chance: they are recognised as a whole value alone.
SHORTEST_IN_TEXTS = 7
ERASED = "erased"

_BETWEEN_DIGITS = r"(?:[ ().+-]|%20){0,2}"
_BEFORE = r"(?<![0-9a-z])"
_AFTER = r"(?![0-9a-z])"
# What may stand right before a number and ends in a digit or a letter: %2B, %20, \u002b, the prefix 00.
_BEFORE_A_NUMBER = r"(?<![0-9])(?:%2[0-9b]|u00[0-9a-f]{2})?(?:00)?"


@dataclass(frozen=True)
class Person:
    """One recipient: `key` finds messages, `pattern` (any case; the same in Postgres and in Python) finds texts."""

    destination: str
    key: Digest
    pattern: str


def person_of(destination: str) -> Person | None:
    """Who `destination` is, in whatever spelling; None for what names nobody."""
    text = normalise_destination(destination)
    half = any("\ud800" <= character <= "\udfff" for character in text)  # no text that we keep has half a character
    if not text or text == ERASED or half:
        return None
    return Person(text, destination_digest(text), _pattern(text))


def is_in(person: Person, body: bytes) -> bool:
    """Whether a body holds the recipient."""
    return re.search(person.pattern, body.decode("utf-8", "replace"), re.IGNORECASE) is not None


def _pattern(text: str) -> str:
    if len(text) < SHORTEST_IN_TEXTS:
        return rf"(^|[\"'>=:,])[ +]*{_spelled(text)} *([\"'<&,}}]|$)"
    if text.isascii() and text.isdigit():
        return _BEFORE_A_NUMBER + _BETWEEN_DIGITS.join(text) + "(?![0-9])"
    return _BEFORE + _spelled(text) + _AFTER


def _spelled(text: str) -> str:
    return "".join(_ways(character) for character in text)


def _ways(character: str) -> str:
    """A character as it stands in a text: itself, percent-encoded, as a JSON escape, or as Postgres escapes bytes."""
    if character.isascii() and character.isalnum():
        return character
    octets = character.encode("utf-8", "surrogatepass")
    percent = "".join(f"%{octet:02x}" for octet in octets)
    units = character.encode("utf-16-be", "surrogatepass")
    escape = r"\\+".join(f"u{units[n]:02x}{units[n + 1]:02x}" for n in range(0, len(units), 2))
    octal = "" if character.isascii() else "|" + "".join(rf"\\{octet:03o}" for octet in octets)
    return rf"(?:{re.escape(character)}|{percent}|\\+{escape}{octal})"
