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
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, Protocol

import uvicorn

from receiver.at_once import first_of
from receiver.errors import ReceiverError, SettingsError
from receiver.short_way import ShortWay
from receiver.stopping import Stopping
from receiver.turns import in_turn

log = logging.getLogger("receiver.workers")

GRACE_SECONDS = 16.0  # of the 20 that an end may take: the rest is for what is cut off, and for closing connections
CUT_OFF_SECONDS = 1.0
IDLE_SECONDS = 1.0  # for the last bytes of an answer
# That a client may take nothing, or not acknowledge what it was sent: then the kernel cuts it off. A closed connection
# waits for its last bytes to be read; one whose client has vanished, for a quarter of an hour. Above the 60 that an
# export waits.
GIVE_UP_SECONDS = 75


class Worker(Protocol):
    """Something that runs until it is closed, and has finished what it had in hand when `run` returns."""

    async def run(self) -> None: ...

    async def close(self) -> None: ...


class Server(uvicorn.Server):
    """uvicorn without its signal handlers, and whose end does not wait for those who have nothing under way."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answers what is under way, then cuts off who does not close: over TLS an idle client may never."""
        cutting = asyncio.create_task(self._cut_off_idle())
        await super().shutdown(sockets)
        cutting.cancel()

    async def _cut_off_idle(self) -> None:
        idle_since = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() < idle_since + IDLE_SECONDS:
            await asyncio.sleep(0.05)
            if self.server_state.tasks or self._is_answering():
                idle_since = asyncio.get_running_loop().time()
        for connection in self.server_state.connections:
            connection.transport.abort()

    def _is_answering(self) -> bool:
        connections = self.server_state.connections
        return any(isinstance(one, ShortWay) and one.is_answering for one in connections)


async def run_beside(
    server: Server,
    workers: Sequence[tuple[str, Worker]],
    *,
    sockets: list[socket.socket] | None = None,
    on_drain: Callable[[], None] = lambda: None,
    grace: float = GRACE_SECONDS,
    notice: float = 0.0,
    stopping: Stopping | None = None,
) -> int:
    """Serves until a signal, or until a worker dies; then drains. Returns the exit code: 0, or 1 after a death.

    On a stop signal: `on_drain`, for SIGTERM `notice` seconds in which all goes on so that a balancer sees it; then no
    new connections, answers for what is under way, then `workers` are closed in
    their order. A second signal, or `grace` seconds after the first, ends at once: what was acknowledged is durable
    already. `stopping` may have begun to listen for signals earlier.
    """
    with contextlib.ExitStack() as stack:
        stopping = stopping or stack.enter_context(Stopping())
        return await _run_beside(server, workers, sockets, on_drain, grace, notice, stopping)


async def _run_beside(
    server: Server,
    workers: Sequence[tuple[str, Worker]],
    sockets: list[socket.socket] | None,
    on_drain: Callable[[], None],
    grace: float,
    notice: float,
    stopping: Stopping,
) -> int:
    loop = asyncio.get_running_loop()

    def leave() -> None:
        on_drain()
        if notice and stopping.first is signal.SIGTERM and not (deaths or stopping.at_once.is_set()):
            loop.call_later(notice, close)
        else:
            close()

    def close() -> None:
        server.should_exit = True
        server.force_exit = server.force_exit or stopping.at_once.is_set()

    deaths: list[str] = []
    stopping.when_asked(leave)
    tasks = {asyncio.create_task(worker.run(), name=name): worker for name, worker in workers}
    cut_off: set[asyncio.Task[None]] = set()

    def ended(task: "asyncio.Task[None]") -> None:
        """Whoever ends before the end has died; so has whoever fails at the end and was not cut off."""
        error = None if task.cancelled() else task.exception()
        if task in cut_off or (error is None and stopping.asked.is_set()):
            return
        deaths.append(task.get_name())
        extra = {"worker": task.get_name(), "reason": type(error).__name__ if error else "it ended"}
        log.critical("worker_died", extra=extra, exc_info=error)
        stopping.stop()
        leave()

    for task in tasks:
        task.add_done_callback(ended)
    try:
        if not stopping.asked.is_set():
            await server.serve(sockets=sockets)
    finally:
        deadline = stopping.stop() + grace
        await _drain(tasks, cut_off, stopping.at_once, deadline)
    return 1 if deaths else 0


async def _drain(
    tasks: "dict[asyncio.Task[None], Worker]",
    cut_off: "set[asyncio.Task[None]]",
    at_once: asyncio.Event,
    deadline: float,
) -> None:
    """Closes the workers one after the other; cuts off what is left at `deadline`, or when told so."""
    loop = asyncio.get_running_loop()
    hurry = asyncio.create_task(at_once.wait())
    for task, worker in tasks.items():
        try:
            await worker.close()
        except Exception as error:  # the others are to be closed all the same
            log.exception("worker_not_closed", extra={"worker": task.get_name(), "reason": type(error).__name__})
        await asyncio.wait({task, hurry}, timeout=max(deadline - loop.time(), 0), return_when=asyncio.FIRST_COMPLETED)
    hurry.cancel()
    cut_off |= {task for task in tasks if not task.done()}
    for task in cut_off:
        log.warning("worker_cut_off", extra={"worker": task.get_name()})
        task.cancel()
    if cut_off:  # a database that hangs holds up a cancellation too: it is not waited for
        await asyncio.wait(cut_off, timeout=CUT_OFF_SECONDS)


def listen(host: str, port: int, *, setting: str = "", reuse: bool = False) -> socket.socket:
    """A listening socket. Raises ReceiverError in one sentence if the port is taken or the address is not ours.

    `setting` is NOTIFY_ for the settings of the second port; with `reuse` other processes may listen there too. Then
    the server begins to listen: before, the kernel would hand us what another one could answer.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    names = f"RECEIVER_{setting}HOST", f"RECEIVER_{setting}PORT"
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0]
        bound = _bound(found[0], found[4], reuse=reuse)
    except UnicodeError:
        raise ReceiverError(f"{host!r} is no host: see {names[0]}") from None
    except PermissionError:
        raise ReceiverError(f"port {port} needs more rights: set {names[1]} to 1024 or more") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ReceiverError(
                f"port {port} on {host} is taken: stop what uses it, or set {names[1]} to another"
            ) from None
        raise ReceiverError(f"can't listen on {host} port {port}: {error.strerror}; see {names[0]}") from None
    if not reuse:
        bound.listen(2048)
    bound.setblocking(False)
    return bound


def _bound(family: int, address: Any, *, reuse: bool) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # not everywhere; what is accepted inherits it
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GIVE_UP_SECONDS * 1000)
        if reuse:
            if not sys.platform.startswith("linux"):  # elsewhere the last one to listen gets all, or chance decides
                raise ReceiverError("RECEIVER_REUSE_PORT works on Linux only: give each process a port of its own")
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except (OSError, ReceiverError):
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
            http=in_turn(first_of(app)),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,  # no door asks who called; whoever stands in front is not looked up for each request
            timeout_keep_alive=75,
            timeout_graceful_shutdown=grace,
            ssl_context_factory=None if tls is None else lambda _config, _default: tls,
        )
    )
