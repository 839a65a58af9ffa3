"""Who is let in: keys, signed tokens and the bearers of Webex Campaign."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pytest

from receiver.sandbox.scenario import CAMPAIGN, EVENTS, MESSAGING, STATUS, V2
from receiver.sandbox.settings import SandboxSettings
from tests.sandbox import KEY, Stage, play
from tests.sandbox.test_answers import body

SERVICE, SECRET = "svc-412", base64.b64encode(b"a secret of the service").decode()
CHOICES: dict[str, Any] = {"services": {SERVICE: SECRET}, "campaign_tokens": ("c4mpaign",)}


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def token(secret: str = SECRET, alg: str = "HS256", **claims: object) -> str:
    said = {"iss": SERVICE, "iat": int(time.time())} | claims
    signed = f"{_part({'alg': alg, 'typ': 'JWT'})}.{_part(said)}"
    mac = hmac.new(base64.b64decode(secret), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


async def code(on: Stage, **headers: str) -> str:
    response = (await on.call(MESSAGING, body(), **headers)).json()["response"]
    return str((response[0] if isinstance(response, list) else response)["code"])


def test_a_signed_token_lets_in_and_wins_over_a_key() -> None:
    async def scene(on: Stage) -> None:
        good = f"Bearer {token()}"
        assert await code(on, authorization=good) == "1001"
        assert await code(on, authorization=good, key="wrong") == "1001"
        assert await code(on, authorization="Bearer nonsense", key=KEY) == "7001"
        assert await code(on, authorization="Basic abc", key=KEY) == "1001"
        assert await code(on, authorization="Basic abc") == "7002"

    play(scene, **CHOICES)


@pytest.mark.parametrize(
    "bad",
    [
        token(secret=base64.b64encode(b"another").decode()),
        token(iss="another"),
        token(iss=None),
        token(iat=time.time() - 3_601),
        token(iat=time.time() + 3_600),
        token(iat="now"),
        token(iat=True),
        token(alg="none"),
        token() + "x!",
        token().rpartition(".")[0],
        token().rpartition(".")[0] + ".",
        "x",
        "a.b.c",
        "..",
    ],
    ids=[*range(14)],
)
def test_a_bad_token_is_7001(bad: str) -> None:
    async def scene(on: Stage) -> None:
        assert await code(on, authorization=f"Bearer {bad}") == "7001"

    play(scene, **CHOICES)


def test_a_token_lives_an_hour() -> None:
    async def scene(on: Stage) -> None:
        assert await code(on, authorization=f"Bearer {token(iat=time.time() - 3_590)}") == "1001"

    play(scene, **CHOICES)


@pytest.mark.parametrize("path", [MESSAGING, EVENTS])
def test_a_key_that_is_missing_is_7002_and_a_wrong_one_7001(path: str) -> None:
    async def scene(on: Stage) -> None:
        for headers, wanted in (({"x": "y"}, "7002"), ({"key": "wrong"}, "7001")):
            answer = await on.call(path, {}, **headers)
            assert (answer.status_code, answer.json()["response"]["code"]) == (200, wanted)

    play(scene)


def test_messaging_v2_answers_bad_credentials_401_without_a_body() -> None:
    async def scene(on: Stage) -> None:
        for headers in ({"x": "y"}, {"key": "wrong"}, {"authorization": "Bearer x"}):
            answer = await on.call(V2, body(), **headers)
            assert (answer.status_code, answer.content) == (401, b"")

    play(scene)


def test_the_status_asks_for_the_same_credentials() -> None:
    async def scene(on: Stage) -> None:
        answer = await on.client.get(f"{STATUS}/any", headers={"key": "wrong"})
        assert answer.json()["response"]["code"] == "7001"

    play(scene)


@pytest.mark.parametrize(("status", "own"), [(200, 200), (500, 401)])
def test_campaign_tells_a_missing_bearer_from_a_bad_one(status: int, own: int) -> None:
    async def scene(on: Stage) -> None:
        event = {"event-id": "e", "event-key": "k"}
        for headers, wanted in (({"key": KEY}, 430), ({"authorization": "Bearer wrong"}, 498)):
            answer = await on.call(CAMPAIGN, event, **headers)
            assert (answer.status_code, answer.json()["code"]) == (own, wanted)
        assert "transaction-id" in (await on.call(CAMPAIGN, event, authorization="Bearer c4mpaign")).json()

    play(scene, campaign_status=status, **CHOICES)


def test_a_service_whose_secret_is_not_base64_is_refused_without_showing_it() -> None:
    with pytest.raises(ValueError, match="services: secrets in base64") as caught:
        SandboxSettings(keys=(KEY,), services={SERVICE: "not base64!"})
    assert "not base64!" not in str(caught.value)


def test_no_credential_is_in_the_repr_of_the_settings() -> None:
    shown = repr(SandboxSettings(keys=(KEY,), **CHOICES))
    assert SECRET not in shown
    assert "c4mpaign" not in shown
