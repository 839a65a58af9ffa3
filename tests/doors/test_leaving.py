"""How a run ends: quick and with 0 on a signal, at once on a second one, with 1 when a worker dies."""

import asyncio
import signal
import socket
import time
from pathlib import Path

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from receiver.errors import ReceiverError
from receiver.workers import listen, run_beside, server_for
from tests.sending.platforms import recording_platform, sms
from tests.support import Database, eventually, receiver_process


class Steady:
    """A worker that runs until it is closed."""

    def __init__(self) -> None:
        self.closing = asyncio.Event()
        self.ended = False

    async def run(self) -> None:
        await self.closing.wait()
        self.ended = True

    async def close(self) -> None:
        self.closing.set()


class Dying(Steady):
    """A worker that dies when it is told to."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__()
        self.error, self.now = error, asyncio.Event()

    async def run(self) -> None:
        await self.now.wait()
        if self.error:
            raise self.error


@pytest.mark.parametrize("error", [RuntimeError("died"), None])
def test_a_worker_that_dies_ends_the_server_with_1(error: Exception | None) -> None:
    async def main() -> None:
        steady, dying, drained = Steady(), Dying(error), asyncio.Event()
        app = Starlette(routes=[Route("/", lambda _: Response("ok"))])
        bound = listen("127.0.0.1", 0)
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/"
        workers = [("dying", dying), ("steady", steady)]
        running = asyncio.create_task(
            run_beside(server_for(app), workers, sockets=[bound], on_drain=drained.set, grace=5)
        )
        async with httpx2.AsyncClient(trust_env=False) as client:
            assert (await client.get(url)).text == "ok"
        dying.now.set()
        assert await asyncio.wait_for(running, 10) == 1
        assert steady.ended
        assert drained.is_set(), "a balancer is told at once"
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", bound.getsockname()[1]), timeout=2)

    asyncio.run(main())


def test_sigterm_ends_with_0_and_quickly(database: Database, tmp_path: Path) -> None:
    with receiver_process(database, tmp_path) as receiver:
        with receiver.client() as client:
            client.get("/livez")  # an idle connection does not keep it
            began = time.monotonic()
            receiver.process.send_signal(signal.SIGTERM)
            assert receiver.process.wait(10) == 0
        assert time.monotonic() - began < 3
        assert "Traceback" not in receiver.log.read_text()


def test_sigint_ends_with_0_too(database: Database, tmp_path: Path) -> None:
    with receiver_process(database, tmp_path) as receiver:
        receiver.process.send_signal(signal.SIGINT)
        assert receiver.process.wait(10) == 0
        assert "Traceback" not in receiver.log.read_text()


def test_a_second_signal_leaves_at_once_though_the_platform_thinks(database: Database, tmp_path: Path) -> None:
    with recording_platform() as platform:
        platform.reply = lambda _: None
        with receiver_process(database, tmp_path, platform_url=platform.url) as receiver:
            with receiver.client(database.key()) as client:
                assert client.post("/v1/messages", json=sms("447700900001")).status_code == 202
            eventually(lambda: platform.calls)
            receiver.process.send_signal(signal.SIGTERM)
            eventually(lambda: _refuses(receiver.url))
            assert receiver.process.poll() is None, "it waits for the call under way"
            began = time.monotonic()
            receiver.process.send_signal(signal.SIGTERM)
            assert receiver.process.wait(10) == 0
            assert time.monotonic() - began < 3
            assert "Traceback" not in receiver.log.read_text()
        assert database.value("select state from message_state") in (0, 5), "queued under its lease, or uncertain"


def _refuses(url: str) -> bool:
    try:
        httpx2.get(f"{url}/livez", trust_env=False)
    except httpx2.HTTPError:
        return True
    return False


@pytest.mark.parametrize("host", ["x" * 70, "a..b", "no-such-host.invalid", "192.0.2.1"])
def test_a_host_that_is_not_ours_is_one_sentence(host: str) -> None:
    with pytest.raises(ReceiverError, match="RECEIVER_HOST"):
        listen(host, 0)
