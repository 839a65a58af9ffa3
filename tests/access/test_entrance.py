"""What a caller meets before a door: limits, no key in a URL, browsers of other origins."""

from collections.abc import Iterator

import httpx2
import pytest

from receiver.errors import SettingsError
from receiver.settings import read_settings
from tests.support import Database, Receiver, cloned, receiver_process

ORIGIN, OTHER = "https://support.example", "https://elsewhere.example"


@pytest.fixture(scope="module")
def receiver(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    folder = tmp_path_factory.mktemp("entrance")
    with (
        cloned(postgres, template, "entrance") as database,
        receiver_process(
            database, folder, RECEIVER_RATE_LIMIT="600", RECEIVER_CORS_ORIGINS=f"{ORIGIN}, http://localhost:5173"
        ) as receiver,
    ):
        yield receiver


@pytest.fixture(scope="module")
def client(receiver: Receiver) -> Iterator[httpx2.Client]:
    with receiver.client() as client:
        yield client


def key_with_rate(database: Database, rate: int) -> dict[str, str]:
    key = database.key("read")
    database.fetch("update api_key set rate = $1 where prefix = $2", rate, key[:15])
    return {"authorization": f"Bearer {key}"}


def figure(receiver: Receiver, series: str) -> float:
    lines = httpx2.get(f"{receiver.url}/metrics", trust_env=False).text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{series} ")), 0.0)


def test_a_key_is_told_its_limit_and_refused_above_it(receiver: Receiver, client: httpx2.Client) -> None:
    headers, before = key_with_rate(receiver.database, 3), figure(receiver, "receiver_rate_limited_total")
    for left in (2, 1, 0):
        answer = client.get("/v1/messages", headers=headers)
        assert answer.status_code == 200
        assert (answer.headers["ratelimit-limit"], answer.headers["ratelimit-remaining"]) == ("3", str(left))
        assert 0 < int(answer.headers["ratelimit-reset"]) <= 60
    refused = client.get("/v1/messages", headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert 0 < int(refused.headers["retry-after"]) <= 20
    assert refused.headers["ratelimit-remaining"] == "0"
    assert figure(receiver, "receiver_rate_limited_total") == before + 1
    drop_in = client.get("/resources/v1/messaging/status/1", headers={"key": headers["authorization"][7:]})
    assert (drop_in.status_code, drop_in.json()["response"]["code"]) == (200, "7020")
    assert drop_in.headers["ratelimit-limit"] == "3"


def test_another_key_is_not_touched_by_that_and_has_the_setting_s_limit(
    receiver: Receiver, client: httpx2.Client
) -> None:
    key = receiver.database.key("read")
    wrong = client.get("/v1/messages", params={"limit": "-1"}, headers={"authorization": f"Bearer {key}"})
    assert (wrong.status_code, wrong.headers["ratelimit-limit"]) == (400, "600")
    anyone = client.get("/v1/messages")
    assert anyone.status_code == 401
    assert not [name for name in (*anyone.headers, *client.get("/livez").headers) if name.startswith("ratelimit")]


def test_the_receipts_door_has_no_limit(receiver: Receiver, client: httpx2.Client) -> None:
    answers = [client.get(receiver.notify_url()) for _ in range(700)]
    assert {answer.status_code for answer in answers} == {200}
    assert not [name for name in answers[-1].headers if name.startswith("ratelimit")]


@pytest.mark.parametrize("quoted", ["", "%72k", "rk%5f"], ids=["plain", "a letter", "the dash"])
def test_a_key_in_a_url_is_refused_counted_and_not_logged(
    receiver: Receiver, client: httpx2.Client, quoted: str
) -> None:
    key = receiver.database.key("read")
    shown = key if not quoted else key.replace("rk_" if "%5f" in quoted else "rk", quoted, 1)
    series = 'receiver_auth_failures_total{reason="url"}'
    before = figure(receiver, series)
    for path in (f"/v1/messages?api_key={shown}", f"/v1/messages?a=1&{shown}", f"/v1/messages/{shown}"):
        answer = client.get(path, headers={"authorization": f"Bearer {key}"})
        assert (answer.status_code, answer.json()["code"]) == (400, "key_in_url"), path
        assert "Authorization: Bearer" in answer.json()["title"]
        assert "revoke" in answer.json()["title"]
        assert key not in answer.text
        assert answer.headers["x-request-id"]
    assert figure(receiver, series) == before + 3
    assert key[16:] not in receiver.log.read_text()


def test_what_only_begins_like_a_key_is_searched_for(receiver: Receiver, client: httpx2.Client) -> None:
    headers = {"authorization": f"Bearer {receiver.database.key('read')}"}
    for text in ("work_order", "rk_1a49f946561f", "work_1a49f946561f_2", "100%"):
        answer = client.get("/v1/messages", params={"correlationid": text}, headers=headers)
        assert (answer.status_code, answer.json()["messages"]) == (200, []), text


def documented_headers(client: httpx2.Client) -> set[str]:
    """Every header that some answer of the contract bears, but for those that a browser hands to any page."""
    doors = client.get("/openapi.json").json()["paths"].values()
    answers = [
        answer
        for door in doors
        for one in door.values()
        if isinstance(one, dict)
        for answer in one["responses"].values()
    ]
    names = {name.lower() for answer in answers for name in answer.get("headers", {})}
    return names - {"cache-control", "content-type", "content-length"}


def test_a_page_of_a_named_origin_may_ask_and_read(receiver: Receiver, client: httpx2.Client) -> None:
    asked = {
        "origin": ORIGIN,
        "access-control-request-method": "GET",
        "access-control-request-headers": "authorization",
    }
    preflight = client.options("/v1/messages", headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    for headers in ({}, {"authorization": f"Bearer {receiver.database.key('read')}"}):
        answer = client.get("/v1/messages", headers={"origin": ORIGIN, **headers})
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        told = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}
        assert told == documented_headers(client) - {"content-security-policy"}, "that one is for the browser itself"
    assert "access-control-allow-credentials" not in answer.headers


def test_a_page_of_another_origin_may_not_and_no_page_at_the_receipts_door(
    receiver: Receiver, client: httpx2.Client
) -> None:
    def allowed(answer: httpx2.Response) -> list[str]:
        return [name for name in answer.headers if name == "access-control-allow-origin"]

    assert not allowed(client.get("/v1/messages", headers={"origin": OTHER}))
    asked = {"origin": OTHER, "access-control-request-method": "GET"}
    assert client.options("/v1/messages", headers=asked).status_code == 400
    assert not allowed(client.get(receiver.notify_url(), headers={"origin": ORIGIN}))
    assert not allowed(client.get("/notify", headers={"origin": ORIGIN}))
    named = {"origin": ORIGIN, "access-control-request-method": "POST"}
    assert not allowed(client.options(receiver.notify_url(), headers=named))


GOOD = {
    "RECEIVER_DATABASE_URL": "postgresql://receiver@db/receiver",
    "RECEIVER_PUBLIC_URL": "https://receiver.example",
    "RECEIVER_SECRET": "a secret for tests only",
}


def test_without_settings_no_origin_is_let_in_and_there_is_a_generous_limit() -> None:
    settings = read_settings(GOOD)
    assert (settings.cors_origins, settings.rate_limit) == ((), 30_000)
    chosen = read_settings(
        GOOD | {"RECEIVER_CORS_ORIGINS": "https://A.example,http://[::1]:80,", "RECEIVER_RATE_LIMIT": "0"}
    )
    assert (chosen.cors_origins, chosen.rate_limit) == (("https://a.example", "http://[::1]:80"), 0)
    assert read_settings(GOOD | {"RECEIVER_CORS_ORIGINS": "*"}).cors_origins == ("*",)


@pytest.mark.parametrize(
    "origins", ["https://a.example/", "a.example", "null", "*, https://a.example", "https://*.example", "https://a b"]
)
def test_what_is_no_origin_is_named(origins: str) -> None:
    with pytest.raises(SettingsError, match="RECEIVER_CORS_ORIGINS"):
        read_settings(GOOD | {"RECEIVER_CORS_ORIGINS": origins})
