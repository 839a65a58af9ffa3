"""The filters of a search, read from query parameters: every wrong one is named at once."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

from starlette.datastructures import QueryParams

from receiver.ids import first_id_at
from receiver.messages.lattice import NEGATIVE_STATES, Channel, State
from receiver.web import FieldError

T = TypeVar("T")

MOST_VALUES = 100  # of all parameters together
LONGEST_VALUE = 4_000
DEFAULT_LIMIT, MOST_LIMIT = 50, 1_000

TEXTS = ("transid", "correlationid", "callbackData", "destination", "code")
STATES = {state.word: int(state) for state in State}
CHANNELS = {channel.word: int(channel) for channel in Channel}
ORIGINS = {"issued": 1, "observed": 2, "recorded": 3}
YES_NO = {"true": True, "false": False, "yes": True, "no": False}
ATTENTION = frozenset({int(s) for s in NEGATIVE_STATES} | {int(State.UNCERTAIN), int(State.NO_RECEIPT)})

PARAMETERS = {
    "transid": "The platform's id.",
    "correlationid": "The client's own id, or ours as the platform shows it.",
    "callbackData": "What the client handed in.",
    "destination": "The recipient, as asked or as any receipt told.",
    "channel": f"One of {', '.join(CHANNELS)}.",
    "state": f"One of {', '.join(STATES)}.",
    "code": "The platform's code of the reason.",
    "origin": "One of issued, observed, recorded.",
    "batch_id": "The batch in which it was handed in.",
    "conflict": "true: only messages whose receipts contradict each other.",
    "overdue": "true: only messages without a final word, later than nearly all of their channel and country.",
    "created_from": "Created at or after this time (RFC 3339, with a zone).",
    "created_to": "Created before this time (RFC 3339, with a zone).",
    "limit": f"Messages on a page: 1 to {MOST_LIMIT}, {DEFAULT_LIMIT} by default.",
    "cursor": "Where the page begins: next_cursor of the page before.",
}


@dataclass(frozen=True)
class Filters:
    """What a search lets through. Several values of one filter mean any of them."""

    transid: list[str]
    correlationid: list[str]
    callback_data: list[str]
    destination: list[str]
    code: list[str]
    channel: list[int]
    state: list[int]
    origin: list[int]
    batch_id: list[UUID]
    conflict: bool | None
    overdue: bool | None
    from_id: UUID | None
    before_id: UUID | None
    limit: int

    @classmethod
    def of_transid(cls, transid: str, limit: int) -> "Filters":
        """All messages of one transid."""
        return cls([transid], [], [], [], [], [], [], [], [], None, None, None, None, limit)

    @property
    def only_attention(self) -> bool:
        """Whether only states are asked for that the index on `attention` holds."""
        return bool(self.state) and ATTENTION.issuperset(self.state)


def read_filters(parameters: QueryParams, cursor: Callable[[str], UUID | None]) -> Filters | list[FieldError]:
    """The filters, or every parameter that is wrong. `cursor` reads a cursor of this query."""
    errors: list[FieldError] = []
    items = parameters.multi_items()
    if len(items) > MOST_VALUES:
        return [FieldError("", "too_many_parameters", f"{len(items)} parameters, {MOST_VALUES} at most")]
    for name in dict.fromkeys(name for name, _ in items):
        if name not in PARAMETERS:
            errors.append(FieldError(name[:64], "unknown_parameter", f"it takes {', '.join(PARAMETERS)}"))
    for name, value in items:
        if "\0" in value or len(value) > LONGEST_VALUE:
            errors.append(FieldError(name[:64], "bad_parameter", f"no NUL, and {LONGEST_VALUE} characters at most"))
        elif name in PARAMETERS and not value:
            errors.append(FieldError(name, "bad_parameter", "it is empty: leave it out, or give it a value"))
    if errors:
        return errors

    def choose(name: str, table: dict[str, T]) -> list[T]:
        chosen = []
        for value in parameters.getlist(name):
            if value in table:
                chosen.append(table[value])
            else:
                errors.append(FieldError(name, "bad_parameter", f"it takes one of {', '.join(table)}"))
        return chosen

    def single(name: str) -> str | None:
        values = parameters.getlist(name)
        if len(values) > 1:
            errors.append(FieldError(name, "bad_parameter", "it takes one value"))
        return values[0] if values else None

    def time(name: str) -> datetime | None:
        text = single(name)
        if text is None:
            return None
        try:
            when = datetime.fromisoformat(text.replace(" ", "+"))
            if when.tzinfo is None or not 1970 < when.year < 9999:
                raise ValueError
        except ValueError:
            errors.append(
                FieldError(name, "bad_parameter", "it takes a time with a zone, such as 2026-01-31T18:00:00Z")
            )
            return None
        return when.astimezone(UTC)

    batches = []
    for value in parameters.getlist("batch_id"):
        try:
            batches.append(UUID(value))
        except ValueError:
            errors.append(FieldError("batch_id", "bad_parameter", "it takes a batch_id"))
    for name in ("conflict", "overdue"):
        single(name)
    conflicts, overdue = choose("conflict", YES_NO), choose("overdue", YES_NO)
    created_from, created_to = time("created_from"), time("created_to")
    if created_from and created_to and created_from >= created_to:
        errors.append(FieldError("created_to", "bad_parameter", "it is not after created_from"))
    before = first_id_at(created_to) if created_to else None
    if text := single("cursor"):
        at = cursor(text)
        if at is None:
            errors.append(FieldError("cursor", "bad_cursor", "it is no cursor of this query: begin without one"))
        else:
            before = at if before is None else min(before, at)
    limit = single("limit") or str(DEFAULT_LIMIT)
    if not (limit.isascii() and limit.isdigit() and len(limit) < 6 and 1 <= int(limit) <= MOST_LIMIT):
        errors.append(FieldError("limit", "bad_parameter", f"it takes a number from 1 to {MOST_LIMIT}"))
    channel, state, origin = choose("channel", CHANNELS), choose("state", STATES), choose("origin", ORIGINS)
    if errors:
        return errors
    texts = {name: parameters.getlist(name) for name in TEXTS}
    return Filters(
        transid=texts["transid"],
        correlationid=texts["correlationid"],
        callback_data=texts["callbackData"],
        destination=texts["destination"],
        code=texts["code"],
        channel=channel,
        state=state,
        origin=origin,
        batch_id=batches,
        conflict=conflicts[0] if conflicts else None,
        overdue=overdue[0] if overdue else None,
        from_id=first_id_at(created_from) if created_from else None,
        before_id=before,
        limit=int(limit),
    )
