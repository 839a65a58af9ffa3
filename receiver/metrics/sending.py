"""Figures of what goes out: the outbox, calls to the platform, what goes on to clients, what is asked."""

from prometheus_client import Counter, Gauge, Histogram

from receiver.metrics.registry import REGISTRY

OUTBOX = Gauge(
    "receiver_outbox_messages", "Messages that wait to be sent to the platform.", ("tenant",), registry=REGISTRY
)
OUTBOX_OLDEST = Gauge(
    "receiver_outbox_oldest_seconds",
    "Age of the oldest submission that waits to be sent.",
    ("tenant",),
    registry=REGISTRY,
)
SUBMISSIONS = Counter(
    "receiver_submissions", "Calls to the platform by what came of them.", ("outcome", "tenant"), registry=REGISTRY
)
# From a platform next door to the 300 seconds that RECEIVER_PLATFORM_TIMEOUT may be; 30 is its default.
PLATFORM_CALLS = Histogram(
    "receiver_platform_call_seconds",
    "How long a call to the platform that submits messages took, whatever came of it.",
    ("tenant",),
    buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
    registry=REGISTRY,
)
THROTTLED = Counter(
    "receiver_throttled",
    "Submissions that the platform put off because we send too fast.",
    ("tenant",),
    registry=REGISTRY,
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
FAILURE_NOTICES = Counter(
    "receiver_failure_notices",
    "Notices of failures that went to a tenant's address, by what came of each try.",
    ("result", "tenant"),
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
