"""Rounds of work that end when their worker is closed: what is in hand is given up, and the next one does it again."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


async def round_until_closed(work: Coroutine[None, None, T], closing: asyncio.Event, given_up: T) -> T:
    """What `work` returns or raises; `given_up` where `closing` comes first: then it is cancelled, and has ended."""
    round_, closed = asyncio.create_task(work), asyncio.create_task(closing.wait())
    try:
        await asyncio.wait({round_, closed}, return_when=asyncio.FIRST_COMPLETED)
        if round_.done():
            return round_.result()
        round_.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await round_
        return given_up
    finally:
        round_.cancel()
        closed.cancel()
