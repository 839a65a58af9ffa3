"""Stand-ins for the platform, at the socket: one that records and answers as it is told, and the sandbox."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import httpx2

from receiver.sandbox.sandbox import Sandbox
from receiver.sandbox.server import build
from receiver.sandbox.settings import SandboxSettings
from tests.sandbox import serving
from tests.support import PLATFORM_KEY

HANG_SECONDS = 20.0  # no test waits so long: the call is let go when the platform ends


@dataclass
class Call:
    """One call as it came in."""

    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.raw)
        return found

    @property
    def numbers(self) -> list[str]:
        """The recipients; of a call of events their evtid, of a campaign event its event-key."""
        if "events" in self.body:
            return [event["evtid"] for event in self.body["events"]]
        if "event-key" in self.body:
            return [self.body["event-key"]]
        return [value for entry in self.body["destination"] for value in entry["msisdn"]]

    @property
    def ids(self) -> list[str]:
        return [entry["correlationid"] for entry in self.body["destination"]]


Reply = tuple[int, bytes] | None  # None: no answer until the platform ends


def queued(*transids: str) -> Reply:
    """The envelope of success."""
    items = [{"code": "1001", "transid": transid, "description": "Queued"} for transid in transids]
    return 200, json.dumps({"response": items}).encode()


def refused(code: str, description: str = "no", status: int = 200) -> Reply:
    """The envelope of failure."""
    return status, json.dumps(
        {"response": {"code": code, "description": description, "transid": str(uuid4())}}
    ).encode()


def one_transid(_call: Call) -> Reply:
    """Queued under a transid of its own."""
    return queued(str(uuid4()))


@dataclass
class Platform:
    """Keeps every call, and answers with what `reply` says; `replies` has the word for single numbers."""

    url: str = ""
    reply: Callable[[Call], Reply] = one_transid
    replies: dict[str, Callable[[Call], Reply]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    """Goes out with every answer."""
    calls: list[Call] = field(default_factory=list)
    let_go: threading.Event = field(default_factory=threading.Event)

    def calls_to(self, number: str) -> list[Call]:
        return [call for call in list(self.calls) if number in call.numbers]

    def take(self, call: Call) -> Reply:
        self.calls.append(call)
        reply = self.replies.get(call.numbers[0], self.reply)(call)
        if reply is None:
            self.let_go.wait(HANG_SECONDS)
        return reply


def _handler(platform: Platform) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            reply = platform.take(Call({k.lower(): v for k, v in self.headers.items()}, raw))
            if reply is None:
                self.close_connection = True
                return
            self.send_response(reply[0])
            self.send_header("content-length", str(len(reply[1])))
            for name, text in platform.headers.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(reply[1])

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A receiver that hung up is no error of the tests."""


@contextlib.contextmanager
def recording_platform(port: int = 0) -> Iterator[Platform]:
    """A platform that records, on loopback."""
    platform = Platform()
    server = _Server(("127.0.0.1", port), _handler(platform))
    platform.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield platform
    finally:
        platform.let_go.set()
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class SandboxPlatform:
    """The sandbox, served."""

    url: str
    sandbox: Sandbox


@contextlib.contextmanager
def sandbox_platform(**choices: Any) -> Iterator[SandboxPlatform]:
    """The sandbox under uvicorn, on a loop and in a thread of its own."""
    chosen: dict[str, Any] = {"keys": (PLATFORM_KEY,), "speed": 0.1} | choices
    app = build(SandboxSettings(**chosen))
    started, stop, served = threading.Event(), asyncio.Event(), []
    loop = asyncio.new_event_loop()

    async def main() -> None:
        async with serving(app) as url:
            served.append(url)
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    try:
        assert started.wait(10)
        yield SandboxPlatform(served[0], app.state.sandbox)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def receipt(
    status: str,
    code: str,
    number: str,
    *,
    transid: str = "",
    correlationid: str = "",
    description: str = "",
    **more: Any,
) -> dict[str, Any]:
    """A receipt for an SMS in the platform's shape."""
    info = {
        "timeStamp": more.pop("stamp", "2026-01-01T10:00:00Z"),
        "Description": description or status,
        "code": code,
        "deliveryChannel": "SMS",
        "destination": number,
        "destinationType": "msisdn",
        "deliveryStatus": status,
    }
    told = {"deliveryInfo": info, "transid": transid, "callbackData": "", "correlationid": correlationid, **more}
    return {"deliveryInfoNotification": told}


def tell(url: str, body: dict[str, Any]) -> int:
    """POSTs a receipt to a notifyurl; the status of the answer."""
    return httpx2.post(url, json=body, trust_env=False).status_code


def sms(*numbers: str, **more: Any) -> dict[str, Any]:
    """A Messaging v1 body: one SMS to `numbers`, an entry each."""
    body: dict[str, Any] = {
        "deliverychannel": "sms",
        "channels": {"sms": {"text": "Your parcel is on its way", "senderid": "PARCEL"}},
        "destination": [{"msisdn": [number]} for number in numbers],
    }
    return body | more
