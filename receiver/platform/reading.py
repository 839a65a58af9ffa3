"""Reading an answer of the platform: v1's envelope, texts with a bound, and what a bare HTTP status proves."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from receiver.platform.wire import LONGEST_TEXT, Answer, AnswerItem, Outcome, Trouble

# 430 and 498 are Webex Campaign's: not authorised, token no longer good.
_CREDENTIALS = frozenset({401, 403, 430, 498})
# The address or the way to it is wrong, or the request did not get through it: nobody has read the message.
_NOT_THERE = frozenset({307, 308, 404, 405, 408, 421, 425})


@dataclass(frozen=True)
class Codes:
    """What the codes of one api prove. A code that is in no set refuses, unless it looks like a kind of queued."""

    queued: str | None
    later: Mapping[str, Trouble]
    doubtful: frozenset[str] = frozenset()
    """Codes after which it may have been sent all the same."""

    def outcome(self, code: str) -> Outcome:
        """What `code` proves of the entry that bears it."""
        if code == self.queued:
            return Outcome.ACCEPTED
        if code in self.later:
            return Outcome.LATER
        # 1001 and 1002 say queued, each in its api; failures begin with 7 and 9. Another 10.. may be good news.
        like_queued = self.queued is not None and len(code) == len(self.queued) and code[:2] == self.queued[:2]
        return Outcome.UNCERTAIN if code in self.doubtful or like_queued else Outcome.REFUSED


def judge_items(codes: Codes, items: tuple[AnswerItem, ...], status: int) -> Answer:
    """What the items of an envelope prove together: accepted when one of them is, else what the first code says."""
    if any(item.code == codes.queued for item in items):
        return Answer(Outcome.ACCEPTED, items, status)
    said = next(item for item in items if item.code)
    outcome = codes.outcome(said.code)
    # Trying again sends every entry again, and who is refused does it himself: each must surely not have been taken.
    if any(codes.outcome(item.code) is Outcome.UNCERTAIN or not item.code for item in items):
        outcome = Outcome.UNCERTAIN
    trouble = codes.later[said.code] if outcome is Outcome.LATER else None
    return Answer(outcome, items, status, said.description, trouble)


def envelope_items(body: bytes) -> tuple[AnswerItem, ...]:
    """The items of v1's envelope: an array on success, an object on failure; nothing for any other body."""
    envelope = read_object(body)
    response = envelope.get("response") if envelope else None
    entries = response if isinstance(response, list) else [response]
    # An entry without a code keeps its place: items are matched with recipients by position.
    items = tuple(
        AnswerItem(bounded(e.get("code")) or "", bounded(e.get("transid")), bounded(e.get("description")))
        for e in (entry if isinstance(entry, dict) else {} for entry in entries)
    )
    return items if any(item.code for item in items) else ()


def judge_status(status: int, body: bytes, item: AnswerItem | None = None) -> Answer:
    """What an HTTP answer proves in which the platform said nothing that is known; `item` is what it did say."""
    items = (item,) if item else ()
    description = f"HTTP {status} with an unknown code" if item and item.code else f"HTTP {status} without a code"
    if status in _CREDENTIALS:
        return Answer(Outcome.LATER, items, status, description, Trouble.CREDENTIALS)
    if status == 429:
        return Answer(Outcome.LATER, items, status, description, Trouble.THROTTLED)
    if status in _NOT_THERE:
        return Answer(Outcome.LATER, items, status, description, Trouble.UNREACHABLE)
    if 400 <= status < 500:
        refusal = item if item and item.code else AnswerItem(f"HTTP {status}", None, description)
        return Answer(Outcome.REFUSED, (refusal,), status, refusal.description or description)
    # 2xx that can't be read, other 3xx, 5xx after the body was taken: it may have been sent
    said = body[:80].decode("utf-8", "replace").replace("\0", "")
    return Answer(Outcome.UNCERTAIN, items, status, f"{description}: {said}" if said else description)


def read_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object that `body` is; None for anything else.

    A byte-order mark, a line break in a text, or a description in another encoding must not hide a code.
    """
    try:
        try:
            read = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            read = json.loads(body.decode("utf-8-sig", "replace"), strict=False)
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


def bounded(value: Any) -> str | None:
    """A field of an answer as bounded text; numbers where strings are expected are taken as they read."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    try:
        text = str(value).encode("utf-8", "replace").decode()  # half a character can't be stored
    except ValueError:  # Python writes no number of more than 4,300 digits
        return None
    return text.strip().replace("\0", "\ufffd")[:LONGEST_TEXT] or None
