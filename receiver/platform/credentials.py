"""What the platform is shown with each call: a key, a token signed by the service's secret, a bearer."""

import base64
import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Protocol

import msgspec

from receiver.platform.apis import Api
from receiver.tenant_settings import Tenant

# The platform takes a token for 60 minutes after `iat`; the clocks of both sides may differ by some of them.
RENEWED_AFTER = timedelta(minutes=50)
SHOWN = 4  # characters
SHORTEST_SHOWN = 12  # of a shorter secret four characters would be too much of it


class Credentials(Protocol):
    """What goes into the header of a call. Its repr shows the last four characters at most."""

    def header(self, now: datetime) -> dict[str, str]:
        """The header, good for a call that is made `now`."""


@dataclass(frozen=True)
class Key:
    """A service key or a profile key."""

    secret: str = field(repr=False)

    def header(self, now: datetime) -> dict[str, str]:
        """The header `key`."""
        return {"key": self.secret}

    def __repr__(self) -> str:
        return f"Key({last_four(self.secret)})"


@dataclass(frozen=True)
class Bearer:
    """A token that does not change: Webex Campaign's."""

    secret: str = field(repr=False)

    def header(self, now: datetime) -> dict[str, str]:
        """The header `authorization`."""
        return {"authorization": f"Bearer {self.secret}"}

    def __repr__(self) -> str:
        return f"Bearer({last_four(self.secret)})"


class ServiceToken:
    """A token (JWT, HS256) that the service's secret signs, made anew before the platform takes it no more."""

    def __init__(self, service_id: str, secret: str) -> None:
        """`secret` is base64; ValueError when it is not."""
        self._service_id, self._shown = service_id, last_four(secret)
        self._key = base64.b64decode(secret, validate=True)
        self._token: str = ""
        self._issued: datetime | None = None

    def header(self, now: datetime) -> dict[str, str]:
        """The header `authorization`, with the last token while it is young."""
        # A clock that was set back makes a token from the future, which the platform may refuse.
        if self._issued is None or not timedelta() <= now - self._issued < RENEWED_AFTER:
            self._token, self._issued = self._sign(int(now.timestamp())), now
        return {"authorization": f"Bearer {self._token}"}

    def _sign(self, issued: int) -> str:
        head = _part(msgspec.json.encode({"alg": "HS256", "typ": "JWT"}))
        claims = _part(msgspec.json.encode({"iss": self._service_id, "iat": issued}))
        signature = hmac.digest(self._key, f"{head}.{claims}".encode(), hashlib.sha256)
        return f"{head}.{claims}.{_part(signature)}"

    def __repr__(self) -> str:
        return f"ServiceToken({self._service_id}, {self._shown})"


_service_token = lru_cache(maxsize=1024)(ServiceToken)  # one a service, so that its token is kept while it is young


def _part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def last_four(secret: str) -> str:
    """How a secret may be shown to its owner."""
    return f"…{secret[-SHOWN:]}" if len(secret) >= SHORTEST_SHOWN else "…"


def credentials_of(tenant: Tenant, api: Api) -> Credentials | None:
    """What the tenant shows to `api`; None when it has nothing, and can't send there."""
    if api is Api.CAMPAIGN:
        return Bearer(tenant.campaign_token) if tenant.campaign_token else None
    if tenant.service_id and tenant.service_secret:  # first, as the platform does
        return _service_token(tenant.service_id, tenant.service_secret)
    return Key(tenant.platform_key) if tenant.platform_key else None


def base_url_of(tenant: Tenant, api: Api) -> str | None:
    """The address in front of the api's path; None when the tenant has none, and can't send there."""
    return tenant.campaign_url if api is Api.CAMPAIGN else tenant.platform_url


def messaging_api_of(tenant: Tenant) -> Api:
    """Which Messaging the tenant's messages go to."""
    return Api.MESSAGING_V2 if tenant.platform_api == "v2" else Api.MESSAGING


def can_send(tenant: Tenant, api: Api) -> bool:
    """Whether the tenant has both an address and something to show there."""
    return what_is_missing(tenant, api) is None


def what_is_missing(tenant: Tenant, api: Api) -> str | None:
    """The settings without which the tenant can't send to `api`, in words; None when it can."""
    address, credential = (
        ("RECEIVER_CAMPAIGN_URL", "RECEIVER_CAMPAIGN_TOKEN")
        if api is Api.CAMPAIGN
        else ("RECEIVER_PLATFORM_URL", "RECEIVER_PLATFORM_KEY (or RECEIVER_SERVICE_ID and RECEIVER_SERVICE_SECRET)")
    )
    missing = [] if base_url_of(tenant, api) else [address]
    missing += [] if credentials_of(tenant, api) else [credential]
    return " and ".join(missing) or None
