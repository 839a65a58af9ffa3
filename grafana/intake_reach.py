"""Panels of the dashboard Intake: whether the platform can reach us, and who asks us."""

from grafana_foundation_sdk.builders import timeseries
from grafana_foundation_sdk.models import units

from grafana.panels import curve, marked, stacked
from grafana.parts import quantile, query, thresholds


def probe_results() -> timeseries.Panel:
    """What became of the probes."""
    return stacked(
        curve(
            "Do our own probes arrive?",
            units.Short,
            "Probes in the chosen window, sent to our public address through DNS and TLS and followed to their row. "
            "Normal: arrived alone. dns, tls, connection: the way to us; refused: our door or what stands before "
            "it; lost: taken and never seen. docs/probe.md. Empty: RECEIVER_PROBE_SECONDS is 0.",
            query("sum by (result) (increase(receiver_probes_total[$window]))", "{{result}}"),
            wide=8,
        )
    )


def probe_time() -> timeseries.Panel:
    """Round trips."""
    return curve(
        "How long does a probe take?",
        units.Seconds,
        "From the call until its row was seen in Postgres, of the last one that arrived. Normal: below a second. It "
        "holds the balancer, TLS, the door and a commit: compare it with the commits above. Empty: the probe is off.",
        query("max(receiver_probe_seconds >= 0)", "round trip"),
        wide=8,
    )


def certificate() -> timeseries.Panel:
    """Days that are left."""
    left = "min(receiver_public_certificate_expiry_timestamp_seconds > 0) - time()"
    panel = curve(
        "How long is the public certificate still good?",
        units.Seconds,
        "Until the certificate of the public address ends. It should be renewed long before: below the line of 14 "
        "days see why that fails. At 0 the platform can't tell us anything. Empty: the probe is off, or the address "
        "is not https.",
        query(left, "left"),
        wide=8,
    )
    return marked(panel, thresholds("red", (14 * 86400, "green")))


def questions() -> timeseries.Panel:
    """Costly reads."""
    return curve(
        "How long do costly questions take?",
        units.Seconds,
        "Searches without a name, large pages, exports, statistics, over the chosen window. They have few places, "
        "so that receipts do not wait for them. p99 near the timeout, and refused questions in the log: who asks so "
        "much?",
        query(quantile(0.5, "receiver_costly_read_seconds"), "p50"),
        query(quantile(0.99, "receiver_costly_read_seconds"), "p99"),
        wide=8,
    )


def streams() -> timeseries.Panel:
    """Who listens and waits."""
    return curve(
        "Who listens, who waits, and who was sent away?",
        units.Short,
        "streams: open now; waiting: clients that wait for a message; questions refused: costly ones in the chosen "
        "window for which there was no place (503). Normal: no refusals. Steady refusals: clients ask in a loop.",
        query("sum(receiver_streams)", "streams"),
        query("sum(receiver_waiters)", "waiting"),
        query("sum(increase(receiver_reads_refused_total[$window])) or vector(0)", "questions refused"),
        wide=8,
    )


def keys_refused() -> timeseries.Panel:
    """Calls without a good key."""
    return stacked(
        curve(
            "Which calls are not let in?",
            units.Short,
            "In the chosen window, by cause: a key that is missing, unknown, expired, revoked, without the scope, "
            "or in the URL; too often: over its limit. A steady unknown: somebody tries keys. expired after a date: "
            "a client forgot.",
            query("sum by (reason) (increase(receiver_auth_failures_total[$window]))", "{{reason}}"),
            query("sum(increase(receiver_rate_limited_total[$window])) or vector(0)", "too often"),
            wide=8,
        )
    )
