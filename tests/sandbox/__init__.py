"""The simulated platform, over real HTTP on loopback."""

import asyncio
import contextlib
import json
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import uvicorn
from starlette.applications import Starlette

from receiver.sandbox.sandbox import Sandbox
from receiver.sandbox.server import build
from receiver.sandbox.settings import SandboxSettings

KEY = "the-service-key"
SPEED = 0.002  # a try after 60 s comes after 0.12 s
PATIENCE = 5.0


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stopping = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # signals stay with pytest

    async def main_loop(self) -> None:
        await self.stopping.wait()  # the original looks for the end ten times a second


@contextlib.asynccontextmanager
async def serving(app: Starlette) -> AsyncIterator[str]:
    """`app` under uvicorn, in this loop, on a free port; yields its base URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = _Server(uvicorn.Config(app, log_config=None, ws="none", lifespan="on"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.stopping.set()
        await task
        listener.close()


@dataclass
class Recorder:
    """A notifyurl that keeps each body in order of arrival and answers what it is told to."""

    answer: Callable[[int], int | None] = lambda _turn: 200
    """The status for the n-th request (from 0); None never answers."""
    bodies: list[bytes] = field(default_factory=list)
    answered: int = 0
    heads: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/notify/t0ken"

    @property
    def notifications(self) -> list[dict[str, Any]]:
        return [json.loads(body)["deliveryInfoNotification"] for body in self.bodies]

    @property
    def told(self) -> list[tuple[str, str, str]]:
        """Destination, status and code of each receipt, in order of arrival."""
        infos = [one["deliveryInfo"] for one in self.notifications]
        return [(info["destination"], info["deliveryStatus"], info["code"]) for info in infos]

    @property
    def by_destination(self) -> dict[str, list[tuple[str, str, str]]]:
        found = defaultdict(list)
        for one in self.notifications:
            info = one["deliveryInfo"]
            found[info["destination"]].append((info["deliveryStatus"], info["code"], one.get("carrier", "-")))
        return dict(found)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
                self.bodies.append(await reader.readexactly(int(fields["content-length"])))
                self.heads.append(head)
                status = self.answer(len(self.bodies) - 1)
                if status is None:
                    await reader.read()  # until the other side hangs up
                    break
                self.answered += 1
                onward = f"location: {self.url}\r\n" if 300 <= status < 400 else ""
                writer.write(f"HTTP/1.1 {status} Told\r\n{onward}content-length: 0\r\n\r\n".encode())
                await writer.drain()
        writer.close()


@dataclass
class Stage:
    """A sandbox, a notifyurl for it and a client."""

    sandbox: Sandbox
    recorder: Recorder
    client: httpx2.AsyncClient

    async def post(self, body: object, key: str | None = KEY) -> httpx2.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {} if key is None else {"key": key}
        return await self.client.post("/resources/v1/messaging", content=content, headers=headers)

    async def call(self, path: str, body: object, **headers: str) -> httpx2.Response:
        """Any door, with the service key where no header is given."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.client.post(path, content=content, headers=headers or {"key": KEY})

    async def play(self, *steps: dict[str, object]) -> None:
        """Replaces the scenario at run time."""
        answer = await self.client.post("/sandbox/scenario", json={"step": steps})
        assert answer.status_code == 200, answer.text

    async def ledger(self) -> dict[str, Any]:
        """What the sandbox counted."""
        found: dict[str, Any] = (await self.client.get("/sandbox/ledger")).json()
        return found

    async def messages(self) -> list[dict[str, Any]]:
        """The first thousand messages of the ledger."""
        page = (await self.client.get("/sandbox/ledger/messages", params={"limit": 1000})).json()
        found: list[dict[str, Any]] = page["messages"]
        return found

    async def send(self, *numbers: str, **more: object) -> list[str]:
        """The transids that an sms to `numbers`, all in one entry, was queued under."""
        answer = await self.post(self.sms(*numbers, **more))
        response = answer.json()["response"]
        assert isinstance(response, list), response
        return [one["transid"] for one in response]

    def sms(self, *numbers: str, **more: object) -> dict[str, object]:
        request: dict[str, object] = {
            "deliverychannel": "sms",
            "channels": {"sms": {"text": "Your parcel is on its way"}},
            "destination": [{"msisdn": list(numbers)}],
            "notifyurl": self.recorder.url,
        }
        return {name: value for name, value in (request | more).items() if value is not None}

    async def until(self, done: Callable[[], bool]) -> None:
        """Returns when `done()`; fails after PATIENCE."""
        async with asyncio.timeout(PATIENCE):
            while not done():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.002)

    async def quiet(self) -> None:
        """Returns when no receipt waits to be told."""
        await self.until(lambda: self.sandbox.ledger.pending == 0)


@contextlib.asynccontextmanager
async def stage(recorder: Recorder | None = None, **choices: Any) -> AsyncIterator[Stage]:
    """A sandbox of these settings, served."""
    recorder = recorder or Recorder()
    chosen: dict[str, Any] = {"keys": (KEY,), "speed": SPEED} | choices
    settings = SandboxSettings(**chosen)
    app = build(settings)
    door = await asyncio.start_server(recorder.serve, "127.0.0.1", 0)
    recorder.port = door.sockets[0].getsockname()[1]
    async with (
        door,
        serving(app) as base,
        httpx2.AsyncClient(base_url=base, trust_env=False, verify=False, timeout=PATIENCE) as client,
    ):
        yield Stage(app.state.sandbox, recorder, client)


def play(scene: Callable[[Stage], Awaitable[None]], recorder: Recorder | None = None, **choices: Any) -> None:
    """Runs `scene` on a stage of its own, in a loop of its own."""

    async def main() -> None:
        async with stage(recorder, **choices) as on:
            await scene(on)

    asyncio.run(main())
