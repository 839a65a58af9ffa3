"""The contract only grows: what clients were promised stays, and what changes is seen (docs/compatibility.md)."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.doors.contract_snapshot import SNAPSHOT, breaks, present

AGREED: dict[str, Any] = json.loads(SNAPSHOT.read_text())
NOW = present()
Change = Callable[[dict[str, Any]], object]


def test_nothing_that_was_agreed_on_is_gone() -> None:
    assert list(breaks(AGREED, NOW)) == []


def test_the_agreed_contract_is_that_which_is_served() -> None:
    assert AGREED == NOW, "`make contract` takes up what was added"


def find(document: dict[str, Any]) -> Any:
    return document["paths"]["/v1/messages"]["get"]


def send(document: dict[str, Any]) -> Any:
    return document["paths"]["/v1/messages"]["post"]


def message(document: dict[str, Any]) -> Any:
    return document["components"]["schemas"]["Message"]


def body(document: dict[str, Any]) -> Any:
    return send(document)["requestBody"]["content"]["application/json"]["schema"]


TAKEN: dict[str, Change] = {
    "a door": lambda d: d["paths"].pop("/v1/ledger"),
    "a method": lambda d: d["paths"]["/v1/messages/{id}"].pop("delete"),
    "a parameter": lambda d: find(d)["parameters"].pop(0),
    "a parameter's type": lambda d: find(d)["parameters"][0].update(schema={"type": "integer"}),
    "a parameter's word": lambda d: _named(d, "state")["schema"]["items"]["enum"].remove("read"),
    "a larger limit": lambda d: _named(d, "limit")["schema"].update(maximum=999),
    "leaving a parameter out": lambda d: find(d)["parameters"][0].update(required=True),
    "a field": lambda d: message(d)["properties"].pop("transid"),
    "a field's type": lambda d: message(d)["properties"]["clicks"].update(type="string"),
    "a field that is never null": lambda d: message(d)["properties"].update(
        state={"anyOf": [{"type": "string"}, {"type": "null"}]}
    ),
    "a field that is always there": lambda d: message(d)["required"].remove("state"),
    "a time's format": lambda d: message(d)["properties"]["created_at"].pop("format"),
    "an answer": lambda d: send(d)["responses"].pop("202"),
    "a code": lambda d: _codes(d).remove("rule_broken"),
    "a header": lambda d: send(d)["responses"]["202"]["headers"].pop("Idempotency-Replayed"),
    "leaving a field of a body out": lambda d: body(d)["required"].append("expiry"),
    "a field of a body": lambda d: body(d)["properties"].pop("callbackData"),
    "a content type": lambda d: send(d)["requestBody"]["content"].pop("application/json"),
    "an operation's name": lambda d: send(d).update(operationId="send"),
}


def _named(document: dict[str, Any], name: str) -> Any:
    return next(one for one in find(document)["parameters"] if one.get("name") == name)


def _codes(document: dict[str, Any]) -> Any:
    problem = send(document)["responses"]["422"]["content"]["application/problem+json"]["schema"]
    return problem["allOf"][1]["properties"]["code"]["enum"]


@pytest.mark.parametrize("taken", TAKEN.values(), ids=TAKEN.keys())
def test_what_is_taken_away_is_seen(taken: Change) -> None:
    changed = copy.deepcopy(NOW)
    taken(changed)
    assert len(list(breaks(NOW, changed))) == 1


ADDED: dict[str, Change] = {
    "a door": lambda d: d["paths"].update({"/v1/new": {"get": find(NOW)}}),
    "a parameter": lambda d: find(d)["parameters"].append({"name": "new", "in": "query", "schema": {"type": "string"}}),
    "a field": lambda d: message(d)["properties"].update(new={"type": "string"}),
    "a word": lambda d: message(d)["properties"]["state"]["enum"].append("new"),
    "a code": lambda d: _codes(d).append("new"),
    "a field of a body": lambda d: body(d)["properties"].update(new={"type": "string"}),
    "an answer": lambda d: send(d)["responses"].update({"418": {}}),
    "a larger limit": lambda d: _named(d, "limit")["schema"].update(maximum=2_000),
}


@pytest.mark.parametrize("added", ADDED.values(), ids=ADDED.keys())
def test_what_is_added_breaks_nobody(added: Change) -> None:
    changed = copy.deepcopy(NOW)
    added(changed)
    assert changed != NOW
    assert list(breaks(NOW, changed)) == []
