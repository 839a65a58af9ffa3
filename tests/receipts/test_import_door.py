"""POST /v1/imports: a real receiver, real sockets; what is taken, what is refused, what is in when cut short."""

import gzip
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.database.pool import connect
from receiver.ids import MessageId, TenantId
from receiver.receipts.exported import read_exported
from receiver.receipts.receipt import Source, read
from tests.receipts.exports import FORMS, exported, in_lines, notification, pushed
from tests.receipts.tellings import assert_books_balance
from tests.support import Database, Receiver, cloned, eventually, now, receiver_process, run

MEGABYTE = 1024 * 1024
IN = "select count(*) from receipt where transid like $1"


@pytest.fixture(scope="module")
def receiver(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    folder = tmp_path_factory.mktemp("imports")
    with (
        cloned(postgres, template, "imports") as database,
        receiver_process(database, folder, RECEIVER_IMPORT_MB="2") as receiver,
    ):
        yield receiver
        assert "Traceback" not in receiver.log.read_text()


@pytest.fixture
def admin(receiver: Receiver) -> Iterator[httpx2.Client]:
    with receiver.client(receiver.database.key("admin")) as client:
        yield client


def told(answer: httpx2.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    report: dict[str, Any] = answer.json()
    results = ("applied", "duplicate", "late", "quarantined", "forged")
    assert report["received"] == sum(report[result] for result in results)
    return report


def refused(answer: httpx2.Response, status: int, code: str) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == code
    return str(answer.json()["title"])


def balance(database: Database) -> None:
    async def work() -> None:
        connection = await connect(database.dsn, "tests")
        try:
            await assert_books_balance(connection)
        finally:
            await connection.close()

    run(work())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_every_form_is_taken_once(form: str, packed: bool, receiver: Receiver, admin: httpx2.Client) -> None:
    of = f"{form}-{packed}"
    content = FORMS[form](range(400), of)
    headers = {"content-encoding": "gzip"} if packed else {}
    sent = gzip.compress(content) if packed else content
    first = told(admin.post("/v1/imports", content=sent, headers=headers))
    assert (first["applied"], first["duplicate"], first["bytes"]) == (400, 0, len(content))
    again = told(admin.post("/v1/imports", content=sent, headers=headers))
    assert (again["applied"], again["duplicate"]) == (0, 400)
    assert first["import_id"] != again["import_id"]
    feeds = receiver.database.fetch("select distinct feed from receipt where transid like $1", f"{of}-%")
    assert [row["feed"] for row in feeds] == [2]
    balance(receiver.database)


@pytest.mark.parametrize("form", FORMS)
def test_what_was_pushed_is_known_in_every_form_and_keeps_its_feed(
    form: str, receiver: Receiver, admin: httpx2.Client
) -> None:
    of = f"pushed-{form}"
    for n in range(10):
        assert httpx2.post(receiver.notify_url(), content=pushed(n, of), trust_env=False).status_code == 200
    report = told(admin.post("/v1/imports", content=FORMS[form](range(15), of)))
    assert (report["applied"], report["duplicate"]) == (5, 10)
    feeds = receiver.database.fetch(
        "select feed, count(*) from receipt where transid like $1 group by feed order by feed", f"{of}-%"
    )
    assert [tuple(row) for row in feeds] == [(1, 10), (2, 5)]
    balance(receiver.database)


def test_it_is_counted_with_its_feed(receiver: Receiver, admin: httpx2.Client) -> None:
    told(admin.post("/v1/imports", content=exported(range(30), "counted")))
    figures = admin.get("/metrics").text
    [line] = [
        line
        for line in figures.splitlines()
        if line.startswith("receiver_receipts_total") and "import" in line and '"applied"' in line
    ]
    assert float(line.rpartition(" ")[2]) >= 30


def test_who_may_not_is_refused(receiver: Receiver) -> None:
    with receiver.client() as nobody, receiver.client(receiver.database.key("read", "send")) as reader:
        refused(nobody.post("/v1/imports", content=b"[]"), 401, "unauthorized")
        refused(reader.post("/v1/imports", content=b"[]"), 403, "forbidden")


def test_what_is_no_export_is_refused(admin: httpx2.Client) -> None:
    refused(admin.post("/v1/imports", content=b"<html>\n</html>\n"), 400, "not_an_export")
    refused(admin.post("/v1/imports", content=b"transid,code\ra,7500\r"), 400, "not_an_export")  # an old Macintosh's
    refused(admin.post("/v1/imports", content=b"[]", headers={"content-encoding": "br"}), 415, "unknown_encoding")
    assert told(admin.post("/v1/imports", content=b""))["received"] == 0


def test_of_a_gzip_that_is_not_whole_the_beginning_is_taken(receiver: Receiver, admin: httpx2.Client) -> None:
    packed = gzip.compress(exported(range(3_000), "half"))
    title = refused(admin.post("/v1/imports", content=packed[: len(packed) // 2]), 400, "damaged_export")
    taken = receiver.database.value(IN, "half-%")
    assert taken > 100
    assert f"{taken} receipts" in title
    assert told(admin.post("/v1/imports", content=packed))["duplicate"] == taken


def test_over_the_limit_it_says_what_was_taken(receiver: Receiver, admin: httpx2.Client) -> None:
    content = in_lines(range(7_000), "limit")
    assert len(content) > 2 * MEGABYTE
    refused(admin.post("/v1/imports", content=content), 413, "import_too_large")
    assert receiver.database.value(IN, "limit-%") == 0  # its length was told beforehand
    title = refused(admin.post("/v1/imports", content=gzip.compress(content)), 413, "import_too_large")
    taken = receiver.database.value(IN, "limit-%")
    assert 5_000 < taken < 7_000
    assert f"{taken} receipts" in title


def test_a_little_gzip_of_very_much_is_refused(admin: httpx2.Client) -> None:
    refused(admin.post("/v1/imports", content=gzip.compress(bytes(200 * MEGABYTE))), 413, "import_too_large")


def connected(receiver: Receiver, key: str, length: int = MEGABYTE) -> socket.socket:
    """A connection on which an import of so many bytes has begun."""
    port = int(receiver.url.rpartition(":")[2])
    client = socket.create_connection(("127.0.0.1", port), timeout=20)
    head = f"POST /v1/imports HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: {length}\r\n\r\n"
    client.sendall(head.encode())
    return client


def test_what_was_read_before_the_client_hung_up_is_in(receiver: Receiver, admin: httpx2.Client) -> None:
    content = exported(range(1_000), "hangup")
    with connected(receiver, receiver.database.key("admin"), len(content)) as client:
        client.sendall(content[: len(content) // 2])
        read_on = eventually(lambda: receiver.database.value(IN, "hangup-%"))
    report = told(admin.post("/v1/imports", content=content))
    assert report["duplicate"] >= read_on >= 256
    assert (report["received"], report["quarantined"]) == (1_000, 0)
    assert receiver.database.value(IN, "hangup-%") == 1_000
    balance(receiver.database)


def test_a_third_import_at_once_is_told_to_wait(receiver: Receiver, admin: httpx2.Client) -> None:
    key = receiver.database.key("admin")
    begun = "select count(*) from import where done_at is null and bytes = 0 and received = 0"
    before = receiver.database.value(begun)
    with connected(receiver, key), connected(receiver, key):
        eventually(lambda: receiver.database.value(begun) == before + 2)
        answer = admin.post("/v1/imports", content=b"[]")
        refused(answer, 429, "imports_under_way")
        assert int(answer.headers["retry-after"]) > 0
        assert httpx2.post(receiver.notify_url(), content=pushed(1, "beside"), trust_env=False).status_code == 200
    assert eventually(lambda: admin.post("/v1/imports", content=b"[]").status_code == 200)


def test_receipts_are_answered_soon_while_a_file_is_imported(receiver: Receiver, admin: httpx2.Client) -> None:
    content = exported(range(3_500), "busy")
    done = threading.Event()

    def work() -> None:
        told(admin.post("/v1/imports", content=content))
        done.set()

    importer = threading.Thread(target=work)
    importer.start()
    slowest = 0.0
    with httpx2.Client(trust_env=False) as platform:
        for n in range(2_000):
            if done.is_set():
                break
            answer = platform.post(receiver.notify_url(), content=pushed(n, "live"))
            assert answer.status_code == 200
            slowest = max(slowest, answer.elapsed.total_seconds())
    importer.join()
    assert done.is_set()
    assert 0 < slowest < 2.0


def test_an_import_ends_with_its_process(database: Database, tmp_path: Path) -> None:
    with receiver_process(database, tmp_path) as receiver:
        content = exported(range(300), "end")
        with connected(receiver, database.key("admin"), len(content)) as client:
            client.sendall(content[:-1])
            eventually(lambda: database.value("select coalesce(max(received), 0) from import") >= 256)
            receiver.process.terminate()
            answer = b""
            while part := client.recv(65536):
                answer += part
        assert b" 503 " in answer.split(b"\r\n")[0]
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "import_cut_short"
        assert receiver.process.wait(20) == 0
    taken = database.value(IN, "end-%")
    assert 256 <= taken <= 300
    assert f"{taken} receipts" in json.loads(answer.partition(b"\r\n\r\n")[2])["title"]


SOURCE = Source(TenantId(1), None, now())
texts = st.one_of(st.text(max_size=8), st.sampled_from(["Delivered", "SMS", "7500", "\\", '"']))
infos = st.dictionaries(st.sampled_from(["deliveryStatus", "code", "Code", "deliveryChannel", "n"]), texts, max_size=4)


@given(
    info=infos,
    beside=st.dictionaries(st.sampled_from(["transid", "Transid", "correlationid", "deliveryInfo"]), texts, max_size=3),
    more=st.dictionaries(st.sampled_from(["df_status", "df_response_status", "deliveryInfo", "x"]), texts, max_size=2),
    wrapped=st.booleans(),
)
def test_the_short_way_reads_an_element_as_the_long_one_does(
    info: dict[str, str], beside: dict[str, str], more: dict[str, str], wrapped: bool
) -> None:
    inner: dict[str, Any] = {**beside, "deliveryInfo": info}
    if wrapped:
        inner = {"deliveryInfoNotification": inner}
    for body in (json.dumps({"df_payload": inner, **more}), json.dumps({**more, "df_payload": inner})):
        short, long = read_exported(body.encode(), SOURCE), read(body.encode(), SOURCE)
        same = MessageId(UUID(int=0))
        assert [t._replace(fresh=same) for t in short.receipts] == [t._replace(fresh=same) for t in long.receipts]
        assert short.rejects == long.rejects


def test_a_pushed_and_an_exported_copy_have_one_fingerprint() -> None:
    for n in range(8):
        body = json.dumps({"df_payload": notification(n), "df_status": "2"}).encode()
        [one], [other] = read(pushed(n), SOURCE).receipts, read_exported(body, SOURCE).receipts
        assert one.fingerprint == other.fingerprint
