"""What a tenant asks of a receipt beside its token: the platform's signature, and a header with a known value.

The platform may sign a body: `x-hub-signature` holds the hex HMAC-SHA256 or HMAC-SHA512 of its bytes as they came, with
or without `sha256=` or `sha512=` in front. HMAC-SHA1 of old set-ups is never good: a signature that others can make
proves nothing, so such a set-up must be changed on the platform.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from receiver.tenant_settings import Tenant

SIGNATURE_HEADER = b"x-hub-signature"
MOST_SIGNATURES = 8  # looked at in one request: two secrets, two algorithms, and as many to spare
_SIGNATURE = re.compile(rb"(?:(sha256|sha512)\s*=)?\s*([0-9a-f]{64}|[0-9a-f]{128})")
_ALGORITHMS = {64: "sha256", 128: "sha512"}  # by the number of hex digits

Headers = Iterable[tuple[bytes, bytes]]


class Refusal(StrEnum):
    """Why a receipt is not believed to come from the platform."""

    ADDRESS = "token"
    HEADER = "header"
    SIGNATURE_MISSING = "signature_missing"
    SIGNATURE_WRONG = "signature_wrong"


class Signed(StrEnum):
    """What a body's signature is worth, where the tenant has a secret to check it with."""

    GOOD = "good"
    MISSING = "missing"
    WRONG = "wrong"


@dataclass(frozen=True)
class Protection:
    """The checks of one tenant; by default there are none. Compares in constant time, shows no secret."""

    secrets: tuple[bytes, ...] = field(default=(), repr=False)
    signature_required: bool = False
    header: bytes | None = None
    values: tuple[bytes, ...] = field(default=(), repr=False)
    """SHA-256 of the accepted values: of one length, so that comparing tells nothing of theirs."""

    @classmethod
    def of(cls, tenant: Tenant) -> "Protection":
        """What the operator chose for `tenant`."""
        return cls(
            secrets=tuple(secret.encode(errors="surrogateescape") for secret in tenant.signature_secrets),
            signature_required=tenant.signature_required,
            header=tenant.notify_header.encode() if tenant.notify_header else None,
            values=tuple(hashlib.sha256(value.encode()).digest() for value in tenant.notify_header_values),
        )

    @property
    def only_token(self) -> bool:
        """Whether somebody who knows the token needs nothing else: a signature that may be left out stops nobody."""
        return self.header is None and not (self.secrets and self.signature_required)

    def header_is_good(self, headers: Headers) -> bool:
        """Whether the required header has an accepted value, in any of its lines; True when none is required."""
        if self.header is None:
            return True
        found = False
        for name, told in headers:
            if name.lower() == self.header:
                digest = hashlib.sha256(told.strip()).digest()
                for value in self.values:
                    found |= hmac.compare_digest(value, digest)
        return found

    def signed(self, headers: Headers, body: bytes) -> Signed:
        """What the signature of `body` is worth. With several, in lines or behind commas, one good one is enough."""
        told = [value for name, value in headers if name.lower() == SIGNATURE_HEADER]
        if not told:
            return Signed.MISSING
        good, macs = False, dict[str, list[bytes]]()
        for algorithm, digest in _signatures(told):
            if algorithm not in macs:
                macs[algorithm] = [hmac.digest(secret, body, algorithm) for secret in self.secrets]
            for mac in macs[algorithm]:
                good |= hmac.compare_digest(mac, digest)
        return Signed.GOOD if good else Signed.WRONG

    def refusal(self, signed: Signed) -> Refusal | None:
        """Whether a body signed like that is refused."""
        if signed is Signed.WRONG:
            return Refusal.SIGNATURE_WRONG
        if signed is Signed.MISSING and self.signature_required:
            return Refusal.SIGNATURE_MISSING
        return None


NO_PROTECTION = Protection()


def _signatures(told: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
    """The algorithm and digest of each signature that could be one; the first few."""
    parts = (part.strip().lower() for value in told for part in value.split(b",", MOST_SIGNATURES))
    for part, _ in zip(parts, range(MOST_SIGNATURES), strict=False):
        if match := _SIGNATURE.fullmatch(part):
            prefix, digits = match.groups()
            algorithm = _ALGORITHMS[len(digits)]
            if prefix in (None, algorithm.encode()):
                yield algorithm, bytes.fromhex(digits.decode())
