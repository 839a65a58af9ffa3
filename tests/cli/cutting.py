"""A proxy that cuts connections: after so many bytes of an answer, both sides lose it."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass
class Cutting:
    """`budget` says of each connection how many bytes of answers it lets through; None: all."""

    url: str
    target: tuple[str, int]
    budget: Callable[[], int | None]
    cuts: int = 0

    def serve(self, client: socket.socket) -> None:
        """One connection, until either side ends it or the budget is spent."""
        left = self.budget()
        with client, contextlib.suppress(OSError), socket.create_connection(self.target) as server:
            asking = threading.Thread(target=_copy, args=(client, server), daemon=True)
            asking.start()
            while part := server.recv(65536 if left is None else min(65536, left)):
                client.sendall(part)
                left = None if left is None else left - len(part)
                if left == 0:
                    self.cuts += 1
                    break
            for side in (client, server):
                side.shutdown(socket.SHUT_RDWR)
            asking.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while part := source.recv(65536):
            sink.sendall(part)
        sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def cutting(url: str, budget: Callable[[], int | None]) -> Iterator[Cutting]:
    """Stands in front of the receiver at `url` until the block ends."""
    place = urlsplit(url)
    assert place.hostname is not None
    assert place.port is not None
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = Cutting(f"http://127.0.0.1:{server.getsockname()[1]}", (place.hostname, place.port), budget)
        serving: list[threading.Thread] = []
        ended = threading.Event()

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    if ended.is_set():
                        client.close()
                        return
                    serving.append(threading.Thread(target=proxy.serve, args=(client,)))
                    serving[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield proxy
        finally:
            ended.set()
            with contextlib.suppress(OSError):
                socket.create_connection(server.getsockname()).close()
            accepting.join()
            for thread in serving:
                thread.join()
