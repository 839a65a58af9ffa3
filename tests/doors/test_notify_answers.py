"""Every answer of the receipts door, for every class of situation: what is kept, and what is counted."""

import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from receiver.access.tokens import NotifyTokens
from receiver.ids import SubmissionId, new_id
from tests.doors.telling import added, delivered, figures, signature
from tests.support import SECRET, Receiver, cloned, eventually, receiver_process

LIMIT = 1024 * 1024
PREVIOUS = "the secret of last month"
SIGNS = "what the platform signs with"
SIGNED_BEFORE = "what it signed with last month"
BASIC = "Basic cmVjZWlwdHM6Y29ycmVjdCBob3JzZQ=="
KEY_BEFORE = "Basic cmVjZWlwdHM6bGFzdCBtb250aA=="
CONFIG = f"""
[tenant.signs]
signature_secret = "{SIGNS}"
signature_secret_previous = "{SIGNED_BEFORE}"
signature_required = true
[tenant.may-sign]
signature_secret = "{SIGNS}"
[tenant.bears]
notify_header = "Authorization"
notify_header_value = "{BASIC}"
notify_header_value_previous = "{KEY_BEFORE}"
[tenant.both]
signature_secret = "{SIGNS}"
signature_required = "yes"
notify_header = "X-Api-Key"
notify_header_value = "{BASIC}"
"""
STORED = {'responses_total{code="200",retried="no"}': 1.0}
REFUSED = {'responses_total{code="401",retried="yes"}': 1.0}


@pytest.fixture(scope="module")
def receiver(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    folder = tmp_path_factory.mktemp("answers")
    (folder / "tenants.toml").write_text(CONFIG)
    settings = {
        "RECEIVER_CONFIG": str(folder / "tenants.toml"),
        "RECEIVER_SECRET_PREVIOUS": PREVIOUS,
        "RECEIVER_MAX_BODY": str(LIMIT),
        "RECEIVER_LOG_LEVEL": "debug",
    }
    with cloned(postgres, template, "notify_answers") as database:
        database.tenant("removed")
        with receiver_process(database, folder, **settings) as receiver:
            yield receiver


@pytest.fixture(autouse=True)
def no_trouble(receiver: Receiver) -> Iterator[None]:
    yield
    assert receiver.process.poll() is None
    assert "Traceback" not in receiver.log.read_text()


def tell(receiver: Receiver, raw: bytes, tenant: str = "default", **headers: str) -> httpx2.Response:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return httpx2.post(receiver.notify_url(tenant), content=raw, headers=named, trust_env=False)


KEPT = ("message", "message_state", "receipt", "change", "intake", "quarantine")
TENANTS_OF = """
select t.name from receipt r join message m on m.id = r.message_id join tenant t on t.id = m.tenant
 where position($1::bytea in r.raw) > 0
"""


def rows_of(receiver: Receiver) -> dict[str, int]:
    """The number of rows of every table into which a receipt could leave something."""
    counts = receiver.database.counts()
    return {table: counts[table] for table in KEPT}


def is_stored(receiver: Receiver, answer: httpx2.Response, transid: str, tenant: str) -> None:
    assert (answer.status_code, answer.text) == (200, "")
    rows = receiver.database.fetch(TENANTS_OF, f'"{transid}"'.encode())
    assert [row["name"] for row in rows] == [tenant]


def is_refused(receiver: Receiver, answer: httpx2.Response, rows: dict[str, int], text: str) -> None:
    assert answer.status_code == 401
    assert text in answer.text
    assert rows_of(receiver) == rows


def test_a_good_receipt_is_stored_and_an_unreadable_one_too(receiver: Receiver) -> None:
    before = figures(receiver)
    is_stored(receiver, tell(receiver, delivered("good")), "good", "default")
    assert added(before, figures(receiver)) == STORED
    kept = receiver.database.value("select count(*) from quarantine")
    for number, raw in enumerate((b"", b"\xff\xfe no json", b"<xml/>", b'{"x": 1}'), 2):
        assert tell(receiver, raw).status_code == 200
        assert added(before, figures(receiver)) == {'responses_total{code="200",retried="no"}': number}
    assert receiver.database.value("select count(*) from quarantine") == kept + 4


def test_a_forged_receipt_is_kept_and_answered_as_any_other(receiver: Receiver) -> None:
    database, key = receiver.database, receiver.database.key()
    body = {
        "deliverychannel": "sms",
        "channels": {"sms": {"text": "x"}},
        "destination": [{"msisdn": ["447700900777"]}],
    }
    with receiver.client(key) as client:
        sent = client.post("/v1/messages", json=body).json()["messages"][0]["id"]
    token = NotifyTokens(SECRET).sign("default", SubmissionId(new_id()))
    raw = delivered("forged").replace(b'"correlationid": ""', f'"correlationid": "{sent}"'.encode())
    before = figures(receiver)
    answer = httpx2.post(f"{receiver.url}/notify/{token}", content=raw, trust_env=False)
    assert answer.status_code == 200
    assert added(before, figures(receiver)) == STORED
    assert database.value("select count(*) from quarantine where reason = 'forged'") == 1


def test_the_token_of_a_tenant_that_is_configured_no_more_is_good(receiver: Receiver) -> None:
    is_stored(receiver, tell(receiver, delivered("last one"), "removed"), "last one", "removed")


def test_an_unknown_token_is_401_and_leaves_no_row(receiver: Receiver) -> None:
    rows, before = rows_of(receiver), figures(receiver)
    for number, token in enumerate((NotifyTokens(SECRET).sign("nobody"), NotifyTokens("x").sign("default"), "x"), 1):
        answer = httpx2.post(f"{receiver.url}/notify/{token}", content=delivered("unknown"), trust_env=False)
        is_refused(receiver, answer, rows, "not one of ours")
        assert added(before, figures(receiver)) == {
            'responses_total{code="401",retried="yes"}': number,
            'refusals_total{reason="token",tenant="none"}': number,
        }


def test_tokens_signed_with_the_previous_secret_are_good(receiver: Receiver) -> None:
    before = NotifyTokens(PREVIOUS)
    for transid, token in (
        ("previous url", before.sign("default")),
        ("previous submission", before.sign("default", SubmissionId(new_id()))),
    ):
        url = f"{receiver.url}/notify/{token}"
        assert httpx2.head(url, trust_env=False).status_code == 200
        is_stored(receiver, httpx2.post(url, content=delivered(transid), trust_env=False), transid, "default")


BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("transid", "secret", "algorithm", "prefix"),
    [
        ("sha256", SIGNS, "sha256", ""),
        ("sha256 named", SIGNS, "sha256", "sha256="),
        ("sha512", SIGNS, "sha512", ""),
        ("sha512 named", SIGNS, "sha512", "SHA512="),
        ("previous", SIGNED_BEFORE, "sha256", "sha256="),
    ],
)
def test_a_signed_receipt_is_stored(receiver: Receiver, transid: str, secret: str, algorithm: str, prefix: str) -> None:
    raw = BOM + delivered(transid) + b" \r\n"
    before = figures(receiver)
    told = prefix + signature(secret, raw, algorithm).upper()
    is_stored(receiver, tell(receiver, raw, "signs", x_hub_signature=told), transid, "signs")
    assert added(before, figures(receiver)) == STORED | {'signatures_total{result="good",tenant="signs"}': 1}


def test_a_large_signed_body_is_checked_too(receiver: Receiver) -> None:
    raw = delivered("large") + b" " * 500_000
    is_stored(receiver, tell(receiver, raw, "signs", x_hub_signature=signature(SIGNS, raw)), "large", "signs")
    rows = rows_of(receiver)
    answer = tell(receiver, raw + b" ", "signs", x_hub_signature=signature(SIGNS, raw))
    is_refused(receiver, answer, rows, "signature is wrong")


RAW = delivered("never stored")


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        (None, "missing"),
        ("", "wrong"),
        ("nonsense", "wrong"),
        (signature("another secret", RAW), "wrong"),
        (signature(SIGNS, RAW + b"\n"), "wrong"),
        (signature(SIGNS, RAW, "sha1"), "wrong"),
        ("sha1=" + signature(SIGNS, RAW, "sha1"), "wrong"),
    ],
)
def test_a_receipt_without_its_signature_is_401_and_leaves_no_row(
    receiver: Receiver, told: str | None, kind: str
) -> None:
    rows, before = rows_of(receiver), figures(receiver)
    answer = tell(receiver, RAW, "signs", **({} if told is None else {"x_hub_signature": told}))
    is_refused(receiver, answer, rows, f"signature is {kind}")
    assert added(before, figures(receiver)) == REFUSED | {
        f'refusals_total{{reason="signature_{kind}",tenant="signs"}}': 1,
        f'signatures_total{{result="{kind}",tenant="signs"}}': 1,
    }


def test_a_signature_that_is_not_required_is_checked_when_it_is_there(receiver: Receiver) -> None:
    raw, before = delivered("unsigned"), figures(receiver)
    is_stored(receiver, tell(receiver, raw, "may-sign"), "unsigned", "may-sign")
    assert added(before, figures(receiver)) == STORED | {'signatures_total{result="missing",tenant="may-sign"}': 1}
    signed = delivered("signed")
    answer = tell(receiver, signed, "may-sign", x_hub_signature=signature(SIGNS, signed))
    is_stored(receiver, answer, "signed", "may-sign")
    rows = rows_of(receiver)
    answer = tell(receiver, raw, "may-sign", x_hub_signature=signature("another secret", raw))
    is_refused(receiver, answer, rows, "signature is wrong")


def test_a_signature_is_not_looked_at_where_no_secret_is_set(receiver: Receiver) -> None:
    is_stored(receiver, tell(receiver, delivered("as is"), x_hub_signature="nonsense"), "as is", "default")


def test_the_required_header_is_asked_for(receiver: Receiver) -> None:
    is_stored(receiver, tell(receiver, delivered("basic"), "bears", authorization=BASIC), "basic", "bears")
    is_stored(receiver, tell(receiver, delivered("rotated"), "bears", authorization=KEY_BEFORE), "rotated", "bears")
    rows, before = rows_of(receiver), figures(receiver)
    wrong: list[dict[str, str]] = [{}, {"authorization": BASIC[:-1]}, {"authorization": ""}, {"x_api_key": BASIC}]
    for number, headers in enumerate(wrong, 1):
        is_refused(receiver, tell(receiver, RAW, "bears", **headers), rows, "required header")
        assert added(before, figures(receiver)) == {
            'responses_total{code="401",retried="yes"}': number,
            'refusals_total{reason="header",tenant="bears"}': number,
        }


def test_header_and_signature_may_both_be_asked_for(receiver: Receiver) -> None:
    raw = delivered("both")
    header, signed = {"x_api_key": BASIC}, {"x_hub_signature": signature(SIGNS, raw)}
    is_stored(receiver, tell(receiver, raw, "both", **header, **signed), "both", "both")
    rows = rows_of(receiver)
    is_refused(receiver, tell(receiver, raw, "both", **header), rows, "signature is missing")
    is_refused(receiver, tell(receiver, raw, "both", **signed), rows, "required header")


def test_what_the_header_holds_is_not_kept_beside_a_quarantined_body(
    receiver: Receiver, postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    value = "the agent with the secret number 7"
    settings = {"RECEIVER_NOTIFY_HEADER": "User-Agent", "RECEIVER_NOTIFY_HEADER_VALUE": value}
    with (
        cloned(postgres, template, "kept_headers") as database,
        receiver_process(database, tmp_path_factory.mktemp("kept"), **settings) as own,
    ):
        assert tell(own, b"no json", user_agent=value, content_type="text/x-mine").status_code == 200
        (row,) = database.fetch("select row_to_json(q)::text as row from quarantine q")
    assert "text/x-mine" in row["row"]
    assert "secret number" not in row["row"]


def test_the_header_is_asked_for_before_the_body_is_read(receiver: Receiver) -> None:
    path, port = receiver.notify_url("bears").removeprefix(receiver.url), int(receiver.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        wire.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n".encode())
        assert wire.recv(4_096).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("tenant", ["default", "signs", "bears", "both"])
def test_head_and_get_need_the_token_alone(receiver: Receiver, tenant: str) -> None:
    rows, before = rows_of(receiver), figures(receiver)
    url = receiver.notify_url(tenant)
    assert [httpx2.request(m, url, trust_env=False).status_code for m in ("HEAD", "GET", "OPTIONS")] == [200] * 3
    assert added(before, figures(receiver)) == {'responses_total{code="200",retried="no"}': 3}
    assert rows_of(receiver) == rows


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_method_that_nobody_uses_is_taken_for_a_post(receiver: Receiver, method: str) -> None:
    """A 405 would lose it for ever."""
    answer = httpx2.request(method, receiver.notify_url(), content=delivered(method), trust_env=False)
    is_stored(receiver, answer, method, "default")
    rows = rows_of(receiver)
    is_refused(receiver, httpx2.request(method, receiver.notify_url("signs"), trust_env=False), rows, "signature")


def in_parts(size: int) -> Iterator[bytes]:
    for _ in range(size // 65_536 + 1):
        yield b" " * 65_536


@pytest.mark.parametrize("content", [b" " * (LIMIT + 1), in_parts(LIMIT)], ids=["with its length", "in chunks"])
def test_a_body_over_the_limit_is_413_and_leaves_no_row(receiver: Receiver, content: Any) -> None:
    rows, before = rows_of(receiver), figures(receiver)
    answer = httpx2.post(receiver.notify_url(), content=content, trust_env=False)
    assert answer.status_code == 413
    assert added(before, figures(receiver)) == {'responses_total{code="413",retried="yes"}': 1}
    assert rows_of(receiver) == rows


def test_a_body_of_just_the_limit_is_stored(receiver: Receiver) -> None:
    raw = delivered("just so")
    is_stored(receiver, tell(receiver, raw + b" " * (LIMIT - len(raw))), "just so", "default")


def test_a_client_that_is_cut_off_gets_no_answer_and_none_is_counted(receiver: Receiver) -> None:
    rows, before = rows_of(receiver), figures(receiver)
    path, port = receiver.notify_url().removeprefix(receiver.url), int(receiver.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        wire.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 999\r\n\r\n".encode() + b'{"deliver')
    eventually(lambda: httpx2.get(f"{receiver.url}/livez", trust_env=False).status_code == 200)
    assert added(before, figures(receiver)) == {}
    assert rows_of(receiver) == rows


def test_readyz_names_the_tenants_whose_token_alone_opens_the_door(receiver: Receiver) -> None:
    ready = httpx2.get(f"{receiver.url}/readyz", trust_env=False)
    assert ready.status_code == 200
    named = [warning for warning in ready.json()["warnings"] if "its token alone" in warning]
    assert [warning.split()[1] for warning in named] == ["default", "may-sign"]
    assert "RECEIVER_NOTIFY_HEADER" in named[0]
    assert "notify_header" in named[1]


def test_no_token_and_no_secret_is_in_the_log_at_any_level(receiver: Receiver) -> None:
    """Last in this file: everything above went into this log, at debug."""
    for refused in ("signs", "bears", "both"):
        tell(receiver, RAW, refused, x_hub_signature="0" * 64, authorization="Basic bm8=")
    httpx2.post(f"{receiver.url}/notify/{NotifyTokens(SECRET).sign('nobody')}?q=447700900001", trust_env=False)
    text = eventually(lambda: (found := receiver.log.read_text()).count("notify_refused") >= 4 and found)
    assert '"level": "debug"' in text or '"level": "info"' in text or '"level": "warning"' in text
    for tenant in ("default", "signs", "may-sign", "bears", "both", "removed", "nobody"):
        for tokens in (NotifyTokens(SECRET), NotifyTokens(PREVIOUS)):
            assert tokens.sign(tenant)[:24] not in text
    for secret in (SECRET, PREVIOUS, SIGNS, SIGNED_BEFORE, BASIC, KEY_BEFORE, "Basic", "0" * 64, "/notify/", "4477009"):
        assert secret not in text


@pytest.mark.parametrize("upgrade", ["h2c", "websocket"])
def test_a_body_that_the_server_withholds_after_an_upgrade_is_never_acknowledged(
    receiver: Receiver, upgrade: str
) -> None:
    before = receiver.database.value("select count(*) from quarantine")
    url = httpx2.URL(receiver.notify_url())
    raw = delivered(f"t-upgrade-{upgrade}")
    head = (
        f"POST {url.path} HTTP/1.1\r\nHost: {url.host}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\n"
        f"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\nContent-Length: {len(raw)}\r\n\r\n"
    )
    with socket.create_connection((url.host, url.port or 80), 10) as wire:
        wire.sendall(head.encode() + raw)
        answer = wire.recv(4096)
    kept = receiver.database.value("select count(*) from receipt where position($1::bytea in raw) > 0", raw)
    assert answer.startswith(b"HTTP/1.1 200") == bool(kept), answer
    assert kept or answer.startswith(b"HTTP/1.1 503"), answer
    assert receiver.database.value("select count(*) from quarantine") == before


@pytest.mark.parametrize("typed", ["//notify/", "/./notify/", "/Notify/", "/notify//"])
def test_an_address_that_was_mistyped_still_reaches_the_door(receiver: Receiver, typed: str) -> None:
    url = httpx2.URL(receiver.notify_url())
    raw = delivered(f"t-typed-{typed}")
    token = url.path.rpartition("/")[2]
    head = f"POST {typed}{token} HTTP/1.1\r\nHost: {url.host}\r\nContent-Length: {len(raw)}\r\n\r\n"
    with socket.create_connection((url.host, url.port or 80), 10) as wire:
        wire.sendall(head.encode() + raw)
        assert wire.recv(4096).startswith(b"HTTP/1.1 200")
    assert receiver.database.value("select count(*) from receipt where position($1::bytea in raw) > 0", raw) == 1
