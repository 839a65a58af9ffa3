"""The dashboard Intake: do receipts come in, are they kept, and is anything lost?"""

from grafana_foundation_sdk.builders import dashboard, heatmap, stat, timeseries
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units

from grafana import parts
from grafana.intake_keeping import (
    aside,
    balance,
    behind,
    database_up,
    duties,
    logged,
    partitions,
    pools,
    quarantine_by_reason,
    quarantine_full,
    refused,
    signatures,
    spool_flow,
    spool_full,
    spool_oldest,
    unknown_words,
)
from grafana.intake_reach import certificate, keys_refused, probe_results, probe_time, questions, streams
from grafana.panels import curve, figure, heat, stacked
from grafana.parts import FIRST_SAMPLE, quantile, query, thresholds

ANSWERS = "receiver_notify_responses_total"


def intake() -> dashboard.Dashboard:
    """The dashboard: figures, the door, Postgres and the spool, what was not believed, the books, the way to us."""
    return (
        parts.frame_of_service(
            parts.INTAKE,
            "Receiver / Intake",
            "Whether receipts come in, are committed in time and are all kept, and whether the platform can reach us.",
        )
        .with_panel(_taken())
        .with_panel(_slow_commits())
        .with_panel(_late())
        .with_panel(_in_spool())
        .with_panel(_in_quarantine())
        .with_panel(_difference())
        .with_panel(_door())
        .with_panel(_receipts())
        .with_panel(_lag())
        .with_panel(_commits())
        .with_panel(_groups())
        .with_row(dashboard.Row("Postgres and the spool"))
        .with_panel(database_up())
        .with_panel(spool_oldest())
        .with_panel(spool_full())
        .with_panel(pools())
        .with_panel(spool_flow())
        .with_row(dashboard.Row("What was not believed or not understood"))
        .with_panel(refused())
        .with_panel(signatures())
        .with_panel(unknown_words())
        .with_panel(quarantine_by_reason())
        .with_panel(quarantine_full())
        .with_panel(aside())
        .with_row(dashboard.Row("Books and duties"))
        .with_panel(balance())
        .with_panel(duties())
        .with_panel(partitions())
        .with_panel(behind())
        .with_panel(logged())
        .with_row(dashboard.Row("Can the platform reach us?"))
        .with_panel(probe_results())
        .with_panel(probe_time())
        .with_panel(certificate())
        .with_row(dashboard.Row("Who asks"))
        .with_panel(questions())
        .with_panel(streams())
        .with_panel(keys_refused())
    )


def _taken() -> stat.Panel:
    every = f"(sum(increase({ANSWERS}[$__range])) > 0)"
    return (
        figure(
            "How many in a hundred bodies does the door take?",
            units.PercentUnit,
            "Answers 200 at `/notify`, divided by all, over the whole time range; every tenant. Normal: 100. Less: "
            "see below which code it answers and why; strangers who try addresses lower it, too. Empty: nothing "
            "came.",
            query(
                f'(sum(increase({ANSWERS}{{code="200"}}[$__range])) or 0 * {every}) / {every}', "taken", instant=True
            ),
        )
        .decimals(2)
        .thresholds(thresholds("red", (0.95, "orange"), (0.999, "green")))
    )


def _slow_commits() -> stat.Panel:
    return (
        figure(
            "How long does a slow commit take?",
            units.Seconds,
            "99 in 100 groups of receipts were applied and committed in less, over the whole time range. Normal: "
            "some tens of milliseconds. The platform waits for our answer for seconds only: above one second look "
            "at Postgres, its disk and its locks. Estimated between the histogram's bounds.",
            query(quantile(0.99, "receiver_intake_commit_seconds", window="$__range"), "p99", instant=True),
        )
        .decimals(1)
        .thresholds(thresholds("green", (0.5, "orange"), (2, "red")))
    )


def _late() -> stat.Panel:
    return (
        figure(
            "How late are the late receipts?",
            units.Seconds,
            "95 in 100 pushed receipts came in less after the event that they tell of, over the whole time range. "
            "Normal: a few seconds. Minutes: the platform is behind, or told again what we had refused. Empty: none "
            "came.",
            query(quantile(0.95, "receiver_receipt_lag_seconds", window="$__range"), "p95", instant=True),
        )
        .decimals(1)
        .thresholds(thresholds("green", (60, "orange"), (300, "red")))
    )


def _in_spool() -> stat.Panel:
    return (
        figure(
            "How long has a receipt waited in a spool?",
            units.Seconds,
            "The oldest of any process. Normal: 0. Seconds or a few minutes: Postgres restarts or fails over, which "
            "is what the spool is for. Above five minutes mend Postgres: these receipts are on one disk alone.",
            query("max(receiver_spool_oldest_seconds)", "oldest", instant=True),
        )
        .decimals(0)
        .thresholds(thresholds("green", (60, "orange"), (300, "red")))
    )


def _in_quarantine() -> stat.Panel:
    return (
        figure(
            "How many bodies are in quarantine?",
            units.Short,
            "Bodies in which no receipt could be read or believed; measured once a minute. Normal: none, or a few "
            "old ones. If it grows, the platform changed its format or somebody forges: `receiver quarantine` shows "
            "them.",
            query("sum(max by (reason) (receiver_quarantine_bodies)) or vector(0)", "bodies", instant=True),
        )
        .decimals(0)
        .thresholds(thresholds("green", (1, "orange"), (1000, "red")))
    )


def _difference() -> stat.Panel:
    return (
        figure(
            "How many receipts do the books not account for?",
            units.Short,
            "The last count of all receipts against the ledger. Normal: 0. Anything else: receipts were lost, or "
            "came in past the books: docs/runbooks.md, ReceiverLedgerDiffers. Empty: it was not counted yet.",
            # NaN is no answer: another process counts.
            query("max(abs(receiver_ledger_difference) >= 0)", "difference", instant=True),
        )
        .decimals(0)
        .thresholds(thresholds("green", (1, "red")))
    )


def _door() -> timeseries.Panel:
    panel = stacked(
        curve(
            "What does the receipts door answer?",
            units.RequestsPerSecond,
            "Answers at `/notify` by HTTP code, all tenants and channels: the door counts before it knows "
            "them. 200: stored; 401: unknown token, or a missing or wrong signature or header (see why below); "
            "413: body over the limit; 503: could not be made durable, Postgres does not answer. The "
            "platform tells again after all but 200, for about three minutes: what is refused for longer is "
            "lost. Another code than 200 that is not told again is ReceiverReceiptsLost.",
            query(
                f"sum by (code, retried) (rate({ANSWERS}[$__rate_interval]))",
                "{{code}} (told again: {{retried}})",
            ),
        )
    )
    for codes, color in (("/^2/", "green"), ("/^4/", "orange"), ("/^5/", "red")):
        panel.override_by_regexp(codes, [model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})])
    return panel


def _receipts() -> timeseries.Panel:
    return stacked(
        curve(
            "What becomes of the receipts?",
            units.CountsPerSecond,
            "applied: new facts; duplicate: told again; late: the message's partition is gone; quarantined: "
            "no receipt could be read; forged: not believed. All feeds: pushed, polled, imported, "
            "replayed. Many duplicates mean that the platform did not get our answers in time. Nothing at "
            f"all while messages are accepted is ReceiverReceiptsSilent. {FIRST_SAMPLE}",
            query(
                'sum by (result) (rate(receiver_receipts_total{tenant=~"$tenant"}[$__rate_interval]))',
                "{{result}}",
            ),
        )
    ).links([parts.way("What becomes of the messages?", parts.OVERVIEW)])


def _lag() -> heatmap.Panel:
    return heat(
        "How late do receipts come?",
        "From the platform's time of an event to ours, of pushed receipts. Normal: one band below a few seconds. A "
        "band that climbs steadily: the platform works off a queue. Bands at about 30 s and 3 min: it tells again "
        "what we did not answer in time. All tenants.",
        "receiver_receipt_lag_seconds",
        "",
    ).height(8)


def _commits() -> timeseries.Panel:
    return curve(
        "How long does a group of receipts take to commit?",
        units.Seconds,
        "From the begin of its statement to its commit, over the chosen window: half are quicker than p50, one in a "
        "hundred is slower than p99. Normal: some milliseconds. It is waited for by the platform. Rises with "
        "Postgres' disk, locks and checkpoints.",
        query(quantile(0.5, "receiver_intake_commit_seconds"), "p50"),
        query(quantile(0.99, "receiver_intake_commit_seconds"), "p99"),
        wide=8,
    )


def _groups() -> timeseries.Panel:
    rate = "sum(rate(receiver_intake_group_receipts_{}[$__rate_interval]))"
    return curve(
        "How many receipts share a commit, and how many wait?",
        units.Short,
        "a group: receipts of one commit, on average. They grow with the traffic, and that is meant. waiting: "
        "receipts that wait for their group now, in all processes. Waiting for long in the hundreds: Postgres is "
        "too slow.",
        query(f"{rate.format('sum')} / ({rate.format('count')} > 0)", "a group"),
        query("sum(receiver_intake_waiting_receipts)", "waiting"),
        wide=8,
    )
