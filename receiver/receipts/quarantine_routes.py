"""The keeper's doors to the quarantine: GET /v1/quarantine, one body of it, and its replay. Admins only."""

import asyncio
import re
from collections.abc import Collection
from datetime import UTC

import asyncpg
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.access.keys import Caller, Keys
from receiver.access.tenants import Tenants
from receiver.asked_time import asked_time
from receiver.database.pool import Pool
from receiver.openapi import TIME, YES_NO, Operation, Parameter, several, whole, words
from receiver.receipts import quarantine
from receiver.receipts.quarantine import REPLAYED, Mark, Place, Wanted, cursor_of, parse_place, read_cursor
from receiver.receipts.quarantine_views import (
    EXAMPLE,
    PREVIEW_BYTES,
    QUARANTINE_ID,
    REASONS,
    REPLAY_EXAMPLE,
    Quarantined,
    QuarantinePage,
    ReplayResult,
    quarantined,
    replay_result,
)
from receiver.receipts.replay import replay
from receiver.web import FieldError, JsonResponse, Problem

DEFAULT_LIMIT, MOST_LIMIT = 50, 1_000
MOST_VALUES = 100
CHOSEN = {"true": True, "false": False, "yes": True, "no": False}

FILTERS = {
    "reason": Parameter(
        "reason", "Why it is there; may be given several times.", schema=several(words(*REASONS)), example=["xml"]
    ),
    "replayed": Parameter(
        "replayed",
        f"What its last replay came to: {', '.join(REPLAYED)}; may be given several times.",
        schema=several(words(*REPLAYED)),
    ),
    "from": Parameter("from", "Told at or after this time (RFC 3339, with a zone).", schema=TIME),
    "to": Parameter("to", "Told before this time (RFC 3339, with a zone).", schema=TIME),
    "limit": Parameter(
        "limit",
        f"Bodies on a page: 1 to {MOST_LIMIT}, {DEFAULT_LIMIT} by default.",
        schema=whole(1, MOST_LIMIT, DEFAULT_LIMIT),
    ),
    "cursor": Parameter("cursor", "Where the page begins: next_cursor of the page before."),
}
CHOICES = {
    "dry_run": Parameter("dry_run", "true: tell what would happen, and write nothing.", schema=YES_NO, example=True),
    "believe": Parameter(
        "believe",
        "true: take it as if it had come in by the tenant's own URL, so that a forged one is applied.",
        schema=YES_NO,
    ),
}
IDENTITY = Parameter("id", "The id of the body, as the list tells it.", "path", QUARANTINE_ID, EXAMPLE["id"])
NOT_FOUND = {404: ("quarantine_not_found",)}

OPERATIONS = (
    Operation(
        "GET",
        "/v1/quarantine",
        "list_quarantine",
        "Bodies in which no receipt could be read or believed, newest first.",
        {200: ("A page of bodies, each cut short.", QuarantinePage)},
        scope="admin",
        description=f"Each body is cut at {PREVIEW_BYTES} bytes. They hold phone numbers.",
        parameters=list(FILTERS.values()),
        examples={200: {"quarantine": [EXAMPLE], "next_cursor": None}},
    ),
    Operation(
        "GET",
        "/v1/quarantine/{id}",
        "get_quarantined",
        "One body, whole.",
        {200: ("The body.", Quarantined)},
        scope="admin",
        parameters=[IDENTITY],
        codes=NOT_FOUND,
        examples={200: EXAMPLE},
    ),
    Operation(
        "POST",
        "/v1/quarantine/{id}/replay",
        "replay_quarantined",
        "Read it anew and apply what is in it, or tell what would happen.",
        {200: ("What happened to each receipt in it, or would.", ReplayResult)},
        scope="admin",
        description="Takes no body. Replaying again is harmless: it finds duplicates.",
        parameters=[IDENTITY, *CHOICES.values()],
        codes={400: ("body_cut_off",), **NOT_FOUND},
        examples={200: REPLAY_EXAMPLE},
    ),
)


class QuarantineDoor:
    """The doors to the quarantine. A body holds phone numbers: the scope is `admin`, the tenant the caller's own."""

    def __init__(self, read_pool: Pool, write_pool: Pool, keys: Keys, tenants: Tenants) -> None:
        self._read_pool, self._write_pool, self._keys, self._tenants = read_pool, write_pool, keys, tenants
        # A replay takes one connection of the writers, never two: the receipts door needs the others.
        self._one_replay = asyncio.Semaphore(1)

    def routes(self) -> list[Route]:
        """The routes of these doors."""
        return [
            Route("/v1/quarantine", self.find, methods=["GET"]),
            Route("/v1/quarantine/{id}", self.get, methods=["GET"]),
            Route("/v1/quarantine/{id}/replay", self.replay, methods=["POST"]),
        ]

    async def find(self, request: Request) -> Response:
        """A page of bodies."""
        caller = await self._keys.require(request, "admin")
        parameters = request.query_params
        shown = (caller.tenant, *sorted((k, v) for k, v in parameters.multi_items() if k not in ("cursor", "limit")))
        wanted, limit, after = read_filters(parameters, repr(shown))
        async with self._read_pool.acquire() as connection:
            found = await quarantine.page(connection, caller.tenant, wanted, limit, PREVIEW_BYTES, after)
        cursor = cursor_of(found.next_after, repr(shown)) if found.next_after else None
        return JsonResponse(QuarantinePage([quarantined(row) for row in found.rows], cursor))

    async def get(self, request: Request) -> Response:
        """One body, whole."""
        caller = await self._keys.require(request, "admin")
        return JsonResponse(quarantined(await self._row(request, caller)))

    async def replay(self, request: Request) -> Response:
        """Reads one anew and applies it, or tells what would happen."""
        caller = await self._keys.require(request, "admin")
        choices = await _choices(request)
        row = await self._row(request, caller)
        settings = self._tenants.settings_of(caller.tenant)
        zone = settings.zone if settings else UTC
        async with self._one_replay, self._write_pool.acquire() as connection:
            done = await replay(
                connection, row, zone, self._tenants.names, dry_run=choices["dry_run"], believe=choices["believe"]
            )
        return JsonResponse(replay_result(done))

    async def _row(self, request: Request, caller: Caller) -> asyncpg.Record:
        place = place_in(request.path_params["id"])
        async with self._read_pool.acquire() as connection:
            row = await quarantine.one(connection, caller.tenant, place)
        if row is None:
            raise Problem(404, "quarantine_not_found", "There is no body with this id in the quarantine.")
        return row


def place_in(text: str) -> Place:
    """The place of an id. Raises Problem 400 for what is none."""
    place = parse_place(text)
    if place is None:
        errors = [
            FieldError("id", "bad_id", "an id of the quarantine looks like 20261116-0123456789abcdef0123456789abcdef")
        ]
        raise Problem(400, "bad_id", "That is no id of a body in the quarantine.", errors)
    return place


def read_filters(parameters: QueryParams, query: str) -> tuple[Wanted, int, Mark | None]:
    """Which bodies, how many, and from where on. Raises Problem 400 naming every parameter that is wrong."""
    errors = _unknown(parameters, FILTERS)
    reasons = parameters.getlist("reason")
    if not all(re.fullmatch(r"[a-z_]{1,40}", reason) for reason in reasons):
        errors.append(FieldError("reason", "bad_parameter", "it takes a reason such as xml: see docs/quarantine.md"))
    replayed = parameters.getlist("replayed")
    if not set(replayed) <= set(REPLAYED):
        errors.append(FieldError("replayed", "bad_parameter", f"it takes one of {', '.join(REPLAYED)}"))
    told_from, told_to = (asked_time(name, parameters.get(name), errors) for name in ("from", "to"))
    if told_from and told_to and told_from >= told_to:
        errors.append(FieldError("to", "bad_parameter", "it is not after `from`"))
    limit = parameters.get("limit", str(DEFAULT_LIMIT))
    if not re.fullmatch(r"[0-9]{1,5}", limit, re.ASCII) or not 1 <= int(limit) <= MOST_LIMIT:
        errors.append(FieldError("limit", "bad_parameter", f"it takes a number from 1 to {MOST_LIMIT}"))
    after = read_cursor(parameters["cursor"], query) if "cursor" in parameters else None
    if after is None and "cursor" in parameters:
        errors.append(FieldError("cursor", "bad_cursor", "it is no cursor of this query: begin without one"))
    if errors:
        raise Problem(400, "bad_parameter", "A parameter is wrong.", errors)
    return Wanted(reasons or None, replayed or None, told_from, told_to), int(limit), after


def _unknown(parameters: QueryParams, known: Collection[str]) -> list[FieldError]:
    """What is wrong with the names of parameters; only a list may be given several times."""
    items = parameters.multi_items()
    if len(items) > MOST_VALUES:
        raise Problem(
            400,
            "bad_parameter",
            "A parameter is wrong.",
            [FieldError("", "too_many_parameters", f"{len(items)} parameters, {MOST_VALUES} at most")],
        )
    names = dict.fromkeys(name for name, _ in items)
    errors = [
        FieldError(name[:64], "unknown_parameter", f"it takes {', '.join(known)}")
        for name in names
        if name not in known
    ]
    for name in names:
        if name in known and name not in ("reason", "replayed") and len(parameters.getlist(name)) > 1:
            errors.append(FieldError(name, "bad_parameter", "it takes one value"))
    return errors


async def _choices(request: Request) -> dict[str, bool]:
    """dry_run and believe. Raises Problem 400 for anything else: what is overlooked would be applied in earnest."""
    parameters = request.query_params
    errors = _unknown(parameters, CHOICES)
    for name in CHOICES:
        if parameters.get(name, "false") not in CHOSEN:
            errors.append(FieldError(name, "bad_parameter", "it takes true or false"))
    try:
        async for part in request.stream():
            if part:
                said = "it takes no body: the choices stand in the query, ?dry_run=true"
                errors.append(FieldError("", "bad_parameter", said))
                break
    except ClientDisconnect:  # nobody reads the answer
        raise Problem(400, "body_cut_off", "The body ended before it was complete.") from None
    if errors:
        raise Problem(400, "bad_parameter", "A parameter is wrong.", errors)
    return {name: CHOSEN[parameters.get(name, "false")] for name in CHOICES}
