"""The doors of those who ask: GET /v1/messages and GET /v1/messages/{id}."""

from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.access.keys import Keys
from receiver.database.pool import Pool
from receiver.messages.lattice import Channel
from receiver.openapi import Operation, Parameter
from receiver.queries import search
from receiver.queries.filters import PARAMETERS, read_filters
from receiver.queries.views import Attempt, Message, MessageWithTimeline, Page, child_of, entry_of, message_fields
from receiver.web import FieldError, JsonResponse, Problem

OPERATIONS = (
    Operation(
        "GET",
        "/v1/messages",
        "find_messages",
        "Find messages, newest first.",
        {200: ("A page of messages.", Page)},
        scope="read",
        parameters=[Parameter(name, meaning) for name, meaning in PARAMETERS.items()],
        problems=(400, 401, 403, 503),
    ),
    Operation(
        "GET",
        "/v1/messages/{id}",
        "get_message",
        "One message: did it arrive, if not why, and everything that was told of it.",
        {200: ("The message with its timeline.", MessageWithTimeline)},
        scope="read",
        parameters=[Parameter("id", "The message's id.", "path", {"type": "string", "format": "uuid"})],
        problems=(400, 401, 403, 404, 503),
    ),
)


class QueryDoor:
    """The doors of the room `queries`. Their pool is their own: reading never takes a connection from the intake."""

    def __init__(self, pool: Pool, keys: Keys) -> None:
        self._pool, self._keys = pool, keys

    def routes(self) -> list[Route]:
        """The routes of these doors."""
        return [
            Route("/v1/messages", self.find, methods=["GET"]),
            Route("/v1/messages/{id}", self.get, methods=["GET"]),
        ]

    async def find(self, request: Request) -> Response:
        """A page of messages."""
        caller = await self._keys.require(request, "read")
        parameters = request.query_params
        query = repr(sorted((k, v) for k, v in parameters.multi_items() if k not in ("cursor", "limit")))
        filters = read_filters(parameters, lambda text: search.read_cursor(text, query))
        if isinstance(filters, list):
            raise Problem(400, "bad_parameter", "A parameter is wrong.", filters)
        async with self._pool.acquire() as connection:
            found = await search.many(connection, caller.tenant, filters)
        messages = [Message(**message_fields(row)) for row in found.rows]  # type: ignore[arg-type]
        return JsonResponse(Page(messages, search.cursor_of(found.next_before, query) if found.next_before else None))

    async def get(self, request: Request) -> Response:
        """One message with its timeline; a merged id answers with the issued message and says so."""
        caller = await self._keys.require(request, "read")
        try:
            identity = asked = UUID(request.path_params["id"])
        except ValueError:
            errors = [FieldError("id", "bad_id", "a message's id looks like 0199c3f2-5a1b-7c3d-8e4f-0123456789ab")]
            raise Problem(400, "bad_id", "That is no id of a message.", errors) from None
        async with self._pool.acquire() as connection:
            row = await search.one(connection, caller.tenant, identity)
            if row is not None and row["merged_into"] is not None:
                identity = row["merged_into"]
                row = await search.one(connection, caller.tenant, identity)
            if row is None:
                raise Problem(404, "message_not_found", "There is no message with this id.")
            told, attempts = await search.timeline(connection, identity)
            is_event = row["channel"] == Channel.EVENT
            resent_as = await search.resent_as(connection, identity)
            children = await search.children(connection, caller.tenant, identity) if is_event else ()
        message = MessageWithTimeline(
            **message_fields(row),  # type: ignore[arg-type]
            merged_from=str(asked) if asked != identity else None,
            resent_as=str(resent_as) if resent_as else None,
            children=[child_of(child) for child in children],
            attempts=[Attempt(**dict(attempt)) for attempt in attempts],
            timeline=[entry_of(entry) for entry in told],
        )
        return JsonResponse(message)
