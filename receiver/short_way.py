"""A request that is answered without a task of its own: it came whole, and its door takes it at once.

A task, its context, and the messages between a server and its application cost as much as reading a receipt and keeping
it. Whatever is unusual (a body in pieces, `Expect`, a pipeline, a client that does not read) goes to the application as
ever, and so does what the door does not take. What is sent is the same, byte by byte.
"""

from typing import Any, cast

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from receiver.at_once import AtOnce, Said


class _Answering:
    """One request that was taken: where its answer goes."""

    __slots__ = ("_cycle",)

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle

    def __call__(self, answer: Said) -> None:
        cycle = self._cycle
        cycle.response_started = cycle.response_complete = True
        if cycle.disconnected or cycle.transport.is_closing():
            return
        close = b"" if cycle.keep_alive else b"connection: close\r\n"
        cycle.transport.write(b"%s%s\r\n%s" % (answer.head, close, answer.body))
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()


class ShortWay(HttpToolsProtocol):
    """A connection of uvicorn's, with the short way to `first`; None: there is none."""

    first: AtOnce | None = None
    _is_hearing = False
    _begun: tuple[RequestResponseCycle, Any] | None = None

    @property
    def is_answering(self) -> bool:
        """Whether somebody waits for an answer."""
        return self.cycle is not None and not self.cycle.response_complete

    def data_received(self, data: bytes) -> None:
        self._is_hearing = self.first is not None
        super().data_received(data)
        self._is_hearing = False
        if self._begun is not None:
            (cycle, app), self._begun = self._begun, None
            if not self._takes(cycle):
                super()._start_asgi_task(cycle, app)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Not yet, if its body may come whole with its head."""
        if self._is_hearing and cycle.scope["method"] == "POST":
            self._begun = cycle, app
        else:
            super()._start_asgi_task(cycle, app)

    def _takes(self, cycle: RequestResponseCycle) -> bool:
        assert self.first is not None
        usual = not (
            cycle.more_body
            or cycle.waiting_for_100_continue
            or cycle.disconnected
            or cycle.flow.write_paused
            or cycle.transport.is_closing()
        )
        return usual and self.first.at_once(cast("Scope", cycle.scope), bytes(cycle.body), _Answering(cycle))
