"""What is told: without end, from a seed; receipts of issued and of observed messages, in random order, some twice."""

import json
import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from tests.receipts.tellings import CODES, RECEIVED, STATUSES

OPEN = 300  # receipts of messages that are under way at one time
MOST_OF_ONE = 5  # receipts of a message
MOST_IN_ONE = 6  # receipts in a body
UNREADABLE = ("no receipt at all, number {}", "<delivery>{}</delivery>", '{{"deliveryInfoNotification": {}}}', "{{{}")


class Lives:
    """An endless series of bodies. `issued` are our own messages, each with its number."""

    def __init__(self, seed: int, issued: Sequence[tuple[UUID, str]] = ()) -> None:
        self._seed, self._roll = seed, random.Random(seed)
        self._issued = list(issued)
        self._born = 0
        self._to_tell: list[dict[str, Any]] = []
        self._told: list[bytes] = []

    def __iter__(self) -> "Lives":
        return self

    def __next__(self) -> bytes:
        luck = self._roll.random()
        if luck < 0.05 and self._told:
            return self._roll.choice(self._told)  # the platform repeats itself
        if luck < 0.08:
            self._born += 1
            return self._roll.choice(UNREADABLE).format(f"{self._seed}{self._born}").encode()
        body = self._body(1 if luck < 0.8 else self._roll.randint(2, MOST_IN_ONE))
        if self._roll.random() < 0.1:
            self._told.append(body)
        return body

    def _body(self, receipts: int) -> bytes:
        while len(self._to_tell) < OPEN:
            self._to_tell += self._life()
        found = [self._to_tell.pop(self._roll.randrange(len(self._to_tell))) for _ in range(receipts)]
        if self._roll.random() < 0.05:
            self._to_tell.append(self._roll.choice(found))  # the same receipt, in other company
        if receipts == 1:
            return json.dumps(found[0]).encode()
        if self._roll.random() < 0.1:
            return json.dumps([*found, {"nothing": f"{self._seed}{self._born}"}]).encode()
        return json.dumps(found).encode()

    def _life(self) -> list[dict[str, Any]]:
        """All receipts of the next message."""
        self._born += 1
        ids, number, channel = self._next_message()
        told = []
        for _ in range(self._roll.randint(1, MOST_OF_ONE)):
            info = {
                "deliveryChannel": self._roll.choice([channel, channel, channel, "SMS"]),
                "deliveryStatus": self._roll.choice(STATUSES[channel]),
                "destination": self._roll.choice([number, f"+{number}", f"00{number}"]),
                "code": self._roll.choice(CODES),
            }
            if self._roll.random() < 0.8:
                info["timeStamp"] = (RECEIVED + timedelta(seconds=self._roll.randrange(36_000))).isoformat()
            told.append({"deliveryInfoNotification": {"deliveryInfo": info, "callbackData": "", "subtid": "", **ids}})
        return told

    def _next_message(self) -> tuple[dict[str, str], str, str]:
        """Its ids, its number, its channel."""
        if self._issued and self._roll.random() < 0.5:
            identity, number = self._issued.pop()
            return {"transid": f"i{self._seed}-{self._born}", "correlationid": str(identity)}, number, "SMS"
        number, channel = f"4477{self._roll.randrange(10**8):08}", self._roll.choice(sorted(STATUSES))
        return {"transid": f"o{self._seed}-{self._born}", "correlationid": ""}, number, channel
