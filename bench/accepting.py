"""How fast POST /v1/messages accepts: beside a door that does nothing, in turns, in one run.

`python -m bench.accepting [--rounds 5] [--seconds 2]`. The tenant's platform is not there, so that nothing but the
accepting works.
"""

import argparse
import asyncio
import itertools
import json
import statistics
import time

from bench.stage import Caller, request_bytes, stage
from tests.support import receiver_process

AT_ONCE = 16
BATCHES = (1, 10, 100, 1_000)

_numbers = itertools.count(447_000_000_000)


def body_of(size: int) -> bytes:
    """A request for `size` recipients that nobody was sent to before."""
    destination = [{"msisdn": [str(next(_numbers))]} for _ in range(size)]
    block = {"sms": {"text": "Your parcel is on its way", "senderid": "PARCEL"}}
    return json.dumps({"deliverychannel": "sms", "channels": block, "destination": destination}).encode()


async def rate(port: int, key: str, size: int, seconds: float) -> float:
    """Requests a second of AT_ONCE callers; size 0 asks the door that does nothing."""
    callers = [await Caller("127.0.0.1", port).open() for _ in range(AT_ONCE)]
    begun = time.perf_counter()
    done = 0

    async def call(caller: Caller) -> None:
        nonlocal done
        while time.perf_counter() - begun < seconds:
            if size:
                asked = request_bytes("POST", "/v1/messages", body_of(size), authorization=f"Bearer {key}")
            else:
                asked = request_bytes("GET", "/livez")
            status, answer = await caller.ask(asked)
            assert status == (202 if size else 200), answer[:500]
            done += 1

    await asyncio.gather(*(call(caller) for caller in callers))
    took = time.perf_counter() - begun
    for caller in callers:
        await caller.close()
    return done / took


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    chosen = parser.parse_args()
    with stage() as (database, folder), receiver_process(database, folder, RECEIVER_RATE_LIMIT="0") as receiver:
        key, port = database.key(), int(receiver.url.rpartition(":")[2])
        found: dict[int, list[float]] = {size: [] for size in (0, *BATCHES)}
        for _ in range(chosen.rounds):  # in turns: what else the machine does meets all of them
            for size, rates in found.items():
                rates.append(asyncio.run(rate(port, key, size, chosen.seconds)))
        accepted = database.value("select count(*) from message")
        assert accepted == database.value("select count(*) from change"), "each message has its birth in the log"
        assert accepted == database.value("select sum(message_count) from outbox"), "and waits to be sent"
    idle = statistics.median(found[0])
    print("| batch | requests/s | messages/s | of a door that does nothing |")
    print("|---|---|---|---|")
    for size in BATCHES:
        requests = statistics.median(found[size])
        print(f"| {size:,} | {requests:,.0f} | {requests * size:,.0f} | {requests / idle:.2f} |")
    print(f"\n{idle:,.0f} requests/s of GET /livez; {accepted:,} messages accepted, each found in the change log.")


if __name__ == "__main__":
    main()
