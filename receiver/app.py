"""The one module that knows every room: pools, workers, routes, and the order of closing."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

import asyncpg
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver import metrics, openapi
from receiver.access.keys import Keys
from receiver.access.platform_callers import PlatformCallers
from receiver.access.tenants import Tenants
from receiver.access.tokens import NotifyTokens
from receiver.database.migrate import require_schema
from receiver.database.partitions import days_ahead, ensure_weeks, lock_table_warning
from receiver.database.pool import NOT_THERE, Connection, Pool, can_write, open_pool
from receiver.forwarding.forwarder import Forwarder
from receiver.openapi import Operation, Parameter
from receiver.platform.client import PlatformClient
from receiver.platform.credentials import can_send, messaging_api_of
from receiver.queries import platform_status
from receiver.queries import routes as query_routes
from receiver.queries.platform_status import StatusDoor
from receiver.queries.routes import QueryDoor
from receiver.receipts import quarantine_routes
from receiver.receipts.intake import Intake
from receiver.receipts.quarantine_routes import QuarantineDoor
from receiver.receipts.routes import NotifyDoor
from receiver.sending import drop_in
from receiver.sending import routes as sending_routes
from receiver.sending.dispatcher import Dispatcher
from receiver.sending.drop_in import DropInDoor
from receiver.sending.routes import SendingDoor
from receiver.settings import Settings
from receiver.upkeep.partitions import PartitionKeeper
from receiver.upkeep.quarantine import QuarantineKeeper
from receiver.web import JsonResponse, Problem, RequestIds, failed, not_found, problem_response
from receiver.workers import Worker

log = logging.getLogger("receiver.app")

TOKEN = Parameter("token", "The token of `receiver notify-url`, or of a submission's notifyurl.", "path")
OPERATIONS: Sequence[Operation] = (
    *sending_routes.OPERATIONS,
    *query_routes.OPERATIONS,
    *quarantine_routes.OPERATIONS,
    *drop_in.OPERATIONS,
    *platform_status.OPERATIONS,
    Operation(
        "POST",
        "/notify/{token}",
        "tell_receipts",
        "The platform's receipts. 200 only once they are durable, understood or not.",
        {
            200: ("Durable.", "text/plain"),
            401: ("No token of ours, or not the header or signature that the tenant asks for.", "text/plain"),
            413: ("Over the limit.", "text/plain"),
            503: ("Not durable: tell it again.", "text/plain"),
        },
        parameters=[TOKEN],
        body={"description": "deliveryInfoNotification, in any of its dialects"},
    ),
    Operation(
        "GET",
        "/notify/{token}",
        "test_notifyurl",
        "Test the address by hand.",
        {200: ("The token is good.", "text/plain"), 401: ("No token of ours.", "text/plain")},
        parameters=[TOKEN],
    ),
    Operation(
        "HEAD",
        "/notify/{token}",
        "head_notifyurl",
        "How the platform tests the address.",
        {200: ("The token is good.", None), 401: ("No token of ours.", None)},
        parameters=[TOKEN],
    ),
    Operation("GET", "/livez", "livez", "The process runs.", {200: ("It does.", "text/plain")}),
    Operation(
        "GET",
        "/readyz",
        "readyz",
        "Whether this process can make a receipt durable, and what is wrong elsewhere.",
        {200: ("Ready.", "application/json"), 503: ("Not ready, or draining.", "application/json")},
    ),
    Operation("GET", "/metrics", "metrics", "For Prometheus.", {200: ("The figures.", "text/plain")}),
    Operation("GET", "/openapi.json", "openapi", "This document.", {200: ("OpenAPI 3.1.", "application/json")}),
)


WRITERS = 5  # the intake's group, two of the upkeep, a replay, and one to spare
READERS = 8
SENDERS = 8
FORWARDERS = 2  # one claims, settles and tidies; one to spare


@dataclass
class House:
    """A running receiver: its application, its workers in the order of closing, and what it knows of itself."""

    settings: Settings
    tenants: Tenants
    tokens: NotifyTokens
    intake: Intake
    dispatcher: Dispatcher
    forwarder: Forwarder
    write_pool: Pool
    read_pool: Pool
    workers: list[tuple[str, Worker]]
    app: Starlette = field(init=False)
    draining: bool = False
    warnings: list[str] = field(default_factory=list)

    def drain(self) -> None:
        """From now on /readyz says no: a balancer sends nothing more."""
        self.draining = True

    async def readyz(self, request: Request) -> Response:
        """200 as long as a receipt can be made durable here; all else that is wrong is a warning."""
        warnings = [*self.warnings, *self.dispatcher.trouble.values(), *self._without_platform()]
        warnings += self.forwarder.warnings()
        warnings += self.tenants.unprotected()
        ready = not self.draining and await can_write(self.write_pool)
        if self.draining:
            warnings.insert(0, "this process is draining")
        elif not ready:
            warnings.insert(0, "the database does not answer: receipts are answered 503")
        return JsonResponse({"ready": ready, "warnings": warnings}, 200 if ready else 503)

    def _without_platform(self) -> list[str]:
        return [
            f"tenant {tenant.name} has no platform address or key: it can listen, not send"
            for tenant in self.settings.tenants
            if not can_send(tenant, messaging_api_of(tenant))
        ]


async def livez(request: Request) -> Response:
    """The process runs."""
    return Response("alive\n", media_type="text/plain")


async def scrape(request: Request) -> Response:
    """For Prometheus: touches no table."""
    return Response(metrics.scrape(), media_type=metrics.CONTENT_TYPE)


async def contract(request: Request) -> Response:
    """The OpenAPI document."""
    return JsonResponse(openapi.document(OPERATIONS))


@contextlib.asynccontextmanager
async def open_house(settings: Settings, dsn: str, secret: str) -> AsyncIterator[House]:
    """Connects, builds every room, and closes the pools at the end. Raises DatabaseError in one sentence."""
    tenants = Tenants(settings.tenants)
    tokens = NotifyTokens(secret, settings.secret_previous)
    async with contextlib.AsyncExitStack() as stack:
        write_pool = await _pool(stack, dsn, "intake", WRITERS, writer=True)
        async with write_pool.acquire() as connection:
            await require_schema(connection)
            await tenants.load(connection)
            await tenants.store_forward_to(connection)
            await _ensure_weeks(connection)
            lock_warning = await lock_table_warning(connection)
        send_pool = await _pool(stack, dsn, "sending", SENDERS, writer=True)
        read_pool = await _pool(stack, dsn, "queries", READERS, writer=False)
        client = await stack.enter_async_context(
            PlatformClient(settings.platform_timeout, settings.dispatch_concurrency)
        )
        intake = Intake(write_pool, tenants.names)
        dispatcher = Dispatcher(
            send_pool,
            client,
            tenants,
            tokens,
            settings.public_url,
            concurrency=settings.dispatch_concurrency,
            timeout=settings.platform_timeout,
            keep_content=settings.keep_content,
            lease=timedelta(seconds=settings.lease),
        )
        forwarder = Forwarder(
            await _pool(stack, dsn, "forwarding", FORWARDERS, writer=True),
            tenants,
            concurrency=settings.forward_concurrency,
            most_waiting=settings.forward_queue,
        )
        keeper = PartitionKeeper(write_pool)
        trimmer = QuarantineKeeper(write_pool, settings.quarantine_days, settings.quarantine_mb * 1024 * 1024)
        workers: list[tuple[str, Worker]] = [
            ("dispatcher", dispatcher),
            ("partitions", keeper),
            ("quarantine", trimmer),
            ("intake", intake),
            ("forwarder", forwarder),  # last: it may wait for servers of others
        ]
        house = House(settings, tenants, tokens, intake, dispatcher, forwarder, write_pool, read_pool, workers)
        house.warnings = [lock_warning] if lock_warning else []
        keys = Keys(read_pool)
        callers = PlatformCallers(settings.tenants, tenants, keys)
        house.app = _application(
            house,
            NotifyDoor(tokens, tenants.at_the_door, intake, settings.max_body),
            SendingDoor(
                send_pool,
                keys,
                tenants,
                dispatcher.wake,
                settings.max_body,
                entries=settings.entries_per_call,
                keep_content=settings.keep_content,
            ),
            QueryDoor(read_pool, keys),
            QuarantineDoor(read_pool, write_pool, keys, tenants),
            DropInDoor(
                send_pool,
                callers,
                tenants,
                dispatcher,
                max_body=settings.max_body,
                entries=settings.entries_per_call,
                timeout=settings.platform_timeout,
                lease=timedelta(seconds=settings.lease),
            ),
            StatusDoor(read_pool, callers),
        )
        yield house


async def _ensure_weeks(connection: Connection) -> None:
    """Makes missing weeks; somebody who holds a table is no reason not to start while there are weeks for today."""
    try:
        await ensure_weeks(connection, datetime.now(UTC))
    except asyncpg.LockNotAvailableError:
        if await days_ahead(connection) <= 0:
            raise


async def _pool(stack: contextlib.AsyncExitStack, dsn: str, name: str, size: int, *, writer: bool) -> Pool:
    pool = await open_pool(dsn, name, size, writer=writer)

    async def close() -> None:
        try:
            async with asyncio.timeout(2.0):
                await pool.close()
        except (TimeoutError, asyncpg.PostgresError, *NOT_THERE):
            pool.terminate()

    stack.push_async_callback(close)
    return pool


class Door(Protocol):
    """The doors of a room."""

    def routes(self) -> list[Route]:
        """Their routes."""


def _application(house: House, *doors: Door) -> Starlette:
    return Starlette(
        routes=[
            *(route for door in doors for route in door.routes()),
            Route("/livez", livez),
            Route("/readyz", house.readyz),
            Route("/metrics", scrape),
            Route("/openapi.json", contract),
        ],
        middleware=[Middleware(RequestIds)],
        exception_handlers={
            Problem: problem_response,
            404: not_found,
            405: not_found,
            asyncpg.PostgresError: _database_away,
            **dict.fromkeys(NOT_THERE, _database_away),
            500: failed,
        },
    )


async def _database_away(request: Request, error: Exception) -> Response:
    """A door that needs the database, and it does not answer."""
    route = request.scope.get("route")
    log.error("database_failed", extra={"reason": type(error).__name__, "door": getattr(route, "path", None)})
    problem = Problem(503, "database_away", "The database does not answer: try again.", headers={"retry-after": "5"})
    return await problem_response(request, problem)
