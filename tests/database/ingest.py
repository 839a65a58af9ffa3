"""Receipts that come in while something else is done."""

import asyncio
import time
from threading import Event, Thread

import httpx2

from tests.receipts.tellings import body
from tests.support import eventually

AT_ONCE = 8


class Ingest:
    """Receipts of new messages, told one after the other by a few; each answer and its time are kept."""

    def __init__(self, url: str, name: str) -> None:
        self.url, self.name = url, name
        self.acknowledged: list[str] = []
        self.refused: list[int] = []
        self.longest = 0.0
        self._over = Event()
        self._thread = Thread(target=lambda: asyncio.run(self._tell_all()))

    def __enter__(self) -> "Ingest":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join(60)

    def more(self, number: int = 100) -> None:
        """Waits until so many more have been answered."""
        enough = len(self.acknowledged) + number
        eventually(lambda: len(self.acknowledged) >= enough or self.refused, seconds=60)

    async def _tell_all(self) -> None:
        async def tell(http: httpx2.AsyncClient, teller: int) -> None:
            number = 0
            while not self._over.is_set():
                number += 1
                transid = f"{self.name}-{teller}-{number}"
                info = {"deliveryChannel": "SMS", "deliveryStatus": "Delivered", "destination": "447700900001"}
                began = time.monotonic()
                answer = await http.post(self.url, content=body(info, transid))
                self.longest = max(self.longest, time.monotonic() - began)
                if answer.status_code == 200:
                    self.acknowledged.append(transid)
                else:
                    self.refused.append(answer.status_code)

        async with httpx2.AsyncClient(trust_env=False, timeout=30) as http:
            await asyncio.gather(*(tell(http, teller) for teller in range(AT_ONCE)))
