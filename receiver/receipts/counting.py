"""How a committed group of receipts is counted in the metrics, whichever feed brought it."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

from receiver import metrics
from receiver.ids import MessageId, TenantId
from receiver.messages.changes import count
from receiver.messages.lattice import Channel, Fact
from receiver.messages.told import Feed, Reject, Told
from receiver.platform.codes import Class, known_code
from receiver.receipts.apply import Applied

CLASSES = {int(c): c.word for c in Class}
SUBMITTED, UNKNOWN = Fact.SUBMITTED, Fact.UNKNOWN  # a look-up in an enum costs as much as all else of a receipt


@metrics.harmless
def count_group(
    feed: Feed,
    tenants: Mapping[TenantId, str],
    receipts: Sequence[Told],
    applied: Applied,
    rejects: Sequence[Reject],
) -> None:
    """Adds a committed group to the metrics: labels are looked up once a kind, not once a receipt."""
    kinds = Counter((told.channel, result, told.tenant) for told, result in zip(receipts, applied.results, strict=True))
    for (channel, result, tenant), number in kinds.items():
        name = tenants.get(tenant, "unknown")
        metrics.RECEIPTS.labels(channel.word, result, feed.word, name).inc(number)
    for reject in rejects:
        metrics.RECEIPTS.labels("none", "quarantined", feed.word, tenants.get(reject.tenant, "unknown")).inc()
    codes = {told.reason_key: known_code(told.code) for told in receipts if told.reason_key is not None}
    lags: defaultdict[Channel, list[float]] = defaultdict(list)
    submitted: dict[MessageId | None, datetime] = {}
    pushed = feed is Feed.PUSH
    for told, result, message_id in zip(receipts, applied.results, applied.messages, strict=True):
        if result != "applied":
            continue
        fact, at = told.fact, told.told_at
        if pushed and at is not None:
            lags[told.channel].append((told.received_at - at).total_seconds())
        if pushed and fact is SUBMITTED:
            at = at or told.received_at
            if submitted.setdefault(message_id, at) > at:
                submitted[message_id] = at
        if fact is UNKNOWN:
            metrics.UNKNOWN_STATUSES.labels(told.channel.word, metrics.bounded_status(told.status)).inc()
    for channel, seconds in lags.items():
        metrics.RECEIPT_LAG.labels(channel.word).take(seconds)
    count(applied.changes, feed, tenants, codes, CLASSES, submitted)
