"""What the service exposes, as dashboards and rules may name it: labels by metric, and values by label."""

METRICS: dict[str, frozenset[str]] = {
    "receiver_messages_total": frozenset({"channel", "state", "tenant", "feed"}),
    "receiver_failures_total": frozenset({"channel", "code", "class", "tenant", "feed"}),
    "receiver_receipts_total": frozenset({"channel", "result", "feed", "tenant"}),
    "receiver_notify_responses_total": frozenset({"code", "retried"}),
    "receiver_notify_refusals_total": frozenset({"reason", "tenant"}),
    "receiver_notify_signatures_total": frozenset({"result", "tenant"}),
    "receiver_delivery_seconds_bucket": frozenset({"channel", "le"}),
    "receiver_delivery_seconds_count": frozenset({"channel"}),
    "receiver_delivery_seconds_sum": frozenset({"channel"}),
    "receiver_outbox_messages": frozenset({"tenant"}),
    "receiver_ledger_difference": frozenset(),
    "receiver_spool_oldest_seconds": frozenset({"instance"}),  # whose disk it is: Prometheus' own label
}

VALUES: dict[str, frozenset[str]] = {
    "state": frozenset(
        [
            "queued",
            "uncertain",
            "accepted",
            "submitted",
            "ended",
            "no_receipt",
            "cancelled",
            "expired",
            "refused",
            "invalid",
            "not_verified",
            "undelivered",
            "failed",
            "delivered",
            "bounced",
            "read",
        ]
    ),
    "class": frozenset(["recipient", "content", "policy", "configuration", "temporary", "platform", "unknown"]),
    "retried": frozenset(["yes", "no"]),
    "reason": frozenset(["token", "header", "signature_missing", "signature_wrong"]),
    "result": frozenset(["applied", "duplicate", "late", "forged", "quarantined"]),
}
