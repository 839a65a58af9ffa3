"""Figures of the process itself: its callers, readers, duties, connections, log and version."""

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client import Info as PrometheusInfo

from receiver import __version__
from receiver.metrics.registry import REGISTRY, UNKNOWN

AUTH_FAILURES = Counter(
    "receiver_auth_failures",
    "Calls that were not let in for want of a good key or credential, by the cause.",
    ("reason",),
    registry=REGISTRY,
)
RATE_LIMITED = Counter(
    "receiver_rate_limited", "Calls that were refused because their API key called too often.", registry=REGISTRY
)
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
# From one look into an index to the 10 seconds after which Postgres gives a reader up.
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
DAYS_AHEAD = Gauge("receiver_partition_days_ahead", "Days for which there are partitions.", registry=REGISTRY)
WEEKS_DROPPED = Counter(
    "receiver_retention_weeks_dropped", "Weeks that were dropped because they were too old.", registry=REGISTRY
)
OLDEST_WEEK = Gauge(
    "receiver_oldest_week_timestamp_seconds", "When the oldest week that is kept began.", registry=REGISTRY
)
STATISTICS_BEHIND = Gauge(
    "receiver_statistics_behind_seconds",
    "Seconds since the time up to which the change log is folded into the statistics.",
    registry=REGISTRY,
)
STATISTICS_CHANGES = Counter(
    "receiver_statistics_changes", "Changes that this process folded into the statistics.", registry=REGISTRY
)
DATABASE_UP = Gauge(
    "receiver_database_up", "Whether the database answers this process and takes writes: 1 or 0.", registry=REGISTRY
)
POOL_CONNECTIONS = Gauge(
    "receiver_pool_connections",
    "Connections to the database that are open, by what they do.",
    ("pool", "use"),
    registry=REGISTRY,
)
POOL_LIMIT = Gauge("receiver_pool_limit", "Connections that a pool opens at most.", ("pool",), registry=REGISTRY)
LOG_EVENTS = Counter(
    "receiver_log_events", "Lines that were logged at warning or above.", ("level",), registry=REGISTRY
)
DUTY_HELD = Gauge(
    "receiver_duty_held", "Whether this process does a background duty now: 1 or 0.", ("duty",), registry=REGISTRY
)
BUILD = PrometheusInfo("receiver_build", "The running version.", registry=REGISTRY)
for _gauge in (OLDEST_WEEK, DAYS_AHEAD, STATISTICS_BEHIND, DATABASE_UP):
    _gauge.set(UNKNOWN)  # until this process knows: 0 would be an alarm
for _level in ("warning", "error", "critical"):
    LOG_EVENTS.labels(_level)  # from the start: a first error is a rise from 0
BUILD.info({"version": __version__})
