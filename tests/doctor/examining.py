"""An installation to look at, servers that answer wrongly, and what the checks say of them."""

import contextlib
import ssl
import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from receiver.doctor.check import Finding, Installation, Result, Verdict
from receiver.doctor.examination import CHECKS, examine
from receiver.settings import read_settings
from tests.support import PLATFORM_KEY, SECRET, Database, now, run

DATABASE_CHECKS = [check.name for check in CHECKS if check.database]


def installation(dsn: str, folder: Path, **choices: str) -> Installation:
    """One with these settings; the platform and the public address lead nowhere unless they are given."""
    environment = {
        "DATABASE_URL": dsn,
        "PUBLIC_URL": "http://127.0.0.1:9",
        "PLATFORM_URL": "http://127.0.0.1:9",
        "PLATFORM_KEY": PLATFORM_KEY,
        "SECRET": SECRET,
        "SPOOL": str(folder / "spool"),
        **choices,
    }
    settings = read_settings({f"RECEIVER_{name}": text for name, text in environment.items()})
    return Installation(settings, dsn=dsn, secret=SECRET)


def all_findings(one: Installation) -> list[Finding]:
    """What every check says."""

    async def main() -> list[Finding]:
        return [finding async for finding in examine(one)]

    return run(main())


def verdicts(one: Installation, name: str) -> Sequence[Verdict]:
    """What the check of that name says."""

    async def main() -> list[Verdict]:
        chosen = [check for check in CHECKS if check.name == name]
        assert len(chosen) == 1, name
        return [finding.verdict async for finding in examine(one, chosen)]

    return run(main())


def verdict(one: Installation, name: str) -> Verdict:
    """What it says, where that is one thing."""
    [only] = verdicts(one, name)
    return only


def assert_says(said: Verdict, result: Result, *words: str) -> None:
    """It ended so, with these words in what was found, and says what to do when something is wrong."""
    assert said.result is result, said
    for word in words:
        assert word in said.found, said
    assert bool(said.cure) is (result in (Result.WARNING, Result.FAILURE)), said


def broken(database: Database, statement: str) -> None:
    database.fetch(statement)


@contextlib.contextmanager
def answering(
    status: int = 200, body: bytes = b"", tls: ssl.SSLContext | None = None, late: float | None = None
) -> Iterator[str]:
    """A server that answers everything alike; with `late` it tells a time so many seconds behind ours."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(status)
            if late is not None:
                self.send_header("date", format_datetime(now() - timedelta(seconds=late), usegmt=True))
            if 300 <= status < 400:
                self.send_header("location", "https://elsewhere.example/login")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda request, address: None  # type: ignore[method-assign, assignment]  # whoever hangs up in the handshake
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://localhost:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
