"""Playing a capture: what `POST /sandbox/play` asks for, and the message that a play is of."""

from dataclasses import dataclass
from typing import Final

import httpx2
import msgspec

from receiver.sandbox.capture import Capture, Played
from receiver.sandbox.channels import FAMILIES
from receiver.sandbox.receipt import Message
from receiver.sandbox.settings import SandboxSettings, notify_target

MOST_TIMES: Final = 10_000  # in one call


class BadPlay(Exception):
    """The body of `POST /sandbox/play` can't be obeyed; says why."""


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    scenario: Capture
    notifyurl: str = ""
    speed: float | None = None
    times: int = 1


@dataclass(frozen=True, slots=True)
class Asked:
    """A play that was found good."""

    capture: Capture
    notifyurl: httpx2.URL
    speed: float
    times: int = 1


def asked(body: bytes, settings: SandboxSettings) -> Asked:
    """What `body` asks for; raises BadPlay."""
    try:
        found = msgspec.json.decode(body, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadPlay(str(error)) from None
    speed = settings.speed if found.speed is None else found.speed
    for bad, text in (
        (wrong := found.scenario.wrong(), wrong),
        (not 0 <= speed <= 1000, "speed: 0 to 1000"),
        (not 1 <= found.times <= MOST_TIMES, f"times: 1 to {MOST_TIMES}"),
    ):
        if bad:
            raise BadPlay(text)
    return Asked(found.scenario, _target(found.notifyurl or settings.notifyurl, settings), speed, found.times)


def once(capture: Capture, settings: SandboxSettings) -> Asked:
    """One play to the Notify URL of the service; raises BadPlay."""
    return Asked(capture, _target(settings.notifyurl, settings), settings.speed)


def names_of(message: Message) -> dict[str, str]:
    """The names that a sent message has of its own, by what stands for them in a capture."""
    return {
        "destination": message.destination,
        "transid": message.transid,
        "correlationid": message.correlationid,
        "callbackData": message.callback_data,
    }


def message_of(capture: Capture, played: Played) -> Message:
    """The message that a play is of, for the ledger."""
    said = capture.messages[0].channel
    channel = next((name for name, family in FAMILIES.items() if said in (name, family.told_as)), said)
    return Message(
        channel=channel,
        destination=played.name("destination", capture),
        id_type="",
        transid=played.name("transid", capture),
        callback_data=played.name("callbackData", capture),
        correlationid=played.name("correlationid", capture),
        parts=1,
        carrier="",
    )


def _target(url: str, settings: SandboxSettings) -> httpx2.URL:
    if not url:
        raise BadPlay("notifyurl: where to is it told?")
    try:
        return notify_target(url, strangers=settings.strangers)
    except ValueError as error:
        raise BadPlay(str(error)) from None
