"""What Prometheus scrapes: the names and labels of this process's figures. Knows no room; docs/metrics.md lists all.

Changes are counted, not tellings: a receipt told again changes nothing. Labels are words of our own tables.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client import Info as PrometheusInfo

from receiver import __version__

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody asks for
REGISTRY = CollectorRegistry()

MESSAGES = Counter(
    "receiver_messages", "Messages that came into a state.", ("channel", "state", "tenant", "feed"), registry=REGISTRY
)
FAILURES = Counter(
    "receiver_failures",
    "Messages that came into a negative state, by the code and class of the reason.",
    ("channel", "code", "class", "tenant", "feed"),
    registry=REGISTRY,
)
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
AUTH_FAILURES = Counter(
    "receiver_auth_failures",
    "Calls that were not let in for want of a good key or credential, by the cause.",
    ("reason",),
    registry=REGISTRY,
)
RATE_LIMITED = Counter(
    "receiver_rate_limited", "Calls that were refused because their API key called too often.", registry=REGISTRY
)
NOTIFY_SIGNATURES = Counter(
    "receiver_notify_signatures",
    "Bodies told to a tenant with a signature secret, by what their signature was worth.",
    ("result", "tenant"),
    registry=REGISTRY,
)
# From an SMS's half second to the 72 hours in which a handset may come back.
DELIVERY_BUCKETS = (0.05, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600, 72 * 3600)
DELIVERY = Histogram(
    "receiver_delivery_seconds",
    "From the platform's acceptance to delivery, by the platform's clock.",
    ("channel",),
    buckets=DELIVERY_BUCKETS,
    registry=REGISTRY,
)
OUTBOX = Gauge(
    "receiver_outbox_messages", "Messages that wait to be sent to the platform.", ("tenant",), registry=REGISTRY
)
SUBMISSIONS = Counter(
    "receiver_submissions", "Calls to the platform by what came of them.", ("outcome", "tenant"), registry=REGISTRY
)
RESENDS = Counter(
    "receiver_resends", "Uncertain messages that were sent again as new ones.", ("tenant",), registry=REGISTRY
)
LANE_STOPPED = Gauge(
    "receiver_lane_stopped",
    "Whether a tenant's messages wait because the platform refuses its credentials: 1 or 0.",
    ("tenant",),
    registry=REGISTRY,
)
FORWARDS = Counter(
    "receiver_forwards",
    "Receipts that went on to a client's address, by what came of each try.",
    ("result", "tenant"),
    registry=REGISTRY,
)
FORWARD_QUEUE = Gauge("receiver_forward_queue", "Receipts that wait to go on.", ("tenant",), registry=REGISTRY)
FORWARD_OLDEST = Gauge(
    "receiver_forward_oldest_seconds", "Age of the oldest receipt that waits to go on.", ("tenant",), registry=REGISTRY
)
# From the quarter of a second between two looks to the 72 hours after which it is given up.
FORWARD_SECONDS = Histogram(
    "receiver_forward_seconds",
    "From a receipt's commit until a client's address took it.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 300, 3600, 12 * 3600, 72 * 3600),
    registry=REGISTRY,
)
POLLS = Counter(
    "receiver_polls",
    "Calls to the platform's transaction status, by what came of them.",
    ("result", "tenant"),
    registry=REGISTRY,
)
POLL_PAUSED = Gauge(
    "receiver_poll_paused",
    "Whether a tenant's platform is not asked for a while: 1 or 0.",
    ("tenant",),
    registry=REGISTRY,
)
POLL_DROPPED = Counter(
    "receiver_poll_entries_dropped",
    "Entries in answers of the transaction status that could not be joined to a message that was asked about.",
    ("tenant",),
    registry=REGISTRY,
)
# A group is 1 receipt on a quiet day and 256 under load.
GROUP = Histogram(
    "receiver_intake_group_receipts",
    "Receipts in one committed group.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
    registry=REGISTRY,
)
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
QUARANTINE_TRIMMED = Counter(
    "receiver_quarantine_trimmed", "Bodies that left the quarantine, by the bound.", ("bound",), registry=REGISTRY
)
WEEKS_DROPPED = Counter(
    "receiver_retention_weeks_dropped", "Weeks that were dropped because they were too old.", registry=REGISTRY
)
OLDEST_WEEK = Gauge(
    "receiver_oldest_week_timestamp_seconds", "When the oldest week that is kept began.", registry=REGISTRY
)
PUSH_COMPLETENESS = Gauge(
    "receiver_push_completeness_ratio",
    "Of the messages of the last 24 hours with a final receipt, the part that the platform told of by itself.",
    ("channel",),
    registry=REGISTRY,
)
OVERDUE = Gauge(
    "receiver_overdue_messages",
    "Messages whose final word is later than that of nearly all others.",
    ("channel",),
    registry=REGISTRY,
)
AWAITED = Gauge("receiver_awaited_messages", "Messages that are waited for.", registry=REGISTRY)
WALK_BEHIND = Gauge(
    "receiver_walk_behind_seconds", "How far the walk over the messages is behind where it could be.", registry=REGISTRY
)
for _unknown in (AWAITED, WALK_BEHIND):
    _unknown.set(float("nan"))  # until this process holds the duty
WAITERS = Gauge("receiver_waiters", "Clients that wait for a message now.", registry=REGISTRY)
WAITS = Counter(
    "receiver_waits", "Waits for a message, by how they ended, and those refused.", ("ended",), registry=REGISTRY
)
STREAMS = Gauge("receiver_streams", "Streams of changes that are open.", registry=REGISTRY)
STREAM_EVENTS = Counter("receiver_stream_events", "Changes that were put into streams.", registry=REGISTRY)
STREAMS_ENDED = Counter("receiver_streams_ended", "Streams that ended, by why.", ("reason",), registry=REGISTRY)
WATCH_LAG = Gauge(
    "receiver_watch_lag_seconds",
    "How far what is told to streams and waiting clients is behind the change log; 0 while nobody listens.",
    registry=REGISTRY,
)
DAYS_AHEAD = Gauge("receiver_partition_days_ahead", "Days for which there are partitions.", registry=REGISTRY)
DAYS_AHEAD.set(float("nan"))  # until this process holds the duty: 0 would be an alarm
LEDGER_DIFFERENCE = Gauge(
    "receiver_ledger_difference",
    "Receipts that the ledger counted, less those that are there: 0 when it balances.",
    registry=REGISTRY,
)
LEDGER_DIFFERENCE.set(float("nan"))  # until it is known
LEDGER_CHECKED = Gauge(
    "receiver_ledger_checked_timestamp_seconds", "When the receipts were last counted.", registry=REGISTRY
)
LEDGER_CHECKED.set(float("nan"))
STATISTICS_BEHIND = Gauge(
    "receiver_statistics_behind_seconds",
    "Seconds since the time up to which the change log is folded into the statistics.",
    registry=REGISTRY,
)
STATISTICS_BEHIND.set(float("nan"))  # until this process holds the duty
STATISTICS_CHANGES = Counter(
    "receiver_statistics_changes", "Changes that this process folded into the statistics.", registry=REGISTRY
)
COSTLY_READS = Histogram(
    "receiver_costly_read_seconds",
    "How long a costly read had its place: a search without a name, a page of an export, statistics.",
    buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
READS_REFUSED = Counter(
    "receiver_reads_refused", "Costly reads for which there was no place in time.", registry=REGISTRY
)
EXPORTS = Counter("receiver_exports", "Exports by how they ended.", ("result",), registry=REGISTRY)
EXPORTED = Counter("receiver_exported_messages", "Messages handed out by exports.", registry=REGISTRY)
DUTY_HELD = Gauge(
    "receiver_duty_held", "Whether this process does a background duty now: 1 or 0.", ("duty",), registry=REGISTRY
)
BUILD = PrometheusInfo("receiver_build", "The running version.", registry=REGISTRY)
BUILD.info({"version": __version__})

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def scrape() -> bytes:
    """All figures in Prometheus' text format."""
    return generate_latest(REGISTRY)


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
