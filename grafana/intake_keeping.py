"""Panels of the dashboard Intake: what keeps receipts while Postgres is away, what is set aside, books and duties."""

from grafana_foundation_sdk.builders import timeseries
from grafana_foundation_sdk.models import units

from grafana.panels import curve, marked, stacked
from grafana.parts import query, thresholds


def database_up() -> timeseries.Panel:
    """Each process's own view of it."""
    return curve(
        "Which process has its database?",
        units.Number,
        "1: it answers and takes writes, looked at every 5 seconds. 0 in one process alone: its way to Postgres; 0 "
        "in all: Postgres itself. Receipts go to the spools meanwhile, sending and questions stand still.",
        query("min by (instance) (receiver_database_up)", "{{instance}}"),
        wide=8,
    ).max(1)


def spool_oldest() -> timeseries.Panel:
    """How long receipts have waited."""
    panel = curve(
        "How long do receipts wait in the spools?",
        units.Seconds,
        "The oldest of each process; 0: its spool is empty. It rises while Postgres is away and falls once it is "
        "drained. If it stays while the database is up, the spool is stuck: look at that process's log. At the line "
        "of five minutes ReceiverSpoolFilling begins.",
        query("max by (instance) (receiver_spool_oldest_seconds)", "{{instance}}"),
        wide=8,
    )
    return marked(panel, thresholds("green", (300, "red")))


def spool_full() -> timeseries.Panel:
    """Its bytes against its bound."""
    return curve(
        "How full are the spools?",
        units.PercentUnit,
        "Bytes of each spool, divided by RECEIVER_SPOOL_MB. At 100 the door answers 503, and after three minutes "
        "receipts are lost. Normal: 0. Halfway: mend Postgres now, or raise the bound where the disk has room.",
        query(
            "max by (instance) (receiver_spool_bytes) / max by (instance) (receiver_spool_limit_bytes > 0)",
            "{{instance}}",
        ),
        wide=8,
    ).max(1)


def pools() -> timeseries.Panel:
    """Connections in use."""
    busy = 'sum by (instance, pool) (receiver_pool_connections{use="busy", pool!="receipts"})'
    return curve(
        "How much of the connection pools is in use?",
        units.PercentUnit,
        "Busy connections, divided by the most that the pool opens, for each process and pool, at the moment of the "
        "scrape. Short peaks are normal. At 100 for minutes work waits for connections: find the slow statements in "
        "Postgres. The one of the receipts is not here: it is kept while they come in.",
        query(f"{busy} / max by (instance, pool) (receiver_pool_limit > 0)", "{{instance}} {{pool}}"),
    ).max(1)


def spool_flow() -> timeseries.Panel:
    """What goes in and out."""
    return curve(
        "What goes into the spools, and out of them?",
        units.CountsPerSecond,
        "taken: answered 200 and kept on the disk; drained: brought into Postgres since; refused: the spool is full "
        "or its disk failed, answered 503. Normal: nothing at all. refused is loss after three minutes.",
        *(
            query(f"sum(rate(receiver_spool_{name}_total[$__rate_interval])) or vector(0)", name)
            for name in ("taken", "drained", "refused")
        ),
    )


def refused() -> timeseries.Panel:
    """Answers 401."""
    return stacked(
        curve(
            "Why does the receipts door refuse?",
            units.RequestsPerSecond,
            "Answers 401 by cause, for the chosen tenants. token: not one of ours, the tenant is not known; strangers "
            "who try addresses are here too. header, signature_missing, signature_wrong: the token was good, so it "
            "is most likely the platform with another secret than ours, and after three minutes its receipts are "
            "lost. Empty: none.",
            query(
                "sum by (reason, tenant) "
                '(rate(receiver_notify_refusals_total{tenant=~"$tenant|none"}[$__rate_interval]))',
                "{{reason}} {{tenant}}",
            ),
            wide=8,
        )
    )


def signatures() -> timeseries.Panel:
    """Of tenants that have a secret."""
    return stacked(
        curve(
            "Are the signatures good?",
            units.RequestsPerSecond,
            "Bodies told to tenants that have a signature secret. Normal: good alone. missing or wrong: the secret "
            "was changed on one side only, or somebody else posts. Empty: no tenant has a secret.",
            query(
                'sum by (result, tenant) (rate(receiver_notify_signatures_total{tenant=~"$tenant"}[$__rate_interval]))',
                "{{result}} {{tenant}}",
            ),
            wide=8,
        )
    )


def unknown_words() -> timeseries.Panel:
    """Statuses of no table."""
    return stacked(
        curve(
            "Which statuses does the receiver not know?",
            units.Short,
            "Receipts in the chosen window whose status is in no table. They are kept and shown, and change no "
            "state. A new word means that the platform has changed: once the tables know it, `receiver reread` "
            "reads what is kept. Empty: none.",
            query(
                "sum by (channel, status) (increase(receiver_unknown_statuses_total[$window])) > 0",
                "{{channel}} {{status}}",
            ),
            wide=8,
        )
    )


def quarantine_by_reason() -> timeseries.Panel:
    """Bodies by reason."""
    return stacked(
        curve(
            "Why are bodies in quarantine?",
            units.Short,
            "By reason: docs/errors.md explains them. Measured once a minute over the whole database. A step of one "
            "reason: a new format, replayable once it is understood. forged: bodies that claim messages of others. "
            "Empty: none.",
            query("max by (reason) (receiver_quarantine_bodies)", "{{reason}}"),
            wide=8,
        )
    )


def quarantine_full() -> timeseries.Panel:
    """Its bytes against its bound."""
    used = "sum(max by (reason) (receiver_quarantine_bytes))"
    return curve(
        "How full is the quarantine?",
        units.PercentUnit,
        "What its bodies count for, divided by RECEIVER_QUARANTINE_MB. At 100 the oldest bodies leave to make room, "
        "unread. Normal: a few in a hundred. Above half: look at the reasons, replay or drop them.",
        query(f"{used} / max(receiver_quarantine_limit_bytes > 0)", "used"),
        wide=8,
    ).max(1)


def aside() -> timeseries.Panel:
    """What left by a bound."""
    return curve(
        "What was thrown away or set aside?",
        units.Short,
        "In the chosen window. trimmed: bodies that left the quarantine by its age or size; size is loss of what "
        "nobody has read. damaged spool files: set aside beside the spool, what could be read of them is drained. "
        "Normal: age alone.",
        query("sum by (bound) (increase(receiver_quarantine_trimmed_total[$window]))", "trimmed by {{bound}}"),
        query("sum(increase(receiver_spool_set_aside_total[$window])) or vector(0)", "damaged spool files"),
        wide=8,
    )


def balance() -> timeseries.Panel:
    """The ledger against a count."""
    return curve(
        "Do the books balance?",
        units.Short,
        "What the ledger counted less the receipts that are there, at each independent count. Normal: a line at 0. "
        "Above: receipts were lost; below: some came in past the books. docs/ledger.md tells how to look.",
        query("max(receiver_ledger_difference > -Inf)", "difference"),
        floor=None,
        wide=8,
    )


def duties() -> timeseries.Panel:
    """Who does the work in the background."""
    return curve(
        "Is each background duty done by one process?",
        units.Number,
        "Processes that do it now. Normal: 1 for each. 0 for more than 20 seconds: nobody does it, so no process "
        "has the role upkeep, or the database is away. 2 for one scrape: it was just handed over.",
        query("sum by (duty) (receiver_duty_held)", "{{duty}}"),
        wide=8,
    )


def partitions() -> timeseries.Panel:
    """Days that are made ahead."""
    panel = curve(
        "For how many days are there partitions?",
        units.Days,
        "Three weeks are made ahead. Below the line of 7 the duty `partitions` fails: its log says why. At 0 no "
        "message can be born and receipts go to the spools. Told by the process that holds the duty.",
        query("min(receiver_partition_days_ahead > -Inf)", "days ahead"),
        wide=8,
    )
    return marked(panel, thresholds("red", (7, "green")))


def behind() -> timeseries.Panel:
    """Workers that follow the log."""
    return curve(
        "How far behind are the figures and the searches?",
        units.Seconds,
        "statistics: since when changes are not added up yet, one or two seconds; while it grows the cohorts and "
        "the rates by country stand still. overdue: how far the search for what never came is behind. streams: what "
        "listeners are told.",
        query("max(receiver_statistics_behind_seconds > -Inf)", "statistics"),
        query("max(receiver_walk_behind_seconds > -Inf)", "overdue"),
        query("max(receiver_watch_lag_seconds)", "streams"),
    )


def logged() -> timeseries.Panel:
    """Lines that should not be many."""
    return stacked(
        curve(
            "How much does it complain?",
            units.Short,
            "Lines of the log in the chosen window, at warning, error and critical, by process. Normal: none or a few "
            "warnings. A step of errors: read them, docs/logs.md says where they are and what is in them.",
            query("sum by (level, instance) (increase(receiver_log_events_total[$window]))", "{{level}} {{instance}}"),
        )
    )
