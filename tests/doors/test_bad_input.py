"""Bad input at every door: a clear answer each, and not one row in any table."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from receiver.access.tokens import NotifyTokens
from tests.sending.platforms import sms
from tests.support import SECRET, Receiver, cloned, receiver_process

LIMIT = 1024 * 1024
NUMBER = "447700900001"


@pytest.fixture(scope="module")
def receiver(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    folder = tmp_path_factory.mktemp("doors")
    with (
        cloned(postgres, template, "bad_input") as database,
        receiver_process(database, folder, RECEIVER_MAX_BODY=str(LIMIT)) as receiver,
    ):
        yield receiver


@pytest.fixture(scope="module")
def keys(receiver: Receiver) -> dict[str, str]:
    return {scope: receiver.database.key(scope) for scope in ("send", "read", "content", "admin")}


@pytest.fixture(scope="module")
def anyone(receiver: Receiver) -> Iterator[httpx2.Client]:
    with receiver.client() as client:
        yield client


@pytest.fixture
def sender(anyone: httpx2.Client, keys: dict[str, str]) -> dict[str, Any]:
    return {"headers": {"authorization": f"Bearer {keys['send']}"}}


def written(receiver: Receiver) -> dict[str, int]:
    """The rows of each table, but of those that a background duty fills by itself."""
    return receiver.database.counts()


@pytest.fixture(autouse=True)
def nothing_is_written(receiver: Receiver, keys: dict[str, str]) -> Iterator[None]:
    before = written(receiver)
    yield
    assert written(receiver) == before
    assert receiver.process.poll() is None
    assert "Traceback" not in receiver.log.read_text()


def problem(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The body of a problem answer, whose shape is the same everywhere."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert set(body) == {"type", "status", "code", "title", "errors", "request_id"}
    assert (body["status"], body["code"]) == (status, code)
    assert body["title"]
    assert body["request_id"] == answer.headers["x-request-id"]
    assert all(set(error) == {"pointer", "code", "detail"} for error in body["errors"])
    return body


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"not json", b'{"a": NaN}', b"\xff\xfe", b'{"a": "\\ud800"}', b"[" * 100_000, b"<xml/>", b"1" * 5_000],
)
def test_what_is_not_json_is_400(anyone: httpx2.Client, sender: dict[str, Any], content: bytes) -> None:
    body = problem(anyone.post("/v1/messages", content=content, **sender), 400, "not_json")
    assert [error["code"] for error in body["errors"]] == ["7000"]


@pytest.mark.parametrize("depth", [100, 800, 850, *range(880, 1_000, 4), 5_000])
def test_a_deeply_nested_body_is_refused_and_never_a_fault(
    anyone: httpx2.Client, sender: dict[str, Any], depth: int
) -> None:
    body = b'{"deliverychannel":"sms","x":' + b"[" * depth + b"]" * depth + b"}"
    answer = anyone.post("/v1/messages", content=body, **sender)
    assert answer.status_code in (400, 422), answer.text


def test_every_broken_rule_is_in_one_answer(anyone: httpx2.Client, sender: dict[str, Any]) -> None:
    body = sms(NUMBER, correlationid="ü" * 26, notifyurl="ftp://example.com/", callbackData="a\0b")
    body["destination"] = [{"msisdn": [NUMBER], "correlationid": "😀" * 13}, {"pigeon": ["x"]}]
    answer = problem(anyone.post("/v1/messages", json=body, **sender), 422, "rule_broken")
    assert {error["pointer"]: error["code"] for error in answer["errors"]} == {
        "/correlationid": "7004",
        "/notifyurl": "7004",
        "/callbackData": "7004",
        "/destination/0/correlationid": "7004",
        "/destination/1/pigeon": "7004",
    }
    assert all(error["detail"] for error in answer["errors"])


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "/destination", "7003"),
        (sms(*[str(447700000000 + n) for n in range(1_001)]), "/destination", "7009"),
        (sms(NUMBER, deliverychannel="pigeon"), "/deliverychannel", "7004"),
        (sms(NUMBER, deliverychannel="voice"), "/channels/voice", "7003"),
        (sms(), "/destination", "7003"),
        ([], "", "7004"),
        ("text", "", "7004"),
    ],
)
def test_a_broken_rule_is_422(
    anyone: httpx2.Client, sender: dict[str, Any], body: Any, pointer: str, code: str
) -> None:
    answer = problem(anyone.post("/v1/messages", json=body, **sender), 422, "rule_broken")
    assert code in [error["code"] for error in answer["errors"] if error["pointer"] == pointer]


@pytest.mark.parametrize("extra", [1, 100_000, 4 * LIMIT])
def test_a_body_over_the_limit_is_413(anyone: httpx2.Client, sender: dict[str, Any], extra: int) -> None:
    content = b'"' + b"x" * (LIMIT - 2 + extra) + b'"'
    problem(anyone.post("/v1/messages", content=content, **sender), 413, "body_too_large")


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer nonsense",
        "Bearer rk_000000000000_" + "x" * 43,
        "Basic cms6cms=",
        "Bearer rk__",
        "Bearer " + "x" * 5_000,
    ],
)
def test_no_good_key_is_401(anyone: httpx2.Client, authorization: str | None) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    for method, path in (("POST", "/v1/messages"), ("GET", "/v1/messages"), ("GET", "/v1/messages/x")):
        answer = anyone.request(method, path, headers=headers, json=sms(NUMBER))
        problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_key_with_another_s_prefix_is_401(anyone: httpx2.Client, keys: dict[str, str]) -> None:
    forged = keys["send"][:16] + "x" * (len(keys["send"]) - 16)
    problem(anyone.get("/v1/messages", headers={"authorization": f"Bearer {forged}"}), 401, "unauthorized")


@pytest.mark.parametrize(
    ("scope", "method", "path"),
    [
        ("read", "POST", "/v1/messages"),
        ("content", "POST", "/v1/messages"),
        ("read", "POST", "/v1/events"),
        ("read", "POST", "/v1/campaign-events"),
        ("read", "POST", "/v1/messages/sent"),
        ("read", "DELETE", "/v1/messages/00000000-0000-7000-8000-000000000000"),
        ("send", "GET", "/v1/messages"),
        ("send", "GET", "/v1/messages/00000000-0000-7000-8000-000000000000"),
    ],
)
def test_a_key_without_the_scope_is_403(
    anyone: httpx2.Client, keys: dict[str, str], scope: str, method: str, path: str
) -> None:
    headers = {"authorization": f"Bearer {keys[scope]}"}
    body = problem(anyone.request(method, path, headers=headers, json=sms(NUMBER)), 403, "forbidden")
    assert {"POST": "send", "DELETE": "send", "GET": "read"}[method] in body["title"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        (method, path)
        for method in ("PUT", "DELETE", "PATCH")
        for path in ("/v1/messages", "/v1/messages/x", "/livez", "/readyz", "/metrics", "/openapi.json")
        if (method, path) != ("DELETE", "/v1/messages/x")
    ],
)
def test_a_method_that_a_door_does_not_take_is_405(anyone: httpx2.Client, method: str, path: str) -> None:
    answer = anyone.request(method, path)
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"]


@pytest.mark.parametrize("path", ["/", "/v2/messages", "/v1", "/v1/messages/a/b", "/notifyx", "/admin", "/%00"])
def test_a_path_that_is_no_door_is_404(anyone: httpx2.Client, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        problem(anyone.request(method, path), 404, "not_found")


def test_a_request_id_that_is_no_sane_one_is_replaced(anyone: httpx2.Client) -> None:
    for told, kept in (("abc-1_2.3", True), ("x" * 65, False), ("a b", False), ("<x>", False), ("", False)):
        answer = anyone.get("/nowhere", headers={"x-request-id": told})
        assert (answer.headers["x-request-id"] == told) is kept
        assert answer.json()["request_id"] == answer.headers["x-request-id"]


METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "PROPFIND"]


@pytest.mark.parametrize("method", METHODS)
def test_a_token_that_is_not_ours_is_401_for_any_method(anyone: httpx2.Client, method: str) -> None:
    good = NotifyTokens(SECRET)
    unknown_tenant = good.sign("nobody")
    paths = ["", "/", "/x", "/a/b", "/a/b/c/", f"/{unknown_tenant}", f"/{NotifyTokens('another').sign('default')}"]
    paths += [f"/{good.sign('default')[:-2]}", f"/{good.sign('default')}/x", "/%ff%fe", "/" + "x" * 5_000, "/x?y=z"]
    paths += ["/a%0Ab", "/%0A", f"/{good.sign('default')}%0A", "//x", "/%2e%2e/x"]
    for path in paths:
        answer = anyone.request(method, f"/notify{path}", content=b'{"deliveryInfoNotification":{}}')
        assert answer.status_code == 401, (method, path)
        assert "location" not in answer.headers


def test_a_good_token_answers_head_and_get_with_200(anyone: httpx2.Client, receiver: Receiver) -> None:
    path = receiver.notify_url().removeprefix(receiver.url)
    assert (anyone.get(path).status_code, anyone.get(path + "/").status_code) == (200, 200)
    head = anyone.head(path)
    assert (head.status_code, head.content) == (200, b"")


def test_head_is_answered_without_a_body_on_the_wire(receiver: Receiver) -> None:
    path = receiver.notify_url().removeprefix(receiver.url)
    port = int(receiver.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        wire.sendall(f"HEAD {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        answer = b""
        while part := wire.recv(4_096):
            answer += part
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("extra", [1, 100_000])
def test_a_receipt_over_the_limit_is_413(receiver: Receiver, extra: int) -> None:
    content = json.dumps({"deliveryInfoNotification": "x" * (LIMIT + extra)}).encode()
    answer = httpx2.post(receiver.notify_url(), content=content, trust_env=False)
    assert answer.status_code == 413


def test_a_client_that_leaves_in_the_middle_of_its_body_hurts_nobody(
    receiver: Receiver, anyone: httpx2.Client, keys: dict[str, str]
) -> None:
    port = int(receiver.url.rpartition(":")[2])
    notify = receiver.notify_url().removeprefix(receiver.url)
    for path in ("/v1/messages", notify):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
            head = (
                f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {keys['send']}\r\ncontent-length: 99\r\n\r\n"
            )
            wire.sendall(head.encode() + b'{"deliver')
    assert anyone.get("/livez").text == "alive\n"


def test_queries_name_what_is_wrong_with_them(anyone: httpx2.Client, keys: dict[str, str]) -> None:
    headers = {"authorization": f"Bearer {keys['read']}"}
    wrong = {
        "limit=0": "limit",
        "limit=-1": "limit",
        "limit=1000000000": "limit",
        "limit=x": "limit",
        "limit=1&limit=2": "limit",
        "unknown=1": "unknown",
        "state=happy": "state",
        "channel=pigeon": "channel",
        "origin=mars": "origin",
        "conflict=maybe": "conflict",
        "conflict=true&conflict=false": "conflict",
        "batch_id=x": "batch_id",
        "created_from=yesterday": "created_from",
        "created_from=2026-01-01T00:00:00": "created_from",
        "created_to=0001-01-01T00:00:00Z": "created_to",
        "created_from=2026-02-01T00:00:00Z&created_to=2026-01-01T00:00:00Z": "created_to",
        "cursor=x": "cursor",
        "cursor=%F0%9F%98%80": "cursor",
        "transid=": "transid",
        "transid=a%00b": "transid",
        "destination=" + "1" * 4_001: "destination",
        "%00=1": "\0",
        "class=weather": "class",
        "country=Britain": "country",
        "final=maybe": "final",
        "destination_end=123": "destination_end",
        "destination_end=1234567890123456": "destination_end",
        "destination_end=12a4": "destination_end",
        "destination_end=%D9%A1%D9%A2%D9%A3%D9%A4": "destination_end",
        "sender=a%00b": "sender",
        "total=perhaps": "total",
        "order=size": "order",
        "order=changed&order=created": "order",
        "changed_from=2026-01-01T00:00:00Z": "changed_from",
        "order=changed&changed_to=2026-01-01T00:00:00Z": "changed_to",
        "order=changed&changed_from=2099-02-01T00:00:00Z&changed_to=2099-01-01T00:00:00Z": "changed_to",
        "created_from=99999999999-01-01T00:00:00Z": "created_from",
    }
    for query, name in wrong.items():
        answer = anyone.get(f"/v1/messages?{query}", headers=headers)
        assert answer.status_code == 400, query
        body = problem(answer, 400, "bad_parameter")
        assert name in [error["pointer"] for error in body["errors"]], query
    several = problem(anyone.get("/v1/messages?limit=0&state=x&cursor=y", headers=headers), 400, "bad_parameter")
    assert {error["pointer"] for error in several["errors"]} == {"limit", "state", "cursor"}
    many = anyone.get("/v1/messages?" + "&".join(f"code={n}" for n in range(101)), headers=headers)
    problem(many, 400, "bad_parameter")


@pytest.mark.parametrize("identity", ["x", "%00", "1" * 5_000, "0199c3f2", "447700900001", "%ff"])
def test_what_is_no_id_is_400(anyone: httpx2.Client, keys: dict[str, str], identity: str) -> None:
    headers = {"authorization": f"Bearer {keys['read']}"}
    body = problem(anyone.get(f"/v1/messages/{identity}", headers=headers), 400, "bad_id")
    assert [error["pointer"] for error in body["errors"]] == ["id"]


def test_an_id_that_nobody_has_is_404(anyone: httpx2.Client, keys: dict[str, str]) -> None:
    headers = {"authorization": f"Bearer {keys['read']}"}
    for identity in ("00000000-0000-7000-8000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"):
        problem(anyone.get(f"/v1/messages/{identity}", headers=headers), 404, "message_not_found")
