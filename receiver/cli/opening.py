"""What the operator's commands share: the settings, the database of them, the secret."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from receiver.database.embedded import EmbeddedError, serving, visiting
from receiver.database.pool import told_in_words
from receiver.database.revival import EmbeddedPostgres
from receiver.environment import SHORTEST_SECRET
from receiver.errors import ReceiverError
from receiver.settings import Settings
from receiver.upkeep.postgres import PostgresWatch

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end on the fast loop; what Postgres refuses meanwhile is told in one sentence."""
    with told_in_words(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


@contextlib.contextmanager
def database(settings: Settings, *, exclusive: bool = False) -> Iterator[str]:
    """The address of the database: the one that is set, or the embedded one for as long as the block runs.

    `exclusive` is for those that serve: a second one on the same folder is refused.
    """
    if settings.database_url is not None:
        yield settings.database_url
        return
    assert settings.data_dir is not None
    try:
        with (serving if exclusive else visiting)(settings.data_dir) as cluster:
            yield cluster.dsn
    except EmbeddedError as error:
        raise ReceiverError(str(error)) from None


def watch(settings: Settings) -> list[tuple[str, PostgresWatch]]:
    """The worker that starts the embedded Postgres again when it has died; none for a Postgres of one's own."""
    folder = settings.data_dir
    return [] if folder is None else [("embedded postgres", PostgresWatch(EmbeddedPostgres(folder)))]


def secret_of(settings: Settings) -> str:
    """The secret that signs notify tokens: as set, or the one that is kept in the data folder, made when missing."""
    if settings.secret:
        return settings.secret
    if settings.data_dir is None:
        raise ReceiverError("RECEIVER_SECRET is missing: it signs the notify tokens (try `openssl rand -hex 32`)")
    secret = kept_secret(settings.data_dir / "secret", lambda: secrets.token_hex(32))
    if len(secret) < SHORTEST_SECRET:
        raise ReceiverError(f"{settings.data_dir / 'secret'} holds no secret: remove it, and one is made")
    return secret


def kept_secret(file: Path, make: Callable[[], str]) -> str:
    """The text in `file`, which only we can read; made and written when it is missing."""
    try:
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return file.read_text().strip()
        with os.fdopen(descriptor, "w") as new:
            new.write(make() + "\n")
            new.flush()
            os.fsync(new.fileno())
        return file.read_text().strip()
    except OSError as error:
        raise ReceiverError(f"{file} can't be read or written: {error.strerror}") from None
