"""A request that is answered without a task of its own: it came whole, and its door takes it at once.

A task, its context, and the messages between a server and its application cost as much as reading a receipt and keeping
it. Whatever is unusual (a body in pieces, `Expect`, a pipeline, a client that does not read) goes to the application as
ever, and so does what the door does not take. What is sent is the same, byte by byte.
"""

import asyncio
from collections import deque
from typing import Any, cast

from starlette.types import Scope
from uvicorn.protocols.http.flow_control import FlowControl
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


class _Flow(FlowControl):
    """Reads on when all of a pipeline has begun: with each answer uvicorn would take in thousands more of them."""

    def __init__(self, transport: asyncio.Transport, pipeline: "deque[tuple[RequestResponseCycle, Any]]") -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        if not self._pipeline:
            super().resume_reading()


class ShortWay(HttpToolsProtocol):
    """A connection of uvicorn's, with the short way to `first`; None: there is none."""

    first: AtOnce | None = None
    _is_hearing = False
    _begun: tuple[RequestResponseCycle, Any] | None = None
    _served: RequestResponseCycle | None = None

    @property
    def is_answering(self) -> bool:
        """Whether somebody waits for an answer."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)

    def connection_lost(self, exc: Exception | None) -> None:
        """uvicorn tells the newest request of it; those before it would be answered into nothing, with a traceback."""
        for cycle in (self._served, *(waiting for waiting, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """For what is no request. Who came whole before it has his own answer: a 400 would be taken for that."""
        served = self._served
        if served is None or served.response_complete or served.more_body:
            super().send_400_response(msg)
            return
        served.keep_alive = False
        self.pipeline.clear()

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
        self._served = cycle
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
        taken = usual and self.first.at_once(cast("Scope", cycle.scope), bytes(cycle.body), _Answering(cycle))
        if taken:
            cycle.body = bytearray()  # or an idle connection would keep it
        return taken
