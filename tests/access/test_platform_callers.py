"""Who calls a drop-in door is the tenant whose credentials on the platform it shows."""

import asyncio
import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.requests import Request

from receiver.access.keys import Keys
from receiver.access.platform_callers import NotLetIn, PlatformCallers
from receiver.access.tenants import Tenants
from receiver.database.pool import connect, open_pool
from receiver.platform.credentials import ServiceToken
from receiver.tenant_settings import Tenant
from tests.support import Database

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = base64.b64encode(b"the secret of one service").decode()
CONFIGURED = (
    Tenant("default", platform_key="the key of one"),
    Tenant("other", platform_key="the key of the other"),
    Tenant("signing", service_id="service-9", service_secret=SECRET, drop_in_keys=("its clients' key", "another")),
)


def asked(**headers: str) -> Request:
    return Request({"type": "http", "headers": [(k.encode(), v.encode()) for k, v in headers.items()]})


def token(header: object, claims: object, secret: bytes = b"the secret of one service") -> str:
    """A JWT, made by the book."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims)]
    signature = hmac.new(secret, ".".join(parts).encode(), hashlib.sha256).digest()
    return ".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=").decode()])


def who(database: Database, scope: str = "send", **headers: str) -> str:
    """The name of the caller's tenant, or the code that it is refused with."""

    async def main() -> str:
        tenants = Tenants(CONFIGURED)
        connection = await connect(database.dsn, "tests")
        await tenants.load(connection)
        await connection.close()
        pool = await open_pool(database.dsn, "tests", 1, writer=False)
        try:
            callers = PlatformCallers(CONFIGURED, tenants, Keys(pool))
            return tenants.names[await callers.require(asked(**headers), scope, NOW)]
        except NotLetIn as refused:
            return refused.code
        finally:
            await pool.close()

    return asyncio.run(main())


HS256 = {"alg": "HS256", "typ": "JWT"}
GOOD = {"iss": "service-9", "iat": int(NOW.timestamp())}


def test_a_platform_key_is_its_tenant(database: Database) -> None:
    assert who(database, key="the key of one") == "default"
    assert who(database, key="the key of the other") == "other"
    assert who(database, key="the key of none") == "7001"
    assert who(database, key="its clients' key") == who(database, key="another") == "signing"
    assert who(database) == "7002"
    assert who(database, key="") == "7002"


def test_our_own_keys_open_the_doors_too_with_their_scope(database: Database) -> None:
    sends, reads = database.key("send", tenant="other"), database.key("read")
    assert who(database, key=sends) == "other"
    assert who(database, authorization=f"Bearer {sends}") == "other"
    assert who(database, key=reads) == "7001"
    assert who(database, "read", key=reads) == "default"


def test_a_token_of_the_service_is_its_tenant_and_wins_over_the_key(database: Database) -> None:
    made = ServiceToken("service-9", SECRET).header(NOW)["authorization"]
    assert who(database, authorization=made) == "signing"
    assert who(database, authorization=made, key="the key of one") == "signing"
    assert who(database, authorization="Bearer x", key="the key of one") == "7001"
    assert who(database, authorization=f"Bearer {token(HS256, GOOD)}") == "signing"


@pytest.mark.parametrize(
    "made",
    [
        token(HS256, GOOD, b"another secret"),
        token({"alg": "none"}, GOOD),
        token({"alg": "RS256"}, GOOD),
        token(HS256, GOOD | {"iss": "service-8"}),
        token(HS256, GOOD | {"iat": int((NOW - timedelta(minutes=62)).timestamp())}),
        token(HS256, GOOD | {"iat": int((NOW + timedelta(minutes=5)).timestamp())}),
        token(HS256, GOOD | {"iat": "now"}),
        token(HS256, GOOD | {"iat": True}),
        token(HS256, GOOD | {"iat": 10**400}),
        token(HS256, {"iss": "service-9"}),
        token(HS256, []),
        token(HS256, GOOD).rpartition(".")[0] + ".",
        token(HS256, GOOD).rpartition(".")[0],
        token(HS256, GOOD) + "A",
        "..",
        "a.b.c",
        "é.é.é",
        token(HS256, GOOD | {"much": "x" * 5_000}),
    ],
)
def test_a_token_that_is_not_good_is_refused(database: Database, made: Any) -> None:
    assert who(database, authorization=f"Bearer {made}") == "7001"


def test_a_token_lives_for_an_hour(database: Database) -> None:
    young = GOOD | {"iat": int((NOW - timedelta(minutes=59)).timestamp())}
    assert who(database, authorization=f"Bearer {token(HS256, young)}") == "signing"
