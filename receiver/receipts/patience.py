"""How long the door waits for a body: one timer for all requests, for a timer for each costs more than its token."""

import asyncio

LOOKS = 16  # in the time that is allowed: who waits too long waits a sixteenth longer at most


class Patience:
    """Cancels each task that has begun to wait and not ended after `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: dict[asyncio.Task[object], float] = {}  # the oldest first
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> "asyncio.Task[object]":
        """The present task begins to wait. It must hand what it gets to `end`, whatever happens."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        self._since[task] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._seconds / LOOKS, self._look, loop)
        return task

    def end(self, task: "asyncio.Task[object]") -> None:
        """It waits no more."""
        self._since.pop(task, None)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        latest = loop.time() - self._seconds
        for task, since in self._since.items():
            if since > latest:
                break
            task.cancel()
        self._timer = loop.call_later(self._seconds / LOOKS, self._look, loop) if self._since else None
