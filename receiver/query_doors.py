"""The doors of those who ask, and what works for them: as `app` builds them into a house."""

from starlette.routing import Route

from receiver.access.keys import Keys
from receiver.database.pool import Pool
from receiver.house import House
from receiver.queries.routes import QueryDoor

READERS = 8  # connections at most, each made when it is needed


async def open_queries(house: House, read_pool: Pool, keys: Keys) -> list[Route]:
    """The doors of the room `queries`, with pools and workers of their own."""
    return [*QueryDoor(read_pool, keys).routes()]
