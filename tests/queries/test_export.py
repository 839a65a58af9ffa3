"""Exports: everything that the filters let through, once, in constant memory; a broken one is seen to be broken."""

import csv
import gzip
import io
import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from bench.costs import memory
from bench.issued import issue
from receiver.database.partitions import ensure_weeks
from receiver.database.pool import connect
from receiver.ids import born_at, first_id_at
from receiver.queries.export import COLUMNS, Slices, _cell
from tests.queries.held_up import held_up
from tests.queries.made import Made, make
from tests.support import Database, Receiver, cloned, eventually, receiver_process, run

MANY = 20_000
DAYS = timedelta(days=4)


@pytest.fixture(scope="module")
def exporter(
    postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Receiver, httpx2.Client, list[Made]]]:
    folder = tmp_path_factory.mktemp("export")
    with cloned(postgres, template, "export") as database:
        made = make(database, 600, timedelta(hours=20), seed=3)
        with (
            receiver_process(database, folder, RECEIVER_ROLES="api") as receiver,
            receiver.client(database.key()) as api,
        ):
            yield receiver, api, made


def mine(made: list[Made], **like: object) -> list[str]:
    tenant = min(m.tenant for m in made)
    like |= {"merged": False}
    found = [m for m in made if m.tenant == tenant and all(getattr(m, name) == value for name, value in like.items())]
    return [str(m.id) for m in sorted(found, key=lambda m: m.id, reverse=True)]


def test_an_export_has_every_message_once_newest_first(
    exporter: tuple[Receiver, httpx2.Client, list[Made]],
) -> None:
    _, api, made = exporter
    answer = api.get("/v1/messages/export")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["id"] for line in lines] == mine(made)
    page = api.get("/v1/messages", params={"limit": 5}).json()["messages"]
    assert lines[:5] == page
    some = api.get("/v1/messages/export", params={"sender": "SHOP", "format": "ndjson"})
    assert [json.loads(line)["id"] for line in some.text.splitlines()] == mine(made, sender="SHOP")
    named = api.get("/v1/messages/export", params={"callbackData": "d-3"})
    assert [json.loads(line)["id"] for line in named.text.splitlines()] == mine(made, callback="d-3")


def test_an_export_goes_on_behind_the_message_that_it_is_told(
    exporter: tuple[Receiver, httpx2.Client, list[Made]],
) -> None:
    _, api, made = exporter
    everything = mine(made)
    for at in (0, 249, 250, len(everything) - 1):
        rest = api.get("/v1/messages/export", params={"after": everything[at]}).text.splitlines()
        assert [json.loads(line)["id"] for line in rest] == everything[at + 1 :]


def test_behind_an_id_of_any_time_there_is_what_is_older(exporter: tuple[Receiver, httpx2.Client, list[Made]]) -> None:
    _, api, made = exporter
    future, past = "f5197015-c49a-4bd2-91f7-ff421b1c91cd", "00000000-0000-7000-8000-000000000000"
    behind = api.get("/v1/messages/export", params={"after": future})
    assert [json.loads(line)["id"] for line in behind.text.splitlines()] == mine(made)
    nothing = api.get("/v1/messages/export", params={"after": past})
    assert (nothing.status_code, nothing.text) == (200, "")


def test_csv_has_the_documented_columns_and_is_chosen_by_accept_too(
    exporter: tuple[Receiver, httpx2.Client, list[Made]],
) -> None:
    _, api, made = exporter
    answer = api.get("/v1/messages/export", headers={"accept": "text/csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.text.endswith("\r\n")
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert list(rows[0]) == list(COLUMNS)
    assert [row["id"] for row in rows] == mine(made)
    failed = [row for row in rows if row["reason_code"]]
    assert failed
    assert all(row["final"] in ("true", "false") and row["reason_class"] for row in failed)
    none = api.get("/v1/messages/export", params={"format": "csv", "destination": "nobody"})
    assert none.text == ",".join(COLUMNS) + "\r\n"
    assert api.get("/v1/messages/export", params={"destination": "nobody"}).text == ""


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-2+3", "'-2+3"),
        ("\t=1", "'\t=1"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("+447700900001", "+447700900001"),
        ("-5", "-5"),
        ("plain, with = inside", "plain, with = inside"),
        (None, ""),
        (True, "true"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05Z"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_no_cell_is_a_formula(value: object, cell: str) -> None:
    assert _cell(value) == cell


def test_who_takes_gzip_gets_it(exporter: tuple[Receiver, httpx2.Client, list[Made]]) -> None:
    _, api, made = exporter
    for accepts, zipped in (("gzip", True), ("br, gzip;q=0.5", True), ("gzip;q=0", False), ("identity", False)):
        with api.stream("GET", "/v1/messages/export", headers={"accept-encoding": accepts}) as answer:
            raw = b"".join(answer.iter_raw())
        assert (answer.headers.get("content-encoding") == "gzip") is zipped
        text = gzip.decompress(raw) if zipped else raw
        assert text.count(b"\n") == len(mine(made))


def test_a_head_tells_no_length_that_the_stream_has_not(exporter: tuple[Receiver, httpx2.Client, list[Made]]) -> None:
    _, api, _ = exporter
    answer = api.head("/v1/messages/export", params={"format": "csv"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/csv; charset=utf-8")
    assert "content-length" not in answer.headers
    assert api.head("/v1/messages/export", params={"format": "xml"}).status_code == 400


def test_wrong_parameters_are_named(exporter: tuple[Receiver, httpx2.Client, list[Made]]) -> None:
    _, api, _ = exporter
    for query, name in (
        ("format=xml", "format"),
        ("after=x", "after"),
        ("limit=1", "limit"),
        ("cursor=x", "cursor"),
        ("order=changed", "order"),
        ("state=happy", "state"),
        ("sender=a%00", "sender"),
        ("format=csv&format=csv", "format"),
    ):
        answer = api.get(f"/v1/messages/export?{query}")
        assert answer.status_code == 400, query
        assert [error["pointer"] for error in answer.json()["errors"]] == [name], query


def fill(database: Database, number: int) -> None:
    """As many messages, over some days."""
    at = datetime.now(UTC) - DAYS
    for day in range(4):
        run(issue(database.dsn, database.tenant(), number // 4, at=at + timedelta(days=day)))


@pytest.fixture
def full(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Receiver, httpx2.Client]]:
    async def weeks() -> None:
        connection = await connect(database.dsn, "tests")
        await ensure_weeks(connection, datetime.now(UTC) - DAYS)
        await connection.close()

    run(weeks())
    fill(database, MANY)
    with (
        receiver_process(database, tmp_path_factory.mktemp("full"), RECEIVER_ROLES="api") as receiver,
        receiver.client(database.key()) as api,
    ):
        yield receiver, api


def test_an_export_of_many_takes_no_more_memory_than_one_of_few(full: tuple[Receiver, httpx2.Client]) -> None:
    receiver, api = full
    for _ in range(2):  # what a first use brings stays
        api.get("/v1/messages/export", params={"created_from": (datetime.now(UTC) - timedelta(days=2)).isoformat()})
    before = memory(receiver.process.pid)
    with api.stream("GET", "/v1/messages/export") as answer:
        number = sum(1 for _ in answer.iter_lines())
    assert number == MANY
    assert memory(receiver.process.pid, "VmHWM") - before < 12, "megabytes, of some 15 that went out"
    assert "Traceback" not in receiver.log.read_text()


def test_a_reader_that_stops_holds_the_export_and_a_third_one_is_refused(full: tuple[Receiver, httpx2.Client]) -> None:
    receiver, api = full
    open_streams = [api.stream("GET", "/v1/messages/export") for _ in range(2)]
    answers = [one.__enter__() for one in open_streams]
    refused = api.get("/v1/messages/export")
    assert (refused.status_code, refused.json()["code"]) == (503, "exports_under_way")
    assert refused.headers["retry-after"]
    busy = (
        "select count(*) from pg_stat_activity where application_name = 'receiver costly queries' and state = 'active'"
    )
    assert eventually(lambda: receiver.database.value(busy) == 0), "nobody reads while the client does not"
    exported = "receiver_exported_messages_total "
    sent = next(line for line in api.get("/metrics").text.splitlines() if line.startswith(exported))
    assert float(sent.split()[1]) < 2 * MANY, "it did not read on"
    for one in open_streams:
        one.__exit__(None, None, None)
    assert all(answer.status_code == 200 for answer in answers)
    eventually(lambda: api.get("/v1/messages/export", params={"destination": "x"}).status_code == 200)


def test_an_export_whose_database_goes_is_broken_off(full: tuple[Receiver, httpx2.Client]) -> None:
    receiver, _ = full
    port = int(receiver.url.rpartition(":")[2])
    key = receiver.database.key("read")
    head = f"GET /v1/messages/export HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        wire.sendall(head.encode())
        got = wire.recv(4_096)
        assert got.startswith(b"HTTP/1.1 200")
        receiver.database.fetch("alter table message rename to message_gone")  # each later page fails
        while part := wire.recv(65_536):
            got = (got + part)[-64:]
    assert not got.endswith(b"0\r\n\r\n"), "a broken export must not look like a whole one"
    eventually(lambda: "export_broken" in receiver.log.read_text())


def test_the_documented_columns_are_those_of_the_file() -> None:
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    listed = page.split("may be added at the end:")[1].split("An empty cell")[0]
    assert re.findall(r"`(\w+)`", listed) == list(COLUMNS)


STOPPED = """
select bool_or(pg_cancel_backend(pid)) from pg_stat_activity
 where application_name = 'receiver costly queries' and datname = current_database() and wait_event_type = 'Lock'
"""


@pytest.mark.parametrize("named", [{}, {"callbackData": "d-3"}], ids=["no name", "a name"])
def test_a_page_that_is_stopped_by_the_clock_is_read_in_smaller_parts(
    exporter: tuple[Receiver, httpx2.Client, list[Made]], named: dict[str, str]
) -> None:
    receiver, api, made = exporter
    with held_up(receiver.database) as let_go, ThreadPoolExecutor() as threads:
        answer = threads.submit(api.get, "/v1/messages/export", params=named)
        for _ in range(2):
            eventually(lambda: receiver.database.value(STOPPED))
        let_go()
        text = answer.result().text
    wanted = mine(made, callback="d-3") if named else mine(made)
    assert [json.loads(line)["id"] for line in text.splitlines()] == wanted


def test_an_export_of_which_not_even_the_smallest_part_can_be_read_says_why(
    exporter: tuple[Receiver, httpx2.Client, list[Made]],
) -> None:
    receiver, api, _ = exporter
    with held_up(receiver.database), ThreadPoolExecutor() as threads:
        answer = threads.submit(api.get, "/v1/messages/export")

        def is_answered() -> bool:
            receiver.database.value(STOPPED)
            return answer.done()

        eventually(is_answered)
    assert (answer.result().status_code, answer.result().json()["code"]) == (503, "search_too_long")


def test_a_part_that_takes_long_is_followed_by_a_smaller_one_and_a_short_one_by_a_larger() -> None:
    below = first_id_at(datetime.now(UTC) - timedelta(days=3))

    def width(slices: Slices) -> timedelta:
        return born_at(below) - born_at(slices.begin(below))

    slices = Slices(whole=False)
    assert width(slices) == timedelta(days=1)
    slices.took(1.5)
    assert width(slices) == timedelta(hours=12)
    slices.took(0.7)
    assert width(slices) == timedelta(hours=12)
    slices.took(0.1)
    slices.took(0.1)
    assert width(slices) == timedelta(days=1)
    while slices.narrow():
        pass
    assert width(slices) == timedelta(seconds=10)
