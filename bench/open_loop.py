"""An open loop: requests go out at times that were fixed before, whether the earlier ones were answered or not.

A process of its own, `python -m bench.open_loop <plan.json>`. What is measured runs from the time at which a request
was meant to go out: one that waits here for a free connection has waited all the same. So a stall is not hidden.
"""

import json
import random
import re
import select
import socket
import subprocess
import sys
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.wrk import post

LEAD = 0.5  # seconds before the first request
PATIENCE = 30.0  # seconds after the last one
SIZE = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Plan:
    """What is sent. `requests` names the file of whole requests, or of the parts of which they are made (`each`)."""

    port: int
    rate: float
    number: int
    connections: int
    requests: str
    each: bool
    seed: int = 1


@dataclass(frozen=True)
class Outcome:
    """For each request when it was due (seconds of the monotonic clock), its milliseconds and its status.

    The status is 0 where none came, and 1 for a 503 that did not say when to come again.
    """

    due: "array[float]"
    millis: "array[float]"  # from the time at which it was due
    door: "array[float]"  # from the time at which it went out
    status: "array[int]"

    def of(self, status: int) -> list[float]:
        """The sorted milliseconds of the answers with this status."""
        return sorted(took for took, got in zip(self.millis, self.status, strict=True) if got == status)

    def of_door(self, status: int) -> list[float]:
        """The same from the time at which they went out."""
        return sorted(took for took, got in zip(self.door, self.status, strict=True) if got == status)

    def sent(self) -> list[float]:
        """When those went out that were answered, in the order in which they were due."""
        each = zip(self.due, self.millis, self.door, self.status, strict=True)
        return [due + (millis - door) / 1000 for due, millis, door, status in each if status]

    def never_sent(self) -> int:
        """How many waited for a free connection until the end."""
        return sum(1 for door, status in zip(self.door, self.status, strict=True) if not status and not door)

    def statuses(self) -> Counter[int]:
        """How many answers of each status."""
        return Counter(self.status)


def launch(plan: Plan, folder: Path) -> "subprocess.Popen[bytes]":
    """Starts it; `outcome` reads what it found when it has ended."""
    file = folder / "plan.json"
    file.write_text(json.dumps(asdict(plan)))
    return subprocess.Popen([sys.executable, "-m", "bench.open_loop", str(file)])


def outcome(process: "subprocess.Popen[bytes]", folder: Path) -> Outcome:
    """Waits for its end. Raises RuntimeError if it failed."""
    if process.wait():
        raise RuntimeError("the open loop failed")
    raw = (folder / "plan.outcome").read_bytes()
    columns = array("d"), array("d"), array("d"), array("H")
    number, at = len(raw) // sum(column.itemsize for column in columns), 0
    for column in columns:
        column.frombytes(raw[at : at + number * column.itemsize])
        at += number * column.itemsize
    return Outcome(*columns)


def _requests(plan: Plan) -> Callable[[int], bytes]:
    raw, made, at = Path(plan.requests).read_bytes(), [], 0
    while at < len(raw):
        size = int(raw[at : at + 8])
        made.append(raw[at + 8 : at + 8 + size])
        at += 8 + size
    if plan.each:
        return made.__getitem__
    # Distinct receipts of the same messages: each has a time of its own.
    parts = [part.split(b"\n", 2) for part in made]

    def request(n: int) -> bytes:
        path, head, tail = parts[n % len(parts)]
        return post(path.decode(), b"%s2026-01-01T%02d:%02d:%02d.%03dZ%s" % (head, *_clock(n), tail))

    return request


def _clock(n: int) -> tuple[int, int, int, int]:
    seconds, millis = divmod(n, 1000)
    return seconds // 3600 % 24, seconds // 60 % 60, seconds % 60, millis


class Loop:
    """The sockets and the clock."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.request = plan, _requests(plan)
        self.poller = select.epoll()
        self.sockets: dict[int, socket.socket] = {}
        self.free: list[socket.socket] = []
        self.under_way: dict[int, int] = {}
        self.pieces: dict[int, bytes] = {}
        self.waiting: deque[int] = deque()
        for _ in range(plan.connections):  # before: to open one takes longer than an answer
            self.free.append(self._open())
        pause = random.Random(plan.seed).expovariate
        due, at = array("d"), time.perf_counter() + LEAD
        for _ in range(plan.number):
            at += pause(plan.rate)
            due.append(at)
        self.due, self.millis, self.door = due, array("d", bytes(8 * plan.number)), array("d", bytes(8 * plan.number))
        self.status = array("H", bytes(2 * plan.number))

    def run(self) -> None:
        """Sends all, and waits for the last answers."""
        following, number, due = 0, self.plan.number, self.due
        while following < number or self.under_way or self.waiting:
            now = time.perf_counter()
            while following < number and due[following] <= now:
                self.waiting.append(following)
                following += 1
            while self.waiting and (self.free or len(self.sockets) < self.plan.connections):
                self._send(self.free.pop() if self.free else self._open(), self.waiting.popleft())
            pause = due[following] - time.perf_counter() if following < number else due[-1] + PATIENCE - now
            if pause < -PATIENCE and following == number:
                return
            # select counts in microseconds, epoll in milliseconds.
            if pause > 0 and not select.select([self.poller.fileno()], [], [], pause)[0]:
                if following == number:
                    return
                continue
            for descriptor, _ in self.poller.poll(0):
                self._receive(descriptor)

    def _open(self) -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", self.plan.port))
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sockets[opened.fileno()] = opened
        self.poller.register(opened.fileno(), select.EPOLLIN)
        return opened

    def _send(self, connection: socket.socket, n: int) -> None:
        self.under_way[connection.fileno()] = n
        self.door[n] = time.perf_counter()
        connection.sendall(self.request(n))

    def _receive(self, descriptor: int) -> None:
        """Takes what came; an answer may come in pieces."""
        connection = self.sockets[descriptor]
        try:
            came = connection.recv(4096)
        except ConnectionError:
            came = b""
        if came:
            said = self.pieces.pop(descriptor, b"") + came
            head, end, body = said.partition(b"\r\n\r\n")
            size = SIZE.search(head)
            if not end or (size and len(body) < int(size[1])):
                self.pieces[descriptor] = said
                return
            if (n := self.under_way.pop(descriptor, None)) is not None:
                now = time.perf_counter()
                self.millis[n], self.door[n] = (now - self.due[n]) * 1000, (now - self.door[n]) * 1000
                status = int(head[9:12])
                self.status[n] = 1 if status == 503 and b"retry-after:" not in head.lower() else status
            if b"connection: close" not in head.lower():
                self.free.append(connection)
                return
        self.under_way.pop(descriptor, None)
        self.pieces.pop(descriptor, None)
        if connection in self.free:
            self.free.remove(connection)
        del self.sockets[descriptor]
        connection.close()


def main() -> None:
    """Runs the plan that the command line names."""
    file = Path(sys.argv[1])
    plan: dict[str, Any] = json.loads(file.read_text())
    try:
        loop = Loop(Plan(**plan))
        loop.run()
    except ConnectionError as error:
        raise SystemExit(f"the open loop: {error}") from None
    with file.with_suffix(".outcome").open("wb") as out:
        for column in (loop.due, loop.millis, loop.door, loop.status):
            column.tofile(out)


if __name__ == "__main__":
    main()
