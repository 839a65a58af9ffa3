"""Running workers beside a server: their deaths end it, its end drains them.

Not a lifespan: a worker that dies inside a lifespan's task group leaves the server answering 200 for nothing. And not
uvicorn's own signal handlers: they raise the signal again after `serve`, so that a drain behind it would never run.
"""

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, Protocol

import uvicorn

from receiver.errors import ReceiverError, SettingsError

log = logging.getLogger("receiver.workers")

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # SIGHUP: the terminal was closed


class Worker(Protocol):
    """Something that runs until it is closed, and has finished what it had in hand when `run` returns."""

    async def run(self) -> None: ...

    async def close(self) -> None: ...


class Server(uvicorn.Server):
    """uvicorn without its signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def run_beside(
    server: Server,
    workers: Sequence[tuple[str, Worker]],
    *,
    sockets: list[socket.socket] | None = None,
    on_drain: Callable[[], None] = lambda: None,
    grace: float = 20.0,
) -> int:
    """Serves until a signal, or until a worker dies; then drains. Returns the exit code: 0, or 1 after a death.

    On a stop signal: `on_drain`, no new connections, answers for what is under way, then `workers` are closed in
    their order. A second signal, or `grace` seconds, ends at once: what was acknowledged is durable already.
    """
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    at_once = asyncio.Event()

    def stop() -> None:
        if stopping.is_set():
            at_once.set()
            server.force_exit = True
        stopping.set()
        on_drain()
        server.should_exit = True

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop)
    tasks = {asyncio.create_task(worker.run(), name=name): worker for name, worker in workers}
    deaths: list[str] = []

    def died(task: "asyncio.Task[None]") -> None:
        if not stopping.is_set():
            error = None if task.cancelled() else task.exception()
            deaths.append(task.get_name())
            log.error("worker_died", extra={"worker": task.get_name(), "reason": repr(error)}, exc_info=error)
            on_drain()
            server.should_exit = True

    for task in tasks:
        task.add_done_callback(died)
    try:
        await server.serve(sockets=sockets)
        stopping.set()
        await _drain(tasks, at_once, grace)
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)
    return 1 if deaths or not server.started else 0


async def _drain(tasks: "dict[asyncio.Task[None], Worker]", at_once: asyncio.Event, grace: float) -> None:
    """Closes the workers one after the other; cancels what is left after `grace` seconds, or when told so."""
    deadline = asyncio.get_running_loop().time() + grace
    hurry = asyncio.create_task(at_once.wait())
    for task, worker in tasks.items():
        await worker.close()
        left = max(deadline - asyncio.get_running_loop().time(), 0)
        await asyncio.wait({task, hurry}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        if not task.done():
            log.warning("worker_cut_off", extra={"worker": task.get_name()})
            task.cancel()
    hurry.cancel()
    await asyncio.gather(*tasks, hurry, return_exceptions=True)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ReceiverError in one sentence if the port is taken or the address is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0]
        bound = _bound(found[0], found[4])
    except UnicodeError:
        raise ReceiverError(f"{host!r} is no host: see RECEIVER_HOST") from None
    except PermissionError:
        raise ReceiverError(f"port {port} needs more rights: set RECEIVER_PORT to 1024 or more") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ReceiverError(
                f"port {port} on {host} is taken: stop what uses it, or set RECEIVER_PORT to another"
            ) from None
        raise ReceiverError(f"can't listen on {host} port {port}: {error.strerror}; see RECEIVER_HOST") from None
    bound.listen(2048)
    bound.setblocking(False)
    return bound


def _bound(family: int, address: Any) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


class _Locked(Exception):
    """The key has a password."""


def tls_context(cert: Path, key: Path) -> ssl.SSLContext:
    """What a server needs to speak https. Raises SettingsError in one sentence for files that are no good pair."""
    for name, file in (("RECEIVER_TLS_CERT", cert), ("RECEIVER_TLS_KEY", key)):
        try:
            file.read_bytes()
        except OSError as error:
            raise SettingsError([f"{name}: {file} can't be read: {error.strerror}"]) from None

    def password() -> str:  # without it OpenSSL asks at the terminal
        raise _Locked

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key, password)
    except _Locked:
        raise SettingsError([f"RECEIVER_TLS_KEY: {key} has a password: it takes a key without one"]) from None
    except ssl.SSLError as error:
        reason = "the key is not the certificate's" if error.reason == "KEY_VALUES_MISMATCH" else "one is no good PEM"
        raise SettingsError([f"RECEIVER_TLS_CERT {cert} and RECEIVER_TLS_KEY {key}: {reason}"]) from None
    return context


def server_for(app: Any, grace: int = 10, tls: ssl.SSLContext | None = None) -> Server:
    """A server for `app`, quiet and fast, over https with `tls`; workers run beside it, so no lifespan.

    At its end requests under way have `grace` seconds.
    """
    return Server(
        uvicorn.Config(
            app,
            http="httptools",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=grace,
            ssl_context_factory=None if tls is None else lambda _config, _default: tls,
        )
    )
