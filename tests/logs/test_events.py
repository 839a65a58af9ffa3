"""What is logged has a name that stays, fields that tell no secret, and a line in docs/logs.md."""

import re
from collections import defaultdict
from pathlib import Path

import pytest

from tests.logs.calls import LEVELS, Logged, logged

CALLS = list(logged())
# Whatever names a person, holds what was sent or told, or opens a door.
SECRETIVE = re.compile(
    r"destination|msisdn|phone|recipient|body|content|text|token|secret|password|signature|url|path|query|key"
    r"|correlationid|callback|header|email|address_of|dsn"
)
PAGE = Path(__file__).parents[2] / "docs" / "logs.md"
LEVEL_NAMES = list(dict.fromkeys(LEVELS.values()))


def table(first: str) -> list[list[str]]:
    """The rows of the table of the page whose head begins so; code marks are removed."""
    _, _, rest = PAGE.read_text(encoding="utf-8").partition(f"\n| {first} |")
    lines = rest.split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.where)
def test_an_event_has_a_static_name(call: Logged) -> None:
    for event in call.events:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", event), call
    assert call.logger.startswith("receiver."), call


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.where)
def test_no_event_of_info_or_above_has_a_field_for_what_must_not_be_told(call: Logged) -> None:
    if set(call.levels) != {"debug"}:
        assert not [name for name in call.fields if SECRETIVE.search(name)], call


def test_every_event_stands_in_the_table_with_its_level_logger_and_fields() -> None:
    levels, fields = defaultdict[tuple[str, str], set[str]](set), defaultdict[tuple[str, str], set[str]](set)
    for call in CALLS:
        for event in call.events:
            levels[call.logger, event] |= set(call.levels)
            fields[call.logger, event] |= set(call.fields)
    made = set()
    for logger, event in levels:
        named = [level for level in LEVEL_NAMES if level in levels[logger, event]]
        made.add((event, ", ".join(named), logger, ", ".join(sorted(fields[logger, event]))))
    rows = table("event")
    assert {(*row[:3], ", ".join(sorted(row[3].split(", ")))) for row in rows} == made
    assert len(rows) == len(made), "each once"
    assert all(row[4] for row in rows), "each is explained"


def test_every_level_is_defined() -> None:
    assert [row[0] for row in table("level")] == LEVEL_NAMES
