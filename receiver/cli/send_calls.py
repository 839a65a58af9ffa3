"""One run over a file of recipients: several calls at once, chunk after chunk, each noted when it is finished."""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from receiver.cli.chunks import Call, Chunk
from receiver.cli.hand_in import Calls, Shown, Stopped
from receiver.cli.rejects import Rejects
from receiver.cli.send_state import SendState
from receiver.errors import ReceiverError

LOOK_SECONDS = 0.1  # how soon Ctrl-C and a failure of another call are seen
MAY_HAVE_BEEN_SENT = "it may have been sent: an earlier run ended before its answer, and too long ago to ask again"


@dataclass(frozen=True)
class Plan:
    """How to hand in. `rate` is in messages a second; `uncertain` is None, "send" or "skip"."""

    concurrency: int = 4
    rate: float | None = None
    uncertain: str | None = None


@dataclass
class Counts:
    """What became of the rows; `earlier` ones were finished by an earlier run, `repeated` ones handed in again."""

    sent: int = 0
    repeated: int = 0
    rejected: int = 0
    earlier_sent: int = 0
    earlier_rejected: int = 0

    @property
    def rows(self) -> int:
        return self.sent + self.repeated + self.rejected + self.earlier_sent + self.earlier_rejected


@dataclass
class _Open:
    """A chunk of which calls are under way."""

    chunk: Chunk
    left: int
    sent: int = 0
    repeated: int = 0
    batches: list[str] = field(default_factory=list)


class Sending:
    """One run. Set `interrupted` to end it: what is under way is answered first."""

    def __init__(self, calls: Calls, state: SendState, rejects: Rejects, plan: Plan, shown: Shown) -> None:
        self._calls, self._state, self._rejects, self._plan, self._shown = calls, state, rejects, plan, shown
        self.counts = Counts()
        self.interrupted = False
        self._lock = threading.Lock()  # the files, the counts, and what is left of a chunk
        self._slots = threading.BoundedSemaphore(plan.concurrency)
        self._failure: BaseException | None = None
        self._next_at = time.monotonic()

    def run(self, chunks: Iterable[Chunk]) -> None:
        """Hands in every chunk that is not finished. Raises Stopped when interrupted, ReceiverError when stuck."""
        with ThreadPoolExecutor(self._plan.concurrency, "send") as threads:
            try:
                for chunk in chunks:
                    self._take(chunk, threads)
            except BaseException as error:
                self._failure = self._failure or error
                self._calls.stopping.set()
                if self.interrupted:
                    self._shown.note("stopping: waiting for the calls in flight")
            for _ in range(self._plan.concurrency):  # the last calls may still have to be tried again
                while not self._slots.acquire(timeout=LOOK_SECONDS):
                    if self.interrupted:
                        self._calls.stopping.set()
        if self._failure is not None:
            raise self._failure
        if self._calls.stopping.is_set():
            raise Stopped

    def _take(self, chunk: Chunk, threads: ThreadPoolExecutor) -> None:
        with self._lock:
            if known := self._state.finished(chunk):
                self.counts.earlier_sent += known.sent
                self.counts.earlier_rejected += known.rejected
                self._shown.advance(chunk.rows)
                return
            if self._state.is_too_old(chunk, datetime.now(UTC)):
                self._decide(chunk)
            self._state.begin(chunk, datetime.now(UTC))
            self._shown.advance(len(chunk.rejected))
            opened = _Open(chunk, len(chunk.calls))
            if not chunk.calls:
                self._finish(opened)
        for call in chunk.calls:
            self._pace(len(call.entries))
            self._wait(lambda seconds: self._slots.acquire(timeout=seconds))
            future = threads.submit(self._work, opened, call)
            if not self._calls.answered:  # the first goes alone: what is wrong with all is learned once
                self._wait(partial(_done, future))

    def _decide(self, chunk: Chunk) -> None:
        """Sends or sets aside rows of which nobody knows whether they were sent. Raises ReceiverError if not told."""
        if self._plan.uncertain is None:
            raise ReceiverError(
                f"rows {chunk.first} to {chunk.last} were begun more than a day ago and never answered: they may have "
                "been sent. Look for one of them with `receiver show`, then say --uncertain send or --uncertain skip"
            )
        if self._plan.uncertain == "skip":
            chunk.rejected += [(entry.row, MAY_HAVE_BEEN_SENT) for call in chunk.calls for entry in call.entries]
            chunk.calls = []

    def _pace(self, messages: int) -> None:
        if self._plan.rate is None:
            return
        self._wait(lambda seconds: not self._calls.stopping.wait(min(seconds, self._due())) and not self._due())
        self._next_at = max(time.monotonic(), self._next_at) + messages / self._plan.rate

    def _due(self) -> float:
        return max(0.0, self._next_at - time.monotonic())

    def _wait(self, done: Callable[[float], bool]) -> None:
        """Returns when `done`, which waits for the seconds given, says so. Raises Stopped."""
        while True:
            if self.interrupted or self._calls.stopping.is_set():
                raise Stopped
            if done(LOOK_SECONDS):
                return

    def _work(self, opened: _Open, call: Call) -> None:
        try:
            handed = self._calls.hand_in(call)
            with self._lock:
                opened.left -= 1
                opened.sent += handed.sent
                opened.repeated += handed.repeated
                opened.batches += [handed.batch_id] if handed.batch_id else []
                opened.chunk.rejected += handed.rejected
                self._shown.advance(len(call.entries))
                if not opened.left:
                    self._finish(opened)
        except Stopped:
            pass
        except BaseException as error:
            self._failure = self._failure or error
            self._calls.stopping.set()
        finally:
            self._slots.release()

    def _finish(self, opened: _Open) -> None:
        chunk = opened.chunk
        chunk.rejected.sort(key=lambda rejected: rejected[0].number)
        self._rejects.write(chunk.rejected)
        self._state.finish(chunk, opened.batches, opened.sent, datetime.now(UTC))
        self.counts.sent += opened.sent - opened.repeated
        self.counts.repeated += opened.repeated
        self.counts.rejected += len(chunk.rejected)


def _done(future: "Future[None]", seconds: float) -> bool:
    try:
        future.result(timeout=seconds)
    except TimeoutError:
        return False
    return True
