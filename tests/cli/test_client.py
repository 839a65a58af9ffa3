"""The Python client: what it says when it can't work."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from receiver.client import ApiError, Client
from receiver.errors import ReceiverError

KEY = "rk_0123456789ab_" + "x" * 43


@pytest.fixture
def another(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server that is no receiver and answers (status, body)."""
    status, body = request.param

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


OTHERS = [(200, b"<html>"), (200, b"[]"), (200, b'{"ok":true}'), (404, b"[]"), (500, b""), (502, b'{"error":"x"}')]
OTHERS += [(200, b"[" * 200_000), (400, b'{"title":1,"errors":7}'), (302, b"")]


@pytest.mark.parametrize("another", OTHERS, indirect=True)
def test_a_server_that_is_no_receiver_is_named_as_that(another: str) -> None:
    with Client(another, KEY) as client, pytest.raises(ApiError, match="is no receiver"):
        list(client.find({}))


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({}, "RECEIVER_API_KEY is missing"),
        ({"RECEIVER_API_KEY": "ключ"}, "no key"),
        ({"RECEIVER_API_KEY": KEY, "RECEIVER_URL": "http://127.0.0.1:9"}, "no receiver answers"),
        ({"RECEIVER_API_KEY": KEY, "RECEIVER_URL": "http://[bad"}, "RECEIVER_URL"),
        ({"RECEIVER_API_KEY": KEY, "RECEIVER_URL": "127.0.0.1:8000"}, "begins with http:// or https://"),
        ({"RECEIVER_API_KEY_FILE": "/no/such/file"}, "RECEIVER_API_KEY_FILE"),
    ],
)
def test_what_is_wrong_is_one_sentence_without_the_key(environment: dict[str, str], says: str) -> None:
    with pytest.raises(ReceiverError, match=says) as caught, Client.from_environment(environment) as client:
        client.get("x")
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    with Client.from_environment({"RECEIVER_API_KEY_FILE": str(file)}) as client:
        assert KEY not in repr(client)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ReceiverError, match="not text"):
        Client.from_environment({"RECEIVER_API_KEY_FILE": str(file)})
