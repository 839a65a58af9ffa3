"""Receipts that the platform loses: dropped for ever before anybody was told, and found in its export alone."""

import random
from collections.abc import Sequence

from receiver.sandbox.parcel import Kind, Parcel, Telling


def lose(parcels: Sequence[Parcel], share: float, roll: random.Random) -> tuple[list[Parcel], list[Telling]]:
    """The bodies that are still told, and what was lost: one entry for each body that would have held it.

    Each receipt draws once, however often it would have been told: who loses more loses what he lost before, too.
    What is no receipt is never lost.
    """
    if share <= 0:
        return list(parcels), []
    told: list[Parcel] = []
    lost: list[Telling] = []
    drawn: dict[bytes, bool] = {}  # by content: at a high speed two clicks have one time stamp, and are one receipt
    for parcel in parcels:
        for telling in parcel.tellings:
            if telling.kind is Kind.RECEIPT:
                content = telling.plain()
                if content not in drawn:
                    drawn[content] = roll.random() < share
                telling.lost = drawn[content]
        lost += (telling for telling in parcel.tellings if telling.lost)
        parcel.tellings = tuple(telling for telling in parcel.tellings if not telling.lost)
        if parcel.tellings:
            told.append(parcel)
    return told, lost
