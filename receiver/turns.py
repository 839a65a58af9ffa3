"""So many requests a turn of the event loop and no more: what else has to go on gets its turn, whatever comes in.

Ten thousand connections that all have something to say take seconds to hear, even if each is only told to come again.
A commit under way must not wait so long for each of its steps, or the answer is 503 for all and for ever.
"""

import asyncio
from collections import deque

from receiver.at_once import AtOnce
from receiver.short_way import ShortWay

MOST = 128  # requests a turn: 20 ms of work


class Turns:
    """What came in, in its order; the turn that goes on, and those to come."""

    def __init__(self) -> None:
        self._left = MOST
        self._waiting: deque[tuple[_InTurn, bytes]] = deque()
        self._is_counting = False

    def has_room(self) -> bool:
        """Whether one more may be heard at once; it is counted then."""
        if not self._left:
            return False
        self._left -= 1
        self._count()
        return True

    def wait(self, connection: "_InTurn", data: bytes) -> None:
        """Hears `data` in one of the next turns."""
        self._waiting.append((connection, data))

    def _count(self) -> None:
        if not self._is_counting:
            self._is_counting = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        """The next turn: those who wait come first."""
        self._is_counting = False
        self._left = MOST
        try:
            while self._waiting and self._left:
                self._left -= 1
                connection, data = self._waiting.popleft()
                connection.hear(data)
        finally:  # whatever one of them does, the others have their turns
            if self._left < MOST:
                self._count()


class _InTurn(ShortWay):
    """A connection of uvicorn's that is heard when it is its turn."""

    turns: Turns
    _unheard = 0

    def data_received(self, data: bytes) -> None:
        if not self._unheard and self.turns.has_room():
            super().data_received(data)
        else:
            self._unheard += 1
            self.flow.pause_reading()  # what more there is waits in the kernel, which is bounded
            self.turns.wait(self, data)

    def hear(self, data: bytes) -> None:
        """Its turn has come, if it is still there."""
        self._unheard -= 1
        if self.parser is not None and not self.transport.is_closing():
            if not self._unheard:
                self.flow.resume_reading()
            super().data_received(data)


def in_turn(app: AtOnce | None) -> type[asyncio.Protocol]:
    """The connections of one server; `app` is asked first whether it takes a request at once."""

    class InTurn(_InTurn):
        turns = Turns()
        first = app

    return InTurn
