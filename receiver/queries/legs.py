"""The legs of a message: what its receipts say of each, by the fold that says what the message is."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import asyncpg
import msgspec

from receiver.messages.lattice import NEGATIVE_STATES, RANK, Channel, Fact, State, fold, is_final
from receiver.messages.told import Feed


class Leg(msgspec.Struct):
    """One channel, recipient, flow node and device of which receipts told, and what they say of it alone."""

    channel: str
    destination: str | None
    subtid: str | None
    device: str | None
    carrier: str | None
    state: str
    final: bool
    code: str | None
    last_at: datetime
    receipts: int


@dataclass(frozen=True)
class Stored:
    """A row of `receipt` as the fold reads it. An answer and our own word are of no leg."""

    fingerprint: bytes
    channel: Channel
    fact: Fact
    reason_key: bytes | None
    at: datetime
    leg: tuple[object, ...] | None
    code: str | None


def stored(row: asyncpg.Record) -> Stored:
    """A receipt as the fold reads it, from its row."""
    leg = (row["channel"], row["destination_key"], row["subtid"], row["device"]) if row["feed"] <= Feed.REPLAY else None
    at = row["told_at"] or row["received_at"]
    return Stored(
        row["fingerprint"], Channel(row["channel"]), Fact(row["fact"]), row["reason_key"], at, leg, row["code"]
    )


def legs_of(rows: Iterable[asyncpg.Record]) -> list[Leg]:
    """The legs that these rows of `receipt` tell of, each in the order in which it was first told of."""
    legs: defaultdict[tuple[object, ...], list[tuple[asyncpg.Record, Stored]]] = defaultdict(list)
    for row in rows:
        told = stored(row)
        if told.leg is not None:
            legs[told.leg].append((row, told))
    return [_leg(told) for told in legs.values()]


def _leg(told: list[tuple[asyncpg.Record, Stored]]) -> Leg:
    rows, receipts = [row for row, _ in told], [receipt for _, receipt in told]
    belief, channel = fold(receipts), receipts[0].channel
    return Leg(
        channel=channel.word,
        destination=next((row["destination"] for row in rows if row["destination"]), None),
        subtid=rows[0]["subtid"],
        device=rows[0]["device"],
        carrier=next((row["carrier"] for row in reversed(rows) if row["carrier"]), None),
        state=belief.state.word,
        final=is_final(belief.state, channel),
        code=_code(belief.state, belief.reason_key, receipts),
        last_at=max(receipt.at for receipt in receipts),
        receipts=len(receipts),
    )


def _code(state: State, reason: bytes | None, receipts: list[Stored]) -> str | None:
    """The code beside the word that made the state: of a negative one its reason's."""
    if state in NEGATIVE_STATES:
        return next((receipt.code for receipt in receipts if receipt.reason_key == reason), None)
    return next((receipt.code for receipt in receipts if RANK[receipt.fact] == state), None)
