"""The filters of a search, read from query parameters: every wrong one is named at once."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from starlette.datastructures import QueryParams

from receiver.ids import first_id_at
from receiver.messages.lattice import NEGATIVE_STATES, Channel, State
from receiver.platform.codes import Class
from receiver.queries.cursors import Position
from receiver.queries.parameters import YES_NO, Parameters
from receiver.web import FieldError

DEFAULT_LIMIT, MOST_LIMIT = 50, 1_000

STATES = {state.word: int(state) for state in State}
# What a search takes for a state: also all that mean that a message did not arrive.
GROUPS = {word: (state,) for word, state in STATES.items()} | {"any_failure": tuple(map(int, NEGATIVE_STATES))}
CHANNELS = {channel.word: int(channel) for channel in Channel}
ORIGINS = {"issued": 1, "observed": 2, "recorded": 3}
CLASSES = {one.word: int(one) for one in Class}
ORDERS = {"created": False, "changed": True}
ATTENTION = frozenset({int(s) for s in NEGATIVE_STATES} | {int(State.UNCERTAIN), int(State.NO_RECEIPT)})
# Fewer last digits are those of too many, and no number has more.
LEAST_DIGITS, MOST_DIGITS = 4, 15
FEW_SHARE = 7  # so many last digits are those of few
AT_HOME = 10  # a whole number has as many, with the 0 that is dialled at home or abroad in front
COUNTRY = re.compile(r"[A-Z]{2}|001")  # 001: numbers of no country, as `phonenumbers` calls them

# How far back the change log is walked: as far as a stream goes.
WINDOW = timedelta(hours=24)
GRACE = timedelta(minutes=1)  # who asks for exactly 24 hours is not refused for the time that his request took

FILTERS = {
    "transid": "The platform's id.",
    "correlationid": "The client's own id, or ours as the platform shows it.",
    "callbackData": "What the client handed in.",
    "destination": "The recipient, as asked or as any receipt told.",
    "destination_end": f"Its last digits, {LEAST_DIGITS} to {MOST_DIGITS}, as asked or as any receipt told.",
    "channel": f"One of {', '.join(CHANNELS)}.",
    "state": f"One of {', '.join(GROUPS)}. The last one stands for all that did not arrive.",
    "final": "true: nothing more is expected; false: it is.",
    "code": "The platform's code of the reason.",
    "class": f"Who can mend the reason: one of {', '.join(CLASSES)}.",
    "country": "The country of a phone number, by its two letters: GB.",
    "sender": "Who it is from.",
    "origin": "One of issued, observed, recorded.",
    "batch_id": "The batch in which it was handed in.",
    "conflict": "true: only messages whose receipts contradict each other.",
    "overdue": "true: only messages without a final word, later than nearly all of their channel and country.",
    "created_from": "Created at or after this time (RFC 3339, with a zone).",
    "created_to": "Created before this time (RFC 3339, with a zone).",
}
PARAMETERS = FILTERS | {
    "order": "created: newest first; changed: what changed last first, of the last 24 hours.",
    "changed_from": "With order=changed: changed last at or after this time, at most 24 hours ago.",
    "changed_to": "With order=changed: changed last before this time.",
    "total": "true: tell also how many there are, and how good the figure is.",
    "limit": f"Messages on a page: 1 to {MOST_LIMIT}, {DEFAULT_LIMIT} by default.",
    "cursor": "Where the page begins: next_cursor of the page before.",
}


@dataclass(frozen=True)
class Window:
    """When messages changed last: from a time of the change log's window, to another."""

    begin: datetime
    end: datetime | None


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What a search lets through. Several values of one filter mean any of them."""

    transid: list[str] = field(default_factory=list)
    correlationid: list[str] = field(default_factory=list)
    callback_data: list[str] = field(default_factory=list)
    destination: list[str] = field(default_factory=list)
    destination_end: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)
    channel: list[int] = field(default_factory=list)
    state: list[int] = field(default_factory=list)
    origin: list[int] = field(default_factory=list)
    reason_class: list[int] = field(default_factory=list)
    country: list[str] = field(default_factory=list)
    sender: list[str] = field(default_factory=list)
    batch_id: list[UUID] = field(default_factory=list)
    conflict: bool | None = None
    overdue: bool | None = None
    final: bool | None = None
    from_id: UUID | None = None
    to_id: UUID | None = None
    changed: Window | None = None
    """Set: ordered by the last change."""
    position: Position | None = None
    """Behind which the page begins."""
    total: bool = False
    limit: int = DEFAULT_LIMIT

    @classmethod
    def of_transid(cls, transid: str, limit: int) -> "Filters":
        """All messages of one transid."""
        return cls(transid=[transid], limit=limit)

    @property
    def only_attention(self) -> bool:
        """Whether only states are asked for that the index on `attention` holds."""
        return bool(self.reason_class) or (bool(self.state) and ATTENTION.issuperset(self.state))

    @property
    def is_named(self) -> bool:
        """Whether a name is given that few messages bear, so that finding them costs what showing them costs."""
        names = (self.transid, self.correlationid, self.callback_data, self.destination, self.batch_id)
        ends = self.destination_end
        return any(names) or (bool(ends) and min(map(len, ends)) >= FEW_SHARE)


def read_filters(
    parameters: QueryParams, cursor: Callable[[str], Position | None], now: datetime | None = None
) -> Filters | list[FieldError]:
    """The filters of a search, or every parameter that is wrong. `cursor` reads a cursor of this query."""
    asked = Parameters(parameters, PARAMETERS)
    filters = replace(
        filters_of(asked),
        changed=_changed(asked, now or datetime.now(UTC)),
        position=_position(asked, cursor),
        total=asked.choose_one("total", YES_NO) or False,
        limit=asked.whole("limit", 1, MOST_LIMIT, DEFAULT_LIMIT),
    )
    return asked.errors or filters


def filters_of(asked: Parameters) -> Filters:
    """The filters alone; what is wrong with them is among the errors of `asked`."""
    created_from, created_to = asked.span("created_from", "created_to")
    return Filters(
        transid=asked.texts("transid"),
        correlationid=asked.texts("correlationid"),
        callback_data=asked.texts("callbackData"),
        destination=asked.texts("destination"),
        destination_end=_ends(asked),
        code=asked.texts("code"),
        channel=asked.choose("channel", CHANNELS),
        state=sorted({state for states in asked.choose("state", GROUPS) for state in states}),
        origin=asked.choose("origin", ORIGINS),
        reason_class=asked.choose("class", CLASSES),
        country=_countries(asked),
        sender=asked.texts("sender"),
        batch_id=asked.ids("batch_id", "a batch_id"),
        conflict=asked.choose_one("conflict", YES_NO),
        overdue=asked.choose_one("overdue", YES_NO),
        final=asked.choose_one("final", YES_NO),
        from_id=first_id_at(created_from) if created_from else None,
        to_id=first_id_at(created_to) if created_to else None,
    )


def _ends(asked: Parameters) -> list[str]:
    """The last digits, without what stands between them: of 07700 900001 and of +44 7700 900001 what both end with."""
    ends = [re.sub(r"[ ().-]", "", text).removeprefix("+") for text in asked.texts("destination_end")]
    ends = [end.lstrip("0") or end if len(end) >= AT_HOME else end for end in ends]
    if not all(end.isascii() and end.isdigit() and LEAST_DIGITS <= len(end) <= MOST_DIGITS for end in ends):
        asked.wrong("destination_end", f"it takes {LEAST_DIGITS} to {MOST_DIGITS} digits")
    return ends


def _countries(asked: Parameters) -> list[str]:
    countries = [text.upper() for text in asked.texts("country")]
    if not all(COUNTRY.fullmatch(country) for country in countries):
        asked.wrong("country", "it takes the two letters of ISO 3166, such as GB")
    return countries


def _changed(asked: Parameters, now: datetime) -> Window | None:
    begin, end = asked.span("changed_from", "changed_to")
    if not asked.choose_one("order", ORDERS):
        for name, time in (("changed_from", begin), ("changed_to", end)):
            if time:
                asked.wrong(name, "it goes with order=changed alone")
        return None
    for name, time in (("changed_from", begin), ("changed_to", end)):
        if time and time < now - WINDOW - GRACE:
            asked.wrong(name, "the log of changes is searched for 24 hours: ask by created_from for older ones")
    return Window(begin or now - WINDOW, end)


def _position(asked: Parameters, cursor: Callable[[str], Position | None]) -> Position | None:
    text = asked.single("cursor")
    if text is None:
        return None
    position = cursor(text)
    if position is None:
        detail = "it is no cursor of this query: begin without one"
        asked.errors.append(FieldError("cursor", "bad_cursor", detail))
    return position
