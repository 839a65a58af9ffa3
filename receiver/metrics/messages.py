"""Figures of messages: into which states they come, how long it takes, and what never came."""

from prometheus_client import Counter, Gauge

from receiver.metrics.registry import REGISTRY, UNKNOWN
from receiver.metrics.times import DELIVERY_BUCKETS, Times

MESSAGES = Counter(
    "receiver_messages", "Messages that came into a state.", ("channel", "state", "tenant", "feed"), registry=REGISTRY
)
FAILURES = Counter(
    "receiver_failures",
    "Messages that came into a negative state, by the code and class of the reason.",
    ("channel", "code", "class", "tenant", "feed"),
    registry=REGISTRY,
)
# Three times of one message, so that one heat map is read like the next: see DELIVERY_BUCKETS.
ACCEPTED_SECONDS = Times(
    "receiver_accepted_seconds",
    "From the hand-in to the platform's acceptance.",
    ("channel", "tenant"),
    buckets=DELIVERY_BUCKETS,
    registry=REGISTRY,
)
SUBMITTED_SECONDS = Times(
    "receiver_submitted_seconds",
    "From the platform's acceptance until it handed the message on, as a push told.",
    ("channel", "tenant"),
    buckets=DELIVERY_BUCKETS,
    registry=REGISTRY,
)
DELIVERY = Times(
    "receiver_delivery_seconds",
    "From the platform's acceptance to delivery, by the platform's clock.",
    ("channel", "tenant"),
    buckets=DELIVERY_BUCKETS,
    registry=REGISTRY,
)
OUTCOMES = Counter(
    "receiver_outcomes",
    "Messages of ours that came into a group of states, by the country of the recipient.",
    ("tenant", "channel", "country", "outcome", "feed"),
    registry=REGISTRY,
)
SENDER_OUTCOMES = Counter(
    "receiver_sender_outcomes",
    "The same by the sender.",
    ("tenant", "channel", "sender", "outcome", "feed"),
    registry=REGISTRY,
)
MATURE = Gauge(
    "receiver_mature_messages",
    "Messages of ours born in the newest full hour whose usual time is over, by what became of them.",
    ("tenant", "channel", "country", "outcome"),
    registry=REGISTRY,
)
MATURE_HOUR = Gauge("receiver_mature_hour_timestamp_seconds", "When that hour began.", ("channel",), registry=REGISTRY)
STATES = Gauge(
    "receiver_state_messages",
    "Messages that are kept, by their state now and their age.",
    ("tenant", "channel", "state", "age"),
    registry=REGISTRY,
)
OVERDUE = Gauge(
    "receiver_overdue_messages",
    "Messages whose final word is later than that of nearly all others.",
    ("tenant", "channel"),
    registry=REGISTRY,
)
AWAITED = Gauge("receiver_awaited_messages", "Messages that are waited for.", registry=REGISTRY)
WALK_BEHIND = Gauge(
    "receiver_walk_behind_seconds", "How far the walk over the messages is behind where it could be.", registry=REGISTRY
)
PUSH_COMPLETENESS = Gauge(
    "receiver_push_completeness_ratio",
    "Of the messages of the last 24 hours with a final receipt, the part that the platform told of by itself.",
    ("channel",),
    registry=REGISTRY,
)
for _gauge in (AWAITED, WALK_BEHIND):
    _gauge.set(UNKNOWN)  # until this process holds the duty
