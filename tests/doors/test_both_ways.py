"""A receipt that comes whole is taken at once: what is answered, kept and counted is the same as by the long way."""

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from receiver.access.tokens import NotifyTokens
from tests.doors.telling import added, delivered, figures, signature
from tests.support import SECRET, Receiver, cloned, eventually, receiver_process

SIGNS = "what the platform signs with"
BASIC = "Basic cmVjZWlwdHM6Y29ycmVjdCBob3JzZQ=="
CONFIG = f"""
[tenant.signs]
signature_secret = "{SIGNS}"
signature_required = true
[tenant.bears]
notify_header = "Authorization"
notify_header_value = "{BASIC}"
"""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.fixture(scope="module")
def receiver(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    folder = tmp_path_factory.mktemp("ways")
    (folder / "tenants.toml").write_text(CONFIG)
    settings = {
        "RECEIVER_CONFIG": str(folder / "tenants.toml"),
        "RECEIVER_LOG_LEVEL": "debug",
    }
    with cloned(postgres, template, "both_ways") as database:
        database.tenant("removed")
        with receiver_process(database, folder, **settings) as receiver:
            yield receiver
            assert receiver.process.poll() is None
            assert "Traceback" not in receiver.log.read_text()


def connected(receiver: Receiver) -> socket.socket:
    port = int(receiver.url.rpartition(":")[2])
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def post(tenant: str, raw: bytes, *headers: str) -> bytes:
    token = tenant if tenant.startswith("token ") else NotifyTokens(SECRET).sign(tenant)
    lines = [f"POST /notify/{token.removeprefix('token ')} HTTP/1.1", "host: x", f"content-length: {len(raw)}"]
    return "\r\n".join([*lines, *headers]).encode() + b"\r\n\r\n" + raw


def answer_of(connection: socket.socket, text: bytes = b"") -> tuple[bytes, bytes]:
    """The first answer in `text` and what comes, to its last byte; and what came behind it."""
    while b"\r\n\r\n" not in text:
        got = connection.recv(65536)
        assert got, text
        text += got
    head, end, rest = text.partition(b"\r\n\r\n")
    length = int(re.findall(rb"content-length: ([0-9]+)", head)[0])
    while len(rest) < length:
        rest += connection.recv(65536)
    return head + end + rest[:length], rest[length:]


def told_whole(receiver: Receiver, tenant: str, raw: bytes, *headers: str) -> bytes:
    """In one piece: the short way."""
    with connected(receiver) as connection:
        connection.sendall(post(tenant, raw, *headers))
        return answer_of(connection)[0]


def told_in_pieces(receiver: Receiver, tenant: str, raw: bytes, *headers: str) -> bytes:
    """The body when it is asked for: never the short way."""
    with connected(receiver) as connection:
        head, _, _ = post(tenant, b"", *headers).partition(b"\r\n\r\n")
        head = head.replace(b"content-length: 0", b"content-length: %d" % len(raw))
        connection.sendall(head + b"\r\nexpect: 100-continue\r\n\r\n")
        first = b""
        while b"\r\n\r\n" not in first:
            first += connection.recv(65536)
        if not first.startswith(CONTINUE):
            return answer_of(connection, first)[0]
        connection.sendall(raw)
        return answer_of(connection)[0]


KEPT = ("message", "receipt", "change", "intake", "quarantine")


SITUATIONS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "good": ("default", (), "receipt"),
    "a tenant that is gone": ("removed", (), "receipt"),
    "unreadable": ("default", (), "no json {}"),
    "no receipt": ("default", (), '{{"x": "{}"}}'),
    "large": ("default", (), "{}" + " " * 40_000),
    "no token of ours": ("token x", (), "receipt"),
    "of nobody": ("nobody", (), "receipt"),
    "signed": ("signs", ("x-hub-signature: {signature}",), "receipt"),
    "signed by another": ("signs", ("x-hub-signature: 0123",), "receipt"),
    "not signed": ("signs", (), "receipt"),
    "with its header": ("bears", (f"authorization: {BASIC}",), "receipt"),
    "without its header": ("bears", (), "receipt"),
    "with another's header": ("bears", ("authorization: Basic eDp5",), "receipt"),
    "and then no more": ("default", ("connection: close",), "receipt"),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_both_ways_answer_keep_and_count_the_same(receiver: Receiver, situation: str) -> None:
    tenant, headers, shape = SITUATIONS[situation]
    found = []
    for way, tell in enumerate((told_whole, told_in_pieces)):
        transid = f"{situation} {way}"
        raw = delivered(transid) if shape == "receipt" else shape.format(transid).encode()
        rows, before = receiver.database.counts(), figures(receiver)
        told = tell(receiver, tenant, raw, *(one.format(signature=signature(SIGNS, raw)) for one in headers))
        after = receiver.database.counts()
        found.append((told, {table: after[table] - rows[table] for table in KEPT}, added(before, figures(receiver))))
    assert found[0] == found[1]
    assert found[0][2], "it was counted"


def test_receipts_in_one_piece_are_answered_in_their_order_and_all_are_kept(receiver: Receiver) -> None:
    good = [delivered(f"pipelined {number}") for number in range(20)]
    before = receiver.database.counts()["receipt"]
    with connected(receiver) as connection:
        connection.sendall(b"".join(post("token x" if n % 5 == 4 else "default", raw) for n, raw in enumerate(good)))
        answers, text = list[bytes](), b""
        for _ in good:
            answer, text = answer_of(connection, text)
            answers.append(answer)
    assert [answer.split(b" ")[1] for answer in answers] == [b"401" if n % 5 == 4 else b"200" for n in range(20)]
    assert receiver.database.counts()["receipt"] == before + 16


def test_a_client_that_leaves_at_once_has_told_its_receipt_all_the_same(receiver: Receiver) -> None:
    before = receiver.database.counts()["receipt"]
    with ExitStack() as stack:
        for number in range(20):
            connection = stack.enter_context(connected(receiver))
            connection.sendall(post("default", delivered(f"gone {number}")))
    assert eventually(lambda: receiver.database.counts()["receipt"] == before + 20)
    assert told_whole(receiver, "default", delivered("after them")).startswith(b"HTTP/1.1 200 ")
