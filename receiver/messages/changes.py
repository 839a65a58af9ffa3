"""What an apply changed, and how it is counted in the metrics."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

import asyncpg

from receiver import metrics
from receiver.ids import MessageId, TenantId, born_at
from receiver.messages.lattice import NEGATIVE_STATES, Channel, State

ISSUED = 1


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
        Channel(row["channel"]),
        None if row["old_state"] is None else State(row["old_state"]),
        None if row["new_state"] is None else State(row["new_state"]),
        row["reason_key"],
        row["reason_class"],
        row["accepted_at"],
        row["delivered_at"],
    )


def count(
    changes: Iterable[Change],
    tenants: Mapping[TenantId, str],
    codes: Mapping[bytes, str],
    classes: Mapping[int, str],
) -> None:
    """Adds committed changes to the metrics; `codes` gives the bounded code of each reason that is at hand."""
    moved = [change for change in changes if change.new is not None and change.new != change.old]
    for (on, into, of), number in Counter((c.channel, c.new, c.tenant) for c in moved if c.new is not None).items():
        metrics.MESSAGES.labels(on.word, into.word, tenants.get(of, "unknown")).inc(number)
    for change in moved:
        channel, tenant = change.channel.word, tenants.get(change.tenant, "unknown")
        if change.new in NEGATIVE_STATES:
            code = codes.get(change.reason_key or b"", "other")
            failure_class = classes.get(change.reason_class or 0, "unknown")
            metrics.FAILURES.labels(channel, code, failure_class, tenant).inc()
        since = change.accepted_at
        if since is None and change.origin == ISSUED:  # delivered before the platform answered
            since = born_at(change.message_id)
        if change.new is State.DELIVERED and since and change.delivered_at:
            metrics.DELIVERY.labels(channel).observe(max((change.delivered_at - since).total_seconds(), 0.0))
