"""The door of those who search: GET /v1/messages, many by filters, in keyset pages."""

import contextlib

import asyncpg
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.access.keys import Keys
from receiver.database.pool import Pool
from receiver.ids import TenantId
from receiver.openapi import Operation, Parameter
from receiver.queries import search
from receiver.queries.cursors import cursor_of, query_of, read_cursor
from receiver.queries.filters import PARAMETERS, Filters, read_filters
from receiver.queries.places import Places
from receiver.queries.totals import Total, total
from receiver.queries.views import Message, message_fields
from receiver.web import JsonResponse, Problem

SMALL = 200  # messages on a page that a look-up by a name shows without a place for costly reads
# That a look-up by a name may read. A name that a hundred thousand bear needs longer: it goes on as the costly ones do.
QUICK_SECONDS = 0.5


class FoundMessages(msgspec.Struct):
    """A page of messages, in the order that was asked for; where the next one begins; how many there are, if asked."""

    messages: list[Message]
    next_cursor: str | None
    total: Total | None = None


OPERATIONS = (
    Operation(
        "GET",
        "/v1/messages",
        "find_messages",
        "Find messages, newest first.",
        {200: ("A page of messages.", FoundMessages)},
        scope="read",
        parameters=[Parameter(name, meaning) for name, meaning in PARAMETERS.items()],
        codes={503: ("search_too_long", "reads_under_way")},
    ),
)


def took_too_long() -> Problem:
    """What is said of a search that was stopped by Postgres's clock."""
    title = "The search read for ten seconds and was stopped: give it a name, or a time."
    return Problem(503, "search_too_long", title, headers={"retry-after": "60"})


class SearchDoor:
    """The door of searches. Look-ups by a name have connections of their own: nobody's wide search is before them."""

    def __init__(self, quick: Pool, costly: Pool, keys: Keys, places: Places) -> None:
        self._quick, self._costly, self._keys, self._places = quick, costly, keys, places

    def routes(self) -> list[Route]:
        """The routes of this door."""
        return [Route("/v1/messages", self.find, methods=["GET"])]

    async def find(self, request: Request) -> Response:
        """A page of messages."""
        caller = await self._keys.require(request, "read")
        parameters = request.query_params
        filters = read_filters(
            parameters, lambda text: read_cursor(text, query_of(parameters.multi_items(), caller.tenant))
        )
        if isinstance(filters, list):
            raise Problem(400, "bad_parameter", "A parameter is wrong.", filters)
        query = query_of(parameters.multi_items(), caller.tenant)
        quick = filters.is_named and not filters.changed and filters.limit <= SMALL
        if quick:
            with contextlib.suppress(search.ReadsLong):
                return JsonResponse(await self._page(self._quick, caller.tenant, filters, query, QUICK_SECONDS))
        async with self._places.one():
            return JsonResponse(await self._page(self._costly, caller.tenant, filters, query))

    async def _page(
        self, pool: Pool, tenant: TenantId, filters: Filters, query: str, seconds: float | None = None
    ) -> FoundMessages:
        try:
            async with pool.acquire() as connection:
                found = await search.many(connection, tenant, filters, seconds)
                number = await total(connection, tenant, filters, found) if filters.total else None
        except asyncpg.QueryCanceledError:
            raise took_too_long() from None
        messages = [Message(**message_fields(row)) for row in found.rows]  # type: ignore[arg-type]
        return FoundMessages(messages, cursor_of(found.next, query) if found.next else None, number)
