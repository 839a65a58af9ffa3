"""Who waits for a body to be durable, and what it is told."""

from collections.abc import Sequence
from typing import Protocol

from receiver.access.tokens import PROBE
from receiver.messages.told import Told
from receiver.receipts.arrival import Arrival
from receiver.receipts.receipt import Reading


class NotDurable(Exception):
    """The receipts could not be made durable now: the platform must tell them again."""


class Full(NotDurable):
    """Too many receipts wait already."""


class Waiter(Protocol):
    """Who waits for a body to be durable, as a future does: an exception says that it is not."""

    def done(self) -> bool: ...

    def set_result(self, result: None, /) -> None: ...

    def set_exception(self, exception: BaseException, /) -> None: ...


class Item:
    """One body on its way: as it came, what was read in it (None: nobody could yet), and who waits for it."""

    __slots__ = ("arrival", "bytes", "done", "reading", "since", "size")

    def __init__(self, arrival: Arrival, reading: Reading | None, done: Waiter, since: float) -> None:
        self.arrival, self.reading, self.done, self.since = arrival, reading, done, since
        if reading is None or (len(reading.receipts) == 1 and not reading.rejects) or arrival.tenant == PROBE:
            self.size, self.bytes = 1, len(arrival.body)
        else:
            self.size = len(reading.receipts) + len(reading.rejects)
            self.bytes = sum(len(r.raw) for r in reading.receipts) + sum(len(r.body) for r in reading.rejects)


def answer(group: Sequence[Item]) -> None:
    """Tells their doors that these bodies are durable."""
    for item in group:
        if not item.done.done():  # its client may have gone
            item.done.set_result(None)


def tell_again(group: Sequence[Item], left: Sequence[Told]) -> None:
    """The bodies of these receipts are told again; their other receipts will be duplicates."""
    ids = {id(told) for told in left}
    for item in group:
        if item.reading is not None and any(id(told) in ids for told in item.reading.receipts) and not item.done.done():
            item.done.set_exception(NotDurable("a receipt found no way in"))
