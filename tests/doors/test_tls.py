"""The receiver speaks https itself: with a good pair of files a receipt comes in, with a bad one it says why not."""

import signal
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from receiver.access.tokens import NotifyTokens
from receiver.errors import SettingsError
from receiver.workers import tls_context
from tests.doors.telling import certificate, delivered
from tests.support import SECRET, Database, environment_of, eventually, free_port, receiver_command
from tests.tools import need


def answers(ask: Callable[[], httpx2.Response]) -> httpx2.Response | None:
    try:
        return ask()
    except httpx2.HTTPError:
        return None


def test_a_receipt_comes_in_over_https(database: Database, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    port, log = free_port(), tmp_path / "log"
    url = f"https://127.0.0.1:{port}"
    settings = {
        "RECEIVER_DATABASE_URL": database.dsn,
        "RECEIVER_PORT": str(port),
        "RECEIVER_PUBLIC_URL": url,
        "RECEIVER_PLATFORM_URL": "http://127.0.0.1:9",
        "RECEIVER_SECRET": SECRET,
        "RECEIVER_TLS_CERT": str(cert),
        "RECEIVER_TLS_KEY": str(key),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*receiver_command(), "serve"], env=environment_of(**settings), stdout=output, stderr=output
        )
    trust = ssl.create_default_context(cafile=str(cert))
    try:
        with httpx2.Client(verify=trust, trust_env=False, timeout=20) as client:
            ready = eventually(lambda: process.poll() is not None or answers(lambda: client.get(f"{url}/readyz")))
            assert process.poll() is None, log.read_text()
            assert ready.status_code == 200
            notify = f"{url}/notify/{NotifyTokens(SECRET).sign('default')}"
            assert client.head(notify).status_code == 200
            assert client.post(notify, content=delivered("over https")).status_code == 200
        assert database.value("select count(*) from receipt") == 1
        assert answers(lambda: httpx2.get(f"http://127.0.0.1:{port}/livez", trust_env=False)) is None
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(25) == 0
    text = log.read_text()
    assert f'"address": "{url}"' in text
    assert "Traceback" not in text
    assert "/notify/" not in text


def no_pair(folder: Path, kind: str) -> tuple[Path, Path, str]:
    """Files that are no good pair, and what is said of them."""
    cert, key = certificate(folder)
    other = certificate(folder, "other")[1]
    junk = folder / "junk"
    junk.write_bytes(b"\x00no PEM\n")
    if kind == "mismatched":
        return cert, other, "the key is not the certificate's"
    if kind == "swapped":
        return key, cert, "no good PEM"
    if kind == "no certificate":
        return junk, key, "no good PEM"
    if kind == "no key":
        return cert, junk, "no good PEM"
    if kind == "missing":
        return cert, folder / "nowhere", "can't be read"
    if kind == "folder":
        return folder, key, "can't be read"
    locked = folder / "locked.key"
    options = ["-in", str(key), "-aes256", "-passout", "pass:secret", "-out", str(locked)]
    subprocess.run([need("openssl"), "ec", *options], check=True, capture_output=True, timeout=60)
    return cert, locked, "has a password"


KINDS = ["mismatched", "swapped", "no certificate", "no key", "missing", "folder", "locked"]


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_are_no_pair_are_one_sentence(tmp_path: Path, kind: str) -> None:
    cert, key, says = no_pair(tmp_path, kind)
    with pytest.raises(SettingsError) as caught:
        tls_context(cert, key)
    (problem,) = caught.value.problems
    assert says in problem
    assert "RECEIVER_TLS_" in problem
    assert "\n" not in problem


@pytest.mark.parametrize("kind", ["mismatched", "locked"])
def test_serve_ends_with_2_and_one_line_when_the_files_are_no_pair(tmp_path: Path, kind: str) -> None:
    cert, key, says = no_pair(tmp_path, kind)
    settings = {
        "RECEIVER_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/nothing",
        "RECEIVER_PUBLIC_URL": "https://receipts.example",
        "RECEIVER_SECRET": SECRET,
        "RECEIVER_TLS_CERT": str(cert),
        "RECEIVER_TLS_KEY": str(key),
    }
    run = subprocess.run(
        [*receiver_command(), "serve"], env=environment_of(**settings), capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert line.startswith("receiver: RECEIVER_TLS_")
    assert says in line
