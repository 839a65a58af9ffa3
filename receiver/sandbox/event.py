"""Reading a Custom Event v1 request, and which children the flow behind each event sends."""

from dataclasses import dataclass
from typing import Any, Final

import httpx2
import msgspec

from receiver.sandbox import blocks
from receiver.sandbox.answers import Code, Refused
from receiver.sandbox.channels import FAMILIES
from receiver.sandbox.request import CORRELATIONID_BYTES_MAX, decode, is_expiry, notifyurl_of
from receiver.sandbox.settings import SandboxSettings

CHILDREN_MAX: Final = 10_000  # of one request
CHILDREN: Final = "children"
"""The parameter that says which children the flow of an event sends."""


class _Event(msgspec.Struct):
    evtid: str | int | None = None
    correlationid: str | None = None
    parameters: dict[str, Any] | None = None


class _Request(msgspec.Struct):
    events: list[_Event]
    expiry: str | None = None
    notifyurl: str | None = None


@dataclass(frozen=True, slots=True)
class Child:
    """One message that the flow behind an event sends."""

    channel: str
    destination: str
    """Empty: made up."""
    subtid: str


@dataclass(frozen=True, slots=True)
class Event:
    """One event that was found good."""

    evtid: str
    correlationid: str
    children: tuple[Child, ...]


@dataclass(frozen=True, slots=True)
class EventCall:
    """A request that was found good."""

    events: tuple[Event, ...]
    notifyurl: httpx2.URL | None


def read(body: bytes, settings: SandboxSettings) -> EventCall:
    """What a Custom Event `body` asks for; raises Refused with the codes of Custom Event."""
    raw = decode(body)
    if not raw.get("events"):
        raise Refused(Code.INVALID, "events")
    request = blocks.convert(raw, _Request, "")
    if request.expiry and not is_expiry(request.expiry, zoned=False):
        raise Refused(Code.INVALID, "expiry")
    events = tuple(_event(event, f"events[{place}]") for place, event in enumerate(request.events))
    if sum(len(event.children) for event in events) > CHILDREN_MAX:
        raise Refused(Code.INVALID, f"parameters.{CHILDREN}: over {CHILDREN_MAX}")
    return EventCall(events, notifyurl_of(request.notifyurl, settings))


def _event(event: _Event, where: str) -> Event:
    if event.evtid in (None, ""):
        raise Refused(Code.INVALID, f"{where}.evtid")
    correlationid = event.correlationid or ""
    if len(correlationid.encode()) > CORRELATIONID_BYTES_MAX:
        raise Refused(Code.INVALID, f"{where}.correlationid")
    return Event(str(event.evtid), correlationid, _children((event.parameters or {}).get(CHILDREN, 1), where))


def _children(asked: object, where: str) -> tuple[Child, ...]:
    """A number, made up over all channels in turn, or `channel/destination/subtid` each, the last two optional."""
    if isinstance(asked, str) and asked.isdecimal() and len(asked) <= 5:
        asked = int(asked)
    if isinstance(asked, int) and not isinstance(asked, bool) and 0 <= asked <= CHILDREN_MAX:
        names = tuple(FAMILIES)
        return tuple(Child(names[place % len(names)], "", str(place + 1)) for place in range(asked))
    if isinstance(asked, str):
        asked = asked.split(",")
    if not isinstance(asked, list) or not all(isinstance(one, str) for one in asked):
        raise Refused(Code.INVALID, f"{where}.parameters.{CHILDREN}")
    found = []
    for place, one in enumerate(asked):
        channel, _, rest = one.strip().partition("/")
        destination, _, subtid = rest.partition("/")
        if channel not in FAMILIES:
            raise Refused(Code.INVALID, f"{where}.parameters.{CHILDREN}: a channel")
        found.append(Child(channel, destination, subtid or str(place + 1)))
    return tuple(found)
