"""The doors of those who send: three ways to send, one to record what was sent elsewhere, one to cancel."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from receiver import metrics
from receiver.access.keys import Keys
from receiver.access.tenants import Tenants
from receiver.database.pool import Pool
from receiver.ids import TenantId
from receiver.messages.changes import count
from receiver.messages.lattice import State
from receiver.messages.told import Feed
from receiver.platform.apis import Api
from receiver.platform.codes import Class, known_code
from receiver.platform.credentials import messaging_api_of, what_is_missing
from receiver.sending import outbox
from receiver.sending.campaign import check_campaign
from receiver.sending.cancel import cancel
from receiver.sending.content import as_written
from receiver.sending.contract import (
    OPERATIONS,
    AcceptedBatch,
    AcceptedCampaignEvent,
    AcceptedMessage,
    CancelledMessage,
)
from receiver.sending.events import check_events
from receiver.sending.idempotency import REPLAYED, Earlier, IdempotencyKey, earlier, key_of
from receiver.sending.recorded import check_sent, record
from receiver.sending.request import Request, check
from receiver.targets import refused_target
from receiver.web import FieldError, JsonResponse, Problem, read_body

log = logging.getLogger("receiver.sending")

__all__ = ["OPERATIONS", "SendingDoor"]

CLASSES = {int(c): c.word for c in Class}


@dataclass(frozen=True)
class Way:
    """One way to send: its path, what a request must keep, and how the answer looks."""

    path: str
    check: Callable[[Any], Request | list[FieldError]]
    answer: Callable[[str, list[AcceptedMessage]], AcceptedBatch]


MESSAGES = Way("/v1/messages", check, AcceptedBatch)
EVENTS = Way("/v1/events", check_events, AcceptedBatch)
CAMPAIGN_EVENTS = Way("/v1/campaign-events", check_campaign, AcceptedCampaignEvent)
SENT = "/v1/messages/sent"


class SendingDoor:
    """The doors of the room `sending`."""

    def __init__(
        self,
        pool: Pool,
        keys: Keys,
        tenants: Tenants,
        wake: Callable[[], None],
        max_body: int,
        *,
        entries: int = outbox.MOST_ENTRIES_A_CALL,
        keep_content: bool = False,
    ) -> None:
        self._pool, self._keys, self._tenants, self._wake, self._max_body = pool, keys, tenants, wake, max_body
        self._entries, self._keep_content = entries, keep_content

    def routes(self) -> list[Route]:
        """The routes of these doors."""
        return [
            Route("/v1/messages", self.send_messages, methods=["POST"]),
            Route("/v1/events", self.send_events, methods=["POST"]),
            Route("/v1/campaign-events", self.send_campaign_event, methods=["POST"]),
            Route(SENT, self.record, methods=["POST"]),
            Route("/v1/messages/{id}", self.cancel, methods=["DELETE"]),
        ]

    async def send_messages(self, request: HttpRequest) -> Response:
        """Messaging v1: an answer for each value of each entry."""
        return await self._send(request, MESSAGES)

    async def send_events(self, request: HttpRequest) -> Response:
        """Custom Event v1: an answer for each event."""
        return await self._send(request, EVENTS)

    async def send_campaign_event(self, request: HttpRequest) -> Response:
        """Webex Campaign: one event, of which accepted is the most that will ever be known."""
        return await self._send(request, CAMPAIGN_EVENTS)

    async def _send(self, request: HttpRequest, way: Way) -> Response:
        """Checks, commits, answers 202; the platform is called afterwards."""
        caller = await self._keys.require(request, "send")
        body = await read_body(request, self._max_body)
        key = key_of(request, caller.tenant, way.path, body)
        checked = way.check(as_written(body))
        if isinstance(checked, list):
            raise _broken(checked)
        accepted = await self._accept(caller.tenant, checked, key)
        if isinstance(accepted, Earlier):
            return JsonResponse(way.answer(str(accepted.batch_id), _queued(accepted.messages)), 202, REPLAYED)
        name = self._tenants.names.get(caller.tenant, "unknown")
        metrics.MESSAGES.labels(checked.channel.word, State.QUEUED.word, name, Feed.OWN.word).inc(
            len(accepted.messages)
        )
        self._wake()
        (first, _), number = accepted.messages[0], len(accepted.messages)
        extra = {"tenant": name, "batch_id": str(accepted.batch_id), "message_id": str(first), "messages": number}
        log.debug("batch_accepted", extra=extra)
        messages = _queued([(identity, asked.value, asked.correlationid) for identity, asked in accepted.messages])
        return JsonResponse(way.answer(str(accepted.batch_id), messages), 202)

    async def _accept(
        self, tenant: TenantId, request: Request, key: IdempotencyKey | None
    ) -> outbox.Accepted | Earlier:
        now = datetime.now(UTC)
        if key is None:
            request = self._sendable(tenant, request)
            async with self._pool.acquire() as connection:
                return await outbox.accept(connection, tenant, request, now, entries=self._entries)
        async with self._pool.acquire() as connection, connection.transaction():
            found = await earlier(connection, key, now)
            if found is not None:  # whatever the tenant's settings have become since
                return found
            request = self._sendable(tenant, request)
            return await outbox.accept(connection, tenant, request, now, entries=self._entries, idempotency=key.pair)

    def _sendable(self, tenant: TenantId, request: Request) -> Request:
        """The request, for the api that the tenant uses. Raises Problem 422 for what can't be sent or told on."""
        settings = self._tenants.settings_of(tenant)
        missing = what_is_missing(settings, request.api) if settings else "the tenant in the settings"
        if settings is None or missing is not None:
            errors = [FieldError("", "7007", f"missing for this tenant: {missing}")]
            raise Problem(422, "tenant_cannot_send", "This tenant has no platform to send to.", errors)
        if request.notifyurl is not None:
            reason = refused_target(request.notifyurl, settings.forward_allow)
            if reason is not None:
                raise _broken([FieldError("/notifyurl", "7004", reason)])
        return replace(request, api=messaging_api_of(settings)) if request.api is Api.MESSAGING else request

    async def record(self, request: HttpRequest) -> Response:
        """A send that somebody else made: 201 with the states that the platform's answer proves."""
        caller = await self._keys.require(request, "send")
        body = await read_body(request, self._max_body)
        key = key_of(request, caller.tenant, SENT, body)
        now = datetime.now(UTC)
        send = check_sent(as_written(body), now)
        if isinstance(send, list):
            raise _broken(send)
        recorded = await record(self._pool, caller.tenant, send, now, key)
        if isinstance(recorded, Earlier):
            messages = _in_states(recorded.messages, send.states)
            return JsonResponse(AcceptedBatch(str(recorded.batch_id), messages), 201, REPLAYED)
        name = self._tenants.names.get(caller.tenant, "unknown")
        metrics.MESSAGES.labels(send.request.channel.word, State.QUEUED.word, name, Feed.OWN.word).inc(
            len(recorded.ids)
        )
        codes = {reason: known_code(code) for reason, code in recorded.codes.items()}
        count(recorded.changes, Feed.ANSWER, self._tenants.names, codes, CLASSES)
        asked = zip(recorded.ids, send.request.messages, strict=True)
        messages = _in_states([(i, a.value, a.correlationid) for i, a in asked], send.states)
        return JsonResponse(AcceptedBatch(str(recorded.batch_id), messages), 201)

    async def cancel(self, request: HttpRequest) -> Response:
        """Takes a message back before it is claimed; 200 again for one that was taken back before."""
        caller = await self._keys.require(request, "send")
        try:
            identity = UUID(request.path_params["id"])
        except ValueError:
            errors = [FieldError("id", "bad_id", "a message's id looks like 0199c3f2-5a1b-7c3d-8e4f-0123456789ab")]
            raise Problem(400, "bad_id", "That is no id of a message.", errors) from None
        now = datetime.now(UTC)
        cancelled = await cancel(self._pool, caller.tenant, identity, now, keep_content=self._keep_content)
        reasons = {change.reason_key: "none" for change in cancelled.changes if change.reason_key is not None}
        count(cancelled.changes, Feed.OWN, self._tenants.names, reasons, CLASSES)
        return JsonResponse(CancelledMessage(str(cancelled.message_id), State.CANCELLED.word))


def _broken(errors: list[FieldError]) -> Problem:
    return Problem(422, "rule_broken", "The request breaks a rule of the platform.", errors)


Line = tuple[UUID, str, str | None]


def _queued(lines: Sequence[Line]) -> list[AcceptedMessage]:
    return _in_states(lines, [State.QUEUED] * len(lines))


def _in_states(lines: Sequence[Line], states: Sequence[State]) -> list[AcceptedMessage]:
    # not strict: a replay may come after a version that reads a request in another way
    return [AcceptedMessage(str(i), to, own, state.word) for (i, to, own), state in zip(lines, states, strict=False)]
