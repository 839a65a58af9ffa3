"""How a process is told to end: by signals, and when its end hangs, by force. Knows no worker."""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

log = logging.getLogger("receiver.workers")

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # SIGHUP: the terminal was closed
LONGEST_END_SECONDS = 19.5
HURRY_SECONDS = 5.0  # after a second signal: to cut off the workers, close connections, stop an embedded Postgres


def heard_signals() -> list[signal.Signals]:
    """The stop signals, but for a SIGHUP that whoever started us has us ignore: nohup does."""
    return [n for n in STOP_SIGNALS if n != signal.SIGHUP or signal.getsignal(n) is not signal.SIG_IGN]


class Stopping:
    """Hears the stop signals while it is entered, also before there is a server. The second one means: at once.

    Afterwards they mean what they meant before: what is left to do then must not be killed by one.
    """

    def __init__(self) -> None:
        self.asked, self.at_once = asyncio.Event(), asyncio.Event()
        self._since: float | None = None
        self.signals = 0
        self.first: signal.Signals | None = None
        self._on_stop: list[Callable[[], None]] = []
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Stopping":
        for number in heard_signals():
            self._before[number] = signal.getsignal(number)
            asyncio.get_running_loop().add_signal_handler(number, self._heard, number)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            asyncio.get_running_loop().remove_signal_handler(number)
            if handler is not None:
                signal.signal(number, handler)

    def when_asked(self, do: Callable[[], None]) -> None:
        """Calls `do` at each stop signal, and now if there has been one."""
        self._on_stop.append(do)
        if self.asked.is_set():
            do()

    def stop(self) -> float:
        """Begins the end, as the first signal does. Returns the loop's time at which it began."""
        if self._since is None:
            self._since = asyncio.get_running_loop().time()
        self.asked.set()
        return self._since

    def _heard(self, number: signal.Signals) -> None:
        self.signals += 1
        self.first = self.first or number
        if self.signals > 1:
            self.at_once.set()
        self.stop()
        for do in self._on_stop:
            do()


class LastResort:
    """Ends the process when its end hangs. Nothing acknowledged is lost by it: that is durable already."""

    def __init__(self, seconds: float = LONGEST_END_SECONDS) -> None:
        self._seconds = seconds
        self._timer: threading.Timer | None = None
        self._hurries = False

    def begin(self, code: int, *, at_once: bool = False) -> None:
        """From now on there are so many seconds, or with `at_once` a few; then it is gone, with this exit code."""
        if self._timer is not None and (self._hurries or not at_once):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._hurries = at_once
        seconds = min(self._seconds, HURRY_SECONDS) if at_once else self._seconds
        self._timer = threading.Timer(seconds, self._leave, (code,))
        self._timer.daemon = True
        self._timer.start()

    @staticmethod
    def _leave(code: int) -> None:
        log.critical("end_hangs", extra={"reason": "the process is ended by force"})
        os._exit(code)
