"""The platform of the trouble: tells bodies to receivers, and again on anything but 200, and keeps its own books."""

import asyncio
import contextlib
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import aiohttp

AT_ONCE = 24
PAUSE_SECONDS = 0.12  # of each of them between two bodies, at most: 400 bodies/s where the answers come at once
TRIES = 4  # as the platform: once, and three times more
AGAIN_SECONDS = (0.1, 0.9)  # and not the platform's minute
ANSWER_SECONDS = 10.0  # as the platform's


class Load:
    """Tells the bodies of `lives`, each to one of `urls()` by chance, until it is told to stop."""

    def __init__(
        self, lives: Iterator[bytes], urls: Callable[[], Sequence[str]], seed: int, pause: float = PAUSE_SECONDS
    ) -> None:
        self._lives, self._urls, self._roll, self._pause = lives, urls, random.Random(seed), pause
        self._stopping = threading.Event()
        self.acknowledged: list[bytes] = []
        """Answered 200, each as often as it was."""
        self.sent: Counter[bytes] = Counter()
        """How often each was told, whatever was answered, if anything."""
        self.answers: Counter[str] = Counter()
        """By status; `none` where none came."""
        self.failure: BaseException | None = None

    @contextmanager
    def running(self) -> Iterator["Load"]:
        """In a thread of its own. At the end of the block no new body is begun, and those under way are finished."""
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield self
        finally:
            self._stopping.set()
            thread.join()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        try:
            asyncio.run(self._tell_all())
        except BaseException as error:
            self.failure = error

    async def _tell_all(self) -> None:
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as http, asyncio.TaskGroup() as tellers:
            for _ in range(AT_ONCE):
                tellers.create_task(self._teller(http))

    async def _teller(self, http: aiohttp.ClientSession) -> None:
        while not self._stopping.is_set():
            await self._tell(http, next(self._lives))
            await asyncio.sleep(self._roll.uniform(0, self._pause))

    async def _tell(self, http: aiohttp.ClientSession, body: bytes) -> None:
        for _ in range(TRIES):
            self.sent[body] += 1
            status = "none"
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                async with http.post(self._roll.choice(self._urls()), data=body) as answer:
                    status = str(answer.status)
            self.answers[status] += 1
            if status == "200":
                self.acknowledged.append(body)
                return
            await asyncio.sleep(self._roll.uniform(*AGAIN_SECONDS))
