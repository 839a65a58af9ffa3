"""Walks the steps of a client's operation without a socket: a receiver is a function, and nobody sleeps."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from receiver.client.calls import Answer, Call
from receiver.client.errors import NoAnswer
from receiver.client.steps import Ask, Flow, Open, Read, Sleep, Steps, Tell

T = TypeVar("T")
R = TypeVar("R")

Parts = Sequence[bytes | None]  # None: the connection is lost there
Says = Callable[[Call], tuple[Answer, Parts]]


class Walk:
    """Takes steps; `slept` are the seconds that each pause would have taken."""

    def __init__(self, says: Says) -> None:
        self._says = says
        self._parts: Iterator[bytes | None] = iter(())
        self.calls: list[Call] = []
        self.slept: list[float] = []

    def result(self, steps: Steps[R]) -> R:
        """What the steps come to."""
        came: Any = None
        while True:
            try:
                step = steps.throw(came) if isinstance(came, NoAnswer) else steps.send(came)
            except StopIteration as end:
                value: R = end.value
                return value
            came = self._take(step)

    def each(self, flow: Flow[T]) -> Iterator[T]:
        """What the steps tell."""
        came: Any = None
        while True:
            try:
                step = flow.throw(came) if isinstance(came, NoAnswer) else flow.send(came)
            except StopIteration:
                return
            if isinstance(step, Tell):
                yield from step.values
                came = None
            else:
                came = self._take(step)

    def _take(self, step: Ask | Open | Read | Sleep) -> Any:
        match step:
            case Sleep(seconds):
                self.slept.append(seconds)
                return None
            case Read():
                part = next(self._parts, b"")
                return NoAnswer("lost") if part is None else part
            case Ask(call) | Open(call):
                self.calls.append(call)
                answer, parts = self._says(call)
                self._parts = iter([part for part in parts if part != b""])
                return NoAnswer("lost") if answer.status == 0 else answer
