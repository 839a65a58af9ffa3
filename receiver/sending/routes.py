"""The doors of those who send: POST /v1/messages."""

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver import metrics
from receiver.access.keys import Keys
from receiver.access.tenants import Tenants
from receiver.database.pool import Pool
from receiver.messages.lattice import State
from receiver.openapi import Operation
from receiver.sending import outbox
from receiver.sending.request import check
from receiver.web import FieldError, JsonResponse, Problem, read_json


class AcceptedMessage(msgspec.Struct):
    """One message that was committed and will be sent."""

    id: str
    destination: str
    correlationid: str | None
    state: str


class AcceptedBatch(msgspec.Struct):
    """The answer to a send: nothing in it can be lost any more."""

    batch_id: str
    messages: list[AcceptedMessage]


EXAMPLE = {
    "deliverychannel": "sms",
    "channels": {"sms": {"text": "Your parcel is on its way", "senderid": "PARCEL"}},
    "destination": [{"msisdn": ["447700900001"], "correlationid": "order-4711"}],
}

OPERATIONS = (
    Operation(
        "POST",
        "/v1/messages",
        "send_messages",
        "Send messages: the platform's Messaging v1 body. Answered when everything is committed.",
        {202: ("Committed: the messages will be sent.", AcceptedBatch)},
        scope="send",
        body={"type": "object", "description": "Messaging v1, without notifyurl"},
        body_example=EXAMPLE,
        problems=(400, 401, 403, 413, 422, 503),
    ),
)


class SendingDoor:
    """The doors of the room `sending`."""

    def __init__(self, pool: Pool, keys: Keys, tenants: Tenants, wake: Callable[[], None], max_body: int) -> None:
        self._pool, self._keys, self._tenants, self._wake, self._max_body = pool, keys, tenants, wake, max_body

    def routes(self) -> list[Route]:
        """The routes of these doors."""
        return [Route("/v1/messages", self.send, methods=["POST"])]

    async def send(self, request: Request) -> Response:
        """Checks, commits, answers 202; the platform is called afterwards."""
        caller = await self._keys.require(request, "send")
        body = await read_json(request, self._max_body)
        checked = check(body)
        if isinstance(checked, list):
            raise Problem(422, "rule_broken", "The request breaks a rule of the platform.", checked)
        settings = self._tenants.settings_of(caller.tenant)
        if settings is None or not settings.platform_url or not settings.platform_key:
            detail = "RECEIVER_PLATFORM_URL and RECEIVER_PLATFORM_KEY are not both set for this tenant"
            raise Problem(
                422, "tenant_cannot_send", "This tenant has no platform to send to.", [FieldError("", "7007", detail)]
            )
        async with self._pool.acquire() as connection:
            accepted = await outbox.accept(connection, caller.tenant, checked, datetime.now(UTC))
        metrics.MESSAGES.labels(checked.channel.word, State.QUEUED.word, settings.name).inc(len(accepted.messages))
        self._wake()
        return JsonResponse(
            AcceptedBatch(
                str(accepted.batch_id),
                [
                    AcceptedMessage(str(identity), asked.value, asked.correlationid, State.QUEUED.word)
                    for identity, asked in accepted.messages
                ],
            ),
            202,
        )
