"""What a door says of itself in the contract: its Operation. receiver/document.py makes OpenAPI 3.1 of them all.

A door's Operation says what is its own: its answers with an example each (`examples`), the codes of its problems
(`codes`, of which receiver/problem_codes.py has the meanings), and headers of its answers (`headers`). What many doors
share is added there: request ids, the problems of keys, limits and parameters. Schemas of parameters are made with
`words`, `whole`, `several`, TIME, YES_NO and ID. A test holds all of it against the routes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

TIME: dict[str, Any] = {"type": "string", "format": "date-time"}
YES_NO: dict[str, Any] = {"type": "boolean"}
ID: dict[str, Any] = {"type": "string", "format": "uuid"}
TEXT: dict[str, Any] = {"type": "string", "minLength": 1}


def words(*allowed: str) -> dict[str, Any]:
    """The schema of one of some words."""
    return {"type": "string", "enum": list(allowed)}


def whole(least: int, most: int, default: int | None = None) -> dict[str, Any]:
    """The schema of a whole number within bounds."""
    schema = {"type": "integer", "minimum": least, "maximum": most}
    return schema if default is None else {**schema, "default": default}


def several(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter that may be given several times: any of the values."""
    return {"type": "array", "items": schema, "maxItems": 100}


@dataclass(frozen=True)
class Parameter:
    """A parameter in the path, the query or a header."""

    name: str
    meaning: str
    where: str = "query"
    schema: dict[str, Any] = field(default_factory=lambda: dict(TEXT))
    example: Any = None
    deprecated: bool = False
    in_one: bool = False
    """Several values stand in one, with commas between them."""


@dataclass(frozen=True)
class Header:
    """A header of an answer."""

    name: str
    meaning: str
    schema: dict[str, Any] = field(default_factory=lambda: {"type": "string"})


@dataclass(frozen=True)
class Operation:
    """One method of one door.

    `answers` maps a status to what it means and its body: None, a struct or another type (JSON), a content type, or a
    mapping of content types to types or schemas. `examples` are of those bodies, by status; of a mapping, a mapping.
    `problems` and `codes` are its failures; `headers` names or makes the headers of an answer, by status. `also` are
    structs that no schema refers to, such as those of events in a stream.
    """

    method: str
    path: str
    name: str
    summary: str
    answers: Mapping[int, tuple[str, Any]]
    scope: str | None = None
    parameters: Sequence[Parameter] = ()
    body: Any = None
    body_example: Any = None
    problems: Sequence[int] = ()
    codes: Mapping[int, Sequence[str]] = field(default_factory=dict)
    examples: Mapping[int, Any] = field(default_factory=dict)
    headers: Mapping[int, Sequence[str | Header]] = field(default_factory=dict)
    description: str = ""
    body_types: Sequence[str] = ("application/json",)
    body_required: bool = True
    also: Sequence[type] = ()
    tag: str = ""
    deprecated: bool = False


@dataclass(frozen=True)
class Word:
    """What a field of that name means in every schema, and what its values look like."""

    meaning: str
    schema: Mapping[str, Any] = field(default_factory=dict)


# What a problem of that status has for a code, at a door that does not say it.
USUAL_CODES = {
    404: ("message_not_found",),
    413: ("body_too_large",),
    415: ("unknown_encoding",),
    422: ("rule_broken", "tenant_cannot_send"),
}
OF_A_KEY = {401: "unauthorized", 403: "forbidden", 429: "rate_limited", 503: "database_away"}


def problem_codes(operation: Operation) -> dict[int, list[str]]:
    """The codes that each failure of a door can have, by its status."""
    found: dict[int, list[str]] = {}
    if tag_of(operation) != "Receipts":
        found = {400: ["key_in_url"], 500: ["internal_error"]}
    is_ours = operation.scope is not None and tag_of(operation) != "Drop-in"
    if is_ours:
        found |= {status: [code] for status, code in OF_A_KEY.items()}
        if any(parameter.where == "query" for parameter in operation.parameters):
            found[400].append("bad_parameter")
        if any(parameter.where == "path" and parameter.name == "id" for parameter in operation.parameters):
            found[400].append("bad_id")
        if any(parameter.name == "Idempotency-Key" for parameter in operation.parameters):
            found[400].append("bad_idempotency_key")
            found[409] = ["idempotency_conflict"]
        if operation.body is not None:
            found[400] += ["not_json"] if tuple(operation.body_types) == ("application/json",) else []
            found[400].append("body_cut_off")
    for status in {*operation.problems, *operation.codes}:
        own = operation.codes.get(status) or (() if found.get(status) else USUAL_CODES.get(status, ()))
        found[status] = list(dict.fromkeys([*found.get(status, ()), *own]))
    return dict(sorted(found.items()))


def tag_of(operation: Operation) -> str:
    """The chapter in which a door stands."""
    if operation.tag:
        return operation.tag
    if operation.path.startswith("/notify"):
        return "Receipts"
    if operation.path.startswith("/resources/"):
        return "Drop-in"
    return {"send": "Sending", "admin": "Keeping", None: "Process"}.get(operation.scope, "Asking")
