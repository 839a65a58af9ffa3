"""What the doctor says of the way in and of the way out: addresses that lead elsewhere, credentials, certificates."""

import ssl
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from receiver.doctor.check import Installation, Result, Verdict
from receiver.doctor.examination import CHECKS, examine
from receiver.sandbox.server import build
from receiver.sandbox.settings import SandboxSettings
from tests.doctor.examining import all_findings, answering, assert_says, installation, verdict, verdicts
from tests.doors.telling import certificate
from tests.sandbox import serving
from tests.support import PLATFORM_KEY, SECRET, Database, free_port, now, receiver_process, run
from tests.tools import need
from tests.upkeep.asking import asked_platform, refused

NOWHERE = "postgresql://nobody@127.0.0.1:9/nothing"


def at(url: str, folder: Path) -> Installation:
    """An installation whose public address is this one."""
    one = installation(NOWHERE, folder)
    one.settings = replace(one.chosen, public_url=url)
    return one


def test_the_door_of_a_receiver_that_serves(database: Database, tmp_path: Path) -> None:
    with receiver_process(database, tmp_path) as receiver:
        said = verdict(at(receiver.url, tmp_path), "public address")
        assert_says(said, Result.OK, "answered 200")
        assert said.of == "default"
        another = at(receiver.url, tmp_path)
        another.secret = "another secret, of another installation"
        assert_says(verdict(another, "public address"), Result.FAILURE, "answers 401")


def test_an_address_where_nobody_listens(tmp_path: Path) -> None:
    one = at(f"http://127.0.0.1:{free_port()}", tmp_path)
    findings = all_findings(one)
    [said] = [finding.verdict for finding in findings if finding.name == "public address"]
    assert_says(said, Result.FAILURE, "connection refused")
    assert SECRET not in repr(findings)
    assert "/notify/" not in said.found


def test_a_name_that_does_not_resolve(tmp_path: Path) -> None:
    assert_says(verdict(at("https://receiver.invalid", tmp_path), "public address"), Result.FAILURE, "resolve")


@pytest.mark.parametrize(
    ("status", "words"),
    [(404, "answers 404"), (301, "redirects"), (502, "answers 502"), (200, "not the receipts door")],
)
def test_something_else_that_answers_there(tmp_path: Path, status: int, words: str) -> None:
    with answering(status, b"<h1>Welcome</h1>") as url:
        said = verdict(at(url, tmp_path), "public address")
    assert_says(said, Result.FAILURE, words)
    assert "elsewhere" not in said.found + said.cure, "where it leads may hold the token"


def test_without_a_secret_there_is_no_token_to_ask_with(tmp_path: Path) -> None:
    one = at("http://127.0.0.1:9", tmp_path)
    one.secret = None
    assert verdict(one, "public address").result is Result.SKIPPED


def signed(folder: Path, days: int) -> tuple[Path, ssl.SSLContext]:
    """A certificate that ends so many days from now, and a server's context with it."""
    cert, key = certificate(folder)
    request, names = folder / "request", folder / "names"
    names.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    openssl = need("openssl")
    for words in (
        ["req", "-new", "-key", key, "-subj", "/CN=localhost", "-out", request],
        ["x509", "-req", "-in", request, "-signkey", key, "-days", str(days), "-extfile", names, "-out", cert],
    ):
        subprocess.run([openssl, *map(str, words)], check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return cert, context


@pytest.mark.parametrize(
    ("days", "trusted", "result", "words"),
    [
        (90, True, Result.OK, "89 more days"),
        (10, True, Result.WARNING, "9 more days"),
        (1, True, Result.FAILURE, "0 more days"),
        (-1, True, Result.FAILURE, "certificate has expired"),
        (90, False, Result.FAILURE, "self-signed certificate"),
    ],
)
def test_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, trusted: bool, result: Result, words: str
) -> None:
    cert, context = signed(tmp_path, days)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    with answering(200, b"ready", tls=context) as url:
        one = at(url, tmp_path)
        assert_says(verdict(one, "certificate"), result, words)
        said = verdict(one, "public address")
        if days > 0 and trusted:
            assert_says(said, Result.OK, "200")
        else:
            assert_says(said, Result.FAILURE, "its certificate is refused", words)


def test_a_server_that_speaks_no_tls(tmp_path: Path) -> None:
    with answering(200, b"ready") as url:
        said = verdict(at(url.replace("http:", "https:"), tmp_path), "public address")
    assert_says(said, Result.FAILURE, "does not speak TLS")


def asked(folder: Path, **shown: str) -> Verdict:
    """What the check of the platform says of a tenant with these credentials, at a sandbox."""

    async def main() -> Verdict:
        async with serving(build(SandboxSettings(keys=(PLATFORM_KEY,)))) as url:
            one = installation(NOWHERE, folder, PLATFORM_URL=url, **shown)
            [found] = [f async for f in examine(one, [check for check in CHECKS if check.name == "platform"])]
            return found.verdict

    return run(main())


def test_credentials_that_the_platform_takes_or_refuses(tmp_path: Path) -> None:
    assert_says(asked(tmp_path), Result.OK, "takes the tenant's credentials")
    said = asked(tmp_path, PLATFORM_KEY="the key of yesterday")
    assert_says(said, Result.FAILURE, "refuses the tenant's credentials", "7001")
    assert "yesterday" not in repr(said)


def test_a_platform_that_is_not_there_or_is_something_else(tmp_path: Path) -> None:
    one = installation(NOWHERE, tmp_path, PLATFORM_URL=f"http://127.0.0.1:{free_port()}")
    assert_says(verdict(one, "platform"), Result.FAILURE, "no answer")
    with answering(200, b"<h1>Welcome</h1>") as url:
        one = installation(NOWHERE, tmp_path, PLATFORM_URL=url)
        assert_says(verdict(one, "platform"), Result.FAILURE, "no answer")
    with answering(404) as url:
        one = installation(NOWHERE, tmp_path, PLATFORM_URL=url)
        assert_says(verdict(one, "platform"), Result.WARNING, "answers any key alike", "404")


def test_a_platform_that_says_404_to_what_it_does_not_know_refuses_a_wrong_key(tmp_path: Path) -> None:
    with asked_platform() as platform:
        platform.other_keys = refused("7001")
        platform.reply = lambda _transid: (404, b"")
        one = installation(NOWHERE, tmp_path, PLATFORM_URL=platform.url)
        assert_says(verdict(one, "platform"), Result.OK, "takes the tenant's credentials")
        assert len(platform.questions) == 1


def test_a_tenant_that_only_listens(tmp_path: Path) -> None:
    one = installation(NOWHERE, tmp_path, PLATFORM_URL="", PUBLIC_URL="https://receiver.example", PLATFORM_KEY="")
    assert_says(verdict(one, "platform"), Result.SKIPPED, "only listens")
    said = verdicts(one, "settings")
    assert [v.result for v in said] == [Result.OK, Result.WARNING, Result.WARNING]
    assert "can listen, not send" in said[1].found


@pytest.mark.parametrize(
    ("late", "result", "words"),
    [(600, Result.FAILURE, "10 minutes behind"), (0, Result.OK, "agrees"), (None, Result.SKIPPED, "tells no time")],
)
def test_a_clock_beside_the_platforms(tmp_path: Path, late: float | None, result: Result, words: str) -> None:
    with answering(404, late=late) as url:
        assert_says(verdict(installation(NOWHERE, tmp_path, PLATFORM_URL=url), "outside clock"), result, words)


def test_a_clock_of_ours_that_is_off(tmp_path: Path) -> None:
    with answering(404, late=0) as url:
        one = installation(NOWHERE, tmp_path, PLATFORM_URL=url)
        one.now = lambda: now() - timedelta(minutes=10)
        assert_says(verdict(one, "outside clock"), Result.FAILURE, "10 minutes ahead of ours")
