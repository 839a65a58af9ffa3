"""GET /resources/v1/messaging/status/{transid}: what we know, in the platform's own shape."""

from datetime import UTC, datetime
from email.utils import format_datetime

import asyncpg
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.access.platform_callers import NotLetIn, PlatformCallers
from receiver.database.pool import Pool
from receiver.messages.lattice import Channel, State
from receiver.openapi import Operation, Parameter
from receiver.platform import envelope
from receiver.queries import search
from receiver.queries.filters import Filters
from receiver.web import JsonResponse

MOST_SHOWN = 1_000

# The platform's words for SMS, taken for all channels but voice: queued, sent, delivered, failed, expired.
WORDS = {
    State.QUEUED: "queued",
    State.UNCERTAIN: "queued",
    State.ACCEPTED: "queued",
    State.SUBMITTED: "sent",
    State.ENDED: "sent",
    State.NO_RECEIPT: "sent",
    State.EXPIRED: "expired",
    State.DELIVERED: "delivered",
    State.READ: "delivered",
}
VOICE_WORDS = {**WORDS, State.DELIVERED: "answered", State.READ: "answered", State.EXPIRED: "others"}
# Codes of receipts: 7208 is an SMS that expired; the rest are calls that nobody took.
WORDS_OF_CODES = {"7208": "expired", "7401": "no answer", "7402": "busy", "7406": "rejected"}


class Status(msgspec.Struct):
    """One message, as the platform's transaction status tells it."""

    transactionid: str
    api_version: str
    type: str
    from_: str | None = msgspec.field(name="from")
    to: str
    channel: str
    status: str
    date_created: str
    last_updated: str
    error_code: str | None
    error_message: str | None


EXAMPLE = {
    "transactionid": "3f09295d-9eb3-4c9e-8ee8-a3272e5f00c1",
    "api_version": "v1",
    "type": "outbound-api",
    "from": "PARCEL",
    "to": "447700900001",
    "channel": "SMS",
    "status": "delivered",
    "date_created": "Sat, 21 Nov 2026 10:00:00 UTC",
    "last_updated": "Sat, 21 Nov 2026 10:00:03 UTC",
    "error_code": None,
    "error_message": None,
}
FOUND = {"type": "array", "items": {"$ref": "#/components/schemas/Status"}, "maxItems": MOST_SHOWN}

OPERATIONS = (
    Operation(
        "GET",
        "/resources/v1/messaging/status/{transid}",
        "drop_in_status",
        "Drop-in: the transaction status in the platform's shape, from what we know.",
        {
            200: (
                "An array, an entry a message, empty for a transid that we don't know; or the platform's envelope.",
                {"application/json": {"anyOf": [FOUND, envelope.SCHEMA]}},
            ),
            503: ("The database does not answer.", {"application/json": envelope.SCHEMA}),
        },
        scope="read",
        parameters=[Parameter("transid", "The platform's id.", "path", {"type": "string"}, EXAMPLE["transactionid"])],
        codes={503: ("database_away",)},
        examples={200: {"application/json": [EXAMPLE]}, 503: {"application/json": envelope.FAULT_EXAMPLE}},
        also=(Status,),
    ),
)


class StatusDoor:
    """The drop-in door of those who ask the platform."""

    def __init__(self, pool: Pool, callers: PlatformCallers) -> None:
        self._pool, self._callers = pool, callers

    def routes(self) -> list[Route]:
        """The route of this door."""
        return [Route("/resources/v1/messaging/status/{transid}", self.get, methods=["GET"])]

    async def get(self, request: Request) -> Response:
        """The messages of a transid, an empty array for none; under HTTP 200 like all that the platform answers."""
        try:
            tenant = await self._callers.require(request, "read", datetime.now(UTC))
        except NotLetIn as refused:
            return Response(envelope.refusal(refused.code), media_type="application/json")
        transid = request.path_params["transid"]
        if "\0" in transid:
            return Response(envelope.refusal(envelope.INVALID), media_type="application/json")
        async with self._pool.acquire() as connection:
            found = await search.many(connection, tenant, Filters.of_transid(transid, MOST_SHOWN))
        # of suffixed transids, those of the whole request are found: the very one that was asked for is meant
        exact = [row for row in found.rows if (row["transid"] or "").casefold() == transid.casefold()]
        return JsonResponse([status_of(row, transid) for row in reversed(exact or found.rows)])


def status_of(row: asyncpg.Record, transid: str) -> Status:
    """One message in the platform's words."""
    state, channel = State(row["state"]), Channel(row["channel"])
    words = VOICE_WORDS if channel is Channel.VOICE else WORDS
    code = row["reason_code"] if state not in words or state is State.EXPIRED else None
    status = words.get(state) or WORDS_OF_CODES.get(code or "") or ("others" if channel is Channel.VOICE else "failed")
    return Status(
        transactionid=row["transid"] or transid,
        api_version="v1",
        type="outbound-api",
        from_=row["sender"],
        to=row["destination"],
        channel="SMS" if channel is Channel.SMS else channel.word,
        status=status,
        date_created=_date(row["created_at"]),
        last_updated=_date(row["changed_at"]),
        error_code=code,
        error_message=row["reason_description"] if code else None,
    )


def _date(moment: datetime) -> str:
    """`Mon, 16 Aug 2010 03:45:01 UTC`: English whatever the locale."""
    return format_datetime(moment.astimezone(UTC)).replace("+0000", "UTC")
