"""Whatever goes wrong at whichever door, the answer has one shape, and a code that the contract lists for that door."""

import re
from collections.abc import Iterator
from typing import Any

import httpx2
import msgspec
import pytest

from receiver.app import OPERATIONS
from receiver.openapi import Operation, problem_codes, tag_of
from receiver.problem_codes import ProblemBody
from tests.support import Receiver, cloned, receiver_process

DOORS = [operation for operation in OPERATIONS if tag_of(operation) != "Receipts"]
OURS = [operation for operation in DOORS if operation.scope and tag_of(operation) != "Drop-in"]
DROP_IN = [operation for operation in DOORS if tag_of(operation) == "Drop-in"]
NOBODY = "00000000-0000-7000-8000-000000000000"


def name_of(operation: Operation) -> str:
    return operation.name


@pytest.fixture(scope="module")
def receiver(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    folder = tmp_path_factory.mktemp("problems")
    with cloned(postgres, template, "problems") as database, receiver_process(database, folder) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def owner(receiver: Receiver) -> Iterator[httpx2.Client]:
    with receiver.client(receiver.database.key()) as client:
        yield client


@pytest.fixture(scope="module")
def anyone(receiver: Receiver) -> Iterator[httpx2.Client]:
    with receiver.client() as client:
        yield client


def path_of(operation: Operation, identity: str = NOBODY) -> str:
    return re.sub(r"\{\w+\}", identity, operation.path)


def problem(answer: httpx2.Response, operation: Operation | None, status: int) -> ProblemBody:
    """The problem that was answered; its code is one that the contract lists for this door and status."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    shape: dict[str, Any] = answer.json()
    assert set(shape) == {"type", "status", "code", "title", "errors", "request_id"}
    assert all(set(error) == {"pointer", "code", "detail"} for error in shape["errors"])
    body = msgspec.convert(shape, ProblemBody)
    assert (body.status, body.request_id) == (status, answer.headers["x-request-id"])
    assert body.title.endswith(".")
    if operation is not None:
        assert body.code in problem_codes(operation)[status]
    return body


@pytest.mark.parametrize("operation", OURS, ids=name_of)
@pytest.mark.parametrize("shown", [None, "Bearer nonsense", "Basic cms6cms="])
def test_without_a_good_key(anyone: httpx2.Client, operation: Operation, shown: str | None) -> None:
    headers = {"authorization": shown} if shown else {}
    answer = anyone.request(operation.method, path_of(operation), headers=headers)
    assert problem(answer, operation, 401).code == "unauthorized"
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("operation", OURS, ids=name_of)
def test_with_a_key_of_another_scope(receiver: Receiver, anyone: httpx2.Client, operation: Operation) -> None:
    key = receiver.database.key("content")
    answer = anyone.request(operation.method, path_of(operation), headers={"authorization": f"Bearer {key}"})
    assert problem(answer, operation, 403).code == "forbidden"


@pytest.mark.parametrize("operation", DOORS, ids=name_of)
def test_with_a_key_in_the_url(anyone: httpx2.Client, operation: Operation) -> None:
    answer = anyone.request(operation.method, f"{path_of(operation)}?key=rk_0123456789ab_xyz")
    assert problem(answer, operation, 400).code == "key_in_url"


@pytest.mark.parametrize("operation", [o for o in OURS if any(p.where == "query" for p in o.parameters)], ids=name_of)
def test_with_a_parameter_that_it_does_not_take(owner: httpx2.Client, operation: Operation) -> None:
    answer = owner.request(operation.method, f"{path_of(operation)}?no_such=1")
    body = problem(answer, operation, 400)
    assert body.code == "bad_parameter" or "{id}" in operation.path
    assert body.code == "bad_id" or ("no_such", "unknown_parameter") in [(e.pointer, e.code) for e in body.errors]


@pytest.mark.parametrize("operation", [o for o in OURS if "{" in o.path], ids=name_of)
def test_with_an_id_that_is_none(owner: httpx2.Client, operation: Operation) -> None:
    answer = owner.request(operation.method, path_of(operation, "x"))
    assert problem(answer, operation, 400).code == "bad_id"


@pytest.mark.parametrize("operation", [o for o in OURS if "{" in o.path], ids=name_of)
def test_with_an_id_that_nobody_has(owner: httpx2.Client, operation: Operation) -> None:
    identity = f"20261116-{'0' * 32}" if "quarantine" in operation.path else NOBODY
    problem(owner.request(operation.method, path_of(operation, identity)), operation, 404)


@pytest.mark.parametrize("operation", [o for o in OURS if o.body is not None], ids=name_of)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "multipart/form-data; boundary=x", "x"])
def test_with_a_body_that_is_none(owner: httpx2.Client, operation: Operation, content_type: str) -> None:
    headers = {"content-type": content_type}
    answer = owner.request(operation.method, path_of(operation), content=b"none", headers=headers)
    assert problem(answer, operation, 400).code in ("not_json", "not_an_export")


@pytest.mark.parametrize("operation", [o for o in OURS if tag_of(o) == "Sending" and o.body], ids=name_of)
def test_with_a_body_that_breaks_rules(owner: httpx2.Client, operation: Operation) -> None:
    bodies: list[Any] = [{}, [], "x", 1]
    for value in bodies:
        body = problem(owner.request(operation.method, path_of(operation), json=value), operation, 422)
        assert body.code == "rule_broken"
        assert body.errors


@pytest.mark.parametrize("operation", DOORS, ids=name_of)
def test_with_a_method_that_it_does_not_take(owner: httpx2.Client, operation: Operation) -> None:
    answer = owner.request("PATCH", path_of(operation))
    assert problem(answer, None, 405).code == "method_not_allowed"
    taken = {o.method for o in OPERATIONS if o.path == operation.path}
    assert {method.strip() for method in answer.headers["allow"].split(",")} - {"HEAD"} == taken


def test_at_a_path_that_is_no_door(owner: httpx2.Client) -> None:
    for path in ("/", "/v1", "/v1/nowhere", "/v1/messages/a/b", "/openapi"):
        assert problem(owner.get(path), None, 404).code == "not_found"


@pytest.mark.parametrize("operation", DROP_IN, ids=name_of)
def test_a_drop_in_door_speaks_the_platform_s_envelope(anyone: httpx2.Client, operation: Operation) -> None:
    answer = anyone.request(operation.method, path_of(operation))
    assert (answer.status_code, answer.json()["response"]["code"]) == (200, "7002")


def test_the_receipts_door_speaks_plain_text(anyone: httpx2.Client) -> None:
    answer = anyone.post("/notify/nonsense", content=b"{}")
    assert (answer.status_code, answer.headers["content-type"]) == (401, "text/plain")
