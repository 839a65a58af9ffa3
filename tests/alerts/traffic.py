"""Steady traffic: what a few applications of several tenants send to several countries, day in, day out."""

import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

import httpx2

from tests.sending.platforms import sms

COUNTRIES: Final = {"GB": "447911", "ES": "346001", "FR": "336121", "DE": "491511"}
PER_CALL: Final = 2  # messages
CALLS_A_SECOND: Final = 5.0  # of each tenant


class Traffic:
    """Calls with messages to each country in turn. Whoever is away is tried again with the next call."""

    def __init__(self, url: str, keys: Mapping[str, str]) -> None:
        self._url, self._keys = url, keys
        self._ended = threading.Event()
        self.answers: Counter[int] = Counter()
        """By HTTP status; 0: there was none."""

    def run(self) -> None:
        """Sends until end()."""
        numbers = itertools.count()
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(self._client(key)) for key in self._keys.values()]
            for country in itertools.cycle(COUNTRIES.values()):
                due = time.monotonic() + 1 / CALLS_A_SECOND
                for client in clients:
                    self.answers[_send(client, [f"{country}{next(numbers):06}" for _ in range(PER_CALL)])] += 1
                if self._ended.wait(max(0.0, due - time.monotonic())):
                    return

    def end(self) -> None:
        """Sends no more."""
        self._ended.set()

    def _client(self, key: str) -> httpx2.Client:
        headers = {"authorization": f"Bearer {key}"}
        return httpx2.Client(base_url=self._url, headers=headers, trust_env=False, timeout=5)


def _send(client: httpx2.Client, numbers: list[str]) -> int:
    try:
        return client.post("/v1/messages", json=sms(*numbers)).status_code
    except httpx2.HTTPError:
        return 0


@contextlib.contextmanager
def traffic(url: str, keys: Mapping[str, str]) -> Iterator[Traffic]:
    """20 messages a second of two tenants, from a thread. `keys` by tenant."""
    made = Traffic(url, keys)
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        yield made
    finally:
        made.end()
        thread.join(30)


@contextlib.contextmanager
def garbage(url: str, a_second: float = 5.0) -> Iterator[None]:
    """Bodies in which nobody can read a receipt, posted to the receipts door."""
    ended = threading.Event()

    def run() -> None:
        with httpx2.Client(trust_env=False, timeout=10) as client:
            for number in itertools.count():
                assert client.post(url, content=b"<html>not a receipt %d</html>" % number).status_code == 200
                if ended.wait(1 / a_second):
                    return

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(30)
