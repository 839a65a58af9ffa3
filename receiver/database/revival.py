"""Starting the embedded Postgres again under those who use it: same socket, same password, so their pools come back."""

import time
from collections.abc import Callable
from pathlib import Path

from receiver.database.embedded import EmbeddedError, find_binaries, prepare, told_in_one_sentence
from receiver.database.postgres_process import is_postmaster, read_postmaster
from receiver.database.postgres_server import START_SECONDS

__all__ = ["EmbeddedError", "EmbeddedPostgres"]


class _GivenUp(Exception):
    """Nobody wants the server any more."""


class EmbeddedPostgres:
    """The server of a folder, for the process that serves it (embedded.serving), while it does.

    The locks of `serving` are the right to start: whoever holds a share keeps all others from being alone with the
    cluster, and there is no second one that serves.
    """

    def __init__(self, data_dir: Path, binaries: Path | None = None) -> None:
        """Raises EmbeddedError when the server does not run: then nobody knows of its socket."""
        self._binaries = find_binaries(binaries)
        self._data_dir = data_dir.expanduser().absolute().resolve()
        self._cluster = self._data_dir / "postgres"
        found = read_postmaster(self._cluster)
        if found is None:
            raise EmbeddedError(f"No Postgres runs in {data_dir}.")
        self._socket_folder = found.socket_folder

    def is_alive(self) -> bool:
        """Whether its postmaster lives."""
        found = read_postmaster(self._cluster)
        return found is not None and is_postmaster(found.pid, self._cluster)

    def start_again(self, given_up: Callable[[], bool]) -> bool:
        """Start it where its clients look for it; blocks until it answers. False when `given_up` said so meanwhile.

        A server that was started and is not wanted any more is ended within seconds. Raises EmbeddedError.
        """

        def check() -> None:
            if given_up():
                raise _GivenUp

        with told_in_one_sentence(self._data_dir):
            server = prepare(self._data_dir, self._binaries)
            if not server.initialised():
                raise EmbeddedError(f"The data in {self._cluster} are gone: is the disk mounted?")
            try:
                server.start(check, time.monotonic() + START_SECONDS, self._socket_folder)
            except _GivenUp:
                return False
        return True
