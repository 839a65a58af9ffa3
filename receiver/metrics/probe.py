"""Figures of the self-probe: whether our own public address leads to us."""

from prometheus_client import Counter, Gauge

from receiver.metrics.registry import REGISTRY, UNKNOWN

PROBE_UP = Gauge(
    "receiver_probe_up", "Whether the last probe of our own public address arrived: 1 or 0.", registry=REGISTRY
)
PROBE_SECONDS = Gauge(
    "receiver_probe_seconds", "From the call of the last probe that arrived until its row was seen.", registry=REGISTRY
)
PROBE_LAST_SUCCESS = Gauge(
    "receiver_probe_last_success_timestamp_seconds", "When the last probe arrived.", registry=REGISTRY
)
PROBES = Counter(
    "receiver_probes", "Probes of our own public address by what came of them.", ("result",), registry=REGISTRY
)
CERTIFICATE_EXPIRY = Gauge(
    "receiver_public_certificate_expiry_timestamp_seconds",
    "When the certificate of our own public address ends.",
    registry=REGISTRY,
)
for _gauge in (PROBE_UP, PROBE_SECONDS, PROBE_LAST_SUCCESS, CERTIFICATE_EXPIRY):
    _gauge.set(UNKNOWN)  # while it is off, or another process probes
