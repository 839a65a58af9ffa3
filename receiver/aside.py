"""Work that goes on beside whoever began it, and may be left to itself."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


def begin_aside(work: Coroutine[None, None, T], name: str) -> asyncio.Task[T]:
    """Begins `work`; who still waits for it hears what it raises, and nobody need.

    Whoever began it may be cut off meanwhile, or have waited long enough: a server that hangs holds up even its
    cancellation. What it raises then is no news, and asyncio would log it as an error that was forgotten.
    """
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_hear)
    return task


def _hear(task: asyncio.Task[T]) -> None:
    if not task.cancelled():
        task.exception()
