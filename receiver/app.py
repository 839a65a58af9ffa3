"""The one module that builds every room: pools, workers, routes, and the order of closing."""

import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Protocol

import asyncpg
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from receiver import frame
from receiver.access.entrance import Entrance
from receiver.access.keys import Keys
from receiver.access.last_use import LastUse
from receiver.access.platform_callers import PlatformCallers
from receiver.access.tenants import Tenants
from receiver.access.tokens import NotifyTokens
from receiver.contract import Contract
from receiver.database.pool import NOT_THERE, Pools
from receiver.duties import open_duties
from receiver.forwarding.forwarder import Forwarder
from receiver.house import House, writers_of
from receiver.openapi import Operation
from receiver.platform import envelope
from receiver.platform.client import PlatformClient
from receiver.queries import (
    batch_routes,
    export_routes,
    platform_status,
    search_routes,
    statistics_routes,
    stream_routes,
)
from receiver.queries import routes as query_routes
from receiver.queries.platform_status import StatusDoor
from receiver.query_doors import READERS, open_queries
from receiver.receipts import contract as receipts_contract
from receiver.receipts import import_routes, ledger_routes, quarantine_routes
from receiver.receipts.breaker import Breaker
from receiver.receipts.drain import Drain, can_commit
from receiver.receipts.import_routes import MOST_AT_ONCE, ImportDoor
from receiver.receipts.intake import Intake
from receiver.receipts.ledger_routes import LedgerDoor
from receiver.receipts.quarantine_routes import QuarantineDoor
from receiver.receipts.routes import NotifyDoor
from receiver.receipts.spool import Spool
from receiver.receipts.spool_held import installation_of
from receiver.sending import drop_in
from receiver.sending import routes as sending_routes
from receiver.sending.dispatcher import Dispatcher
from receiver.sending.drop_in import DropInDoor
from receiver.sending.routes import SendingDoor
from receiver.sending.slots import most_under_way
from receiver.settings import Settings
from receiver.upkeep.gate import Gate
from receiver.upkeep.pulse import Pulse
from receiver.web import Ahead, Faults, Problem, RequestIds, failed, not_found, problem_response

log = logging.getLogger("receiver.app")

OPERATIONS: Sequence[Operation] = (
    *sending_routes.OPERATIONS,
    *search_routes.OPERATIONS,
    *export_routes.OPERATIONS,
    *query_routes.OPERATIONS,
    *batch_routes.OPERATIONS,
    *stream_routes.OPERATIONS,
    *statistics_routes.OPERATIONS,
    *quarantine_routes.OPERATIONS,
    *import_routes.OPERATIONS,
    *ledger_routes.OPERATIONS,
    *drop_in.OPERATIONS,
    *platform_status.OPERATIONS,
    *receipts_contract.OPERATIONS,
    *frame.OPERATIONS,
)

# Connections at most, each made when it is needed.
LIVE = 1  # the intake's group
SENDERS = 8
IMPORTERS = MOST_AT_ONCE  # one for each import under way: never one of the writers'
FORWARDERS = 2  # one claims, settles and tidies; one to spare


@contextlib.asynccontextmanager
async def open_house(settings: Settings, dsn: str, secret: str, *, must_be_there: bool = True) -> AsyncIterator[House]:
    """Builds every room that the roles ask for, and closes the pools at the end. Raises DatabaseError in one sentence.

    The database is open by then; without `must_be_there` it may still be away, and the worker `gate` opens it later.
    """
    tenants = Tenants(settings.tenants)
    async with contextlib.AsyncExitStack() as stack:
        pools = Pools(dsn)
        stack.push_async_callback(pools.close)
        write_pool = await pools.add("upkeep", writers_of(settings.roles), writer=True)
        gate = Gate(dsn, write_pool, tenants)
        await (gate.open() if must_be_there else gate.first_try())
        house = House(settings, tenants, NotifyTokens(secret, settings.secret_previous), gate, pools, write_pool)
        house.workers += [("gate", gate), ("pulse", Pulse(await pools.add("pulse", 1, writer=True)))]
        await open_duties(house, stack)
        notify = await _receipts(house, stack, secret)
        doors = await _sending(house, stack)  # it may wait for the platform, and what follows for servers of others
        await _forwarding(house)
        if notify and settings.notify_port:
            own = Starlette(routes=notify, exception_handlers={404: _nothing_here})
            house.app = _application(house, doors)
            house.served = frame.ByPort(settings.notify_port, _first(notify, own), house.app)
        else:
            house.app = _application(house, [*doors, *notify])
            house.served = _first(notify, house.app)
        yield house


def _first(notify: Sequence[Route], app: ASGIApp) -> ASGIApp:
    """`app`, and the receipts door before it, where there is one."""
    return Ahead(app, "/notify/", "token", notify[0].endpoint) if notify else app


async def _sending(house: House, stack: contextlib.AsyncExitStack) -> list[Route]:
    """The dispatcher, and the doors of the API."""
    settings, tenants = house.settings, house.tenants
    if not (house.has("api") or house.has("dispatch")):
        return []
    send_pool = await house.pools.add("sending", SENDERS, writer=True)
    connections = most_under_way(settings.dispatch_concurrency)
    client = await stack.enter_async_context(PlatformClient(settings.platform_timeout, connections))
    house.dispatcher = dispatcher = Dispatcher(
        send_pool,
        client,
        tenants,
        house.tokens,
        settings.public_url,
        concurrency=settings.dispatch_concurrency,
        timeout=settings.platform_timeout,
        keep_content=settings.keep_content,
        lease=timedelta(seconds=settings.lease),
        claims_outbox=house.has("dispatch"),
    )
    house.behind("dispatcher", dispatcher)
    if not house.has("api"):
        return []
    read_pool = await house.pools.add("queries", READERS, writer=False)
    keys = Keys(read_pool, rate=settings.rate_limit)
    house.behind("last use", LastUse(house.write_pool, keys))
    callers = PlatformCallers(settings.tenants, tenants, keys)
    sending = SendingDoor(
        send_pool,
        keys,
        tenants,
        dispatcher.wake,
        settings.max_body,
        entries=settings.entries_per_call,
        keep_content=settings.keep_content,
    )
    dropped_in = DropInDoor(
        send_pool,
        callers,
        tenants,
        dispatcher,
        max_body=settings.max_body,
        entries=settings.entries_per_call,
        timeout=settings.platform_timeout,
        lease=timedelta(seconds=settings.lease),
    )
    keeping = (QuarantineDoor(read_pool, house.write_pool, keys, tenants), LedgerDoor(read_pool, keys, house.spool))
    own = (sending, *keeping, await _imports(house, keys))
    asking = await open_queries(house, read_pool, keys)
    return [
        *frame.closed_until(lambda: house.gate.is_open, [*asking, *routes_of(*own)], _not_open),
        *frame.closed_until(
            lambda: house.gate.is_open, routes_of(dropped_in, StatusDoor(read_pool, callers)), _not_open_in_its_words
        ),
    ]


async def _imports(house: House, keys: Keys) -> ImportDoor:
    """The door for files of receipts, with connections of its own."""
    return ImportDoor(
        await house.pools.add("imports", IMPORTERS, writer=True),
        keys,
        house.tenants,
        most_bytes=house.settings.import_mb * 1024 * 1024,
        largest=house.settings.max_body,
        live=lambda: house.intake is not None and house.intake.is_busy,
        draining=lambda: house.draining,
    )


async def _receipts(house: House, stack: contextlib.AsyncExitStack, secret: str) -> list[Route]:
    """The receipts door, its intake and its spool."""
    if not house.has("notify"):
        return []
    settings, pool = house.settings, house.write_pool
    if settings.spool is not None:
        secrets = [one for one in (secret, settings.secret_previous) if one]
        spool = Spool(settings.spool, settings.spool_mb * 1024 * 1024, [installation_of(one) for one in secrets])
        await spool.open()
        stack.push_async_callback(spool.close)
        breaker = Breaker(lambda: can_commit(pool, spool))
        house.spool, house.breaker = spool, breaker
    live = await house.pools.add("receipts", LIVE, writer=True)
    house.intake = intake = Intake(live, house.tenants.names, spool=house.spool, breaker=house.breaker)
    house.workers.append(("intake", intake))
    if house.spool and house.breaker:
        house.workers.append(("breaker", house.breaker))
        drain = Drain(
            pool,
            house.tenants,
            house.spool,
            house.breaker,
            live=lambda: intake.is_busy,
            opened=lambda: house.gate.is_open,
        )
        house.workers.append(("drain", drain))
    return routes_of(NotifyDoor(house.tokens, house.at_the_door, house.intake, house.settings.max_body))


async def _forwarding(house: House) -> None:
    if house.has("dispatch"):
        settings = house.settings
        house.forwarder = Forwarder(
            await house.pools.add("forwarding", FORWARDERS, writer=True),
            house.tenants,
            concurrency=settings.forward_concurrency,
            most_waiting=settings.forward_queue,
        )
        house.behind("forwarder", house.forwarder)
        house.early.append(house.forwarder)


class Door(Protocol):
    """The doors of a room."""

    def routes(self) -> list[Route]:
        """Their routes."""


def routes_of(*doors: Door) -> list[Route]:
    """The routes of several doors."""
    return [route for door in doors for route in door.routes()]


def _application(house: House, doors: Sequence[Route]) -> Starlette:
    return Starlette(
        routes=[
            *frame.one_a_path(doors),
            Route("/livez", frame.livez),
            Route("/readyz", house.readyz),
            Route("/metrics", frame.scrape),
            *Contract(OPERATIONS).routes(),
        ],
        middleware=[
            Middleware(RequestIds),
            Middleware(Entrance, origins=house.settings.cors_origins),
            Middleware(Faults),
        ],
        exception_handlers={
            Problem: problem_response,
            404: not_found,
            405: not_found,
            asyncpg.PostgresError: _database_away,
            **dict.fromkeys(NOT_THERE, _database_away),
            500: failed,
        },
    )


async def _nothing_here(request: Request, error: Exception) -> Response:
    """The port that faces the internet tells nothing of the other doors."""
    return Response("not found\n", 404, media_type="text/plain")


async def _database_away(request: Request, error: Exception) -> Response:
    """A door that needs the database, and it does not answer."""
    route = request.scope.get("route")
    log.error("database_failed", extra={"reason": type(error).__name__, "door": getattr(route, "path", None)})
    return await _not_open(request)


async def _not_open(request: Request) -> Response:
    problem = Problem(503, "database_away", "The database does not answer: try again.", headers={"retry-after": "5"})
    return await problem_response(request, problem)


async def _not_open_in_its_words(request: Request) -> Response:
    """A drop-in door: its client reads the envelope that it knows."""
    return Response(envelope.refusal(envelope.FAULT), 503, {"retry-after": "5"}, "application/json")
