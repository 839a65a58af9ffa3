"""Decides what a process claims next: from lanes that are held as much as they let go, from the others what is due."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from receiver.access.tenants import Tenants
from receiver.database.pool import Connection
from receiver.platform.apis import Api
from receiver.platform.credentials import can_send
from receiver.sending import claims, lanes
from receiver.sending.claims import Claim, Load, Share
from receiver.sending.lanes import Family, Lane, Waiting

# Also how soon a lane that another process has held up is seen to be open again.
LOOK_EVERY = timedelta(seconds=0.5)
APIS = {Family.PLATFORM: Api.MESSAGING, Family.CAMPAIGN: Api.CAMPAIGN}

# Of these lanes, in a claim of so many: how many each may have at most, and how many it has in this process already.
Shares = Callable[[Sequence[Lane], int], list[tuple[int, int]]]


def everything(lanes: Sequence[Lane], limit: int) -> list[tuple[int, int]]:
    """Each may have all."""
    return [(limit, 0) for _ in lanes]


class Claimer:
    """Claims for one process. `next_at`: when a lane that lets nothing go now may let something go."""

    def __init__(self, tenants: Tenants, lease: timedelta, clock: Callable[[], datetime]) -> None:
        self._tenants, self._lease, self._clock = tenants, lease, clock
        self._turns: Counter[Lane] = Counter()
        self._looked_at: datetime | None = None
        self.next_at: datetime | None = None

    async def claim(self, connection: Connection, limit: int, shares: Shares = everything) -> list[tuple[Claim, Load]]:
        """Up to `limit` submissions with what they carry, in the order in which they are to go.

        `shares` says of lanes how much each may have and has already: who has less goes first.
        """
        now = self._clock()
        rates = self._rates()
        names = [lane for lane, _ in rates]
        asked = {
            lane: Share(lane, room, busy, self._turns[lane])
            for lane, (room, busy) in zip(names, shares(names, limit), strict=True)
            if room > 0
        }
        free = [asked[lane] for lane, rate in rates if rate is None and lane in asked]
        found: list[Claim] = []
        self.next_at = None
        steps: list[tuple[int, Waiting | None]] = [(max(s.busy for s in free), None)] if free else []
        for waiting in await self._waiting(connection, rates, now):
            if waiting.ready_at is not None and waiting.ready_at > now:
                self.next_at = min(self.next_at or waiting.ready_at, waiting.ready_at)
            elif waiting.lane in asked:
                steps.append((asked[waiting.lane].busy, waiting))
        for _, step in sorted(steps, key=lambda each: each[0]):
            left = limit - len(found)
            if left and step is None:
                found += await claims.claim(connection, free, now, left, self._lease)
            elif left and step is not None:
                found += await self._claim_held(connection, step, asked[step.lane], now, left)
        self._turns.update(claim.lane for claim in found)
        loads = await claims.load(connection, [c.submission_id for c in found]) if found else []
        return list(zip(found, loads, strict=True))

    def rate_of(self, lane: Lane) -> float | None:
        """Messages a second that the lane lets go; None: no limit."""
        settings = self._tenants.settings_of(lane.tenant)
        return settings.rate if settings and lane.family is Family.PLATFORM else None

    def _rates(self) -> list[tuple[Lane, float | None]]:
        """The lanes of the tenants that can send, in an order of chance: none of those that are held is always last."""
        found = []
        for tenant in self._tenants.names:
            settings = self._tenants.settings_of(tenant)
            if settings is not None:
                found += [Lane(tenant, family) for family, api in APIS.items() if can_send(settings, api)]
        random.shuffle(found)
        return [(lane, self.rate_of(lane)) for lane in found]

    async def _waiting(
        self, connection: Connection, rates: Sequence[tuple[Lane, float | None]], now: datetime
    ) -> list[Waiting]:
        due = self._looked_at is None or not timedelta() <= now - self._looked_at < LOOK_EVERY
        if not due and all(rate is None for _, rate in rates):
            return []
        found = await lanes.waiting(connection, rates, now)
        # while a lane is in trouble it is looked at each time
        self._looked_at = None if any(w.rate is None for w in found) else now
        return found

    async def _claim_held(
        self, connection: Connection, waiting: Waiting, share: Share, now: datetime, limit: int
    ) -> list[Claim]:
        """From a lane with a rate or in trouble, under its lock: nobody else takes from it meanwhile."""
        async with connection.transaction():
            held = await lanes.hold(connection, waiting.lane, waiting.rate, now)
            if held.closed(now) or (held.rate is not None and held.tokens <= 0):
                return []
            found = await claims.claim(
                connection,
                [share],
                now,
                1 if held.in_trouble else limit,
                self._lease,
                tokens=float("inf") if held.rate is None else held.tokens,
                tries=held.in_trouble,
                held=True,
            )
            if found:
                await lanes.take(connection, held, sum(c.message_count for c in found), now, now + self._lease)
        return found
