"""The day: who sent what to whom, minute by minute, and what became of it. All figures of the panel test follow."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from receiver.messages.lattice import Channel, State

MINUTES: Final = 24 * 60
BAD: Final = range(14 * 60, 15 * 60)
"""The hour in which the route of `shop` to Spain fails."""
BAD_COUNTRY, BAD_TENANT, BAD_CODE = "ES", "shop", "7201"
TENANTS: Final = ("default", "shop")
PREFIXES: Final = {"GB": "447911", "ES": "346001", "FR": "336121", "DE": "491511"}
CLASSES: Final = {"7201": "temporary", "7203": "recipient", "7102": "recipient"}
MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)


@dataclass(frozen=True)
class Send:
    """One message with its whole life. All of it happens within the minute in which it was born."""

    number: int
    minute: int
    tenant: str
    channel: Channel
    country: str
    sender: str
    state: State
    """What became of it; `submitted`: its last word never came."""
    code: str | None
    born: datetime

    @property
    def destination(self) -> str:
        return f"{PREFIXES[self.country]}{self.number:06}"

    @property
    def transid(self) -> str:
        return f"T-{self.number:06}"

    @property
    def correlationid(self) -> str:
        return f"order-{self.number}"

    @property
    def callback(self) -> str:
        return f"customer {self.number}"

    @property
    def accepted(self) -> datetime:
        return self.born + SECOND

    @property
    def submitted(self) -> datetime:
        return self.accepted + SECOND

    @property
    def ended(self) -> datetime:
        """When it arrived or failed, by the platform's clock."""
        return self.accepted + (3 + self.number % 20) * SECOND

    @property
    def lag(self) -> timedelta:
        """How late the platform tells it."""
        return (1 + self.number % 3) * SECOND


def day(begin: datetime) -> list[Send]:
    """4,320 messages of the 24 hours from `begin`, in order of birth."""
    return [
        _send(3 * minute + place, minute, begin + minute * MINUTE, *one)
        for minute in range(MINUTES)
        for place, one in enumerate(_of(minute))
    ]


def _of(minute: int) -> Iterator[tuple[str, Channel, str, str]]:
    countries = list(PREFIXES)
    yield "shop", Channel.SMS, BAD_COUNTRY, "SHOP"
    yield "shop", Channel.SMS, ("GB", "FR", "DE")[minute % 3], "PROMO"
    chat = minute % 5 == 4
    yield "default", Channel.WHATSAPP if chat else Channel.SMS, "GB" if chat else countries[minute % 4], "ACME"


def _send(number: int, minute: int, at: datetime, tenant: str, channel: Channel, country: str, sender: str) -> Send:
    state, code = State.DELIVERED, None
    if minute in BAD and (tenant, country) == (BAD_TENANT, BAD_COUNTRY):
        state, code = State.UNDELIVERED, BAD_CODE
    elif channel is Channel.SMS:  # what goes by chat arrives: its codes are another table's
        state, code = _usual(number)
    return Send(number, minute, tenant, channel, country, sender, state, code, at + (3 + 10 * (number % 3)) * SECOND)


def _usual(number: int) -> tuple[State, str | None]:
    """What becomes of an SMS on a good day."""
    if number % 47 == 0:
        return State.SUBMITTED, None
    if number % 37 == 0:
        return State.UNDELIVERED, "7203"
    return (State.FAILED, "7102") if number % 97 == 0 else (State.DELIVERED, None)
