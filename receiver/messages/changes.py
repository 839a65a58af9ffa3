"""What an apply changed, and how it is counted in the metrics."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

import asyncpg

from receiver import metrics
from receiver.ids import MessageId, TenantId, born_at
from receiver.messages.lattice import NEGATIVE_STATES, Channel, State
from receiver.messages.told import Feed

ISSUED = 1

# An enum's own look-up takes ten times as long, and there are three in each change.
_STATES: dict[int | None, State | None] = {None: None, **{int(state): state for state in State}}
_CHANNELS = {int(channel): channel for channel in Channel}


class Change(NamedTuple):
    """One row of the change log as its writer sees it. `old` None: born; `new` None: merged away."""

    message_id: MessageId
    tenant: TenantId
    origin: int
    channel: Channel
    old: State | None
    new: State | None
    reason_key: bytes | None
    reason_class: int | None
    accepted_at: datetime | None
    delivered_at: datetime | None


def change_of(row: asyncpg.Record) -> Change:
    """A change from the row of `fold_v1`, `apply_receipts_v1` or `connect_v1`."""
    return Change(
        MessageId(row["message_id"]),
        TenantId(row["tenant"]),
        row["origin"],
        _CHANNELS[row["channel"]],
        _STATES[row["old_state"]],
        _STATES[row["new_state"]],
        row["reason_key"],
        row["reason_class"],
        row["accepted_at"],
        row["delivered_at"],
    )


def count(
    changes: Iterable[Change],
    feed: Feed,
    tenants: Mapping[TenantId, str],
    codes: Mapping[bytes, str],
    classes: Mapping[int, str],
) -> None:
    """Adds committed changes to the metrics; `codes` gives the bounded code of each reason that is at hand."""
    moved = [change for change in changes if change.new is not None and change.new != change.old]
    for (on, into, of), number in Counter((c.channel, c.new, c.tenant) for c in moved if c.new is not None).items():
        metrics.MESSAGES.labels(on.word, into.word, tenants.get(of, "unknown"), feed.word).inc(number)
    delays: defaultdict[Channel, list[float]] = defaultdict(list)
    for change in moved:
        if change.new in NEGATIVE_STATES:
            code = codes.get(change.reason_key or b"", "other")
            failure_class = classes.get(change.reason_class or 0, "unknown")
            tenant = tenants.get(change.tenant, "unknown")
            metrics.FAILURES.labels(change.channel.word, code, failure_class, tenant, feed.word).inc()
        elif change.new is State.DELIVERED and change.delivered_at is not None:
            since = change.accepted_at
            if since is None and change.origin == ISSUED:  # delivered before the platform answered
                since = born_at(change.message_id)
            if since is not None:
                delays[change.channel].append(max((change.delivered_at - since).total_seconds(), 0.0))
    for channel, seconds in delays.items():
        observe = metrics.DELIVERY.labels(channel.word).observe
        for delay in seconds:
            observe(delay)
