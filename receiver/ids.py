"""Ids and digests: what rows are named by, and how texts that others choose are found again."""

import hashlib
import re
import secrets
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import NewType
from uuid import UUID

MessageId = NewType("MessageId", UUID)
SubmissionId = NewType("SubmissionId", UUID)
BatchId = NewType("BatchId", UUID)
TenantId = NewType("TenantId", int)
Digest = NewType("Digest", bytes)

_VERSION_AND_VARIANT = (0x7 << 76) | (0x2 << 62)
_EPOCH = datetime.fromtimestamp(0, UTC)
_last_tick = 0
_lock = threading.Lock()


def new_id() -> UUID:
    """A UUIDv7 from our clock, greater than every earlier one of this process.

    48 bits of milliseconds, 12 bits of the millisecond's fraction (RFC 9562, 6.2, method 3), 62 random bits: a
    call's messages are neighbours in the index and come back in the order in which they were given.
    """
    global _last_tick
    with _lock:
        tick = max(time.time_ns() * 4096 // 1_000_000, _last_tick + 1)
        _last_tick = tick
    return UUID(int=tick >> 12 << 80 | (tick & 0xFFF) << 64 | _VERSION_AND_VARIANT | secrets.randbits(62))


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
    text = text.strip().lower().removeprefix("urn:uuid:")
    if not _UUID.fullmatch(text):
        return None
    identity = UUID(text)
    return identity if identity.version == 7 else None


_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{12}7[0-9a-f]{19}")
_SUFFIX = re.compile(r"(_[0-9]+)+$")
_NUMBER = re.compile(r"\+?[0-9\s().\-]*[0-9][0-9\s().\-]*")
_NOT_A_DIGIT = re.compile(r"[^0-9]")
_INTERNATIONAL = re.compile(r"^00(?=[1-9])")  # no country code begins with 0
_SCHEMES = re.compile(r"(?:(tel|sms|sips?|mailto):\s*)+", re.IGNORECASE)  # all: what is normalised stays as it is
_LONGEST_ID = 512  # longer texts are taken as they are: the patterns above are quadratic in the worst case
_LONGEST_NUMBER = 64


def digest(text: str) -> Digest:
    """16 bytes that stand for `text` in an index."""
    return Digest(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest())


def transid_root(transid: str) -> str:
    """A transid as the key holds it: case folded, no `urn:uuid:`, no `_digits` behind it."""
    root = transid.strip().casefold().removeprefix("urn:uuid:")
    # `_1` alone is no suffix: two transids must not meet in an empty root
    return _SUFFIX.sub("", root) or root if len(root) <= _LONGEST_ID else root


def normalise_destination(destination: str) -> str:
    """One spelling for one recipient: `tel:+44 7700 900001`, `00447700900001` and `447700900001` are the same.

    Numbers lose everything but their digits and an international prefix; e-mail addresses lose their case; any
    other id (customer, device) is kept as it is, for its case may matter.
    """
    text = destination.strip()
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
