"""Made-up messages: what `POST /sandbox/tell` asks for, and whom such messages went to."""

import random
from dataclasses import dataclass
from typing import Final

import httpx2
import msgspec

from receiver.sandbox.channels import FAMILIES
from receiver.sandbox.receipt import Message
from receiver.sandbox.script import CARRIERS
from receiver.sandbox.settings import PROFILES, Profile, SandboxSettings, notify_target
from receiver.sandbox.transids import new_transid

MOST_MESSAGES: Final = 50_000  # in one call
# One made-up message in so many bears a correlationid that looks like an id of a receiver: it must be text to it.
_LOOKALIKE: Final = 10


class BadTelling(Exception):
    """The body of `POST /sandbox/tell` can't be obeyed; says why."""


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    notifyurl: str | list[str]
    messages: int
    seed: int | None = None
    channels: list[str] | None = None
    profile: str | None = None
    lose: float | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A telling that was found good."""

    notifyurls: tuple[httpx2.URL, ...]
    messages: int
    seed: int
    channels: tuple[str, ...]
    profile: Profile
    lose: float | None = None
    """The share of receipts that is dropped for ever; None: as is set."""


def read(body: bytes, settings: SandboxSettings) -> Wanted:
    """What `body` asks for; raises BadTelling."""
    try:
        asked = msgspec.json.decode(body, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadTelling(str(error)) from None
    channels = tuple(FAMILIES if asked.channels is None else asked.channels)
    if not channels or not set(channels) <= set(FAMILIES):
        raise BadTelling(f"channels: some of {', '.join(FAMILIES)}")
    profile = asked.profile or settings.profile
    if profile not in PROFILES:
        raise BadTelling(f"profile: one of {', '.join(PROFILES)}")
    if not 1 <= asked.messages <= MOST_MESSAGES:
        raise BadTelling(f"messages: 1 to {MOST_MESSAGES}")
    urls = [asked.notifyurl] if isinstance(asked.notifyurl, str) else asked.notifyurl
    try:
        targets = tuple(notify_target(url, strangers=settings.strangers) for url in urls)
    except ValueError as error:
        raise BadTelling(str(error)) from None
    if not targets:
        raise BadTelling("notifyurl: at least one")
    if asked.lose is not None and not 0 <= asked.lose <= 1:
        raise BadTelling("lose: a share, 0 to 1")
    seed = settings.seed if asked.seed is None else asked.seed
    return Wanted(targets, asked.messages, seed, channels, PROFILES[profile], asked.lose)


def person(wanted: Wanted, number: int, roll: random.Random) -> Message:
    """The `number`-th made-up message: channels go round, all else is drawn; its transid is new in every run."""
    channel = wanted.channels[number % len(wanted.channels)]
    destination, id_type = recipient(FAMILIES[channel].recipient, roll)
    return Message(
        channel=channel,
        destination=destination,
        id_type=id_type,
        transid=new_transid(),
        callback_data=roll.choice(("", "", 'basket="9" é', "campaign-7|spring")),
        correlationid=_correlationid(roll),
        parts=roll.choice((1, 1, 1, 2, 3)),
        carrier=roll.choice(CARRIERS),
    )


def recipient(kind: str, roll: random.Random) -> tuple[str, str]:
    """A recipient and the type of its id. Few enough that two messages to one recipient are common."""
    number = roll.randrange(1_000)
    match kind:
        case "number":
            return f"447700900{number:03}", "msisdn"  # the range reserved for fiction
        case "email":
            return f"reader{number}@example.com", "email"
        case "customer":
            return f"Customer-{number}", "customerid"
        case "application":
            return f"app-{number}", "customerid"
        case "page user":
            return f"24080{number:010}", "psid"
        case "social user":
            return f"783214{number:06}", "twitterid"
        case "open id":
            return f"o6_bmjrPTlm6_2sgVt7hMZOP{number:04}", "wechat_user_id"
        case _:
            return f"urn:mbid:AQAAY{number:05}", "applebusinesschat"


def _correlationid(roll: random.Random) -> str:
    kind = roll.randrange(_LOOKALIKE)
    if kind == 0:
        digits = f"{roll.getrandbits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-7{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
    return "" if kind < 4 else f"order-{roll.randrange(10_000)}"
