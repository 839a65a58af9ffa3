"""How a run ends: quick and with 0 on a signal, at once on a second one, with 1 when a worker dies."""

import asyncio
import contextlib
import errno
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from receiver import workers as running
from receiver.errors import ReceiverError
from receiver.stopping import Stopping
from receiver.workers import Worker, listen, run_beside, server_for, tls_context
from tests.doors.telling import certificate, delivered
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


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel must know TCP_USER_TIMEOUT")
def test_a_client_that_takes_nothing_is_cut_off_though_its_answer_was_never_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(running, "GIVE_UP_SECONDS", 1)
    with listen("127.0.0.1", 0) as bound, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(bound.getsockname())
        accepted = eventually(lambda: accept(bound))
        with accepted:
            accepted.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    accepted.send(bytes(65536))
            assert eventually(lambda: accepted.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) == errno.ETIMEDOUT


def accept(bound: socket.socket) -> socket.socket | None:
    try:
        return bound.accept()[0]
    except BlockingIOError:
        return None


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


class Unwell(Steady):
    """A worker that fails at its end."""

    async def run(self) -> None:
        await super().run()
        raise RuntimeError("not finished")


class Closeless(Steady):
    """A worker that can't be closed."""

    async def close(self) -> None:
        await super().close()
        raise RuntimeError("no end")


class Endless(Steady):
    """A worker that does not end."""

    async def close(self) -> None:
        pass


def left(*workers: Worker, grace: float = 5) -> int:
    """The exit code of a run that is stopped as soon as it serves."""

    async def main() -> int:
        app = Starlette(routes=[Route("/", lambda _: Response("ok"))])
        server, stopping = server_for(app), Stopping()
        named = [(type(worker).__name__, worker) for worker in workers]
        running = asyncio.create_task(
            run_beside(server, named, sockets=[listen("127.0.0.1", 0)], grace=grace, stopping=stopping)
        )
        while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
            await asyncio.sleep(0.01)
        stopping.stop()
        server.should_exit = True
        return await asyncio.wait_for(running, grace + 10)

    return asyncio.run(main())


def test_a_worker_that_fails_at_the_end_is_told_and_the_code_is_1(caplog: pytest.LogCaptureFixture) -> None:
    steady = Steady()
    assert left(Unwell(), steady) == 1
    assert steady.ended
    (record,) = [r for r in caplog.records if r.message == "worker_died"]
    assert (record.__dict__["worker"], record.__dict__["reason"]) == ("Unwell", "RuntimeError")


def test_a_worker_that_can_not_be_closed_keeps_no_other_from_it(caplog: pytest.LogCaptureFixture) -> None:
    steady = Steady()
    assert left(Closeless(), steady) == 0
    assert steady.ended
    assert "worker_not_closed" in caplog.text


def test_a_worker_that_does_not_end_is_cut_off_after_the_grace(caplog: pytest.LogCaptureFixture) -> None:
    steady = Steady()
    began = time.monotonic()
    assert left(Endless(), steady, grace=1) == 0
    assert time.monotonic() - began < 5
    assert "worker_cut_off" in caplog.text
    assert steady.closing.is_set(), "the others are closed all the same"


HANGING = """
import asyncio, sys, threading, time
from starlette.applications import Starlette
from receiver.stopping import LastResort, Stopping
from receiver.workers import listen, run_beside, server_for

class Hanging:
    async def run(self): await asyncio.Event().wait()
    async def close(self):
        if sys.argv[1] == "loop":
            time.sleep(60)  # nothing else runs any more
        threading.Thread(target=time.sleep, args=(60,)).start()  # Python waits for it after the last line

async def main():
    last = LastResort(1.0)
    with Stopping() as stopping:
        print("up", flush=True)
        await run_beside(server_for(Starlette()), [("hanging", Hanging())], sockets=[listen("127.0.0.1", 0)], grace=0.2,
                         on_drain=lambda: last.begin(0 if stopping.signals else 1), stopping=stopping)

asyncio.run(main())
"""


@pytest.mark.parametrize("where", ["loop", "thread"])
def test_an_end_that_hangs_is_ended_by_force(where: str) -> None:
    command = [sys.executable, "-c", HANGING, where]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGTERM)
    try:
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    assert b"end_hangs" in said


def test_what_a_signal_meant_before_it_means_afterwards() -> None:
    async def work() -> None:
        with Stopping():
            assert signal.getsignal(signal.SIGTERM) is not mine

    def mine(number: int, frame: object) -> None:
        """Not the default, which kills whoever still has an embedded Postgres to stop."""

    before = signal.signal(signal.SIGTERM, mine)
    try:
        asyncio.run(work())
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


def test_under_nohup_a_closed_terminal_ends_nothing() -> None:
    async def work() -> None:
        with Stopping() as stopping:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(stopping.asked.wait(), 10)
            assert stopping.signals == 1

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        asyncio.run(work())
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_idle_client_over_tls_that_never_closes_does_not_keep_it(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    trust = ssl.create_default_context(cafile=str(cert))

    def ask(port: int) -> ssl.SSLSocket:
        client = trust.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="127.0.0.1")
        client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        return client

    async def main() -> None:
        server, stopping = (
            server_for(Starlette(routes=[Route("/", lambda _: Response("ok"))]), tls=tls_context(cert, key)),
            Stopping(),
        )
        bound = listen("127.0.0.1", 0)
        port = bound.getsockname()[1]
        running = asyncio.create_task(run_beside(server, [], sockets=[bound], stopping=stopping))
        with await asyncio.get_running_loop().run_in_executor(None, ask, port):
            began = time.monotonic()
            stopping.stop()
            server.should_exit = True
            assert await running == 0
            assert time.monotonic() - began < 5, "not the ten seconds that a request has"

    asyncio.run(main())


def test_half_a_request_does_not_keep_it(database: Database, tmp_path: Path) -> None:
    with receiver_process(database, tmp_path) as receiver:
        host, _, port = receiver.url.removeprefix("http://").partition(":")
        path = receiver.notify_url().removeprefix(receiver.url)
        half = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf"
        with socket.create_connection((host, int(port))) as body, socket.create_connection((host, int(port))) as head:
            body.sendall(half.encode())
            head.sendall(half[:20].encode())
            with receiver.client() as client:
                client.get("/livez")  # both have been read by now
            receiver.process.send_signal(signal.SIGTERM)
            assert receiver.process.wait(20) == 0
            assert b" 200 " not in body.recv(4096)
        assert "Traceback" not in receiver.log.read_text()


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


def test_a_balancer_sees_that_it_leaves_before_a_connection_is_refused(database: Database, tmp_path: Path) -> None:
    """Whoever is sent here meanwhile is served as ever: a receipt, and a client of the API."""
    with receiver_process(database, tmp_path, RECEIVER_DRAIN_SECONDS="2") as receiver:
        key, told, said = database.key(), 0, set[int]()
        receiver.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        with contextlib.suppress(httpx2.TransportError):
            while time.monotonic() - began < 10:
                said.add(httpx2.get(f"{receiver.url}/readyz", trust_env=False).status_code)
                raw = delivered(f"leaving {told}")
                assert httpx2.post(receiver.notify_url(), content=raw, trust_env=False).status_code == 200
                told += 1
                with receiver.client(key) as client:
                    assert client.get("/v1/messages").status_code == 200
        assert time.monotonic() - began > 1.5
        assert receiver.process.wait(15) == 0
        assert 503 in said
        assert told
        assert database.counts()["receipt"] in (told, told + 1), "the last may have been stored and its answer lost"
        assert "Traceback" not in receiver.log.read_text()


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]], ids=["ctrl-c", "twice"])
def test_nobody_is_kept_for_a_balancer_who_wants_it_to_end_now(
    database: Database, tmp_path: Path, signals: list[signal.Signals]
) -> None:
    with receiver_process(database, tmp_path, RECEIVER_DRAIN_SECONDS="5") as receiver:
        began = time.monotonic()
        for number in signals:
            receiver.process.send_signal(number)
            time.sleep(0.2)  # two that come as one are one
        assert receiver.process.wait(10) == 0
        assert time.monotonic() - began < 4


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
