"""The contract as OpenAPI 3.1, made from the structs that are served. Knows no room: rooms hand in their operations."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from receiver import __version__


class ProblemField(msgspec.Struct, rename=None):
    """One broken field of a request."""

    pointer: str
    code: str
    detail: str


class ProblemBody(msgspec.Struct):
    """RFC 9457: what every failure looks like."""

    type: str
    status: int
    code: str
    title: str
    errors: list[ProblemField]
    request_id: str | None


@dataclass(frozen=True)
class Parameter:
    """A path or query parameter."""

    name: str
    meaning: str
    where: str = "query"
    schema: dict[str, Any] = field(default_factory=lambda: {"type": "string"})


@dataclass(frozen=True)
class Operation:
    """One method of one door. `answers` maps a status to what it means and the struct of its body, or None."""

    method: str
    path: str
    name: str
    summary: str
    answers: dict[int, tuple[str, Any]]
    scope: str | None = None
    parameters: Sequence[Parameter] = ()
    body: Any = None
    body_example: Any = None
    problems: Sequence[int] = ()


PROBLEMS = {
    400: "The request can't be read.",
    401: "No good API key, or no good token.",
    403: "The API key has not the scope.",
    404: "There is no such thing.",
    409: "It contradicts what is there already: `code` says in what.",
    408: "Nothing more came: send it again.",
    413: "The body is over the limit.",
    415: "The body is encoded in a way that is not undone.",
    422: "The request was read, and a rule is broken: every broken field is named.",
    429: "Too many at once: wait.",
    503: "Not now: try again.",
}


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI document of `operations`."""
    types = [ProblemBody]
    for operation in operations:
        types += [kind for _, kind in operation.answers.values() if _is_struct(kind)]
        if _is_struct(operation.body):
            types.append(operation.body)
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    schema_of = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "receiver",
            "version": __version__,
            "summary": "Did it arrive, and if not, why?",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "An API key: rk_…"}},
        },
    }


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _operation(operation: Operation, schema_of: dict[Any, Any]) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for status, (meaning, kind) in operation.answers.items():
        answers[str(status)] = {"description": meaning}
        if _is_struct(kind):
            answers[str(status)]["content"] = {"application/json": {"schema": schema_of[kind]}}
        elif isinstance(kind, str):
            schema = {"type": "object" if kind == "application/json" else "string"}
            answers[str(status)]["content"] = {kind: {"schema": schema}}
    for status in operation.problems:
        content = {"application/problem+json": {"schema": schema_of[ProblemBody]}}
        answers[str(status)] = {"description": PROBLEMS[status], "content": content}
    made: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [
            {
                "name": p.name,
                "in": p.where,
                "required": p.where == "path",
                "description": p.meaning,
                "schema": p.schema,
            }
            for p in operation.parameters
        ],
        "responses": answers,
        "security": [{"key": []}] if operation.scope else [],
    }
    if operation.scope:
        made["description"] = f"Needs an API key with the scope `{operation.scope}`."
    if operation.body is not None:
        schema = schema_of[operation.body] if _is_struct(operation.body) else operation.body
        content = {"schema": schema}
        if operation.body_example is not None:
            content["example"] = operation.body_example
        made["requestBody"] = {"required": True, "content": {"application/json": content}}
    return made
