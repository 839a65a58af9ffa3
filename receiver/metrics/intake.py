"""Figures of what comes back: receipts, the answers of their door, the spool, the quarantine, the ledger."""

from prometheus_client import Counter, Gauge, Histogram

from receiver.metrics.registry import REGISTRY, UNKNOWN
from receiver.metrics.times import DELIVERY_BUCKETS, Times

RECEIPTS = Counter(
    "receiver_receipts", "Receipts by what became of them.", ("channel", "result", "feed", "tenant"), registry=REGISTRY
)
UNKNOWN_STATUSES = Counter(
    "receiver_unknown_statuses", "Receipts whose status is in no table.", ("channel", "status"), registry=REGISTRY
)
NOTIFY_RESPONSES = Counter(
    "receiver_notify_responses",
    "Answers of the receipts door by HTTP code, and whether the platform tells the receipt again after it.",
    ("code", "retried"),
    registry=REGISTRY,
)
NOTIFY_REFUSALS = Counter(
    "receiver_notify_refusals",
    "Answers 401 of the receipts door by their cause.",
    ("reason", "tenant"),
    registry=REGISTRY,
)
NOTIFY_SIGNATURES = Counter(
    "receiver_notify_signatures",
    "Bodies told to a tenant with a signature secret, by what their signature was worth.",
    ("result", "tenant"),
    registry=REGISTRY,
)
# Of one family with the times of a message: a receipt is late by a second, or by the days for which a phone was off.
RECEIPT_LAG = Times(
    "receiver_receipt_lag_seconds",
    "From the platform's time of an event to ours, of receipts that it told by push.",
    ("channel",),
    buckets=DELIVERY_BUCKETS,
    registry=REGISTRY,
)
# A group is 1 receipt on a quiet day and 256 under load.
GROUP = Histogram(
    "receiver_intake_group_receipts",
    "Receipts in one committed group.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
    registry=REGISTRY,
)
# From a disk that takes a commit in a millisecond to the 6 seconds after which Postgres gives the statement up.
COMMIT = Histogram(
    "receiver_intake_commit_seconds",
    "Time to apply and commit one group.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 6),
    registry=REGISTRY,
)
WAITING = Gauge("receiver_intake_waiting_receipts", "Receipts that wait for their group.", registry=REGISTRY)
SPOOL_BODIES = Gauge("receiver_spool_bodies", "Bodies that wait in the spool.", registry=REGISTRY)
SPOOL_BYTES = Gauge("receiver_spool_bytes", "Bytes of bodies that wait in the spool.", registry=REGISTRY)
SPOOL_OLDEST = Gauge(
    "receiver_spool_oldest_seconds", "Age of the oldest body that waits in the spool.", registry=REGISTRY
)
SPOOL_LIMIT = Gauge("receiver_spool_limit_bytes", "Bytes that the spool may hold.", registry=REGISTRY)
SPOOLED = Counter("receiver_spool_taken", "Bodies that were answered 200 from the spool.", registry=REGISTRY)
DRAINED = Counter("receiver_spool_drained", "Bodies that went from the spool into Postgres.", registry=REGISTRY)
SPOOL_REFUSED = Counter("receiver_spool_refused", "Bodies that the spool could not take.", registry=REGISTRY)
SPOOL_SET_ASIDE = Counter("receiver_spool_set_aside", "Damaged spool files that were set aside.", registry=REGISTRY)
QUARANTINE_BODIES = Gauge("receiver_quarantine_bodies", "Bodies in quarantine.", ("reason",), registry=REGISTRY)
QUARANTINE_BYTES = Gauge(
    "receiver_quarantine_bytes",
    "Bytes in quarantine as its bound counts them: each body and 1,024 for its row.",
    ("reason",),
    registry=REGISTRY,
)
QUARANTINE_LIMIT = Gauge("receiver_quarantine_limit_bytes", "Bytes that the quarantine may hold.", registry=REGISTRY)
QUARANTINE_TRIMMED = Counter(
    "receiver_quarantine_trimmed", "Bodies that left the quarantine, by the bound.", ("bound",), registry=REGISTRY
)
LEDGER_DIFFERENCE = Gauge(
    "receiver_ledger_difference",
    "Receipts that the ledger counted, less those that are there: 0 when it balances.",
    registry=REGISTRY,
)
LEDGER_CHECKED = Gauge(
    "receiver_ledger_checked_timestamp_seconds", "When the receipts were last counted.", registry=REGISTRY
)
for _gauge in (SPOOL_LIMIT, QUARANTINE_LIMIT, LEDGER_DIFFERENCE, LEDGER_CHECKED):
    _gauge.set(UNKNOWN)  # until this process knows: there may be no spool, or the duty is another's


MOST_STATUSES = 20
_statuses: set[str] = set()


def bounded_status(word: str) -> str:
    """A status word as a label: the first 20 distinct words of this process, then `other`."""
    word = word[:40] or "none"
    if word in _statuses:
        return word
    if len(_statuses) < MOST_STATUSES:
        _statuses.add(word)
        return word
    return "other"
