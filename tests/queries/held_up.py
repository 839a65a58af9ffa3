"""Reads that take as long as a test wants: the messages are locked meanwhile."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from receiver.database.pool import connect
from tests.support import Database


@contextmanager
def held_up(database: Database) -> Iterator[Callable[[], None]]:
    """Nobody can read messages until the block ends, or what it gives is called."""
    with asyncio.Runner() as runner:
        connection = runner.run(connect(database.dsn, "tests"))
        try:
            runner.run(connection.execute("begin; lock table message"))

            def let_go() -> None:
                runner.run(connection.execute("rollback"))

            yield let_go
        finally:
            runner.run(connection.close())
