"""Searches that can't be meant are refused in an instant, and no connection is taken for them."""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx2
import pytest

from bench.costs import processor_seconds
from receiver.queries.cursors import Position, cursor_of, query_of, read_cursor
from tests.support import Receiver, cloned, receiver_process

OPEN = (
    "select count(*) from pg_stat_activity where application_name like 'receiver %queries' and pid <> pg_backend_pid()"
)
BAD = {
    "a limit below": "limit=-1",
    "a limit above": "limit=1000000000",
    "a NUL": "transid=a%00b",
    "a NUL in a name": "%00=b",
    "upside down": "created_from=2026-02-01T00:00:00Z&created_to=2026-01-01T00:00:00Z",
    "a malformed id": "batch_id=x",
    "no cursor": "cursor=AAAA",
    "another query's cursor": "cursor=" + cursor_of(Position(id=UUID(int=7)), "another"),
    "many parameters": "&".join(f"code={n}" for n in range(5_000)),
    "many unknown parameters": "&".join(f"a{n}=" for n in range(3_000)),
    "digits without end": "destination_end=" + "1" * 3_000,
    "a number without end": "limit=" + "9" * 3_000,
}


@pytest.fixture(scope="module")
def api(
    postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Receiver, httpx2.Client]]:
    folder = tmp_path_factory.mktemp("bad")
    with (
        cloned(postgres, template, "bad_searches") as database,
        receiver_process(database, folder, RECEIVER_ROLES="api") as receiver,
        receiver.client(database.key("read")) as client,
    ):
        yield receiver, client


@pytest.mark.parametrize("door", ["/v1/messages", "/v1/messages/export"])
@pytest.mark.parametrize("query", BAD.values(), ids=BAD)
def test_a_bad_search_is_refused_at_once_and_opens_nothing(
    api: tuple[Receiver, httpx2.Client], door: str, query: str
) -> None:
    receiver, client = api
    client.get(f"{door}?limit=x")  # the key is known for a while
    before = processor_seconds(receiver.process.pid)
    for _ in range(5):
        answer = client.get(f"{door}?{query}")
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_parameter")
    assert (processor_seconds(receiver.process.pid) - before) / 5 < 0.05, "of processor time: others are busy here too"
    assert receiver.database.value(OPEN) <= 1, "the one by which the key was looked up"


@pytest.mark.parametrize("door", ["/v1/messages", "/v1/messages/export"])
def test_every_wrong_parameter_is_named_beside_those_that_nobody_knows(
    api: tuple[Receiver, httpx2.Client], door: str
) -> None:
    answer = api[1].get(f"{door}?phone=1&state=happy&sender=a%00b&transid=&channel=sms&final=perhaps&country=G")
    named = [error["pointer"] for error in answer.json()["errors"]]
    assert sorted(named) == ["country", "final", "phone", "sender", "state", "transid"]


POSITIONS = (
    Position(id=UUID(int=7)),
    Position(seq=7),
    Position(id=UUID(int=7), changed_at=datetime(2026, 11, 22, 1, 2, 3, 456789, UTC)),
)


@pytest.mark.parametrize("position", POSITIONS, ids=["an id", "a number", "a time"])
def test_a_cursor_is_read_as_it_was_written_and_for_its_own_query_alone(position: Position) -> None:
    query = query_of([("state", "failed"), ("limit", "3"), ("channel", "sms")], 1)
    cursor = cursor_of(position, query)
    assert read_cursor(cursor, query_of([("channel", "sms"), ("state", "failed"), ("limit", "9")], 1)) == position
    assert read_cursor(cursor, query_of([("channel", "sms"), ("state", "failed")], 2)) is None
    assert read_cursor(cursor, query_of([("channel", "sms")], 1)) is None


def test_a_cursor_of_nobody_s_is_none() -> None:
    query = query_of([], 1)
    mark = base64.urlsafe_b64decode(cursor_of(Position(seq=1), query) + "==")[-8:]
    for raw in (b"", b"x", b"x" * 7, b"\xff" * 24, b"x" * 25, b"x" * 1000):
        assert read_cursor(base64.urlsafe_b64encode(raw + mark).decode().rstrip("="), query) is None
    later = Position(id=UUID(int=1), changed_at=datetime.now(UTC) + timedelta(days=1))
    assert read_cursor(cursor_of(later, query), query) == later
