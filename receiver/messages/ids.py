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
    return UUID(int=int(moment.timestamp() * 1000) << 80)


def born_at(identity: UUID) -> datetime:
    """When a UUIDv7 was minted, in UTC, to the millisecond."""
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=identity.int >> 80)


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
_LONGEST_ID = 512  # longer texts are taken as they are: the patterns below are quadratic in the worst case
_LONGEST_NUMBER = 64


def digest(text: str) -> Digest:
    """16 bytes that stand for `text` in an index."""
    return Digest(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest())


def transid_root(transid: str) -> str:
    """A transid as the key holds it: case folded, no `urn:uuid:`, no `_digits` behind it."""
    root = transid.strip().casefold().removeprefix("urn:uuid:")
    return _SUFFIX.sub("", root) if len(root) <= _LONGEST_ID else root


def normalise_destination(destination: str) -> str:
    """One spelling for one recipient: `tel:+44 7700 900001`, `00447700900001` and `447700900001` are the same.

    Numbers lose everything but their digits and an international prefix; e-mail addresses lose their case; any
    other id (customer, device) is kept as it is, for its case may matter.
    """
    text = destination.strip()
    scheme, colon, rest = text.partition(":")
    if colon and scheme.lower() in ("tel", "sms", "sip", "sips", "mailto"):
        text = rest.strip()
        user = text.partition("@")[0]
        if len(user) <= _LONGEST_NUMBER and _NUMBER.fullmatch(user):
            text = user
    if len(text) <= _LONGEST_NUMBER and _NUMBER.fullmatch(text):
        digits = _NOT_A_DIGIT.sub("", text)
        return digits.removeprefix("00") or digits
    return text.casefold() if "@" in text else text


def destination_digest(destination: str) -> Digest:
    """The digest under which a recipient is searched."""
    return digest(normalise_destination(destination))


def leg_digest(subtid: str, destination: str) -> Digest:
    """The second half of a message's key: the flow node, where there is one, and the recipient."""
    return digest(f"{subtid}\0{normalise_destination(destination)}")
