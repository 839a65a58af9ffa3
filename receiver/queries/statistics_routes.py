"""The door of statistics: GET /v1/stats/delivery."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import asyncpg
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.access.keys import Keys
from receiver.database.pool import Pool
from receiver.ids import TenantId
from receiver.messages.lattice import Channel
from receiver.openapi import Operation, Parameter
from receiver.queries import statistics
from receiver.queries.places import Places
from receiver.queries.statistics import Found
from receiver.queries.statistics_asked import MOST_GROUPS, PARAMETERS, Asked, read_asked
from receiver.queries.statistics_views import Deliveries, deliveries_of
from receiver.waits import Waits
from receiver.web import FieldError, JsonResponse, Problem

OPERATIONS = (
    Operation(
        "GET",
        "/v1/stats/delivery",
        "delivery_statistics",
        "How well messages are delivered: counts, rates and times, by group.",
        {200: ("The figures of each group.", Deliveries)},
        scope="read",
        parameters=[Parameter(name, meaning) for name, meaning in PARAMETERS.items()],
        codes={400: ("too_many_groups",), 503: ("statistics_too_long", "reads_under_way")},
    ),
)


class StatisticsDoor:
    """The door of statistics, which takes a place among the costly reads.

    `waits` say when the figures of a group hardly change any more; `now` ends the time that is asked for.
    """

    def __init__(
        self,
        pool: Pool,
        keys: Keys,
        places: Places,
        tenants: Mapping[TenantId, str],
        waits: Mapping[Channel, Waits],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._pool, self._keys, self._places, self._now = pool, keys, places, now
        self._tenants, self._waits = tenants, waits

    def routes(self) -> list[Route]:
        """The routes of this door."""
        return [Route("/v1/stats/delivery", self.deliveries, methods=["GET"])]

    async def deliveries(self, request: Request) -> Response:
        """What became of the messages of a time, by group."""
        caller = await self._keys.require(request, "read")
        asked = read_asked(request.query_params, self._now)
        if isinstance(asked, list):
            raise Problem(400, "bad_parameter", "A parameter is wrong.", asked)
        found = await self._found(caller.tenant, asked)
        if len(found.groups) > MOST_GROUPS:
            detail = f"more than {MOST_GROUPS} groups: ask for a shorter time, use a filter, or group by less"
            errors = [FieldError("by", "too_many_groups", detail)]
            raise Problem(400, "too_many_groups", "These are too many groups.", errors)
        tenant = self._tenants.get(caller.tenant, "")
        return JsonResponse(await deliveries_of(found, asked, tenant))

    async def _found(self, tenant: TenantId, asked: Asked) -> Found:
        try:
            async with self._places.one(), self._pool.acquire() as connection:
                return await statistics.deliveries(connection, tenant, asked, self._waits)
        except asyncpg.QueryCanceledError:
            title = "These figures took ten seconds to read and were stopped: ask for a shorter time, or latency=false."
            raise Problem(503, "statistics_too_long", title, headers={"retry-after": "60"}) from None
