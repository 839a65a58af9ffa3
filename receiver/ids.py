"""Ids and digests: what rows are named by, and how texts that others choose are found again."""

import hashlib
import os
import re
import struct
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import NewType
from uuid import UUID

from asyncpg.pgproto import pgproto

MessageId = NewType("MessageId", UUID)
SubmissionId = NewType("SubmissionId", UUID)
BatchId = NewType("BatchId", UUID)
TenantId = NewType("TenantId", int)
Digest = NewType("Digest", bytes)
QuickUUID = pgproto.UUID  # a UUID that is made, and sent to Postgres, ten times as fast

_copy_of_empty = hashlib.blake2b(digest_size=16).copy  # half the time of a new one

_EPOCH = datetime.fromtimestamp(0, UTC)
_two_halves = struct.Struct(">QQ").pack
_lock = threading.Lock()
_last_tick = 0


def _random_numbers() -> Iterator[int]:
    """Numbers of 64 bits without end. One call of the kernel brings 512."""
    return chain.from_iterable(iter(lambda: struct.unpack(">512Q", os.urandom(4096)), None))


_random = _random_numbers()


def _forget_randomness() -> None:
    global _random
    _random = _random_numbers()


os.register_at_fork(after_in_child=_forget_randomness)


def new_id() -> UUID:
    """A UUIDv7 from our clock, greater than every earlier one of this process.

    48 bits of milliseconds, 12 bits of the millisecond's fraction (RFC 9562, 6.2, method 3), 62 random bits: a
    call's messages are neighbours in the index and come back in the order in which they were given.
    """
    global _last_tick
    with _lock:
        tick = max(time.time_ns() * 4096 // 1_000_000, _last_tick + 1)
        _last_tick = tick
        noise = next(_random)
    return QuickUUID(_two_halves(tick >> 12 << 16 | 0x7000 | tick & 0xFFF, 0x2 << 62 | noise >> 2))


def first_id_at(moment: datetime) -> UUID:
    """The least id that can be born at `moment` (with a zone): the bound of a partition."""
    return UUID(int=(moment - _EPOCH) // timedelta(milliseconds=1) << 80)


def born_at(identity: UUID) -> datetime:
    """When a UUIDv7 was minted, in UTC, to the millisecond."""
    return _EPOCH + timedelta(milliseconds=identity.int >> 80)


def parse_id(text: str) -> UUID | None:
    """`text` as one of our ids (any case, `urn:uuid:` allowed in front), or None where it can't be one."""
    if not 32 <= len(text) <= 64:
        return None
    if len(text) == 36 and _UUID_7.fullmatch(text):
        return QuickUUID(text)  # as we spell it
    text = text.strip().lower().removeprefix("urn:uuid:")
    return QuickUUID(text) if _UUID_7.fullmatch(text) else None


_UUID_7 = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}|[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}"
)
_SUFFIX = re.compile(r"(_[0-9]+)+$")
_NUMBER = re.compile(r"\+?[0-9\s().\-]*[0-9][0-9\s().\-]*")
_NOT_A_DIGIT = re.compile(r"[^0-9]")
_INTERNATIONAL = re.compile(r"^00(?=[1-9])")  # no country code begins with 0
_SCHEMES = re.compile(r"(?:(tel|sms|sips?|mailto):\s*)+", re.IGNORECASE)  # all: what is normalised stays as it is
_LONGEST_ID = 512  # longer texts are taken as they are: the patterns above are quadratic in the worst case
_LONGEST_NUMBER = 64


def digest(text: str) -> Digest:
    """16 bytes that stand for `text` in an index."""
    state = _copy_of_empty()
    state.update(text.encode("utf-8", "surrogatepass"))
    return state.digest()  # type: ignore[return-value]


def transid_root(transid: str) -> str:
    """A transid as the key holds it: case folded, no `urn:uuid:`, no `_digits` behind it."""
    root = transid.strip().casefold().removeprefix("urn:uuid:")
    if "_" not in root:
        return root
    # `_1` alone is no suffix: two transids must not meet in an empty root
    return _SUFFIX.sub("", root) or root if len(root) <= _LONGEST_ID else root


def normalise_destination(destination: str) -> str:
    """One spelling for one recipient: `tel:+44 7700 900001`, `00447700900001` and `447700900001` are the same.

    Numbers lose everything but their digits and an international prefix; e-mail addresses lose their case; any
    other id (customer, device) is kept as it is, for its case may matter.
    """
    text = destination.strip()
    if text.isdigit() and text.isascii() and len(text) <= _LONGEST_NUMBER and not text.startswith("00"):
        return text  # as most are told
    if scheme := _SCHEMES.match(text):
        text = text[scheme.end() :]
        user = text.partition("@")[0]
        if scheme[1].casefold() != "mailto" and len(user) <= _LONGEST_NUMBER and _NUMBER.fullmatch(user):
            text = user
    if len(text) <= _LONGEST_NUMBER and _NUMBER.fullmatch(text):
        return _INTERNATIONAL.sub("", _NOT_A_DIGIT.sub("", text))
    return text.casefold() if "@" in text else text


def destination_digest(destination: str) -> Digest:
    """The digest under which a recipient is searched."""
    return digest(normalise_destination(destination))


def leg_digest(subtid: str, destination: str) -> Digest:
    """The second half of a message's key: the flow node, where there is one, and the recipient."""
    return leg_of(subtid, normalise_destination(destination))


# Under this an event's transid is filed: it has no recipient, and its children have legs of their own.
NO_LEG = Digest(bytes(16))


def leg_of(subtid: str, recipient: str) -> Digest:
    """`leg_digest` of a recipient that is normalised already."""
    return digest(f"{subtid}\0{recipient}")
