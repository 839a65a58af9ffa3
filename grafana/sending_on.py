"""Panels of the dashboard Sending: receipts and notices that go on to clients."""

from grafana_foundation_sdk.builders import timeseries
from grafana_foundation_sdk.models import units

from grafana.panels import curve, stacked
from grafana.parts import TENANT, quantile, query


def forwarded() -> timeseries.Panel:
    """Tries by what came of them."""
    return stacked(
        curve(
            "Do receipts go on to the clients?",
            units.CountsPerSecond,
            "Tries, by what came of them. taken; retried: again later; given_up: after 72 hours, or an answer that "
            "ends it; refused: an address that may not be spoken to; dropped: the queue is full; gone: its week was "
            "dropped. Normal: taken alone. given_up and dropped are lost to the client: `receiver forwards` tells "
            "them again.",
            query(f"sum by (result) (rate(receiver_forwards_total{{{TENANT}}}[$__rate_interval]))", "{{result}}"),
            wide=8,
        )
    )


def forwards_waiting() -> timeseries.Panel:
    """The queue."""
    return stacked(
        curve(
            "How many wait to go on?",
            units.Short,
            "Receipts and failure notices in the queue, by tenant. Normal: nearly none. It grows while a client's "
            "address does not answer; over RECEIVER_FORWARD_QUEUE new ones are dropped.",
            query(f"max by (tenant) (receiver_forward_queue{{{TENANT}}})", "{{tenant}}"),
            wide=8,
        )
    )


def forwards_oldest() -> timeseries.Panel:
    """How long they wait."""
    return curve(
        "How long has the oldest waited to go on?",
        units.Seconds,
        "By tenant; 0: there is none. A line that climbs: that client's address takes nothing, and after 72 hours "
        "they are given up. Tell the client; what it answers is in `receiver forwards`.",
        query(f"max by (tenant) (receiver_forward_oldest_seconds{{{TENANT}}})", "{{tenant}}"),
        wide=8,
    )


def forward_time() -> timeseries.Panel:
    """Commit to taken."""
    return curve(
        "How long until a client has its receipt?",
        units.Seconds,
        "From a receipt's commit until the client's address took it, over the chosen window, all tenants. Normal: "
        "below a second. One slow client raises p99 alone: the others do not wait for it. Empty: nothing goes on.",
        query(quantile(0.5, "receiver_forward_seconds"), "p50"),
        query(quantile(0.99, "receiver_forward_seconds"), "p99"),
    )


def notices() -> timeseries.Panel:
    """Failure notices."""
    return stacked(
        curve(
            "Do failure notices go out?",
            units.Short,
            "Notices of final failures to the tenant's webhook in the chosen window, by what came of each try. "
            "Normal: taken alone. retried and given_up: that webhook does not take them. docs/notices.md. Empty: "
            "none, or not wanted.",
            query(
                f"sum by (result, tenant) (increase(receiver_failure_notices_total{{{TENANT}}}[$window]))",
                "{{tenant}} {{result}}",
            ),
        )
    )
