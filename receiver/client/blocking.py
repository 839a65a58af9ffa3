"""The client that blocks: it walks the steps of each operation on the caller's thread."""

import os
from collections.abc import Generator, Mapping
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
from receiver.client.transport import BlockingLine, BlockingLines
from receiver.client.waiting import Until, Waited

T = TypeVar("T")
R = TypeVar("R")


class Client:
    """Speaks HTTP with one receiver, from any number of threads. The key is not in its repr."""

    def __init__(self, url: str, api_key: str, timeout: float = 30.0, retries: int = 2) -> None:
        """`timeout` in seconds, beside what a call waits for; `retries` of calls that may be repeated.

        Raises ReceiverError for what is no address, or can't be a key.
        """
        self._lines = BlockingLines(url, api_key, timeout)
        self._manners = Manners(self._lines.url, retries)

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] = os.environ, timeout: float = 30.0, retries: int = 2
    ) -> Self:
        """A client for RECEIVER_URL with RECEIVER_API_KEY, or the key in the file RECEIVER_API_KEY_FILE."""
        return cls(*place_of(environment), timeout, retries)

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hangs up."""
        self._lines.close()

    @property
    def url(self) -> str:
        """The receiver's address."""
        return self._manners.url

    def send(self, body: Mapping[str, Any], idempotency_key: str | None = None) -> Sent:
        """Hands in a Messaging v1 body; returns batch_id and messages. Raises ApiError, or NoAnswer.

        After NoAnswer nobody knows whether the messages were taken. With the same `idempotency_key` the same body may
        be handed in again all the same: the receiver sends it once, and answers as it did the first time. Then
        `replayed` is true in what is returned. A call with such a key is repeated by itself.
        """
        return self._run(asking.send(body, idempotency_key, self._manners))

    def get(self, message_id: str) -> MessageWithTimeline:
        """One message with its timeline. Raises ApiError, with status 404 for one that is not there."""
        return self._run(asking.get(message_id, self._manners))

    def look(
        self, message_id: str, *, wait: float | None = None, until: Until | None = None, etag: str | None = None
    ) -> Look:
        """One message and its ETag, at once or after `wait` seconds at most (60); None where it is as `etag` says."""
        return self._run(asking.look(message_id, wait, until, etag, self._manners))

    def wait(self, message_id: str, until: Until = "final", timeout: float = 60.0) -> Waited:
        """Waits until it is so, it can't be so any more, or `timeout` seconds have passed, however many.

        Raises ApiError, and NoAnswer where nobody ever answered; a receiver that starts anew is waited for.
        """
        return self._run(waiting.wait(message_id, until, timeout, self._manners))

    def explain(self, message_id: str) -> Explanation:
        """Why a message is in its state, receipt by receipt. Raises ApiError, NoAnswer."""
        return self._run(asking.explain(message_id, self._manners))

    def batch(self, batch_id: str) -> Batch:
        """The figures of what one call handed in. Raises ApiError, NoAnswer."""
        return self._run(asking.batch(batch_id, self._manners))

    def page(self, filters: Mapping[str, Any]) -> Page:
        """One page of a search, and the cursor of the next. Raises ApiError, NoAnswer."""
        return self._run(asking.page(filters, self._manners))

    def find(self, filters: Mapping[str, Any]) -> Generator[Message, None, None]:
        """All messages that `filters` let through, newest first, page after page. Raises ApiError, NoAnswer.

        The filters are the parameters of GET /v1/messages; several values of one may stand in a list.
        """
        return self._each(asking.find(filters, self._manners))

    def stats(self, parameters: Mapping[str, Any]) -> Deliveries:
        """Figures of delivery; the parameters are those of GET /v1/stats/delivery. Raises ApiError, NoAnswer."""
        return self._run(asking.stats(parameters, self._manners))

    def export(self, filters: Mapping[str, Any], after: str | None = None) -> Generator[Message, None, None]:
        """All messages that `filters` let through, as they stream, newest first; behind the one with the id `after`.

        For millions: it costs the receiver less than pages do. After a broken connection it goes on where it was,
        without a gap or a repeat. Raises ApiError, NoAnswer, Garbled.
        """
        return self._each(exporting.export(filters, "ndjson", after, self._manners, exporting.messages))

    def export_bytes(
        self, filters: Mapping[str, Any], form: Format = "ndjson", after: str | None = None
    ) -> Generator[bytes, None, None]:
        """The same as bytes, for a file: each part is whole lines of NDJSON, or whole rows of CSV.

        The names of the columns come first; not with `after`, the id of the last record that is in the file already.
        """
        return self._each(exporting.export(filters, form, after, self._manners, lambda whole: [whole]))

    def stream(
        self, filters: Mapping[str, Any] | None = None, last_event_id: str | None = None, checkpoints: bool = False
    ) -> Generator[StreamEvent, None, None]:
        """Changes as they happen, each once, for ever: it goes on by itself after any loss.

        The filters are the parameters of GET /v1/stream. Without `last_event_id` it begins now.
        With `checkpoints` the events `ready` and `checkpoint` are given too: nothing has changed, and their ids are
        good to go on from. Raises CannotResume, ApiError, Garbled, and NoAnswer where nobody ever answered.
        """
        return self._each(streaming.stream(filters or {}, last_event_id, self._manners, checkpoints))

    def _run(self, steps: Steps[R]) -> R:
        """What the steps come to."""
        line = BlockingLine(self._lines)
        came, lost = None, None
        while True:
            try:
                step = steps.send(came) if lost is None else steps.throw(lost)
            except StopIteration as end:
                result: R = end.value
                return result
            came, lost = self._take(step, line)

    def _each(self, flow: Flow[T]) -> Generator[T, None, None]:
        """What the steps tell, as they tell it."""
        line = BlockingLine(self._lines)
        came, lost = None, None
        try:
            while True:
                try:
                    step = flow.send(came) if lost is None else flow.throw(lost)
                except StopIteration:
                    return
                came, lost = None, None
                if isinstance(step, Tell):
                    yield from step.values
                else:
                    came, lost = self._take(step, line)
        finally:
            line.close()

    def _take(self, step: Step, line: BlockingLine) -> tuple[Any, NoAnswer | None]:
        try:
            return self._lines.take(step, line), None
        except NoAnswer as error:
            return None, error
