"""The doors of those who ask for one message: GET /v1/messages/{id}, at once or when it has changed, and explain."""

from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.access.keys import Keys
from receiver.database.pool import Pool
from receiver.ids import TenantId
from receiver.messages.lattice import Channel
from receiver.openapi import Header, Operation, Parameter
from receiver.queries import one_message
from receiver.queries.explain import Explanation, explain
from receiver.queries.one_message import Whole
from receiver.queries.views import MessageWithTimeline, whole_message
from receiver.queries.waiting import PARAMETERS, Until, WaitingRoom, Watch, read_wish
from receiver.waits import Waits
from receiver.web import FieldError, JsonResponse, Problem

ID = Parameter("id", "The message's id.", "path", {"type": "string", "format": "uuid"})
ENDED = Header("X-Wait", "How the wait ended: met, timeout, draining, gone.")
OPERATIONS = (
    Operation(
        "GET",
        "/v1/messages/{id}",
        "get_message",
        "One message: did it arrive, if not why, and everything that was told of it; at once, or once it is so far.",
        {
            200: ("The message with its timeline.", MessageWithTimeline),
            304: ("It is as the ETag in If-None-Match says.", None),
        },
        scope="read",
        parameters=[
            ID,
            Parameter("wait", PARAMETERS["wait"], schema={"type": "number", "exclusiveMinimum": 0, "maximum": 60}),
            Parameter(
                "until", PARAMETERS["until"], schema={"type": "string", "enum": [until.value for until in Until]}
            ),
            Parameter("If-None-Match", "ETags of what is known already.", "header"),
        ],
        codes={404: ("message_not_found",), 503: ("too_many_waiters",)},
        headers={200: ("ETag", ENDED), 304: ("ETag", ENDED)},
    ),
    Operation(
        "GET",
        "/v1/messages/{id}/explain",
        "explain_message",
        "Why a message is in its state: each receipt, its rule, what it changed, and what is still expected.",
        {200: ("The explanation.", Explanation)},
        scope="read",
        parameters=[ID],
        codes={404: ("message_not_found",)},
    ),
)


class QueryDoor:
    """The doors of one message. Their pool is their own: reading never takes a connection from the intake."""

    def __init__(
        self, pool: Pool, keys: Keys, watch: Watch, waiting_room: WaitingRoom, waits: Mapping[Channel, Waits]
    ) -> None:
        self._pool, self._keys, self._watch, self._room, self._waits = pool, keys, watch, waiting_room, waits

    def routes(self) -> list[Route]:
        """The routes of these doors."""
        return [
            Route("/v1/messages/{id}", self.get, methods=["GET"]),
            Route("/v1/messages/{id}/explain", self.explain, methods=["GET"]),
        ]

    async def get(self, request: Request) -> Response:
        """One message with its timeline; a merged id answers with the issued message and says so."""
        caller = await self._keys.require(request, "read")
        asked, wish, known = read_id(request), read_wish(request.query_params), known_tags(request)
        tenant = caller.tenant

        async def read() -> Whole:
            return await self._whole(tenant, asked)

        if wish is None:
            tag = await self._tag(tenant, asked) if known else None
            if tag is not None and ("*" in known or tag in known):
                return Response(status_code=304, headers=_headers(tag))
            found = await read()
            return JsonResponse(whole_message(found, asked), headers=_headers(found.mark.tag))
        found, ended = await self._room.wait(
            self._watch, read, asked, wish, known - {"*"}, request, alike=(tenant, asked)
        )
        if not await self._keys.is_good(caller):
            raise Problem(
                401, "unauthorized", "This API key is not good any more.", headers={"www-authenticate": "Bearer"}
            )
        headers = _headers(found.mark.tag) | {"x-wait": ended.value}
        if found.mark.tag in known:
            return Response(status_code=304, headers=headers)
        return JsonResponse(whole_message(found, asked), headers=headers)

    async def explain(self, request: Request) -> Response:
        """Why the message is in its state, and what is still expected."""
        caller = await self._keys.require(request, "read")
        asked = read_id(request)
        read_nothing(request.query_params)
        async with (
            self._pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),  # the state is that of these receipts
        ):
            row = await one_message.one(connection, caller.tenant, asked)
            if row is None:
                raise not_there()
            told, cut = await one_message.arrivals(connection, row["id"])
            held = await one_message.held(connection, row)
        waits = self._waits[Channel(row["channel"])]
        return JsonResponse(explain(row, told, cut, held, waits, datetime.now(UTC), asked))

    async def _whole(self, tenant: TenantId, asked: UUID) -> Whole:
        async with self._pool.acquire() as connection:
            found = await one_message.whole(connection, tenant, asked)
        if found is None:
            raise not_there()
        return found

    async def _tag(self, tenant: TenantId, asked: UUID) -> str | None:
        """The present ETag of a message, in one round trip or, for one that was merged, two."""
        async with self._pool.acquire() as connection:
            seen = await one_message.mark(connection, tenant, asked, asked)
            if seen is not None and seen.merged_into is not None:
                seen = await one_message.mark(connection, tenant, seen.merged_into, asked)
        return seen.tag if seen is not None else None


def read_id(request: Request, name: str = "id") -> UUID:
    """The id in the path. Raises Problem 400."""
    text = request.path_params[name]
    try:
        return UUID(text if len(text) <= 64 else "")
    except ValueError:
        errors = [FieldError(name, "bad_id", "an id looks like 0199c3f2-5a1b-7c3d-8e4f-0123456789ab")]
        raise Problem(400, "bad_id", "That is no id.", errors) from None


def read_nothing(given: QueryParams) -> None:
    """Raises Problem 400 that names every parameter: this door takes none."""
    errors = [
        FieldError(name[:64], "unknown_parameter", "this door takes no parameters")
        for name in list(dict.fromkeys(given))[:100]
    ]
    if errors:
        raise Problem(400, "bad_parameter", "A parameter is wrong.", errors)


def known_tags(request: Request) -> frozenset[str]:
    """The ETags that the client has, as If-None-Match compares them: weak ones like strong ones."""
    text = ",".join(request.headers.getlist("if-none-match"))
    return frozenset(tag for part in text.split(",") if (tag := part.strip().removeprefix("W/")))


def not_there() -> Problem:
    """There is no such message within the tenant."""
    return Problem(404, "message_not_found", "There is no message with this id.")


def _headers(tag: str) -> dict[str, str]:
    """What a client needs to ask again cheaply; a cache in between must ask too."""
    return {"etag": tag, "cache-control": "private, no-cache"}
