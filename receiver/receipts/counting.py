"""How a committed group of receipts is counted in the metrics, whichever feed brought it."""

from collections import Counter
from collections.abc import Mapping, Sequence

from receiver import metrics
from receiver.ids import TenantId
from receiver.messages.changes import Change, count
from receiver.messages.lattice import Fact
from receiver.messages.told import Feed, Reject, Told
from receiver.platform.codes import Class, known_code

CLASSES = {int(c): c.word for c in Class}


def count_group(
    feed: Feed,
    tenants: Mapping[TenantId, str],
    receipts: Sequence[Told],
    results: Sequence[str],
    rejects: Sequence[Reject],
    changes: Sequence[Change],
) -> None:
    """Adds a committed group to the metrics: labels are looked up once a kind, not once a receipt."""
    kinds = Counter((told.channel, result, told.tenant) for told, result in zip(receipts, results, strict=True))
    for (channel, result, tenant), number in kinds.items():
        name = tenants.get(tenant, "unknown")
        metrics.RECEIPTS.labels(channel.word, result, feed.word, name).inc(number)
    for reject in rejects:
        metrics.RECEIPTS.labels("none", "quarantined", feed.word, tenants.get(reject.tenant, "unknown")).inc()
    codes = {told.reason_key: known_code(told.code) for told in receipts if told.reason_key is not None}
    unknown = Fact.UNKNOWN
    for told, result in zip(receipts, results, strict=True):
        if told.fact is unknown and result == "applied":
            metrics.UNKNOWN_STATUSES.labels(told.channel.word, metrics.bounded_status(told.status)).inc()
    count(changes, feed, tenants, codes, CLASSES)
