"""The pager: a web server that Alertmanager notifies, and that keeps what it was told."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Notice:
    """One alert of one notification."""

    at: float
    """Seconds of the monotonic clock."""
    receiver: str
    """Whom Alertmanager meant it for."""
    status: str
    """`firing` or `resolved`."""
    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    @property
    def alert(self) -> str:
        return self.labels["alertname"]

    def is_about(self, alert: str, labels: Mapping[str, str]) -> bool:
        return self.alert == alert and labels.items() <= self.labels.items()


@dataclass
class Pager:
    """Everything that it was told, in order of arrival."""

    url: str = ""
    told: list[Notice] = field(default_factory=list)

    def first(self, status: str, alert: str, labels: Mapping[str, str], since: float) -> Notice | None:
        """The first such notice that came at `since` or later."""
        found = (one for one in self.since(since) if one.status == status and one.is_about(alert, labels))
        return next(found, None)

    def since(self, began: float) -> list[Notice]:
        """What it was told at `began` or later."""
        return [one for one in list(self.told) if one.at >= began]

    def open(self) -> list[Notice]:
        """What it was told is firing, and not yet that it is over."""
        last = {tuple(sorted(one.labels.items())): one for one in list(self.told)}
        return [one for one in last.values() if one.status == "firing"]

    def take(self, body: dict[str, Any]) -> None:
        at = time.monotonic()
        for one in body["alerts"]:
            self.told.append(Notice(at, body["receiver"], one["status"], one["labels"], one["annotations"]))


@contextlib.contextmanager
def pager() -> Iterator[Pager]:
    """A pager on loopback; Alertmanager posts to its `url`."""
    kept = Pager()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            kept.take(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
    thread.start()
    try:
        yield kept
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
