"""The client that awaits: it walks the same steps as the blocking one, and others work meanwhile."""

import os
from collections.abc import AsyncGenerator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from receiver.client import asking, exporting, streaming, waiting
from receiver.client.change_shapes import StreamEvent
from receiver.client.errors import NoAnswer
from receiver.client.explain_shapes import Explanation
from receiver.client.exporting import Format
from receiver.client.figure_shapes import Batch, Deliveries
from receiver.client.message_shapes import Look, Message, MessageWithTimeline, Page, Sent
from receiver.client.place import place_of
from receiver.client.steps import Flow, Manners, Step, Steps, Tell
from receiver.client.transport import AwaitingLine, AwaitingLines
from receiver.client.waiting import Until, Waited

T = TypeVar("T")
R = TypeVar("R")


class AsyncClient:
    """Speaks HTTP with one receiver, from any number of tasks of one loop. The key is not in its repr."""

    def __init__(self, url: str, api_key: str, timeout: float = 30.0, retries: int = 2) -> None:
        """`timeout` in seconds, beside what a call waits for; `retries` of calls that may be repeated.

        Raises ReceiverError for what is no address, or can't be a key.
        """
        self._lines = AwaitingLines(url, api_key, timeout)
        self._manners = Manners(self._lines.url, retries)

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] = os.environ, timeout: float = 30.0, retries: int = 2
    ) -> Self:
        """A client for RECEIVER_URL with RECEIVER_API_KEY, or the key in the file RECEIVER_API_KEY_FILE."""
        return cls(*place_of(environment), timeout, retries)

    def __repr__(self) -> str:
        return f"AsyncClient({self.url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Hangs up."""
        await self._lines.close()

    @property
    def url(self) -> str:
        """The receiver's address."""
        return self._manners.url

    async def send(self, body: Mapping[str, Any], idempotency_key: str | None = None) -> Sent:
        """As Client.send."""
        return await self._run(asking.send(body, idempotency_key, self._manners))

    async def get(self, message_id: str) -> MessageWithTimeline:
        """As Client.get."""
        return await self._run(asking.get(message_id, self._manners))

    async def look(
        self, message_id: str, *, wait: float | None = None, until: Until | None = None, etag: str | None = None
    ) -> Look:
        """As Client.look."""
        return await self._run(asking.look(message_id, wait, until, etag, self._manners))

    async def wait(self, message_id: str, until: Until = "final", timeout: float = 60.0) -> Waited:
        """As Client.wait."""
        return await self._run(waiting.wait(message_id, until, timeout, self._manners))

    async def explain(self, message_id: str) -> Explanation:
        """As Client.explain."""
        return await self._run(asking.explain(message_id, self._manners))

    async def batch(self, batch_id: str) -> Batch:
        """As Client.batch."""
        return await self._run(asking.batch(batch_id, self._manners))

    async def page(self, filters: Mapping[str, Any]) -> Page:
        """As Client.page."""
        return await self._run(asking.page(filters, self._manners))

    def find(self, filters: Mapping[str, Any]) -> AsyncGenerator[Message, None]:
        """As Client.find."""
        return self._each(asking.find(filters, self._manners))

    async def stats(self, parameters: Mapping[str, Any]) -> Deliveries:
        """As Client.stats."""
        return await self._run(asking.stats(parameters, self._manners))

    def export(self, filters: Mapping[str, Any], after: str | None = None) -> AsyncGenerator[Message, None]:
        """As Client.export."""
        return self._each(exporting.export(filters, "ndjson", after, self._manners, exporting.messages))

    def export_bytes(
        self, filters: Mapping[str, Any], form: Format = "ndjson", after: str | None = None
    ) -> AsyncGenerator[bytes, None]:
        """As Client.export_bytes."""
        return self._each(exporting.export(filters, form, after, self._manners, lambda whole: [whole]))

    def stream(
        self, filters: Mapping[str, Any] | None = None, last_event_id: str | None = None, checkpoints: bool = False
    ) -> AsyncGenerator[StreamEvent, None]:
        """As Client.stream."""
        return self._each(streaming.stream(filters or {}, last_event_id, self._manners, checkpoints))

    async def _run(self, steps: Steps[R]) -> R:
        """What the steps come to."""
        line = AwaitingLine(self._lines)
        came, lost = None, None
        while True:
            try:
                step = steps.send(came) if lost is None else steps.throw(lost)
            except StopIteration as end:
                result: R = end.value
                return result
            came, lost = await self._take(step, line)

    async def _each(self, flow: Flow[T]) -> AsyncGenerator[T, None]:
        """What the steps tell, as they tell it."""
        line = AwaitingLine(self._lines)
        came, lost = None, None
        try:
            while True:
                try:
                    step = flow.send(came) if lost is None else flow.throw(lost)
                except StopIteration:
                    return
                came, lost = None, None
                if isinstance(step, Tell):
                    for value in step.values:
                        yield value
                else:
                    came, lost = await self._take(step, line)
        finally:
            await line.close()

    async def _take(self, step: Step, line: AwaitingLine) -> tuple[Any, NoAnswer | None]:
        try:
            return await self._lines.take(step, line), None
        except NoAnswer as error:
            return None, error
