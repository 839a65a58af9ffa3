"""Who calls a drop-in door: a client that shows what it shows the platform, or one of our own API keys."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec
from starlette.requests import Request

from receiver.access.keys import Failure, Keys, count, prefix_of
from receiver.access.tenants import Tenants
from receiver.ids import TenantId
from receiver.tenant_settings import Tenant

NOT_AUTHENTICATED, KEY_MISSING, TOO_OFTEN = "7001", "7002", "7020"

# A token of the platform dies 60 minutes after it was made; clocks differ by a minute or so.
LONGEST_LIFE, CLOCKS = 60 * 60, 90
LONGEST_TOKEN = 4_096


class NotLetIn(Exception):
    """The caller showed nothing good; `code` is the platform's: 7001 refused, 7002 nothing shown.

    7020: it showed one of our own API keys, which called too often.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class PlatformCallers:
    """Maps the platform's credentials of each tenant, and our own keys with the scope, to the tenant."""

    def __init__(self, configured: Iterable[Tenant], tenants: Tenants, keys: Keys) -> None:
        self._tenants, self._keys = tenants, keys
        self._by_key: dict[bytes, str] = {}
        self._by_service: dict[str, tuple[bytes, str]] = {}
        for tenant in configured:  # where two tenants have one service, the first of them is meant
            for key in (*tenant.drop_in_keys, tenant.platform_key):
                if key:
                    self._by_key.setdefault(_hash(key), tenant.name)
            if tenant.service_id and tenant.service_secret:
                secret = base64.b64decode(tenant.service_secret)
                self._by_service.setdefault(tenant.service_id, (secret, tenant.name))

    async def require(self, request: Request, scope: str, now: datetime) -> TenantId:
        """The tenant of the caller. The bearer wins over the header `key`, as at the platform. Raises NotLetIn."""
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        shown = bearer.strip() if scheme.lower() == "bearer" else request.headers.get("key", "").strip()
        if not shown:
            count(Failure.MISSING)
            raise NotLetIn(KEY_MISSING)
        if prefix_of(shown) is not None:
            return await self._of_our_own(request, shown, scope)
        name = self._of_token(shown, now) if scheme.lower() == "bearer" else self._by_key.get(_hash(shown))
        if name is None:
            count(Failure.UNKNOWN)
            raise NotLetIn(NOT_AUTHENTICATED)
        return self._tenants.id_of(name)

    async def _of_our_own(self, request: Request, key: str, scope: str) -> TenantId:
        """The tenant of one of our API keys, which has its rate; the platform's credentials have none here."""
        caller = await self._keys.caller_of(key)
        if isinstance(caller, Failure):
            raise NotLetIn(NOT_AUTHENTICATED)
        allowance = self._keys.take(request, caller)
        if allowance is not None and allowance.wait:
            raise NotLetIn(TOO_OFTEN)
        if not caller.may(scope):
            count(Failure.SCOPE)
            raise NotLetIn(NOT_AUTHENTICATED)
        return caller.tenant

    def _of_token(self, token: str, now: datetime) -> str | None:
        """The tenant whose service made this HS256 token within the hour."""
        signed, _, signature = token.rpartition(".")
        head, _, body = signed.partition(".")
        if len(token) > LONGEST_TOKEN or not token.isascii():
            return None
        claims, header = _object(body), _object(head)
        found = self._by_service.get(str(claims.get("iss")))
        made = claims.get("iat")
        if found is None or header.get("alg") != "HS256" or isinstance(made, bool) or not isinstance(made, int | float):
            return None
        good = base64.urlsafe_b64encode(hmac.digest(found[0], signed.encode(), "sha256")).rstrip(b"=").decode()
        if not hmac.compare_digest(good, signature.rstrip("=")):
            return None
        at = now.timestamp()  # compared, and not taken away: that overflows for a number that is too large
        return found[1] if at - LONGEST_LIFE - CLOCKS <= made <= at + CLOCKS else None


def _hash(key: str) -> bytes:
    """What stands for a key: looking it up tells nothing of the key by its timing."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _object(part: str) -> dict[str, Any]:
    """A part of a token as a JSON object; an empty one for anything else."""
    try:
        value = msgspec.json.decode(base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
