"""The contract as OpenAPI 3.1, made from the structs that are served. Knows no room: rooms hand in their operations."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from receiver import __version__
from receiver.openapi import Header, Operation, Parameter, Word, problem_codes, tag_of, whole
from receiver.problem_codes import MEANINGS, ProblemBody, example_of

HEADERS = {
    header.name: header
    for header in (
        Header("X-Request-ID", "The id of this request: your own where you sent a sane one. It is in the log."),
        Header("Retry-After", "Seconds after which to try again.", {"type": "integer", "minimum": 0}),
        Header("RateLimit-Limit", "Calls a minute that the key may make; only where it has a limit.", whole(1, 2**31)),
        Header("RateLimit-Remaining", "Calls that are left by now.", whole(0, 2**31)),
        Header("RateLimit-Reset", "Seconds until all of them are there again.", whole(0, 2**31)),
        Header("ETag", "Names what was answered: send it back as If-None-Match."),
        Header("WWW-Authenticate", "How to show a key."),
        Header("Idempotency-Replayed", "`true`: the first answer to this Idempotency-Key, again; nothing was done."),
    )
}
RATE = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
OF_PROBLEMS = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}

REQUEST_ID = Parameter(
    "X-Request-ID",
    "Your own id of this request, 1 to 64 of the characters A-Z a-z 0-9 . _ -; another is replaced. It comes back.",
    "header",
    {"type": "string"},
)

PROBLEMS = {
    400: "The request can't be read.",
    401: "No good API key.",
    403: "The API key has not the scope.",
    404: "There is no such thing.",
    408: "Nothing more came: send it again.",
    409: "It contradicts what is there already: `code` says in what.",
    410: "It was there, and is gone.",
    413: "The body is over the limit.",
    415: "The body is encoded in a way that is not undone.",
    422: "The request was read, and a rule is broken: every broken field is named.",
    429: "Too many at once: wait.",
    500: "A fault of ours.",
    503: "Not now: try again.",
}
TAGS = {
    "Sending": "What goes out. Needs the scope `send`.",
    "Asking": "What became of it. Needs the scope `read`.",
    "Keeping": "What an operator looks after. Needs the scope `admin`.",
    "Drop-in": "For clients of the platform that change their base address and nothing else.",
    "Receipts": "Where the platform tells what became of a message. The token is the key.",
    "Process": "The health of this process, its figures and this contract. Needs no key.",
}
SCHEMES = {
    "key": {"type": "http", "scheme": "bearer", "description": "An API key: `Authorization: Bearer rk_…`."},
    "platform": {
        "type": "apiKey",
        "in": "header",
        "name": "key",
        "description": "The tenant's service or profile key of the platform, or an API key.",
    },
}


def document(
    operations: Sequence[Operation], vocabulary: Mapping[str, Word] | None = None, introduction: str = ""
) -> dict[str, Any]:
    """The OpenAPI document of `operations`; `vocabulary` explains the fields of all schemas."""
    types: list[Any] = [ProblemBody]
    for operation in operations:
        types += [kind for _, body in operation.answers.values() for kind in _contents(body).values() if _is_type(kind)]
        types += [operation.body] if _is_type(operation.body) else []
        types += operation.also
    made, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    schemas = {repr(kind): schema for kind, schema in zip(types, made, strict=True)}
    _explain(components, types, vocabulary or {})
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "receiver",
            "version": __version__,
            "summary": "Did it arrive, and if not, why?",
            "description": introduction or "Did it arrive, and if not, why?",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": meaning} for name, meaning in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": components,
            "parameters": {"X-Request-ID": _parameter(REQUEST_ID)},
            "headers": {name: _header(header) for name, header in HEADERS.items()},
            "securitySchemes": SCHEMES,
        },
    }


def _operation(operation: Operation, schemas: Mapping[str, Any]) -> dict[str, Any]:
    tag = tag_of(operation)
    answers: dict[str, Any] = {}
    for status, (meaning, body) in operation.answers.items():
        answers[str(status)] = {"description": meaning}
        if body is not None:
            example, of_types = operation.examples.get(status), _is_of_types(body)
            answers[str(status)]["content"] = {
                content_type: _content(kind, (example or {}).get(content_type) if of_types else example, schemas)
                for content_type, kind in _contents(body).items()
            }
    for status, codes in problem_codes(operation).items():
        answers.setdefault(str(status), {"description": PROBLEMS[status]}).setdefault("content", {}).update(
            {"application/problem+json": _problem(status, codes, schemas)}
        )
        meanings = "\n".join(f"- `{code}`: {MEANINGS.get(code, '')}" for code in codes)
        answers[str(status)]["description"] += f"\n\n{meanings}"
    for told, answer in answers.items():
        headers = _headers(operation, int(told))
        if headers:
            answer["headers"] = headers
    needs = f"Needs an API key with the scope `{operation.scope}`." if operation.scope else "Needs no API key."
    made: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [tag],
        "summary": operation.summary,
        "description": f"{operation.description}\n\n{needs}".strip(),
        "parameters": [_parameter(parameter) for parameter in operation.parameters],
        "responses": dict(sorted(answers.items())),
        "security": [{"key": []}] if operation.scope else [],
    }
    if tag == "Drop-in":
        made["security"].append({"platform": []})
    if tag != "Receipts":
        made["parameters"].append({"$ref": "#/components/parameters/X-Request-ID"})
    if operation.deprecated:
        made["deprecated"] = True
    if operation.body is not None:
        example = operation.body_example
        examples = example if _is_of_types(example) else dict.fromkeys(operation.body_types, example)
        content = {kind: _content(operation.body, examples.get(kind), schemas) for kind in operation.body_types}
        made["requestBody"] = {
            "required": operation.body_required,
            "content": content,
        }
    return made


def _headers(operation: Operation, status: int) -> dict[str, Any]:
    """The headers of an answer."""
    named = ["X-Request-ID", *(RATE if operation.scope and status != 401 else ()), *OF_PROBLEMS.get(status, ())]
    if tag_of(operation) == "Receipts":  # the platform reads the status alone
        named = []
    found: dict[str, Any] = {name: {"$ref": f"#/components/headers/{name}"} for name in named}
    for header in operation.headers.get(status, ()):
        if isinstance(header, Header):
            found[header.name] = _header(header)
        else:
            found[header] = {"$ref": f"#/components/headers/{header}"}
    return found


def _header(header: Header) -> dict[str, Any]:
    return {"description": header.meaning, "schema": header.schema}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    made = {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.where == "path",
        "description": parameter.meaning,
        "schema": parameter.schema,
    }
    if parameter.in_one:
        made |= {"style": "form", "explode": False}
    if parameter.example is not None:
        made["example"] = parameter.example
    if parameter.deprecated:
        made["deprecated"] = True
    return made


def _problem(status: int, codes: Sequence[str], schemas: Mapping[str, Any]) -> dict[str, Any]:
    own = {"properties": {"status": {"const": status}, "code": {"enum": list(codes)}}}
    schema = {"allOf": [schemas[repr(ProblemBody)], own]}
    return {"schema": schema, "example": example_of(status, codes)} if codes else {"schema": schema}


def _content(kind: Any, example: Any, schemas: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a body that is a type, a schema or a content type, and its example."""
    if _is_type(kind):
        schema = schemas[repr(kind)]
    else:
        schema = kind if isinstance(kind, Mapping) else {"type": "object" if kind == "application/json" else "string"}
    return {"schema": schema} if example is None else {"schema": schema, "example": example}


def _contents(body: Any) -> Mapping[str, Any]:
    """The bodies of an answer by their content types."""
    if _is_of_types(body):
        return dict(body)
    return {body if isinstance(body, str) else "application/json": body}


def _is_of_types(body: Any) -> bool:
    """Whether it maps content types to bodies; a mapping that does not is a schema."""
    return isinstance(body, Mapping) and all("/" in key for key in body)


def _is_type(kind: Any) -> bool:
    """Whether msgspec makes its schema: a struct, or a list or mapping of such."""
    return kind is not None and not isinstance(kind, str | Mapping)


def _explain(components: dict[str, Any], types: Sequence[Any], vocabulary: Mapping[str, Word]) -> None:
    """Gives each field of the schemas its meaning, and times their format, which msgspec leaves out."""
    times = _times(types)
    for name, schema in components.items():
        for field, found in schema.get("properties", {}).items():
            word = vocabulary.get(f"{name}.{field}") or vocabulary.get(field)
            more: dict[str, Any] = {"format": "date-time"} if (name, field) in times else {}
            if word is not None and "description" not in found:
                more |= word.schema
                found["description"] = word.meaning
            for branch in found.get("anyOf", [found]):
                inner = branch.get("items", branch)
                if more and inner.get("type") in ("string", "integer", "number") and "$ref" not in inner:
                    inner.update(more)


def _times(types: Sequence[Any]) -> set[tuple[str, str]]:
    """The fields that hold a time, as pairs of a struct's name and a field's."""
    found: set[tuple[str, str]] = set()
    seen: set[str] = set()
    waiting = list(msgspec.inspect.multi_type_info(types))
    while waiting:
        kind = waiting.pop()
        waiting += [getattr(kind, name) for name in ("item_type", "value_type", "type") if _is_kind(kind, name)]
        waiting += getattr(kind, "types", ())
        if isinstance(kind, msgspec.inspect.StructType) and repr(kind.cls) not in seen:
            seen.add(repr(kind.cls))
            waiting += [field.type for field in kind.fields]
            inner = {field.encode_name: getattr(field.type, "types", (field.type,)) for field in kind.fields}
            found |= {
                (kind.cls.__name__, name)
                for name, kinds in inner.items()
                if any(isinstance(one, msgspec.inspect.DateTimeType) for one in kinds)
            }
    return found


def _is_kind(kind: Any, name: str) -> bool:
    return isinstance(getattr(kind, name, None), msgspec.inspect.Type)
