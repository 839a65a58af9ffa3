"""nginx in front, with the very lines of docs/deploy.md: receipts pass, and no log of its holds a token or a number."""

import contextlib
import getpass
import os
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from receiver.access.tokens import NotifyTokens
from tests.doors.telling import certificate, delivered, signature
from tests.support import SECRET, Receiver, cloned, eventually, free_port, receiver_process
from tests.tools import need

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "deploy.md"
SIGNS = "what the platform signs with"
HEADER = "the value of the header, and a secret"
CONFIG = f"""
[tenant.asks]
signature_secret = "{SIGNS}"
signature_required = true
notify_header = "Authorization"
notify_header_value = "{HEADER}"
"""
NUMBER = "447700900555"


@dataclass
class Proxy:
    """nginx in front of a receiver, and what it has written."""

    url: str
    receiver: Receiver
    folder: Path
    client: httpx2.Client

    def notify(self, tenant: str = "default") -> str:
        return f"{self.url}/notify/{NotifyTokens(SECRET).sign(tenant)}"

    def written(self) -> str:
        """All logs together."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.log")))


def adapted(folder: Path, port: int, upstream: str, level: str) -> str:
    """The block of the document with the ports, folders and certificate of a test."""
    (block,) = re.findall(r"^```nginx\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    cert, key = certificate(folder)
    for old, new, times in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;", 1),
        ("http://127.0.0.1:8000", upstream, 2),
        ("/etc/ssl/receipts.example.com.pem", str(cert), 1),
        ("/etc/ssl/private/receipts.example.com.key", str(key), 1),
        ("/var/log/nginx/", f"{folder}/", 2),
        (" crit;", f" {level};", 1),
    ):
        assert block.count(old) == times, old
        block = block.replace(old, new)
    user = f"user {getpass.getuser()};" if os.getuid() == 0 else ""
    temporary = "\n".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""
    daemon off; pid {folder}/nginx.pid; worker_processes 1; {user}
    error_log {folder}/main.log error;
    events {{ worker_connections 64; }}
    http {{
    {temporary}
    {block}
    }}
    """


@contextlib.contextmanager
def nginx(receiver: Receiver, folder: Path, level: str = "crit") -> Iterator[Proxy]:
    """Starts nginx and ends it."""
    program, port, file = need("nginx"), free_port(), folder / "nginx.conf"
    file.write_text(adapted(folder, port, receiver.url, level), encoding="utf-8")
    with (folder / "output.log").open("wb") as output:
        # -e: where it complains before it has read its configuration
        command = [program, "-p", str(folder), "-e", str(folder / "start.log"), "-c", str(file)]
        process = subprocess.Popen(command, stdout=output, stderr=output)
    trust = ssl.create_default_context(cafile=str(folder / "tls.pem"))
    try:
        with httpx2.Client(verify=trust, trust_env=False, timeout=20) as client:
            proxy = Proxy(f"https://127.0.0.1:{port}", receiver, folder, client)
            eventually(lambda: process.poll() is not None or _listens(client, proxy.url))
            assert process.poll() is None, proxy.written()
            yield proxy
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _listens(client: httpx2.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/nothing").status_code == 404
    except httpx2.HTTPError:
        return False


@pytest.fixture(scope="module")
def proxy(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    need("nginx")
    folder, own = tmp_path_factory.mktemp("nginx"), tmp_path_factory.mktemp("receiver")
    (own / "tenants.toml").write_text(CONFIG)
    with (
        cloned(postgres, template, "nginx") as database,
        receiver_process(database, own, RECEIVER_CONFIG=str(own / "tenants.toml")) as receiver,
        nginx(receiver, folder) as proxy,
    ):
        yield proxy


def access_line(proxy: Proxy, ends: str) -> str:
    """The access log's line that tells of `ends`; nginx writes it after its answer."""

    def found() -> str | None:
        lines = (proxy.folder / "receiver.log").read_text().splitlines()
        return next((line for line in lines if ends in line), None)

    return str(eventually(found))


def test_a_receipt_passes_and_is_stored(proxy: Proxy) -> None:
    answer = proxy.client.post(proxy.notify(), content=delivered("through nginx"))
    assert (answer.status_code, answer.text) == (200, "")
    assert proxy.receiver.database.value("select count(*) from receipt where raw like '%through nginx%'::bytea") == 1
    assert access_line(proxy, " POST /notify/- 200 ")


def test_the_platform_s_test_by_head_passes_without_a_redirect(proxy: Proxy) -> None:
    answer = proxy.client.head(proxy.notify())
    assert (answer.status_code, answer.content) == (200, b"")
    assert access_line(proxy, " HEAD /notify/- 200 ")
    assert proxy.client.head(f"{proxy.url}/notify/wrong").status_code == 401


def test_signature_and_header_pass_as_they_came(proxy: Proxy) -> None:
    raw = b"\xef\xbb\xbf" + delivered("signed") + b" \r\n"
    headers = {"x-hub-signature": f"sha256={signature(SIGNS, raw)}", "authorization": HEADER}
    assert proxy.client.post(proxy.notify("asks"), content=raw, headers=headers).status_code == 200
    assert proxy.client.post(proxy.notify("asks"), content=raw + b"\n", headers=headers).status_code == 401
    assert proxy.client.post(proxy.notify("asks"), content=raw).status_code == 401


def test_a_query_s_number_is_in_no_log(proxy: Proxy) -> None:
    key = proxy.receiver.database.key("read")
    path = f"{proxy.url}/v1/messages?destination={NUMBER}"
    assert proxy.client.get(path, headers={"authorization": f"Bearer {key}"}).status_code == 200
    assert access_line(proxy, " GET /v1/messages 200 ")


def test_bodies_of_over_a_megabyte_pass_and_above_the_limit_they_are_413(proxy: Proxy) -> None:
    raw = delivered("large")
    limit = 2 * 1024 * 1024
    assert proxy.client.post(proxy.notify(), content=raw + b" " * (limit - len(raw))).status_code == 200
    assert proxy.client.post(proxy.notify(), content=raw + b" " * (limit - len(raw) + 1)).status_code == 413
    assert access_line(proxy, " POST /notify/- 413 ")


def test_however_a_path_is_spelt_its_token_is_in_no_log(proxy: Proxy) -> None:
    token, port = NotifyTokens(SECRET).sign("default"), int(proxy.url.rpartition(":")[2])
    trust = ssl.create_default_context(cafile=str(proxy.folder / "tls.pem"))
    for path in ("//notify/", "/%6eotify/", "/v1/../notify/", "/Notify/", "/x/notify/", "/notify//"):
        plain = socket.create_connection(("127.0.0.1", port), timeout=10)
        with trust.wrap_socket(plain, server_hostname="127.0.0.1") as wire:  # a client would tidy the path
            wire.sendall(f"HEAD {path}{token} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
            assert wire.recv(64).startswith(b"HTTP/1.1 ")
    assert access_line(proxy, " HEAD - 404 ")


def test_while_the_receiver_is_away_nginx_says_502_and_no_log_holds_a_token(proxy: Proxy, tmp_path: Path) -> None:
    """Last in this file: all that was done above is in these logs."""
    away = Receiver("http://127.0.0.1:1", proxy.receiver.process, proxy.receiver.database, proxy.receiver.log)
    for level in ("crit", "error"):
        folder = tmp_path / level
        folder.mkdir()
        with nginx(away, folder, level) as alone:
            assert alone.client.post(alone.notify(), content=delivered("nobody home")).status_code == 502
            assert access_line(alone, " POST /notify/- 502 ")
            token = NotifyTokens(SECRET).sign("default")
            # why the document asks for crit
            assert (token in alone.written()) is (level == "error")
    text = proxy.written()
    for tenant in ("default", "asks"):
        assert NotifyTokens(SECRET).sign(tenant)[:24] not in text
    for secret in (NUMBER, HEADER, "destination=", "through nginx"):
        assert secret not in text
    assert (proxy.folder / "receiver-error.log").read_text() == ""
