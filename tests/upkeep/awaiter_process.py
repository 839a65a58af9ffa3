"""A worker in a process of its own, to be killed: rounds without end on the database whose address it is given."""

import asyncio
import sys

from receiver.database.pool import open_pool
from receiver.upkeep.awaiter import Awaiter
from receiver.waits import DEFAULTS


async def main(dsn: str) -> None:
    """Rounds until it is killed."""
    pool = await open_pool(dsn, "awaiter", 2, writer=True)
    worker = Awaiter(pool, {}, DEFAULTS)
    while True:
        await worker.once()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
