"""The doors of the quarantine: what an admin may see of its own tenant, page by page, and replay."""

import base64
import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx2
import pytest

from receiver.access.tokens import NotifyTokens
from receiver.database.pool import connect
from receiver.ids import SubmissionId
from receiver.receipts.quarantine import Place
from receiver.receipts.quarantine_views import REASONS, text_of
from tests.receipts.quarantining import minutes_ago, put
from tests.receipts.tellings import assert_books_balance, body
from tests.sending.platforms import recording_platform
from tests.support import SECRET, Database, Receiver, cloned, eventually, receiver_process, run
from tests.test_docs import table

ONE = "447700900001"
MADE = {
    "empty": b"",
    "xml": b"<deliveryInfo/>",
    "not_json": b"not json",
    "nested_too_deeply": b"[" * 20_000,
    "no_receipt": b'{"hello": "world"}',
    "too_many": b"[" + b",".join([b'{"deliveryInfoNotification":{}}'] * 10_001) + b"]",
}


@pytest.fixture(scope="module")
def receiver(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    folder = tmp_path_factory.mktemp("quarantine")
    with (
        cloned(postgres, template, "quarantine") as database,
        recording_platform() as platform,
        receiver_process(database, folder, platform_url=platform.url) as receiver,
    ):
        yield receiver
        assert "Traceback" not in log_of(receiver)


def log_of(receiver: Receiver) -> str:
    return receiver.log.read_text()


@pytest.fixture
def admin(receiver: Receiver) -> Iterator[httpx2.Client]:
    receiver.database.fetch("delete from quarantine")
    with receiver.client(receiver.database.key("admin")) as client:
        yield client


def tell(receiver: Receiver, content: bytes, url: str | None = None, **headers: str) -> None:
    answer = httpx2.post(url or receiver.notify_url(), content=content, headers=headers, trust_env=False)
    assert answer.status_code == 200, answer.text


def keep(database: Database, *bodies: bytes, tenant: str = "default", reason: str = "reader_failed") -> list[Place]:
    """Rows put in by hand, the first told longest ago."""
    number = database.tenant(tenant)

    async def work() -> list[Place]:
        connection = await connect(database.dsn, "tests")
        try:
            return [
                await put(connection, number, raw, reason, at=minutes_ago(len(bodies) - n))
                for n, raw in enumerate(bodies)
            ]
        finally:
            await connection.close()

    return run(work())


def delivered(transid: str) -> bytes:
    return body({"deliveryStatus": "Delivered", "deliveryChannel": "SMS", "destination": ONE}, transid)


def problem(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    made: dict[str, Any] = answer.json()
    return made


def listed(client: httpx2.Client, query: str = "") -> list[dict[str, Any]]:
    answer = client.get(f"/v1/quarantine{query}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["quarantine"]
    return found


def test_every_reason_has_a_sentence() -> None:
    assert set(REASONS) == {row[0] for row in table("errors.md", "quarantine reason")}


@pytest.mark.parametrize("reason", MADE)
def test_what_can_not_be_read_is_listed_and_shown_whole(receiver: Receiver, admin: httpx2.Client, reason: str) -> None:
    content = MADE[reason]
    for _ in range(2):
        tell(receiver, content, **{"user-agent": "probe", "authorization": "Basic c2VjcmV0", "content-type": "text/x"})
    (item,) = listed(admin)
    assert (item["reason"], item["told"], item["size"]) == (reason, 2, len(content))
    assert item["text"] == REASONS[reason]
    assert item["first_at"] < item["last_at"]
    assert item["headers"]["user-agent"] == "probe"
    assert "c2VjcmV0" not in json.dumps(item)
    assert (item["body_encoding"], item["body_is_cut"]) == ("text", len(content) > 400)
    assert item["body"] == content[:400].decode()
    assert (item["replayed_at"], item["replay_result"], item["submission_id"]) == (None, "never", None)
    whole = admin.get(f"/v1/quarantine/{item['id']}").json()
    assert whole == item | {"body": content.decode(), "body_is_cut": False}
    assert listed(admin, f"?reason={reason}") == [item]
    assert listed(admin, "?reason=forged") == []


def test_a_forged_one_is_listed_with_its_submission(receiver: Receiver, admin: httpx2.Client) -> None:
    url, identity, submission = forge(receiver, admin)
    (item,) = listed(admin, "?reason=forged")
    assert (item["submission_id"], item["reason"], item["told"]) == (str(submission), "forged", 1)
    assert identity in item["body"]
    refused = admin.post(f"/v1/quarantine/{item['id']}/replay").json()
    assert ([r["result"] for r in refused["receipts"]], refused["result"]) == (["forged"], "not_applied")
    assert admin.get(f"/v1/messages/{identity}").json()["state"] != "delivered"
    believed = admin.post(f"/v1/quarantine/{item['id']}/replay?believe=true").json()
    assert [(r["result"], r["message_id"], r["matched_by"]) for r in believed["receipts"]] == [
        ("applied", identity, "correlationid")
    ]
    assert admin.get(f"/v1/messages/{identity}").json()["state"] == "delivered"
    assert url.startswith("http")


def forge(receiver: Receiver, admin: httpx2.Client) -> tuple[str, str, UUID]:
    """Tells under the URL of one submission of a message of another."""
    sent = []
    with receiver.client(receiver.database.key()) as sender:
        for _ in range(2):
            request = {"deliverychannel": "sms", "channels": {"sms": {"text": "x"}}, "destination": [{"msisdn": [ONE]}]}
            answer = sender.post("/v1/messages", json=request)
            assert answer.status_code == 202, answer.text
            sent.append(answer.json()["messages"][0]["id"])
    submission = receiver.database.value("select submission_id from message where id = $1", UUID(sent[0]))
    url = f"{receiver.url}/notify/{NotifyTokens(SECRET).sign('default', SubmissionId(submission))}"
    info = {"deliveryStatus": "Delivered", "deliveryChannel": "SMS", "destination": ONE}
    tell(receiver, body(info, "t-forged", sent[1]), url)
    return url, sent[1], submission


def test_a_body_that_is_no_text_is_in_base64(receiver: Receiver, admin: httpx2.Client) -> None:
    content = bytes(range(256)) * 4
    tell(receiver, content)
    (item,) = listed(admin)
    assert (item["body_encoding"], base64.b64decode(item["body"])) == ("base64", content[:400])
    assert base64.b64decode(admin.get(f"/v1/quarantine/{item['id']}").json()["body"]) == content


def test_a_preview_may_end_within_a_character() -> None:
    euros = "€" * 200
    for end in range(390, 402):
        assert text_of(euros.encode()[:end], cut=True) == ("€" * (end // 3), "text")
    assert text_of(b"ab\xff" + b"c" * 9, cut=True)[1] == "base64"
    assert text_of("€".encode()[:2], cut=False)[1] == "base64"
    assert text_of(b"", cut=False) == text_of(b"", cut=True) == ("", "text")


def test_a_replay_of_what_an_older_reader_rejected(receiver: Receiver, admin: httpx2.Client) -> None:
    (place,) = keep(receiver.database, delivered("t-older"))
    counts = receiver.database.counts()
    would = admin.post(f"/v1/quarantine/{place}/replay?dry_run=true").json()
    assert receiver.database.counts() == counts
    assert would["dry_run"] is True
    assert [(r["result"], r["message"], r["state_before"], r["state_after"]) for r in would["receipts"]] == [
        ("applied", "new", None, "delivered")
    ]
    done = admin.post(f"/v1/quarantine/{place}/replay").json()
    (receipt,) = done["receipts"]
    assert (done["dry_run"], done["result"], receipt["result"]) == (False, "applied", "applied")
    assert done["changes"] == [{"message_id": receipt["message_id"], "state_before": None, "state_after": "delivered"}]
    message = admin.get(f"/v1/messages/{receipt['message_id']}").json()
    assert (message["state"], message["timeline"][0]["feed"]) == ("delivered", "replay")
    again = admin.post(f"/v1/quarantine/{place}/replay").json()
    assert ([r["result"] for r in again["receipts"]], again["changes"]) == (["duplicate"], [])
    (item,) = listed(admin, "?replayed=applied")
    assert item["replayed_at"] is not None
    assert listed(admin, "?replayed=never&replayed=not_applied&replayed=partly") == []

    async def books() -> None:
        connection = await connect(receiver.database.dsn, "tests")
        await assert_books_balance(connection)
        await connection.close()

    run(books())
    figures = admin.get("/metrics").text
    assert 'receiver_receipts_total{channel="sms",feed="replay",result="applied",tenant="default"}' in figures
    assert 'receiver_receipts_total{channel="sms",feed="replay",result="duplicate",tenant="default"}' in figures


def test_pages_hold_every_body_once_though_some_are_told_again(receiver: Receiver, admin: httpx2.Client) -> None:
    places = [str(place) for place in keep(receiver.database, *(b"%d" % n for n in range(25)))]
    seen: list[str] = []
    cursor = ""
    while True:
        page = admin.get(f"/v1/quarantine?limit=7{cursor}").json()
        seen += [item["id"] for item in page["quarantine"]]
        receiver.database.fetch("update quarantine set told = told + 1, last_at = now() where body = '3'")
        keep(receiver.database, b"new %d" % len(seen))
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert [identity for identity in seen if identity in places] == places[::-1]
    assert len(set(seen)) == len(seen)


def test_bodies_of_one_moment_are_not_lost_between_pages(receiver: Receiver, admin: httpx2.Client) -> None:
    keep(receiver.database, *(b"%d" % n for n in range(9)))
    receiver.database.fetch("update quarantine set first_at = '2026-01-01T00:00:00Z'")
    seen = []
    cursor = ""
    while True:
        page = admin.get(f"/v1/quarantine?limit=2{cursor}").json()
        seen += [item["body"] for item in page["quarantine"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert sorted(seen) == [str(n) for n in range(9)]


def test_times_choose_what_was_told_between_them(receiver: Receiver, admin: httpx2.Client) -> None:
    keep(receiver.database, b"one", b"two", b"three")
    for raw, first, last in (("one", 1, 2), ("two", 3, 5), ("three", 6, 6)):
        receiver.database.fetch(
            f"update quarantine set first_at = '2026-01-0{first}T00:00:00Z', last_at = '2026-01-0{last}T00:00:00Z'"
            " where body = $1",
            raw.encode(),
        )
    query = "?from=2026-01-02T00:00:00Z&to=2026-01-06T00:00:00Z"
    assert [item["body"] for item in listed(admin, query)] == ["two", "one"]
    assert [item["body"] for item in listed(admin, "?from=2026-01-05T01:00:00%2B01:00")] == ["three", "two"]


def test_another_tenant_s_admin_sees_and_replays_nothing(receiver: Receiver, admin: httpx2.Client) -> None:
    (place,) = keep(receiver.database, delivered("t-mine"))
    with receiver.client(receiver.database.key("admin", tenant="other")) as foreign:
        assert listed(foreign) == []
        problem(foreign.get(f"/v1/quarantine/{place}"), 404, "quarantine_not_found")
        problem(foreign.post(f"/v1/quarantine/{place}/replay"), 404, "quarantine_not_found")
    assert listed(admin)[0]["replayed_at"] is None


@pytest.mark.parametrize("scope", ["read", "send", "content"])
def test_a_key_without_the_scope_admin_is_refused(receiver: Receiver, scope: str) -> None:
    (place,) = keep(receiver.database, b"secret")
    with receiver.client(receiver.database.key(scope)) as client, receiver.client() as nobody:
        for method, path in (("GET", ""), ("GET", f"/{place}"), ("POST", f"/{place}/replay")):
            problem(client.request(method, f"/v1/quarantine{path}"), 403, "forbidden")
            problem(nobody.request(method, f"/v1/quarantine{path}"), 401, "unauthorized")


@pytest.mark.parametrize(
    ("query", "pointer", "code"),
    [
        ("limit=0", "limit", "bad_parameter"),
        ("limit=1001", "limit", "bad_parameter"),
        ("limit=x", "limit", "bad_parameter"),
        ("limit=%D9%A3", "limit", "bad_parameter"),
        ("limit=5&limit=6", "limit", "bad_parameter"),
        ("cursor=x", "cursor", "bad_cursor"),
        ("cursor=", "cursor", "bad_cursor"),
        ("cursor=%F0%9F%98%80", "cursor", "bad_cursor"),
        ("reason=", "reason", "bad_parameter"),
        ("reason=x%00", "reason", "bad_parameter"),
        ("replayed=perhaps", "replayed", "bad_parameter"),
        ("from=yesterday", "from", "bad_parameter"),
        ("from=2026-01-01T00:00:00", "from", "bad_parameter"),
        ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "to", "bad_parameter"),
        ("reasons=xml", "reasons", "unknown_parameter"),
        ("&".join(["reason=xml"] * 101), "", "too_many_parameters"),
    ],
)
def test_a_bad_parameter_is_400(admin: httpx2.Client, query: str, pointer: str, code: str) -> None:
    made = problem(admin.get(f"/v1/quarantine?{query}"), 400, "bad_parameter")
    assert [(error["pointer"], error["code"]) for error in made["errors"]] == [(pointer, code)]


def test_a_cursor_is_good_for_its_own_query_and_tenant_only(receiver: Receiver, admin: httpx2.Client) -> None:
    keep(receiver.database, b"1", b"2", b"3")
    cursor = admin.get("/v1/quarantine?limit=1").json()["next_cursor"]
    assert len(listed(admin, f"?limit=2&cursor={cursor}")) == 2
    problem(admin.get(f"/v1/quarantine?reason=xml&cursor={cursor}"), 400, "bad_parameter")
    problem(admin.get(f"/v1/quarantine?cursor={cursor[:-2]}AA"), 400, "bad_parameter")
    with receiver.client(receiver.database.key("admin", tenant="other")) as foreign:
        problem(foreign.get(f"/v1/quarantine?cursor={cursor}"), 400, "bad_parameter")


@pytest.mark.parametrize("identity", ["x", "20261116-abc", f"20261399-{'0' * 32}", f"2026-{'0' * 32}", "%00", "☃"])
def test_what_is_no_id_is_400(admin: httpx2.Client, identity: str) -> None:
    problem(admin.get(f"/v1/quarantine/{identity}"), 400, "bad_id")
    problem(admin.post(f"/v1/quarantine/{identity}/replay"), 400, "bad_id")


def test_an_id_that_is_not_there_is_404(admin: httpx2.Client) -> None:
    for week in ("20261116", "00010101", "99991231"):
        identity = f"{week}-{'0' * 32}"
        problem(admin.get(f"/v1/quarantine/{identity}"), 404, "quarantine_not_found")
        problem(admin.post(f"/v1/quarantine/{identity}/replay"), 404, "quarantine_not_found")


@pytest.mark.parametrize("query", ["dryrun=true", "dry_run=perhaps", "dry_run=", "dry_run=true&dry_run=false"])
def test_a_choice_that_is_misspelt_is_never_a_replay_in_earnest(
    receiver: Receiver, admin: httpx2.Client, query: str
) -> None:
    (place,) = keep(receiver.database, delivered("t-misspelt"))
    counts = receiver.database.counts()
    problem(admin.post(f"/v1/quarantine/{place}/replay?{query}"), 400, "bad_parameter")
    problem(admin.post(f"/v1/quarantine/{place}/replay", json={"dry_run": True}), 400, "bad_parameter")
    assert receiver.database.counts() == counts


def test_the_figures_are_refreshed_by_the_keeper(fresh_database: Any, tmp_path: Any, postgres: str) -> None:
    database: Database = fresh_database()
    keep(database, b"x" * 500, reason="xml")
    with receiver_process(database, tmp_path) as receiver, receiver.client() as anyone:

        def figures() -> bool:
            text = anyone.get("/metrics").text
            return (
                'receiver_quarantine_bodies{reason="xml"} 1.0' in text
                and 'receiver_quarantine_bytes{reason="xml"} 1524.0' in text
            )

        assert eventually(figures)


def test_no_body_and_no_number_is_in_the_log(receiver: Receiver, admin: httpx2.Client) -> None:
    (place,) = keep(receiver.database, delivered("t-log"))
    admin.get(f"/v1/quarantine/{place}")
    admin.post(f"/v1/quarantine/{place}/replay")
    assert ONE not in log_of(receiver)
    assert "deliveryInfo" not in log_of(receiver)
