"""The fate of a message: drawn, fixed by a magic number, or scripted; and its receipts as the documents have them."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from receiver.sandbox import channels, hostile, magic, script
from receiver.sandbox.channels import FAMILIES
from receiver.sandbox.parcel import Parcel
from receiver.sandbox.receipt import Message, telling
from receiver.sandbox.scenario import Fate
from receiver.sandbox.script import Script, Shares, Step
from receiver.sandbox.settings import Profile

_MSISDN = re.compile(r"[0-9]{1,15}")  # E.164 allows 15 digits; short numbers are allowed too
_MAGIC: Final = {row.name: row.script for row in magic.TABLE}


def fate_of(message: Message, dice: Sequence[float], shares: Shares, profile: Profile) -> Script:
    """The fixed fate of a magic number; of all others the one that the `dice` draw."""
    channel, told_as = message.channel, message.destination
    if channel == "sms" and message.id_type == "msisdn":
        fixed = magic.script_of(told_as)
        if fixed is not None:
            return fixed
        if not _MSISDN.fullmatch(told_as):
            return script.failed(script.INVALID_ADDRESS)
    return drawn(channel, dice, shares, profile)


def drawn(channel: str, dice: Sequence[float], shares: Shares, profile: Profile) -> Script:
    """The fate that the `dice` draw, whoever the recipient is."""
    if profile == "hostile":
        return channels.draw(channel, hostile.FATES, dice)
    return script.draw(shares, dice) if channel == "sms" else channels.draw(channel, shares, dice)


def scripted(fate: Fate, channel: str) -> Script:
    """The fate that a scenario names, in the words of the channel."""
    if channel == "sms":
        return _MAGIC[fate]
    good, bad = FAMILIES[channel].good[0], FAMILIES[channel].bad[0]
    match fate:
        case "silent":
            return script.SILENT_SCRIPT
        case "undelivered" | "failed":
            return replace(bad, name=fate)
        case "twice":
            again = tuple(Step(1.0, step.word, repeats=place) for place, step in enumerate(good.steps))
            return Script(fate, good.steps + again)
        case "early":
            return Script(fate, tuple(replace(step, after=0.0) for step in good.steps), before_answer=True)
        case "delivered":
            return replace(good, name=fate)


def at_node(fate: Script, subtid: str) -> Script:
    """The fate as a node of a flow tells it: every receipt under its subtid."""
    if not subtid:
        return fate
    # A message that falls back to another channel tells a node of its own.
    steps = (replace(step, subtid=f"{subtid}_{step.subtid}" if step.subtid else subtid) for step in fate.steps)
    return replace(fate, steps=tuple(steps))


def honest(message: Message, steps: Sequence[tuple[float, Step]], sent_at: datetime) -> list[Parcel]:
    """Each step as documented, in a body of its own; `steps` with their seconds after `sent_at`."""
    parcels: list[Parcel] = []
    for offset, step in steps:
        if step.repeats is None:
            told = telling(message, step, sent_at + timedelta(seconds=offset))
        else:
            told = parcels[step.repeats].tellings[0]
        parcels.append(Parcel(offset, (told,)))
    return parcels
