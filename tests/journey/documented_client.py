"""A client of the platform, written from its documents alone: it knows nothing of a receiver.

It posts Messaging v1 and Custom Event v1 requests with its service key and its own notifyurl, and keeps the bytes of
each answer and of each receipt that it is told.
"""

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2


@dataclass
class DocumentedClient:
    """One client: where the platform is, what it shows, where it wants to be told, and what it heard."""

    base_url: str
    key: str
    notifyurl: str
    receipts: list[bytes] = field(default_factory=list)
    answers: list[tuple[int, bytes]] = field(default_factory=list)

    def send(self, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        """Posts one request; HTTP status and body of the answer."""
        headers = {"key": self.key, "content-type": "application/json"}
        asked = json.dumps(body | {"notifyurl": self.notifyurl})
        answer = httpx2.post(self.base_url + path, content=asked, headers=headers, timeout=60, trust_env=False)
        self.answers.append((answer.status_code, answer.content))
        return self.answers[-1]


@contextlib.contextmanager
def documented_client(base_url: str, key: str) -> Iterator[DocumentedClient]:
    """A client whose notifyurl is served for as long as this lasts."""
    client = DocumentedClient(base_url, key, "")

    class Callbacks(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            client.receipts.append(body)
            self._answer()

        def _answer(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Callbacks)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    client.notifyurl = f"http://127.0.0.1:{server.server_port}/callbacks?from=platform"
    try:
        yield client
    finally:
        server.shutdown()
        serving.join(10)
        server.server_close()
