"""Notify tokens: the last part of a notifyurl. Unguessable, and checked without the database.

A token names a tenant, and for a message that we issued its submission, under an HMAC of the operator's secret. So a
receipt is known to be ours before anything is looked up, and the submission's id needs no trust in the body.
"""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from uuid import UUID

from receiver.ids import SubmissionId

_VERSION = 1
_MAC_BYTES = 16
_LONGEST = 160


@dataclass(frozen=True)
class NotifyToken:
    """What a good token says: whose receipts come in, and of which submission (None: the tenant's own URL)."""

    tenant: str
    submission_id: SubmissionId | None


class NotifyTokens:
    """Signs tokens with the present secret and reads those of the present and the previous one."""

    def __init__(self, secret: str, previous: str | None = None) -> None:
        self._keys = [hashlib.sha256(b"receiver notify token\0" + s.encode()).digest() for s in (secret, previous) if s]

    def __repr__(self) -> str:
        return f"NotifyTokens(secrets={len(self._keys)})"

    def sign(self, tenant: str, submission_id: SubmissionId | None = None) -> str:
        """The token of a tenant, or of one of its submissions."""
        payload = bytes((_VERSION, submission_id is not None)) + (submission_id.bytes if submission_id else b"")
        payload += tenant.encode()
        return base64.urlsafe_b64encode(payload + self._mac(self._keys[0], payload)).rstrip(b"=").decode()

    def read(self, token: str) -> NotifyToken | None:
        """What `token` says, or None for one that we never signed."""
        if len(token) > _LONGEST or not token.isascii():
            return None
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        payload, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        good = [hmac.compare_digest(self._mac(key, payload), mac) for key in self._keys]
        if not any(good) or len(payload) < 3 or payload[0] != _VERSION:
            return None
        if payload[1] == 0:
            return NotifyToken(payload[2:].decode(), None)
        return NotifyToken(payload[18:].decode(), SubmissionId(UUID(bytes=payload[2:18])))

    @staticmethod
    def _mac(key: bytes, payload: bytes) -> bytes:
        return hmac.digest(key, payload, "sha256")[:_MAC_BYTES]
