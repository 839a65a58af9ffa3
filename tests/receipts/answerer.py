"""One of several processes in a race of receipts and answers: `python -m tests.receipts.answerer DSN TENANT SEED`.

All processes tell the same receipts of the same issued messages, by every way in which a receipt finds its message,
each in an order of its own. A third of the answers is filed by all of them, the others by all but one.
"""

import asyncio
import random
import sys
from dataclasses import dataclass

import asyncpg

from receiver.database.pool import Connection, Pool, open_pool
from receiver.ids import MessageId, SubmissionId, TenantId, leg_digest, new_id
from receiver.messages.store import connect as file_under
from receiver.messages.store import may_try_again
from receiver.messages.told import Feed, Told, transid_digest
from receiver.receipts.apply import apply
from tests.receipts.tellings import body, told_of
from tests.support import now

SUBMISSIONS = 50
NUMBERS = ("447700900001", "447700900002", "447700900003")
ISSUED = "select id, submission_id, destination from message where origin = 1 order by id"


@dataclass(frozen=True)
class Plan:
    """What is told of one issued message, and under which transid it is answered."""

    message: MessageId
    submission: SubmissionId
    number: str
    transid: str
    told: list[Told]


async def plans(connection: Connection, tenant: TenantId) -> list[Plan]:
    """The same for every process: what is told of each message that is in the database."""
    rnd = random.Random(11)
    submissions: dict[SubmissionId, str] = {}
    made = []
    for row in await connection.fetch(ISSUED):
        transid = submissions.setdefault(row["submission_id"], f"x{len(submissions)}")
        odd = len(submissions) % 2  # found by its transid alone
        told = []
        for _ in range(rnd.randrange(1, 6)):
            info = {
                "deliveryChannel": "SMS",
                "deliveryStatus": rnd.choice(("Submitted", "Delivered", "Undelivered", "Failed", "Clicked")),
                "destination": row["destination"],
                "code": rnd.choice(("", "7101", "7207")),
                "subtid": rnd.choice(("5", "6")) if odd else rnd.choice(("", "", "5")),
                "timeStamp": f"2026-03-01T12:{rnd.randrange(60):02}:00Z",
            }
            ways = ("transid",) if odd else ("transid", "transid", "our id", "our url")
            way = rnd.choice(ways)
            raw = body(info, transid, str(row["id"]) if way == "our id" else "")
            told.append(told_of(raw, tenant, row["submission_id"] if way == "our url" else None))
        made.append(Plan(row["id"], row["submission_id"], row["destination"], transid, told))
    return made


async def answer(pool: Pool, tenant: TenantId, members: list[Plan]) -> None:
    """Files the messages of one submission under their transid, trying again after a deadlock or a merge."""
    keys = [(transid_digest(p.transid), leg_digest("", p.number), p.message) for p in members]
    while True:
        try:
            async with pool.acquire() as connection, connection.transaction():
                await file_under(connection, now(), tenant, keys)
            return
        except asyncpg.PostgresError as error:
            if not may_try_again(error):
                raise


async def race(dsn: str, tenant: TenantId, seed: int) -> None:
    """Tells and answers everything, in an order of this process's own, over three connections."""
    rnd = random.Random(seed)
    pool = await open_pool(dsn, "answerer", 3, writer=True)
    async with pool.acquire() as connection:
        planned = await plans(connection, tenant)

    async def tell(group: list[Told]) -> None:
        async with pool.acquire() as connection:
            fresh = [told._replace(fresh=MessageId(new_id())) for told in group]
            await apply(connection, new_id(), now(), Feed.PUSH, fresh)

    everything = [told for plan in planned for told in plan.told]
    rnd.shuffle(everything)
    steps = [tell(everything[n : n + 25]) for n in range(0, len(everything), 25)]
    for n, submission in enumerate(dict.fromkeys(plan.submission for plan in planned)):
        if n % 3 == seed:  # answered by one process
            continue
        steps.append(answer(pool, tenant, [plan for plan in planned if plan.submission == submission]))
    rnd.shuffle(steps)
    await asyncio.gather(*steps)
    await pool.close()


if __name__ == "__main__":
    asyncio.run(race(sys.argv[1], TenantId(int(sys.argv[2])), int(sys.argv[3])))
