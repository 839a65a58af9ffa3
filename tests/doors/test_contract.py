"""The contract says all that the doors do: every route, parameter, status, code and header, with examples that hold."""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate
from starlette.routing import Route

from receiver.app import OPERATIONS, open_house
from receiver.contract import completed, contract_of
from receiver.openapi import Operation, problem_codes, tag_of
from receiver.problem_codes import MEANINGS, ProblemBody
from receiver.queries.filters import GROUPS
from receiver.settings import read_settings
from tests.support import SECRET, Database
from tests.test_docs import table

DOCUMENT = contract_of(OPERATIONS)
SCHEMAS = DOCUMENT["components"]["schemas"]
COMPLETED = [completed(operation) for operation in OPERATIONS]
PLAIN = ("string", "integer", "number", "boolean", "array")


def name_of(operation: Operation) -> str:
    return operation.name


every_operation = pytest.mark.parametrize("operation", COMPLETED, ids=name_of)


def written(operation: Operation) -> dict[str, Any]:
    """An operation as the document has it."""
    found: dict[str, Any] = DOCUMENT["paths"][operation.path][operation.method.lower()]
    return found


def check(value: Any, schema: Mapping[str, Any]) -> None:
    """Raises where `value` does not fit a schema of the document."""
    whole = {**schema, "components": DOCUMENT["components"]}
    OAS31Validator(whole, format_checker=OAS31Validator.FORMAT_CHECKER).validate(value)


def test_it_is_valid_openapi() -> None:
    validate(DOCUMENT)
    assert DOCUMENT["openapi"].startswith("3.1")


def test_every_route_and_method_is_in_the_document_and_the_other_way_round(database: Database) -> None:
    settings = read_settings(
        {
            "RECEIVER_DATABASE_URL": database.dsn,
            "RECEIVER_PUBLIC_URL": "https://receiver.example",
            "RECEIVER_SECRET": SECRET,
        }
    )

    async def served() -> dict[str, set[str]]:
        async with open_house(settings, database.dsn, SECRET) as house:
            routes = [route for route in house.app.routes if isinstance(route, Route)]
            return {route.path: set(route.methods or ()) - {"HEAD"} for route in routes}

    routes = {path: methods for path, methods in asyncio.run(served()).items() if "otify" not in path}
    described = {path: {method.upper() for method in item} for path, item in DOCUMENT["paths"].items()}
    assert described.pop("/notify/{token}") == {"GET", "HEAD", "POST"}
    assert routes == described


def test_names_are_unique_and_plain() -> None:
    names = [operation.name for operation in OPERATIONS]
    assert len(names) == len(set(names))
    assert not [name for name in [*names, *SCHEMAS] if not re.fullmatch(r"[A-Za-z_]+", name)]


@every_operation
def test_an_operation_says_what_it_does_and_where_it_belongs(operation: Operation) -> None:
    made = written(operation)
    assert made["summary"].endswith(".")
    assert made["description"]
    assert made["tags"] == [tag_of(operation)]
    assert tag_of(operation) in {tag["name"] for tag in DOCUMENT["tags"]}
    assert bool(made["security"]) is (operation.scope is not None)


@every_operation
def test_a_parameter_has_a_meaning_and_a_schema_that_says_something(operation: Operation) -> None:
    assert sorted(re.findall(r"\{(\w+)\}", operation.path)) == sorted(
        parameter.name for parameter in operation.parameters if parameter.where == "path"
    )
    for parameter in operation.parameters:
        assert parameter.meaning.endswith("."), parameter.name
        assert parameter.schema["type"] in PLAIN
        schema = parameter.schema.get("items", parameter.schema)
        if parameter.where == "query" and schema["type"] == "string":
            assert {"enum", "format", "pattern", "minLength"} & schema.keys(), parameter.name
        if parameter.example is not None:
            check(parameter.example, parameter.schema)


def fields() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name, schema in SCHEMAS.items():
        for field, found in schema.get("properties", {}).items():
            yield name, field, found


def test_every_field_of_every_answer_is_explained() -> None:
    assert not [f"{name}.{field}" for name, field, found in fields() if not found.get("description")]


def test_every_field_that_holds_a_time_says_so() -> None:
    for name, field, found in fields():
        kinds = found.get("anyOf", [found])
        if field.endswith("_at"):
            assert any(kind.get("format") == "date-time" for kind in kinds), f"{name}.{field}"


@every_operation
def test_every_answer_with_a_body_has_an_example_that_fits_it(operation: Operation) -> None:
    answers = written(operation)["responses"]
    for status, (_, body) in operation.answers.items():
        for content_type, content in answers[str(status)].get("content", {}).items():
            assert "example" in content, f"{status} {content_type}"
            check(content["example"], content["schema"])
            if isinstance(body, type):
                msgspec.convert(json.loads(json.dumps(content["example"])), body)


@every_operation
def test_the_example_of_a_request_fits_its_schema(operation: Operation) -> None:
    body = written(operation).get("requestBody")
    assert bool(body) is (operation.body is not None)
    for content in (body or {"content": {}})["content"].values():
        if "example" in content:
            check(content["example"], content["schema"])
    assert not body or any("example" in content for content in body["content"].values())


@every_operation
def test_every_failure_has_its_codes_and_an_example(operation: Operation) -> None:
    answers = written(operation)["responses"]
    for status, codes in problem_codes(operation).items():
        assert codes, f"{status}: no code is named"
        content = answers[str(status)]["content"]["application/problem+json"]
        assert content["schema"]["allOf"][1]["properties"]["code"]["enum"] == codes
        check(content["example"], content["schema"])
        msgspec.convert(content["example"], ProblemBody)
        assert all(f"- `{code}`: {MEANINGS[code]}" in answers[str(status)]["description"] for code in codes)


@every_operation
def test_an_answer_names_the_headers_that_every_such_answer_bears(operation: Operation) -> None:
    for status, answer in written(operation)["responses"].items():
        named = answer.get("headers", {}).keys()
        if tag_of(operation) == "Receipts":
            continue
        assert "X-Request-ID" in named
        assert ("Retry-After" in named) or status not in ("429", "503")
        assert ("RateLimit-Limit" in named) is (operation.scope is not None and status != "401")


def test_the_codes_of_the_document_are_those_of_the_documentation() -> None:
    written_down = {(int(row[0]), row[1]) for row in table("errors.md", "status", "code")}
    found = {
        (status, code)
        for operation in COMPLETED
        for status, codes in problem_codes(operation).items()
        for code in codes
    }
    nowhere = {(404, "not_found"), (405, "method_not_allowed")}  # the answers of what is no door
    assert written_down - nowhere == found


def test_every_code_means_what_the_documentation_says() -> None:
    link = re.compile(r"\[([^\]]*)\]\([^)]*\)")
    explained = {row[1]: link.sub(r"\1", row[2]) for row in table("errors.md", "status", "code")}
    assert {code: meaning.strip("`") for code, meaning in MEANINGS.items()} == explained


def test_a_failure_that_passes_says_when_to_try_again() -> None:
    for path, methods in DOCUMENT["paths"].items():
        for method, told in methods.items():
            if "503" in told["responses"]:
                assert "Retry-After" in told["responses"]["503"]["headers"], (method, path)


def test_a_search_by_state_takes_the_words_that_its_door_takes() -> None:
    for path in ("/v1/messages", "/v1/messages/export"):
        [state] = [one for one in DOCUMENT["paths"][path]["get"]["parameters"] if one.get("name") == "state"]
        assert state["schema"]["items"]["enum"] == list(GROUPS)
