"""What the platform is shown with each call: good for as long as it must be, and never shown to anybody else."""

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from receiver.platform.apis import Api
from receiver.platform.credentials import (
    Bearer,
    Credentials,
    Key,
    ServiceToken,
    base_url_of,
    can_send,
    credentials_of,
    last_four,
    messaging_api_of,
    what_is_missing,
)
from receiver.tenant_settings import Tenant

AT = datetime(2026, 3, 1, 12, 0, 0, 750_000, tzinfo=UTC)
SECRET = base64.b64encode(bytes(range(200, 248))).decode()  # with + and /, which are no part of a token
KEY = "the-service-key-of-the-shop"
DOORS = (Api.MESSAGING, Api.MESSAGING_V2, Api.EVENTS)


def of(credentials: Credentials | None, at: datetime = AT) -> dict[str, str]:
    assert credentials is not None
    return credentials.header(at)


def unfolded(part: str) -> bytes:
    assert "=" not in part
    return base64.b64decode(part.translate(str.maketrans("-_", "+/")) + "=" * (-len(part) % 4), validate=True)


def verified(header: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Head and claims of the token, its signature computed anew from the secret's bytes."""
    scheme, token = header["authorization"].split(" ")
    assert scheme == "Bearer"
    head, claims, signature = token.split(".")
    block = bytes(range(200, 248)).ljust(64, b"\0")  # HMAC as RFC 2104 writes it
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in block) + f"{head}.{claims}".encode()).digest()
    assert unfolded(signature) == hashlib.sha256(bytes(b ^ 0x5C for b in block) + inner).digest()
    return json.loads(unfolded(head)), json.loads(unfolded(claims))


def test_a_token_names_the_service_and_its_second_and_is_signed_with_the_decoded_secret() -> None:
    head, claims = verified(of(ServiceToken("svc-1", SECRET)))
    assert (head["alg"], head["typ"]) == ("HS256", "JWT")
    assert claims == {"iss": "svc-1", "iat": int(AT.timestamp())}


def test_the_token_of_a_known_secret_is_the_known_one() -> None:
    """Signed by `openssl dgst -sha256 -hmac secret` over the first two parts."""
    token = of(ServiceToken("svc", base64.b64encode(b"secret").decode()), datetime.fromtimestamp(1_700_000_000, UTC))
    head, claims, signature = token["authorization"].removeprefix("Bearer ").split(".")
    assert head == "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
    assert claims == "eyJpc3MiOiJzdmMiLCJpYXQiOjE3MDAwMDAwMDB9"
    assert signature == "L1Oeg_ldwoO-hCkeyfG6lbGowPI8XdaCiNHjN9xfenY"


def test_a_token_is_kept_while_it_is_young_and_made_anew_long_before_it_dies() -> None:
    token = ServiceToken("svc-1", SECRET)
    first = of(token)
    assert of(token, AT + timedelta(minutes=49)) == first
    for minutes in range(0, 60 * 24, 7):
        at = AT + timedelta(minutes=minutes)
        _, claims = verified(of(token, at))
        age = at.timestamp() - claims["iat"]
        assert 0 <= age < 51 * 60


def test_a_clock_that_was_set_back_makes_no_token_from_the_future() -> None:
    token = ServiceToken("svc-1", SECRET)
    of(token)
    earlier = AT - timedelta(minutes=5)
    assert verified(of(token, earlier))[1]["iat"] == int(earlier.timestamp())


@pytest.mark.parametrize(
    "credentials", [Key(KEY), Bearer(KEY), ServiceToken("svc-1", base64.b64encode(KEY.encode()).decode())]
)
def test_credentials_show_four_characters_at_most(credentials: Credentials) -> None:
    secret = KEY if not isinstance(credentials, ServiceToken) else base64.b64encode(KEY.encode()).decode()
    of(credentials)
    for shown in (repr(credentials), str(credentials), f"{credentials}"):
        assert f"…{secret[-4:]}" in shown
        assert secret[-5:] not in shown
        assert secret[:5] not in shown
        assert "eyJ" not in shown


def test_of_a_short_secret_nothing_is_shown() -> None:
    assert last_four("hunter2") == "…"
    assert last_four("elevenchars") == "…"
    assert last_four("twelve-chars") == "…hars"


def test_a_tenant_shows_its_key_or_its_token_to_the_platform_and_its_bearer_to_campaign() -> None:
    tenant = Tenant("a", "https://p.example", KEY, campaign_url="https://c.example", campaign_token="campaign-token-1")
    for api in DOORS:
        assert of(credentials_of(tenant, api)) == {"key": KEY}
        assert base_url_of(tenant, api) == "https://p.example"
        assert can_send(tenant, api)
    assert of(credentials_of(tenant, Api.CAMPAIGN)) == {"authorization": "Bearer campaign-token-1"}
    assert base_url_of(tenant, Api.CAMPAIGN) == "https://c.example"
    signing = Tenant("b", "https://p.example", service_id="svc-1", service_secret=SECRET)
    for api in DOORS:
        assert verified(of(credentials_of(signing, api)))[1]["iss"] == "svc-1"
    assert credentials_of(signing, Api.EVENTS) is credentials_of(signing, Api.MESSAGING), "its token is kept"
    assert credentials_of(signing, Api.CAMPAIGN) is None


def test_what_a_tenant_lacks_is_named() -> None:
    nothing = Tenant("a")
    for api in Api:
        assert credentials_of(nothing, api) is None
        assert base_url_of(nothing, api) is None
        assert not can_send(nothing, api)
    assert what_is_missing(nothing, Api.CAMPAIGN) == "RECEIVER_CAMPAIGN_URL and RECEIVER_CAMPAIGN_TOKEN"
    half = Tenant("a", "https://p.example")
    assert what_is_missing(half, Api.EVENTS) == (
        "RECEIVER_PLATFORM_KEY (or RECEIVER_SERVICE_ID and RECEIVER_SERVICE_SECRET)"
    )
    assert what_is_missing(Tenant("a", platform_key=KEY), Api.MESSAGING) == "RECEIVER_PLATFORM_URL"
    assert what_is_missing(Tenant("a", "https://p.example", KEY), Api.MESSAGING) is None


def test_a_tenant_chooses_its_version_of_messaging() -> None:
    assert messaging_api_of(Tenant("a")) is Api.MESSAGING
    assert messaging_api_of(Tenant("a", platform_api="v2")) is Api.MESSAGING_V2
