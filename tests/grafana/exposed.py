"""What the service exposes, as dashboards and rules may name it: labels by metric, and values by label.

The names are those of the code; tests/metrics compare a real scrape with them.
"""

from collections.abc import Iterator

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client import Info as PrometheusInfo

from grafana.rules import recorded
from receiver import metrics
from receiver.messages.lattice import Channel, State
from receiver.messages.told import Feed
from receiver.platform.codes import Class

PROMETHEUS_OWN = frozenset({"instance", "job"})  # whose figure it is, and whose disk


def _exposed() -> Iterator[tuple[str, frozenset[str]]]:
    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram | PrometheusInfo):
            [family] = metric.describe()
            labels = frozenset(metric._labelnames)  # prometheus-client has no public way to ask for them
            if family.type == "histogram":
                yield f"{family.name}_bucket", labels | {"le"}
                yield f"{family.name}_count", labels
                yield f"{family.name}_sum", labels
            else:
                suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
                yield family.name + suffix, labels | ({"version"} if family.type == "info" else set())


SERIES: dict[str, frozenset[str]] = dict(_exposed())
"""Labels as a process tells them."""
METRICS: dict[str, frozenset[str]] = {name: labels | PROMETHEUS_OWN for name, labels in SERIES.items()}
METRICS |= recorded() | {"up": PROMETHEUS_OWN}  # by our own rules, and by Prometheus
METRICS["ALERTS"] = frozenset({"alertname", "alertstate", "severity"})  # Prometheus writes it of its own rules
"""Labels as a query may name them."""

OF_MESSAGES = ("accepted", "delivered", "failed", "no_receipt", "pending")
OF_CALLS = ("accepted", "refused", "later", "not_sent", "uncertain")
OF_ANSWERS_401 = ("token", "header", "signature_missing", "signature_wrong")
OF_KEYS = ("missing", "unknown", "expired", "revoked", "scope", "url")
OF_ENDED_STREAMS = ("gone", "overflow", "stalled", "key", "draining", "restored", "database")
OF_QUARANTINE = (
    *("empty", "xml", "not_json", "nested_too_deeply", "no_receipt", "too_many", "cut_off", "too_large"),
    *("bad_row", "reader_failed", "database_refused", "forged"),
)
OF_RECEIPTS = ("applied", "duplicate", "late", "forged", "quarantined")
OF_SIGNATURES = ("good", "missing", "wrong")
OF_FORWARDS = ("taken", "retried", "given_up", "refused", "dropped", "gone")
OF_POLLS = ("answered", "unknown", "throttled", "refused", "fault")
OF_EXPORTS = ("done", "left", "broken")
OF_PROBES = ("arrived", "dns", "tls", "connection", "refused", "lost")
VALUES: dict[str, frozenset[str]] = {
    "state": frozenset(state.word for state in State),
    "class": frozenset(one.word for one in Class),
    "channel": frozenset({channel.word for channel in Channel} | {"none"}),
    "feed": frozenset(feed.word for feed in Feed),
    "outcome": frozenset({*OF_MESSAGES, *OF_CALLS}),
    "age": frozenset(["hour", "day", "week", "older"]),
    "use": frozenset(["busy", "idle"]),
    "level": frozenset(["warning", "error", "critical"]),
    "retried": frozenset(["yes", "no"]),
    "reason": frozenset({*OF_ANSWERS_401, *OF_KEYS, *OF_ENDED_STREAMS, *OF_QUARANTINE}),
    "result": frozenset({*OF_RECEIPTS, *OF_SIGNATURES, *OF_FORWARDS, *OF_POLLS, *OF_EXPORTS, *OF_PROBES}),
}
