"""Notify tokens: the last part of a notifyurl. Unguessable, and checked without the database.

A token names a tenant, and for a message that we issued its submission, under an HMAC of the operator's secret. So a
receipt is known to be ours before anything is looked up, and the submission's id needs no trust in the body.
"""

import base64
import binascii
import hashlib
import hmac
from typing import NamedTuple

from receiver.ids import QuickUUID, SubmissionId

_VERSION = 1
_MAC_BYTES = 16
_LONGEST = 160
PROBE = ".probe"  # whose token the receiver's own probe has; no tenant can be named so
MOST_KNOWN = 8_192  # good tokens that are read without looking: of 400 bytes each, 3 MB


class NotifyToken(NamedTuple):
    """What a good token says: whose receipts come in, and of which submission (None: the tenant's own URL)."""

    tenant: str
    submission_id: SubmissionId | None


class NotifyTokens:
    """Signs tokens with the present secret and reads those of the present and the previous one."""

    def __init__(self, secret: str, previous: str | None = None) -> None:
        keys = [hashlib.sha256(b"receiver notify token\0" + s.encode()).digest() for s in (secret, previous) if s]
        self._macs = [_Mac(key) for key in keys]
        self._known: dict[str, NotifyToken] = {}

    def __repr__(self) -> str:
        return f"NotifyTokens(secrets={len(self._macs)})"

    def sign(self, tenant: str, submission_id: SubmissionId | None = None) -> str:
        """The token of a tenant, or of one of its submissions."""
        payload = bytes((_VERSION, submission_id is not None)) + (submission_id.bytes if submission_id else b"")
        payload += tenant.encode()
        return base64.urlsafe_b64encode(payload + self._macs[0].of(payload)).rstrip(b"=").decode()

    def read(self, token: str) -> NotifyToken | None:
        """What `token` says, or None for one that we never signed."""
        known = self._known.get(token)
        if known is None and (known := self._checked(token)) is not None:
            # A submission's receipts come in together. Only good tokens are kept, so nobody else can fill this up.
            if len(self._known) >= MOST_KNOWN:
                self._known.pop(next(iter(self._known)), None)
            self._known[token] = known
        return known

    def _checked(self, token: str) -> NotifyToken | None:
        if len(token) > _LONGEST or not token.isascii():
            return None
        try:
            text = token.replace("-", "+").replace("_", "/") + "=" * (-len(token) % 4)
            raw = binascii.a2b_base64(text, strict_mode=True)
        except (binascii.Error, ValueError):
            return None
        payload, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        good = [hmac.compare_digest(own.of(payload), mac) for own in self._macs]
        if not any(good) or len(payload) < 3 or payload[0] != _VERSION:
            return None
        if payload[1] == 0:
            return NotifyToken(payload[2:].decode(), None)
        return NotifyToken(payload[18:].decode(), SubmissionId(QuickUUID(payload[2:18])))


class _Mac:
    """HMAC-SHA256 (RFC 2104) whose key is hashed once: `hmac.digest` takes twice as long for so short a payload."""

    def __init__(self, key: bytes) -> None:
        block = key.ljust(64, b"\0")  # our keys have 32 bytes
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def of(self, payload: bytes) -> bytes:
        """The first half of the MAC."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(payload)
        outer.update(inner.digest())
        return outer.digest()[:_MAC_BYTES]
