"""The client's shapes and options are those of the doors, field by field."""

from typing import Any, get_type_hints

import msgspec
import pytest

from receiver.cli.commands import load
from receiver.cli.filter_options import CHANGED, SEARCH, STREAM, Filter
from receiver.client import change_shapes, explain_shapes, figure_shapes, message_shapes
from receiver.queries import batch_routes, explain, search_routes, statistics_views, stream, stream_routes, views
from receiver.queries.filters import FILTERS, PARAMETERS
from receiver.sending.contract import AcceptedBatch

PAIRS: list[tuple[Any, Any]] = [
    (message_shapes.MessageWithTimeline, views.MessageWithTimeline),
    (message_shapes.Page, search_routes.FoundMessages),
    (message_shapes.Sent, AcceptedBatch),
    (explain_shapes.Explanation, explain.Explanation),
    (figure_shapes.Batch, batch_routes.Batch),
    (figure_shapes.Deliveries, statistics_views.Deliveries),
    (change_shapes.Change, stream.Change),
]
OURS = {"replayed"}  # made of a header


def compare(shape: Any, struct: Any) -> None:
    """Same names, and below them the same again."""
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(struct)}
    hints = get_type_hints(shape)
    assert hints.keys() - OURS == fields.keys(), struct
    for name, kind in fields.items():
        inner, told = list(parts(kind, msgspec.Struct)), list(parts(hints[name], dict))
        shapes = [one for one in told if one is not dict]
        assert len(inner) == len(shapes), (struct, name)
        for below, above in zip(inner, shapes, strict=True):
            compare(above, below)


def parts(kind: Any, base: type) -> Any:
    """The structs, or the shapes, within a type."""
    if isinstance(kind, type) and (issubclass(kind, base) if base is not dict else hasattr(kind, "__total__")):
        yield kind
    for argument in getattr(kind, "__args__", ()):
        yield from parts(argument, base)


@pytest.mark.parametrize(("shape", "struct"), PAIRS, ids=[struct.__name__ for _, struct in PAIRS])
def test_a_shape_has_the_fields_that_are_served(shape: Any, struct: Any) -> None:
    compare(shape, struct)


def named(*filters: Filter) -> set[str]:
    return {one.parameter for one in filters}


def test_every_filter_of_a_door_is_an_option() -> None:
    assert named(*SEARCH) == set(FILTERS)
    assert named(*SEARCH, *CHANGED) | {"order", "total", "limit", "cursor"} == set(PARAMETERS)
    assert named(*STREAM) | {"from"} == set(stream_routes.PARAMETERS)


@pytest.mark.parametrize(("command", "filters"), [("find", SEARCH), ("export", SEARCH), ("tail", STREAM)])
def test_a_command_takes_every_option_of_its_door(command: str, filters: tuple[Filter, ...]) -> None:
    known = {option for parameter in load(command).params for option in [*parameter.opts, *parameter.secondary_opts]}
    assert {part for one in filters for option in one.options for part in option.split("/")} <= known
