"""One of several processes that tell the same receipts at once.

`python -m tests.receipts.racer DSN TENANT SEED ROTATE`. With ROTATE 1 each round of births waits for a generation of
keys of its own.

Prints nothing; its exit code says whether every group was applied. The receipts are those of `lives(seed)`, which is
the same in every process; the order and the groups are this process's own.
"""

import asyncio
import random
import sys

from receiver.database.pool import open_pool
from receiver.ids import MessageId, TenantId, new_id
from receiver.messages.told import Feed, Told
from receiver.receipts.apply import apply
from tests.receipts.tellings import body, told_of
from tests.support import now

MESSAGES = 250
ROUNDS = 4
GENERATION = "select current from key_generation"


def lives(tenant: TenantId) -> dict[str, list[Told]]:
    """What is told of each message: the same in every process."""
    from tests.receipts.test_apply_properties import life_of

    rnd = random.Random(7)
    return {f"r{n}": [told_of(body(i, f"r{n}"), tenant) for i in life_of(rnd)] for n in range(MESSAGES)}


async def race(dsn: str, tenant: TenantId, seed: int, rotating: bool) -> None:
    """Applies everything twice, in an order and in groups of its own, over two connections."""
    rnd = random.Random(seed)
    messages = list(lives(tenant).values())
    pool = await open_pool(dsn, "racer", 2, writer=True)

    async def one(group: list[Told]) -> None:
        async with pool.acquire() as connection:
            fresh = [told._replace(fresh=MessageId(new_id())) for told in group]
            await apply(connection, new_id(), now(), Feed.PUSH, fresh)

    for n in range(ROUNDS):
        while rotating and await pool.fetchval(GENERATION) <= n:  # noqa: ASYNC110 (another process begins it)
            await asyncio.sleep(0.01)
        everything = [told for group in messages[n::ROUNDS] for told in group] * 2
        rnd.shuffle(everything)
        groups = []
        while everything:
            size = rnd.randrange(1, 90)
            groups.append(everything[:size])
            del everything[:size]
        await asyncio.gather(*(one(group) for group in groups))
    await pool.close()


if __name__ == "__main__":
    asyncio.run(race(sys.argv[1], TenantId(int(sys.argv[2])), int(sys.argv[3]), sys.argv[4:] == ["1"]))
