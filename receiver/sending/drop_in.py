"""The drop-in doors: a client of the platform changes its base address and nothing else.

They commit, call the platform in line through the tenant's lane, and answer in the platform's own envelope, codes
and HTTP status.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from receiver import metrics
from receiver.access.platform_callers import NotLetIn, PlatformCallers
from receiver.access.tenants import Tenants
from receiver.database.pool import NOT_THERE, Pool
from receiver.ids import BatchId, TenantId
from receiver.messages.lattice import State
from receiver.messages.told import Feed
from receiver.openapi import Operation
from receiver.platform import envelope
from receiver.platform.apis import Api
from receiver.platform.credentials import can_send, messaging_api_of
from receiver.platform.envelope import Reply
from receiver.sending import idempotency, outbox
from receiver.sending.content import as_written
from receiver.sending.contract import EVENTS_EXAMPLE, MESSAGING_EXAMPLE
from receiver.sending.dispatcher import Dispatcher
from receiver.sending.events import check_events
from receiver.sending.idempotency import Earlier, IdempotencyKey
from receiver.sending.outbox import Accepted
from receiver.sending.request import Request, check
from receiver.targets import refused_target
from receiver.web import FieldError, Problem, read_body

log = logging.getLogger("receiver.drop_in")

# A lane that is too slow, or calls under way without number, are told to the client before it stops waiting.
LANE_SECONDS = 10.0
ASK_AGAIN_SECONDS = 0.1
MOST_NAMED = 5
QUEUED, EVENT_QUEUED = "1001", "1002"

DROP_IN_ANSWERS = {
    200: ("The platform's envelope: an array when queued, an object with a code when not.", envelope.SCHEMA),
    413: ("The body is over the limit: 7004 in the envelope.", envelope.SCHEMA),
    503: ("Our database does not answer, and nothing was sent: 7006 in the envelope.", envelope.SCHEMA),
}
DESCRIPTION = (
    "The header `key` bears the tenant's service or profile key, or an API key; or `Authorization: Bearer` a token that"
    " the service's secret signed, or an API key. What is wrong is told in the envelope under HTTP 200, as the platform"
    " does; the platform's own answer comes with its own status."
)
CODES = {400: ("bad_idempotency_key",), 409: ("idempotency_conflict",)}
HEADERS = {200: ("Idempotency-Replayed",), 503: ("Retry-After",)}

OPERATIONS = (
    Operation(
        "POST",
        "/resources/v1/messaging",
        "drop_in_messaging",
        "Drop-in: Messaging v1, answered with the platform's own answer.",
        DROP_IN_ANSWERS,
        scope="send",
        description=DESCRIPTION,
        parameters=[idempotency.PARAMETER],
        body={"type": "object", "description": "Messaging v1: see `POST /v1/messages`."},
        body_example=MESSAGING_EXAMPLE,
        codes=CODES,
        examples={200: envelope.EXAMPLE, 413: envelope.REFUSED_EXAMPLE, 503: envelope.FAULT_EXAMPLE},
        headers=HEADERS,
    ),
    Operation(
        "POST",
        "/resources/v1/events/externalevent",
        "drop_in_events",
        "Drop-in: Custom Event v1, answered with the platform's own answer.",
        DROP_IN_ANSWERS,
        scope="send",
        description=DESCRIPTION,
        parameters=[idempotency.PARAMETER],
        body={"type": "object", "description": "Custom Event v1: see `POST /v1/events`."},
        body_example=EVENTS_EXAMPLE,
        codes=CODES,
        examples={200: envelope.EVENT_EXAMPLE, 413: envelope.REFUSED_EXAMPLE, 503: envelope.FAULT_EXAMPLE},
        headers=HEADERS,
    ),
)


Checked = Request | list[FieldError]


class DropInDoor:
    """The drop-in doors of those who send."""

    def __init__(
        self,
        pool: Pool,
        callers: PlatformCallers,
        tenants: Tenants,
        dispatcher: Dispatcher,
        *,
        max_body: int,
        entries: int,
        timeout: float,
        lease: timedelta,
    ) -> None:
        self._pool, self._callers, self._tenants, self._dispatcher = pool, callers, tenants, dispatcher
        self._max_body, self._entries, self._timeout = max_body, entries, timeout
        self._lease = lease + timedelta(seconds=LANE_SECONDS)

    def routes(self) -> list[Route]:
        """The routes of these doors."""
        return [
            Route("/resources/v1/messaging", self.messaging, methods=["POST"]),
            Route("/resources/v1/events/externalevent", self.events, methods=["POST"]),
        ]

    async def messaging(self, request: HttpRequest) -> Response:
        """Messaging v1."""
        return await self._answered(request, check, QUEUED)

    async def events(self, request: HttpRequest) -> Response:
        """Custom Event v1."""
        return await self._answered(request, check_events, EVENT_QUEUED)

    async def _answered(self, request: HttpRequest, check: Callable[[Any], Checked], queued: str) -> Response:
        """Whatever becomes of the request, the client reads the envelope that it knows."""
        try:
            reply = await self._send(request, check, queued)
        except NotLetIn as refused:
            reply = Reply(200, envelope.refusal(refused.code))
        except Problem as problem:
            if problem.code in ("idempotency_conflict", "bad_idempotency_key"):
                raise  # who sends the header knows our own answers
            code = envelope.INVALID_JSON if problem.code == "not_json" else envelope.INVALID
            reply = Reply(200 if problem.status == 400 else problem.status, envelope.refusal(code, problem.title))
        except (asyncpg.PostgresError, *NOT_THERE) as error:
            door = getattr(request.scope.get("route"), "path", None)
            log.warning("database_away", extra={"reason": type(error).__name__, "door": door})
            # nothing was sent that was not committed; a 503 is what a balancer understands
            return Response(envelope.refusal(envelope.FAULT), 503, {"retry-after": "5"}, "application/json")
        more = idempotency.REPLAYED if reply.replayed else {}
        return Response(reply.body, reply.status, {"content-type": reply.content_type, **more})

    async def _send(self, http: HttpRequest, check: Callable[[Any], Checked], queued: str) -> Reply:
        tenant = await self._callers.require(http, "send", datetime.now(UTC))
        settings = self._tenants.settings_of(tenant)
        raw = await read_body(http, self._max_body)
        checked = check(as_written(raw))
        if isinstance(checked, list):
            return Reply(200, _refusal(checked))
        if settings is None or not can_send(settings, checked.api):
            return Reply(200, envelope.refusal(envelope.INACTIVE))
        if checked.api is Api.MESSAGING:
            checked = replace(checked, api=messaging_api_of(settings))
        if checked.notifyurl and (why := refused_target(checked.notifyurl, settings.forward_allow)):
            return Reply(200, envelope.refusal(envelope.INVALID, f"notifyurl: {why}"))
        key = idempotency.key_of(http, tenant, http.url.path, raw)
        accepted = await self._accept(tenant, checked, key)
        if isinstance(accepted, Earlier):
            return await self._repeated(accepted)
        metrics.MESSAGES.labels(checked.channel.word, State.QUEUED.word, settings.name, Feed.OWN.word).inc(
            len(accepted.messages)
        )
        answers = await self._dispatcher.send_now(accepted.submissions, tenant, LANE_SECONDS)
        places = outbox.split(checked.messages, self._entries)  # as it was split to be accepted
        answer = envelope.reply(answers, queued, spelt_so=checked.api is not Api.MESSAGING_V2, places=places)
        if key is not None:
            await self._keep(accepted.batch_id, answer)
        return answer

    async def _keep(self, batch_id: BatchId, answer: Reply) -> None:
        """Keeps an answer to be replayed. One that can't be kept is told all the same: it says what was sent."""
        try:
            async with self._pool.acquire() as connection:
                await idempotency.keep_answer(connection, batch_id, answer.status, answer.body)
        except (asyncpg.PostgresError, *NOT_THERE) as error:
            log.warning("answer_not_stored", extra={"reason": type(error).__name__, "batch_id": str(batch_id)})

    async def _accept(self, tenant: TenantId, request: Request, key: IdempotencyKey | None) -> Accepted | Earlier:
        """Commits the messages, claimed by this process: nobody else sends them."""
        now = datetime.now(UTC)
        async with self._pool.acquire() as connection, connection.transaction():
            found = await idempotency.earlier(connection, key, now) if key else None
            return found or await outbox.accept(
                connection,
                tenant,
                request,
                now,
                entries=self._entries,
                idempotency=key.pair if key else None,
                in_line_lease=self._lease,
            )

    async def _repeated(self, earlier: Earlier) -> Reply:
        """The first answer to a key; it may still be under way. What never got one may have been sent: 7006."""
        deadline = asyncio.get_running_loop().time() + LANE_SECONDS + self._timeout
        kept = earlier.answer_status, earlier.answer
        while kept[1] is None and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(ASK_AGAIN_SECONDS)
            async with self._pool.acquire() as connection:
                kept = await idempotency.kept_answer(connection, earlier.batch_id)
        status, body = kept if kept[1] is not None else (200, envelope.refusal(envelope.FAULT))
        return Reply(status or 200, body or b"", replayed=True)


def _refusal(errors: list[FieldError]) -> bytes:
    """The first broken rule's code, and all that are of it: the platform knows one code an answer."""
    code = errors[0].code
    where = [f"{e.pointer or 'body'}: {e.detail}" for e in errors if e.code == code]
    return envelope.refusal(code, "; ".join(where[:MOST_NAMED]))
