"""A call to the public address ends with the step that failed, in time, and takes no more than it needs."""

import asyncio
import contextlib
import ssl
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop

from receiver.probe.calling import MOST_HEAD, Called, Result, post
from tests.probe.servers import OK, Server, answering, made, served_with
from tests.support import free_port

T = TypeVar("T")

BODY = b'{"probe":"x"}'
PATH = "/notify/a-token-that-nobody-may-read"


def run(main: Coroutine[Any, Any, T]) -> T:
    """On the loop that serves."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def called(url: str, patience: float = 5.0) -> Called:
    return run(post(url + PATH, BODY, patience=patience))


def answered(
    *parts: bytes, tls: ssl.SSLContext | None = None, endless: bool = False, patience: float = 5.0, scheme: str = ""
) -> tuple[Called, Server]:
    """What comes of a call to a server that answers so, and the server."""

    async def main() -> tuple[Called, Server]:
        async with answering(*parts, tls=tls, endless=endless) as server:
            url = f"{scheme}:{server.url.partition(':')[2]}" if scheme else server.url
            return await post(url + PATH, BODY, patience=patience), server

    return run(main())


def assert_failed(said: Called, result: Result, words: str) -> None:
    assert said.failed is result, said
    assert words in said.why
    assert "token" not in said.why, "the path is a secret"


def test_a_call_is_one_post_on_a_connection_of_its_own() -> None:
    said, server = answered(OK)
    assert said == Called(None, "", None)
    [request] = server.requests
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /notify/a-token-that-nobody-may-read HTTP/1.1\r\n")
    assert b"host: localhost:" in head
    assert b"connection: close" in head
    assert body == BODY


def test_an_address_of_ipv6_with_a_path_before_ours() -> None:
    async def main() -> tuple[Called, Server]:
        async with answering(OK, host="::1") as server:
            url = server.url.replace("localhost", "[::1]")
            return await post(f"{url}/below{PATH}", BODY), server

    said, server = run(main())
    assert said.failed is None, said
    [request] = server.requests
    assert request.startswith(b"POST /below/notify/")
    assert b"host: [::1]:" in request


@pytest.mark.parametrize("host", [".example.com", "a..b", "\u00fc.invalid"])
def test_a_host_that_no_library_understands_is_a_result(host: str) -> None:
    assert called(f"https://{host}").failed in (Result.DNS, Result.CONNECTION)


def test_a_name_that_does_not_resolve() -> None:
    assert_failed(called("https://nowhere.invalid"), Result.DNS, "nowhere.invalid does not resolve")


def test_a_name_that_can_be_none() -> None:
    assert_failed(called(f"https://{'a' * 70}.example"), Result.DNS, "does not resolve")


def test_a_closed_port() -> None:
    assert_failed(called(f"http://127.0.0.1:{free_port()}"), Result.CONNECTION, "connection refused")


def test_a_server_that_never_answers() -> None:
    said, server = answered(patience=0.1)
    assert_failed(said, Result.CONNECTION, "no answer in time")
    assert len(server.requests) == 1


def test_a_server_that_hangs_up() -> None:
    assert_failed(answered(b"")[0], Result.CONNECTION, "hangs up")


@pytest.mark.parametrize("status", [401, 404, 500, 502, 503])
def test_another_answer_than_200_is_refused(status: int) -> None:
    said, _ = answered(b"HTTP/1.1 %d Oh\r\ncontent-length: 0\r\n\r\n" % status)
    assert_failed(said, Result.REFUSED, f"it answers {status}")


def test_a_redirect_is_not_followed() -> None:
    async def followed() -> list[bytes]:
        async with answering(OK) as target:
            async with answering(b"HTTP/1.1 307 T\r\nlocation: " + target.url.encode() + b"/\r\n\r\n") as first:
                assert_failed(await post(first.url + PATH, BODY), Result.REFUSED, "redirects (HTTP 307)")
            return target.requests

    assert run(followed()) == []


def test_answers_that_go_before_the_answer_are_passed_by() -> None:
    assert answered(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nlink: x\r\n\r\n", OK)[0].failed is None
    assert_failed(answered(*[b"HTTP/1.1 100 Continue\r\n\r\n"] * 9)[0], Result.REFUSED, "no HTTP answer")


@pytest.mark.parametrize("junk", [b"SSH-2.0-x\r\n\r\n", b"\x00\x01\r\n\r\n", b"HTTP/1.1 20 OK\r\n\r\n"])
def test_what_is_no_http_is_refused(junk: bytes) -> None:
    assert_failed(answered(junk)[0], Result.REFUSED, "no HTTP answer")


def test_of_an_endless_head_no_more_than_a_bound_is_read() -> None:
    said, _ = answered(b"HTTP/1.1 200 OK\r\n", b"x: " + b"y" * MOST_HEAD, endless=True)
    assert_failed(said, Result.REFUSED, "no HTTP answer")


def test_an_endless_body_is_not_read() -> None:
    said, server = answered(b"HTTP/1.1 200 OK\r\n\r\n", b"y" * 65536, endless=True)
    assert said.failed is None
    assert server.sent < 64 * 1024 * 1024  # what the kernel took


def trusting(monkeypatch: pytest.MonkeyPatch, cert: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))


def test_over_tls_the_end_of_the_certificate_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cert, key = made(tmp_path, days=50)
    trusting(monkeypatch, cert)
    said, _ = answered(OK, tls=served_with(cert, key))
    assert said.failed is None
    assert said.expires is not None
    assert abs(said.expires - datetime.now(UTC) - timedelta(days=50)) < timedelta(minutes=5)


@pytest.mark.parametrize(
    ("days", "names", "trusted", "words"),
    [
        (-1, "DNS:localhost", True, "certificate has expired"),
        (50, "DNS:localhost", False, "self-signed certificate"),
        (50, "DNS:another.example", True, "ismatch"),
    ],
    ids=["expired", "self-signed", "of another name"],
)
def test_a_certificate_that_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, names: str, trusted: bool, words: str
) -> None:
    cert, key = made(tmp_path, days=days, names=names)
    if trusted:
        trusting(monkeypatch, cert)
    said, server = answered(OK, tls=served_with(cert, key))
    assert_failed(said, Result.TLS, words)
    assert server.requests == [], "nothing is told to whom we do not trust"
    assert said.expires is not None
    assert abs(said.expires - datetime.now(UTC) - timedelta(days=days)) < timedelta(minutes=5)


def test_a_server_that_speaks_no_tls() -> None:
    async def main() -> Called:
        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                await reader.read(1)
                writer.write(b"HTTP/1.1 400 Bad\r\n\r\n")
                await writer.drain()
            writer.transport.abort()

        server = await asyncio.start_server(take, "127.0.0.1", 0)
        try:
            return await post(f"https://localhost:{server.sockets[0].getsockname()[1]}{PATH}", BODY)
        finally:
            server.close()

    assert_failed(run(main()), Result.TLS, "does not speak TLS")
