"""Who may call: a service or profile key, a service's signed token, or Webex Campaign's bearer."""

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from receiver.sandbox.answers import CampaignCode, Code, Refused
from receiver.sandbox.settings import SandboxSettings

TOKEN_LIFE: Final = 3_600  # seconds after `iat`
AHEAD: Final = 60  # seconds that the other side's clock may be ahead


@dataclass(frozen=True, slots=True)
class Caller:
    """The credentials of one call, as its headers have them."""

    key: str = ""
    authorization: str = ""

    @property
    def bearer(self) -> str | None:
        """The bearer token; None where there is none."""
        scheme, _, token = self.authorization.strip().partition(" ")
        return token.strip() if scheme.lower() == "bearer" else None


def admit(caller: Caller, settings: SandboxSettings) -> None:
    """Lets a caller of Messaging, of Custom Event or of the status in; raises Refused. A bearer wins over a key."""
    if caller.bearer is not None:
        if not _is_good(caller.bearer, settings.services, time.time()):
            raise Refused(Code.NOT_AUTHENTICATED)
        return
    if not caller.key:
        raise Refused(Code.KEY_MISSING)
    if not _is_one_of(caller.key, settings.keys):
        raise Refused(Code.NOT_AUTHENTICATED)


def admit_campaign(caller: Caller, settings: SandboxSettings) -> None:
    """Lets a caller of Webex Campaign in; raises Refused with its codes."""
    if not caller.bearer:
        raise Refused(CampaignCode.NOT_AUTHORISED)
    if not _is_one_of(caller.bearer, settings.campaign_tokens):
        raise Refused(CampaignCode.EXPIRED)


def _is_one_of(given: str, known: Iterable[str]) -> bool:
    return any(hmac.compare_digest(given.encode(), one.encode()) for one in known)


def _is_good(token: str, services: Mapping[str, str], now: float) -> bool:
    """Whether an HS256 token names one of the services, bears its signature, and is not older than an hour."""
    head, _, rest = token.partition(".")
    claims, _, signature = rest.partition(".")
    try:
        if _object(head).get("alg") != "HS256":
            return False
        said = _object(claims)
        signed = _bytes(signature)
    except ValueError:
        return False
    issuer, issued = said.get("iss"), said.get("iat")
    if not isinstance(issuer, str) or issuer not in services:
        return False
    secret = base64.b64decode(services[issuer])
    if not hmac.compare_digest(hmac.digest(secret, f"{head}.{claims}".encode(), hashlib.sha256), signed):
        return False
    is_number = isinstance(issued, int | float) and not isinstance(issued, bool)
    return is_number and now - TOKEN_LIFE < float(issued or 0) <= now + AHEAD


def _object(part: str) -> dict[str, Any]:
    """Raises ValueError; msgspec's errors are some."""
    raw = msgspec.json.decode(_bytes(part))
    if not isinstance(raw, dict):
        raise ValueError("not an object")
    return raw


def _bytes(part: str) -> bytes:
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
