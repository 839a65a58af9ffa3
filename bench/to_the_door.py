"""How long a message takes from its 202 to the platform's door: `python -m bench.to_the_door`.

A real `receiver serve`; the platform is a bare socket in this process, so that both times are read from one clock.
Messages are handed in one after the other (quiet), and by 8 callers without a pause (busy).
"""

import argparse
import asyncio
import json
import statistics
import time
from uuid import uuid4

from bench.accepting import body_of
from bench.stage import Caller, request_bytes, stage
from tests.support import receiver_process

CALLERS, PAUSE = 8, 0.02


class Door:
    """The platform's door: when each message came, by our id."""

    def __init__(self) -> None:
        self.came: dict[str, float] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes calls on one connection and answers each at once."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                body = await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
                now = time.perf_counter()
                for entry in json.loads(body)["destination"]:
                    self.came[entry["correlationid"]] = now
                said = b'{"response":[{"code":"1001","transid":"%s","description":"Queued"}]}' % str(uuid4()).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(said) + said)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


async def hand_in(port: int, key: str, number: int, callers: int, pause: float) -> dict[str, float]:
    """When each of so many messages was answered 202, by its id."""
    answered: dict[str, float] = {}

    async def call() -> None:
        caller = await Caller("127.0.0.1", port).open()
        for _ in range(number // callers):
            asked = request_bytes("POST", "/v1/messages", body_of(1), authorization=f"Bearer {key}")
            status, said = await caller.ask(asked)
            assert status == 202, said
            answered[json.loads(said)["messages"][0]["id"]] = time.perf_counter()
            await asyncio.sleep(pause)
        await caller.close()

    await asyncio.gather(*(call() for _ in range(callers)))
    return answered


async def measure(door: Door, port: int, key: str, quiet: int, busy: int) -> None:
    """Prints the table. A message may be at the platform before its 202 was read: that counts as 0."""
    print("| | messages | median ms | 95 % | 99 % |")
    print("|---|---|---|---|---|")
    for name, number, callers, pause in (("quiet", quiet, 1, PAUSE), ("busy", busy, CALLERS, 0.0)):
        answered = await hand_in(port, key, number, callers, pause)
        deadline = time.perf_counter() + 60
        while not answered.keys() <= door.came.keys():
            assert time.perf_counter() < deadline, "not all came to the door"
            await asyncio.sleep(0.05)
        waits = [max(door.came[identity] - at, 0.0) * 1000 for identity, at in answered.items()]
        cuts = statistics.quantiles(waits, n=100)
        print(f"| {name} | {len(waits):,} | {cuts[49]:.1f} | {cuts[94]:.1f} | {cuts[98]:.1f} |")


def main() -> None:
    """Measures with a receiver of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quiet", type=int, default=300)
    parser.add_argument("--busy", type=int, default=2_000)
    chosen = parser.parse_args()

    async def work(door: Door) -> None:
        server = await asyncio.start_server(door.serve, "127.0.0.1", 0)
        platform = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        loop = asyncio.get_running_loop()
        process = receiver_process(database, folder, platform_url=platform, RECEIVER_RATE_LIMIT="0")
        receiver = await loop.run_in_executor(None, process.__enter__)
        try:
            await measure(door, int(receiver.url.rpartition(":")[2]), key, chosen.quiet, chosen.busy)
        finally:
            await loop.run_in_executor(None, process.__exit__, None, None, None)
            server.close()

    with stage() as (database, folder):
        key = database.key()
        asyncio.run(work(Door()))


if __name__ == "__main__":
    main()
