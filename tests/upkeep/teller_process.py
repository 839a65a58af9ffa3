"""One of several processes that tell of the same messages while others fold: `python -m tests.upkeep.teller_process DSN
TENANT SEED`.

They tell and answer what `tests.receipts.answerer` plans, with carriers; some receipts as an older version would have
read them, so that a re-read has something to correct.
"""

import asyncio
import random
import sys

from receiver.database.pool import open_pool
from receiver.ids import MessageId, TenantId, new_id
from receiver.messages.lattice import Fact
from receiver.messages.told import Feed, Told
from receiver.receipts.apply import apply
from tests.receipts.answerer import Plan, answer, plans
from tests.support import now
from tests.upkeep.rereading import OlderTables

OLDER = OlderTables(facts={"Failed": Fact.DELIVERED})
CARRIERS = (None, "EE", "Three", "Vodafone")


def as_told(told: Told) -> Told:
    """With a carrier, and perhaps misread: the same in every process."""
    first, second = told.fingerprint[:2]
    told = told._replace(carrier=CARRIERS[first % len(CARRIERS)], fresh=MessageId(new_id()))
    return OLDER.read(told) if second % 3 == 0 else told


async def tell_all(dsn: str, tenant: TenantId, seed: int) -> None:
    """Tells everything twice and answers most of it, in an order of this process's own, over two connections."""
    rnd = random.Random(seed)
    pool = await open_pool(dsn, "teller", 2, writer=True)
    async with pool.acquire() as connection:
        planned = await plans(connection, tenant)

    async def tell(group: list[Told]) -> None:
        async with pool.acquire() as connection:
            await apply(connection, new_id(), now(), Feed.PUSH, [as_told(told) for told in group])

    async def file(members: list[Plan]) -> None:
        await answer(pool, tenant, members)

    everything = [told for plan in planned for told in plan.told] * 2
    rnd.shuffle(everything)
    steps = [tell(everything[n : n + 15]) for n in range(0, len(everything), 15)]
    for n, submission in enumerate(dict.fromkeys(plan.submission for plan in planned)):
        if n % 3 != seed:  # answered by one process
            steps.append(file([plan for plan in planned if plan.submission == submission]))
    rnd.shuffle(steps)
    await asyncio.gather(*steps)
    await pool.close()


if __name__ == "__main__":
    asyncio.run(tell_all(sys.argv[1], TenantId(int(sys.argv[2])), int(sys.argv[3])))
