"""What the tests of the checks share: short ways to what a check says, JSON of every kind, one change to a body."""

import copy
import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from receiver.sending.request import Request
from receiver.web import FieldError

REQUESTS = Path(__file__).parent.parent / "samples" / "requests"
HALF = "\ud800"  # a surrogate without its other half: no UTF-8 for it

Checked = Request | list[FieldError]


def sample(name: str) -> dict[str, Any]:
    """A request in the shape of the platform's documents."""
    body: dict[str, Any] = json.loads((REQUESTS / name).read_text())
    return body


def broken(checked: Checked) -> dict[str, str]:
    """Pointer and code of each broken rule."""
    assert isinstance(checked, list), checked
    assert all(error.detail for error in checked)
    return {error.pointer: error.code for error in checked}


def good(checked: Checked) -> Request:
    assert isinstance(checked, Request), checked
    return checked


TEXT = st.text(st.characters(exclude_categories=()), max_size=60)
NUMBER = st.integers() | st.integers(-(10**400), 10**400) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT | st.sampled_from(["", " ", "\0", HALF, "1", "null", "💥" * 2_000]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (object or array, key or index) in `value`."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [(value, key) for key in keys] + [place for key in keys for place in _places(value[key])]


@st.composite
def changed_in_one_place(draw: st.DrawFn, body: dict[str, Any]) -> dict[str, Any]:
    """`body` with one value replaced by any JSON, taken away, or joined by another."""
    body = copy.deepcopy(body)
    holder, key = draw(st.sampled_from(_places(body)))
    match draw(st.sampled_from(["replace", "remove", "add"])):
        case "replace":
            holder[key] = draw(JSON)
        case "remove":
            del holder[key]
        case "add" if isinstance(holder, dict):
            holder[draw(TEXT)] = draw(JSON)
        case _:
            holder.append(draw(JSON))
    return body


def check_what_was_checked(checked: Checked, codes: set[str]) -> None:
    """What holds of every result of a check: it can be answered, and it can be stored."""
    if isinstance(checked, Request):
        assert checked.messages
        assert isinstance(json.loads(checked.content), dict)
        texts = [checked.callback_data, checked.sender, checked.template, checked.notifyurl]
        texts += [text for m in checked.messages for text in (m.value, m.normalised, m.correlationid)]
        assert not any("\0" in text for text in texts if text), "Postgres takes no NUL"
        "".join(text for text in texts if text).encode()
        return
    assert checked
    for error in checked:
        assert error.code in codes
        f"{error.pointer}{error.detail}".encode()
