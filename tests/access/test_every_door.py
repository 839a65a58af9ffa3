"""Every door there is, walked over with keys that must not open it: new doors are walked over by themselves."""

import json
from collections.abc import Iterator

import pytest
from starlette.routing import Route

from receiver.access.keys import SCOPES
from receiver.app import OPERATIONS, open_house
from receiver.openapi import Operation
from receiver.settings import read_settings
from tests.access.walking import GUARDED, OWNER, PARAMETER, STRANGER, Answer, World, bearer, is_endless, said, world
from tests.support import PLATFORM_KEY, SECRET, Database, cloned, run

DROP_IN = "/resources/"
REFUSED_HERE = {400, 404, 409, 415, 422}  # whatever else is wrong with a call without a body


@pytest.fixture(scope="module")
def made(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with cloned(postgres, template, "doors") as database, world(database, tmp_path_factory.mktemp("doors")) as made:
        yield made


def door(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


def refusal(made: World, operation: Operation, headers: dict[str, str]) -> tuple[int, str]:
    """Status and code of a door's answer; the drop-in doors have both in the platform's envelope."""
    answer = made.call(operation.method, made.paths(operation)[0], headers)
    body = json.loads(answer.body or b"{}")
    code = body.get("code") or body.get("response", {}).get("code", "") if isinstance(body, dict) else "none"
    if answer.status == 401:
        assert answer.headers["www-authenticate"] == "Bearer", door(operation)
    return answer.status, code


def test_every_route_of_the_application_is_walked_over(database: Database) -> None:
    settings = read_settings(
        {
            "RECEIVER_DATABASE_URL": database.dsn,
            "RECEIVER_PUBLIC_URL": "http://127.0.0.1:8000",
            "RECEIVER_PLATFORM_URL": "http://127.0.0.1:9",
            "RECEIVER_PLATFORM_KEY": PLATFORM_KEY,
            "RECEIVER_SECRET": SECRET,
            "RECEIVER_SPOOL": "off",
        }
    )

    async def served() -> set[str]:
        async with open_house(settings, database.dsn, SECRET) as house:
            routes = [route for route in house.app.routes if isinstance(route, Route)]
            return {f"{method} {route.path}" for route in routes for method in route.methods or () if method != "HEAD"}

    found = {one for one in run(served()) if "/v1/" in one}
    assert len(found) > 10
    assert found == {door(operation) for operation in GUARDED}
    assert not [door(operation) for operation in OPERATIONS if "/v1/" in operation.path and not operation.scope]


def test_no_door_opens_without_a_key(made: World) -> None:
    for operation in GUARDED:
        wanted = (200, "7002") if operation.path.startswith(DROP_IN) else (401, "unauthorized")
        assert refusal(made, operation, {}) == wanted, door(operation)


def test_no_door_opens_to_a_key_without_its_scope(made: World) -> None:
    keys = {
        scope: made.receiver.database.key(*(other for other in SCOPES if other not in (scope, "admin")))
        for scope in SCOPES
    }
    for operation in GUARDED:
        assert operation.scope in SCOPES, door(operation)
        wanted = (200, "7001") if operation.path.startswith(DROP_IN) else (403, "forbidden")
        assert refusal(made, operation, bearer(keys[operation.scope])) == wanted, door(operation)


@pytest.mark.parametrize("ended", ["revoked_at = now()", "expires_at = now()"])
def test_no_door_opens_to_a_key_that_has_ended(made: World, ended: str) -> None:
    key = made.receiver.database.key()
    made.receiver.database.fetch(f"update api_key set {ended} where prefix = $1", key[:15])
    for operation in GUARDED:
        wanted = (200, "7001") if operation.path.startswith(DROP_IN) else (401, "unauthorized")
        assert refusal(made, operation, bearer(key)) == wanted, door(operation)


def found_in(operation: Operation, answer: Answer) -> list[str]:
    """The lists of an answer that are not empty. The ledger is the whole installation's; `by` is what was asked."""
    is_json = answer.status == 200 and answer.headers["content-type"] == "application/json"
    body = json.loads(answer.body) if is_json and operation.path != "/v1/ledger" else {}
    found = body if isinstance(body, dict) else {"body": body}
    return [name for name, value in found.items() if isinstance(value, list) and value and name != "by"]


def probes(made: World, operation: Operation) -> Iterator[tuple[str, dict[str, str]]]:
    """A parameter of a door with each of the owner's ids in turn, and with a word that a summary is asked by."""
    path = PARAMETER.sub(made.ids["message"], operation.path)
    for parameter in operation.parameters if operation.method == "GET" else ():
        for value in (*made.ids.values(), "day", "ndjson") if parameter.where == "query" else ():
            yield path, {parameter.name: value}


def test_the_owner_finds_what_the_stranger_looks_for(made: World) -> None:
    """Without this the others could not fail."""
    headers, finding = bearer(made.receiver.database.key(tenant=OWNER)), set()
    for operation in GUARDED:
        for path in made.paths(operation) if operation.method == "GET" else ():
            if made.call("GET", path, headers).shows(made.marks, said(path, None)):
                finding.add(operation.path)
        for name, event in made.ids.items():
            query = {"from": event}
            if name == f"event of {operation.path}" and made.call("GET", operation.path, headers, query).shows(
                made.marks, said(operation.path, query)
            ):
                finding.add(operation.path)
    assert finding >= {
        "/v1/messages",
        "/v1/messages/{id}",
        "/v1/quarantine",
        "/v1/quarantine/{id}",
        "/resources/v1/messaging/status/{transid}",
        *(name.removeprefix("event of ") for name in made.ids if name.startswith("event of ")),
    }


def test_no_door_shows_a_key_of_another_tenant_anything(made: World) -> None:
    owner = bearer(made.receiver.database.key(tenant=OWNER))
    watched = [f"/v1/messages/{made.ids['message']}", f"/v1/quarantine/{made.ids['quarantined']}", "/v1/messages"]
    before = [made.call("GET", path, owner).body for path in watched]
    headers = bearer(made.receiver.database.key(tenant=STRANGER))
    for operation in GUARDED:
        for path in made.paths(operation):
            answer = made.call(operation.method, path, headers)
            assert not answer.shows(made.marks, said(path, None)), f"{operation.method} {path}: {answer.body!r}"
            assert not found_in(operation, answer), f"{operation.method} {path}: {answer.body!r}"
            if PARAMETER.search(operation.path):
                assert answer.status in (400, 404) or answer.body == b"[]", f"{operation.method} {path}"
            else:
                assert answer.status in {200, *REFUSED_HERE}, f"{operation.method} {path}: {answer.body!r}"
    assert [made.call("GET", path, owner).body for path in watched] == before


def test_no_parameter_of_a_door_leads_to_another_tenant(made: World) -> None:
    headers = bearer(made.receiver.database.key(tenant=STRANGER))
    for operation in GUARDED:
        endless: set[str] = set()  # parameters with which a stream was opened and read for a second
        for path, query in probes(made, operation):
            if not endless & query.keys():
                answer = made.call("GET", path, headers, query)
                assert not answer.shows(made.marks, said(path, query)), f"{path} {query}: {answer.body!r}"
                assert not found_in(operation, answer), f"{path} {query}: {answer.body!r}"
                assert answer.status in (200, 400, 404), f"{path} {query}: {answer.status} {answer.body!r}"
                endless |= query.keys() if is_endless(answer.headers) else set()
