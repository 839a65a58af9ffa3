"""What stands around the doors: health, the contract, and the answer to a fault of ours."""

import asyncio
from collections.abc import Iterator

import httpx2
import pytest
from openapi_spec_validator import validate
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.access.entrance import Entrance
from receiver.app import OPERATIONS, open_house
from receiver.contract import contract_of
from receiver.settings import read_settings
from receiver.web import ANSWER_HEADERS, Faults, RequestIds, failed
from tests.doors.telling import figures
from tests.support import SECRET, Database, Receiver, cloned, eventually, receiver_process


@pytest.fixture(scope="module")
def receiver(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    folder = tmp_path_factory.mktemp("frame")
    with (
        cloned(postgres, template, "frame") as database,
        receiver_process(database, folder, RECEIVER_PLATFORM_KEY="") as receiver,
    ):
        yield receiver


def test_it_is_alive_and_ready_and_says_what_is_wrong(receiver: Receiver) -> None:
    with receiver.client() as anyone:
        assert (anyone.get("/livez").status_code, anyone.get("/livez").text) == (200, "alive\n")
        ready = anyone.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["ready"] is True
    assert [w for w in ready.json()["warnings"] if "default" in w and "key" in w]


def test_a_tenant_without_a_platform_key_can_not_send_and_is_told_so(receiver: Receiver) -> None:
    before = receiver.database.counts()
    with receiver.client(receiver.database.key()) as client:
        body = {"deliverychannel": "sms", "channels": {"sms": {"text": "x"}}, "destination": [{"msisdn": ["1"]}]}
        answer = client.post("/v1/messages", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "tenant_cannot_send")
    background = {"duty"}  # what the duties write meanwhile
    after = receiver.database.counts() | {table: before[table] for table in background & before.keys()}
    assert after == before | {"api_key": before["api_key"] + 1}


def test_the_contract_is_valid_openapi_and_is_what_is_served(receiver: Receiver) -> None:
    with receiver.client() as anyone:
        document = anyone.get("/openapi.json").json()
    validate(document)
    assert document == contract_of(OPERATIONS)
    names = [operation.name for operation in OPERATIONS]
    assert len(names) == len(set(names))


def test_the_paths_of_the_contract_are_the_routes_of_the_application(database: Database) -> None:
    settings = read_settings(
        {
            "RECEIVER_DATABASE_URL": database.dsn,
            "RECEIVER_PUBLIC_URL": "https://receiver.example",
            "RECEIVER_SECRET": SECRET,
        }
    )

    async def routes() -> dict[str, set[str]]:
        async with open_house(settings, database.dsn, SECRET) as house:
            found: dict[str, set[str]] = {}
            for route in house.app.routes:
                assert isinstance(route, Route)
                found.setdefault(route.path.replace(":anything", ""), set()).update(route.methods or ())
            return found

    found = asyncio.run(routes())
    for no_door in ("/notify", "/{near:near_notify}", "/{near:near_notify}/{token}"):
        found.pop(no_door)  # they answer those who mistook the address
    paths = contract_of(OPERATIONS)["paths"]
    assert set(paths) == set(found)
    for path, operations in paths.items():
        if path != "/notify/{token}":
            assert {method.upper() for method in operations} == found[path] - {"HEAD"}


def test_a_request_id_of_the_client_s_own_comes_back(receiver: Receiver) -> None:
    with receiver.client() as anyone:
        for path in ("/livez", "/readyz", "/metrics", "/openapi.json", "/v1/messages", "/nowhere"):
            assert anyone.get(path, headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
            assert anyone.get(path).headers["x-request-id"]


def test_a_fault_of_ours_is_a_problem_that_bears_the_request_id() -> None:
    async def fault(_: Request) -> Response:
        raise RuntimeError("secret detail")

    app = Starlette(routes=[Route("/", fault)], middleware=[Middleware(RequestIds)], exception_handlers={500: failed})

    async def main() -> httpx2.Response:
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.get("/", headers={"x-request-id": "mine-1"})

    answer = asyncio.run(main())
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "mine-1"
    assert "secret detail" not in answer.text


def test_a_fault_of_ours_bears_the_headers_that_every_answer_bears() -> None:
    async def fault(request: Request) -> Response:
        request.scope["state"][ANSWER_HEADERS] = [(b"ratelimit-remaining", b"2")]
        raise RuntimeError

    passed = [Middleware(RequestIds), Middleware(Entrance, origins=["https://app.example"]), Middleware(Faults)]
    app = Starlette(routes=[Route("/", fault)], middleware=passed, exception_handlers={500: failed})
    headers = {"x-request-id": "mine-2", "origin": "https://app.example"}

    async def main() -> httpx2.Response:
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
            with pytest.raises(RuntimeError):  # whoever logs it hears of it all the same
                await httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://x").get("/")
            return await client.get("/", headers=headers)

    answer = asyncio.run(main())
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert answer.headers["ratelimit-remaining"] == "2"
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "mine-2"


def test_a_database_that_goes_away_is_503_and_comes_back(
    database: Database, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The database is renamed under the receiver, and back: to a client it is gone in between."""
    folder = tmp_path_factory.mktemp("away")
    server = Database(database.server, "postgres")
    away = f"{database.name}_away"

    def rename(old: str, new: str) -> None:
        server.fetch(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{old}'")
        server.fetch(f"alter database {old} rename to {new}")

    without = receiver_process(database, folder, RECEIVER_SPOOL="off")
    with without as receiver, receiver.client(database.key()) as client:
        assert client.get("/v1/messages").status_code == 200
        server.fetch(f"alter database {database.name} allow_connections false")
        eventually(lambda: _renamed(rename, database.name, away))
        asked = client.get("/v1/messages")
        assert asked.status_code == 503
        assert asked.headers["retry-after"]
        assert asked.json()["code"] == "database_away"
        told = httpx2.post(receiver.notify_url(), content=b"{}", trust_env=False, timeout=20)
        assert told.status_code == 503
        assert told.headers["retry-after"]
        assert figures(receiver) == {'receiver_notify_responses_total{code="503",retried="yes"}': 1}
        assert client.get("/livez").status_code == 200
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        rename(away, database.name)
        server.fetch(f"alter database {database.name} allow_connections true")
        eventually(lambda: client.get("/readyz").status_code == 200)
        assert client.get("/v1/messages").status_code == 200
        assert httpx2.post(receiver.notify_url(), content=b"{}", trust_env=False).status_code == 200


def _renamed(rename: object, old: str, new: str) -> bool:
    assert callable(rename)
    try:
        rename(old, new)
    except Exception as error:
        if "being accessed" in str(error):
            return False
        raise
    return True
