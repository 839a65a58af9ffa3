"""The door of those who ask for a batch: GET /v1/batches/{batch_id}, one call's messages in figures."""

from collections import Counter
from datetime import UTC, datetime

import asyncpg
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.access.keys import Keys
from receiver.database.pool import Pool
from receiver.messages.lattice import CEILING, POSITIVE_STATES, Channel, State, is_final
from receiver.openapi import Operation, Parameter
from receiver.queries import batch
from receiver.queries.batch import Figures
from receiver.queries.places import Places
from receiver.queries.routes import read_id, read_nothing
from receiver.queries.views import Reason, reason_of
from receiver.web import JsonResponse, Problem

SMALL = 1_000  # messages that are read without a place for costly reads


class Slow(msgspec.Struct):
    """The slowest message of its kind: how many seconds it took, or has waited."""

    id: str
    seconds: float
    state: str


class Slowest(msgspec.Struct):
    """The one that took longest to be delivered, and the one that has been open longest; null where there is none."""

    delivered: Slow | None
    open: Slow | None


class Failure(msgspec.Struct):
    """Messages that did not arrive for one reason; `example` is the id of one of them."""

    state: str
    reason: Reason | None
    messages: int
    example: str


class Batch(msgspec.Struct):
    """What has become of the messages of one call."""

    batch_id: str
    created_at: datetime
    handed_in: int
    messages: int
    resent: int
    final: int
    open: int
    conflicts: int
    states: dict[str, int]
    delivered_share: float | None
    slowest: Slowest
    failures: list[Failure]
    failures_cut: bool
    first_change_at: datetime | None
    last_change_at: datetime | None


OPERATIONS = (
    Operation(
        "GET",
        "/v1/batches/{batch_id}",
        "get_batch",
        "One call's messages in figures: how many in each state, the slowest, and the failures by reason.",
        {200: ("The figures.", Batch)},
        scope="read",
        parameters=[Parameter("batch_id", "The batch's id.", "path", {"type": "string", "format": "uuid"})],
        codes={400: ("bad_id",), 404: ("batch_not_found",), 503: ("batch_too_large", "reads_under_way")},
    ),
)


class BatchDoor:
    """The door of batches."""

    def __init__(self, pool: Pool, costly: Pool, keys: Keys, places: Places) -> None:
        """`costly` are the connections of those who have a place: a large batch is read by one of them."""
        self._pool, self._costly, self._keys, self._places = pool, costly, keys, places

    def routes(self) -> list[Route]:
        """The routes of this door."""
        return [Route("/v1/batches/{batch_id}", self.get, methods=["GET"])]

    async def get(self, request: Request) -> Response:
        """The figures of a batch; 503 where they take too long to add up, or too much else is read."""
        caller = await self._keys.require(request, "read")
        identity = read_id(request, "batch_id")
        read_nothing(request.query_params)
        async with self._pool.acquire() as connection:
            found = await batch.one(connection, caller.tenant, identity)
        if found is None:
            raise Problem(404, "batch_not_found", "There is no batch with this id.")
        try:
            figures = await self._figures(found)
        except asyncpg.QueryCanceledError:
            title = f"The figures of this batch took longer than {batch.SECONDS} seconds."
            raise Problem(503, "batch_too_large", title, headers={"retry-after": "30"}) from None
        return JsonResponse(_batch(figures, datetime.now(UTC)))

    async def _figures(self, found: asyncpg.Record) -> Figures:
        """The figures; of a batch that costs something to read only with a place. Raises Problem 503 without one."""
        if found["message_count"] <= SMALL:
            async with self._pool.acquire() as connection:
                return await batch.figures(connection, found)
        async with self._places.one(), self._costly.acquire() as connection:
            return await batch.figures(connection, found)


def _batch(figures: Figures, now: datetime) -> Batch:
    rows, handed = figures.states, figures.batch
    states: Counter[str] = Counter()
    final, delivered, deliverable = 0, 0, 0
    for row in rows:
        state, channel, messages = State(row["state"]), Channel(row["channel"]), row["messages"]
        states[state.word] += messages
        final += messages * is_final(state, channel)
        delivered += messages * (state in POSITIVE_STATES)
        deliverable += messages * (channel not in CEILING)
    total = sum(states.values())
    failures = [
        Failure(State(row["state"]).word, reason_of(row, State(row["state"])), row["failures"], str(row["example"]))
        for row in figures.failures[: batch.MOST_FAILURES]
    ]
    return Batch(
        batch_id=str(handed["id"]),
        created_at=handed["created_at"],
        handed_in=handed["message_count"],
        messages=total,
        resent=sum(row["resent"] for row in rows),
        final=final,
        open=total - final,
        conflicts=sum(row["conflicts"] for row in rows),
        states=dict(states),
        delivered_share=round(delivered / deliverable, 6) if deliverable else None,
        slowest=_slowest(figures, now),
        failures=failures,
        failures_cut=len(figures.failures) > batch.MOST_FAILURES,
        first_change_at=min((row["first_change_at"] for row in rows), default=None),
        last_change_at=max((row["last_change_at"] for row in rows), default=None),
    )


def _slowest(figures: Figures, now: datetime) -> Slowest:
    slow, old = figures.slowest, figures.oldest
    delivered = Slow(str(slow["id"]), max(0.0, round(slow["seconds"], 3)), State(slow["state"]).word) if slow else None
    waits = round((now - old["created_at"]).total_seconds(), 3) if old else 0.0
    return Slowest(delivered, Slow(str(old["id"]), waits, State(old["state"]).word) if old else None)
