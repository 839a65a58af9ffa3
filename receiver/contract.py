"""The contract as it is served: /openapi.json for machines, /docs for people."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.document import document
from receiver.openapi import TEXT, Operation, Parameter
from receiver.reading_page import headers, page
from receiver.vocabulary import WORDS
from receiver.vocabulary_of_keepers import KEEPERS_WORDS
from receiver.vocabulary_of_questions import ALSO, DESCRIPTIONS, EXAMPLES, IN_ONE, SCHEMAS

EXAMPLES_OF_ANSWERS = Path(__file__).with_name("answer_examples.json")

INTRODUCTION = """\
receiver sends SMS, voice, push and chat messages through the platform (Webex Connect, IMIconnect), keeps every
receipt that the platform tells, and answers: did it arrive, and if not, why?

**Keys.** A key belongs to one tenant and sees nothing of others. Send it as `Authorization: Bearer rk_…`, never in a
URL. Its scopes are `send`, `read`, `content` and `admin`, which holds them all. Where a key has a limit, every answer
bears `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset`, and one call too many is answered 429 with
`Retry-After`.

**To send and to know.** `POST /v1/messages` answers 202 with an id for each recipient when everything is committed;
send an `Idempotency-Key` with it, and a repeated call sends nothing twice. `GET /v1/messages/{id}` tells the `state`,
whether it is `final`, and the `reason` in words. `GET /v1/messages?…` finds messages by recipient, by your own
`correlationid` or `callbackData`, by state and time.

**States.** A state never goes back: queued, uncertain, accepted, submitted, ended, no_receipt, cancelled, expired,
refused, invalid, not_verified, undelivered, failed, delivered, bounced, read. `final` is true when no better word is
to come.

**Parameters.** Several values of one parameter mean any of them, different parameters all of them. A value has 4,000
characters at most, a query 100 values, a URL 64 KB. An unknown parameter is answered 400.

**Pages.** A list answers `next_cursor`: give it as `cursor` with the same parameters for the next page; null is the
end.

**Times** are RFC 3339 with a zone, in UTC in answers. In a URL write `Z`, or quote the `+` of an offset as `%2B`.

**Failures** are `application/problem+json` (RFC 9457). Build on `code`, which is stable; `errors` names every broken
field at once. Nothing was written when a request was answered 4xx, but for `POST /v1/imports`, which says so. After a
503 try again when `Retry-After` is over.

**What may change within /v1**: doors, parameters, fields, words of an enumeration, headers and codes are added; none
is taken away or changes its type. Clients overlook fields that they do not know, and take an unknown word for
"something else". What is to go is marked `deprecated` here and bears `Deprecation` and `Sunset` headers for twelve
months at least.
"""


def contract_of(operations: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI document as it is served."""
    return document([completed(operation) for operation in operations], KEEPERS_WORDS | WORDS, INTRODUCTION)


def completed(operation: Operation) -> Operation:
    """An operation with what the vocabulary and the examples say of it, where it does not say so itself."""
    examples = _examples().get(operation.name, {})
    return replace(
        operation,
        description=operation.description or DESCRIPTIONS.get(operation.name, ""),
        also=[*operation.also, *ALSO.get(operation.name, ())],
        parameters=[_asked(operation.name, parameter) for parameter in operation.parameters],
        examples={int(status): example for status, example in examples.items()} | dict(operation.examples),
    )


def _asked(door: str, parameter: Parameter) -> Parameter:
    place = f"{door}.{parameter.name}"
    schema = {"type": "string"} if parameter.where == "header" else SCHEMAS.get(place) or SCHEMAS.get(parameter.name)
    return replace(
        parameter,
        schema=schema if schema is not None and parameter.schema == TEXT else parameter.schema,
        example=EXAMPLES.get(place) if parameter.example is None else parameter.example,
        in_one=parameter.in_one or place in IN_ONE,
    )


@cache
def _examples() -> dict[str, dict[str, Any]]:
    """Answers as they were given to true calls, by operation and status."""
    found: dict[str, dict[str, Any]] = msgspec.json.decode(EXAMPLES_OF_ANSWERS.read_bytes())
    return found


class Contract:
    """What machines and people read of the doors. Made when it is first asked for."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._operations = operations

    def routes(self) -> list[Route]:
        """The routes of these doors."""
        return [
            Route("/openapi.json", self.machine, methods=["GET"]),
            Route("/docs", self.people, methods=["GET"]),
        ]

    async def machine(self, request: Request) -> Response:
        """The OpenAPI document."""
        return Response(self._json, media_type="application/json")

    async def people(self, request: Request) -> Response:
        """The reading page."""
        return Response(self._page, headers=headers(), media_type="text/html")

    @cached_property
    def _document(self) -> dict[str, Any]:
        return contract_of(self._operations)

    @cached_property
    def _json(self) -> bytes:
        return msgspec.json.encode(self._document)

    @cached_property
    def _page(self) -> str:
        return page(self._document)
