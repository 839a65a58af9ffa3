"""What an apply changed, and how it is counted in the metrics."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

import asyncpg

from receiver import metrics
from receiver.ids import MessageId, TenantId, born_at
from receiver.messages.lattice import NEGATIVE_STATES, POSITIVE_STATES, Channel, State
from receiver.messages.told import Feed

ISSUED = 1
BEFORE = frozenset({None, State.QUEUED, State.UNCERTAIN, State.ACCEPTED})  # states of what was not handed on yet
OLD_NEWS = frozenset({Feed.IMPORT, Feed.REPLAY})  # times of another day: they would be taken for delays of today
NOBODY: Mapping[MessageId | None, datetime] = MappingProxyType({})

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


@metrics.harmless
def count(
    changes: Iterable[Change],
    feed: Feed,
    tenants: Mapping[TenantId, str],
    codes: Mapping[bytes, str],
    classes: Mapping[int, str],
    submitted: Mapping[MessageId | None, datetime] = NOBODY,
) -> None:
    """Adds committed changes to the metrics: labels are looked up once a kind, not once a message.

    `codes` gives the bounded code of each reason that is at hand, `submitted` when a push says that a message went on.
    """
    known = [change for change in changes if change.new is not None]
    moved = [change for change in known if change.new != change.old]
    for (on, into, of), number in Counter((c.channel, c.new, c.tenant) for c in moved).items():
        assert into is not None
        metrics.MESSAGES.labels(on.word, into.word, tenants.get(of, "unknown"), feed.word).inc(number)
    failed = Counter((c.channel, c.reason_key, c.reason_class, c.tenant) for c in moved if c.new in NEGATIVE_STATES)
    for (on, reason, of_class, of), number in failed.items():
        words = codes.get(reason or b"", "other"), classes.get(of_class or 0, "unknown"), tenants.get(of, "unknown")
        metrics.FAILURES.labels(on.word, *words, feed.word).inc(number)
    if feed is Feed.ANSWER:
        accepted = {c.message_id: c for c in known if c.accepted_at is not None and c.origin == ISSUED}
        _take(metrics.ACCEPTED_SECONDS, tenants, ((c, born_at(c.message_id), c.accepted_at) for c in accepted.values()))
    elif submitted:
        went_on = [c for c in moved if c.old in BEFORE]
        _take(metrics.SUBMITTED_SECONDS, tenants, ((c, since(c), submitted.get(c.message_id)) for c in went_on))
    if feed not in OLD_NEWS:
        came = (c for c in moved if c.new in POSITIVE_STATES and c.old not in POSITIVE_STATES)
        _take(metrics.DELIVERY, tenants, ((c, since(c), c.delivered_at) for c in came))


def since(change: Change) -> datetime | None:
    """When the platform had it: as it said, or the birth of one of ours that was heard of before the answer came."""
    if change.accepted_at is None and change.origin == ISSUED:
        return born_at(change.message_id)
    return change.accepted_at


def _take(
    times: metrics.Times,
    tenants: Mapping[TenantId, str],
    spans: Iterable[tuple[Change, datetime | None, datetime | None]],
) -> None:
    """Observes how long it was from one time to the other, of those changes that have both."""
    kinds: defaultdict[tuple[Channel, TenantId], list[float]] = defaultdict(list)
    for change, begin, end in spans:
        if begin is not None and end is not None:
            kinds[change.channel, change.tenant].append((end - begin).total_seconds())
    for (channel, tenant), seconds in kinds.items():
        times.labels(channel.word, tenants.get(tenant, "unknown")).take(seconds)
