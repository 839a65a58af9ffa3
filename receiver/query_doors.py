"""The doors of those who ask, and what works for them: as `app` builds them into a house."""

from starlette.routing import Route

from receiver.access.keys import Keys
from receiver.database.pool import Pool
from receiver.house import House
from receiver.messages.patience import waits_of
from receiver.queries.batch_routes import BatchDoor
from receiver.queries.export_routes import ExportDoor
from receiver.queries.places import PLACES, Places
from receiver.queries.routes import QueryDoor
from receiver.queries.search_routes import SearchDoor
from receiver.queries.statistics_routes import StatisticsDoor
from receiver.queries.stream_routes import StreamDoor
from receiver.queries.streaming import READING_AT_ONCE
from receiver.queries.waiting import WaitingRoom
from receiver.queries.watch import Watch

READERS = 8  # connections at most, each made when it is needed
# Never one of those: whoever waits must hear of changes however much is read. One tails, the others catch up.
WATCHERS = 1 + READING_AT_ONCE


async def open_queries(house: House, read_pool: Pool, keys: Keys) -> list[Route]:
    """The doors of the room `queries`, with pools and workers of their own."""
    watching = await house.pools.add("watch", WATCHERS, writer=False)
    watch = Watch(watching)
    house.behind("watch", watch)
    house.early.append(watch)  # streams end before the server waits for them
    room = WaitingRoom(house.settings.waiters)
    house.workers.append(("waiters", room))
    house.early.append(room)  # the server answers what is under way, before its workers are closed
    one = QueryDoor(read_pool, keys, watch, room, waits_of(house.settings.waits))
    stream = StreamDoor(watching, keys, watch, house.settings.streams)
    costly = await house.pools.add("costly queries", PLACES, writer=False)
    places = Places(lambda: house.intake is None or house.intake.is_busy)
    figures = StatisticsDoor(costly, keys, places, house.tenants.names, waits_of(house.settings.waits))
    export = ExportDoor(costly, keys, places, house.settings.exports, lambda: house.draining)
    doors = (
        SearchDoor(read_pool, costly, keys, places),
        export,
        one,
        BatchDoor(read_pool, costly, keys, places),
        stream,
        figures,
    )
    return [route for door in doors for route in door.routes()]
