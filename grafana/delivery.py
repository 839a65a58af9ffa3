"""The dashboard Delivery: how well are we delivering, to whom not, why, and what has changed?"""

from grafana_foundation_sdk.builders import bargauge, dashboard, stat, timeseries
from grafana_foundation_sdk.models import units

from grafana import parts
from grafana.delivery_cohorts import by_hour, hours, newest_mature
from grafana.delivery_detail import (
    completeness,
    failures,
    failures_by_code,
    heat_accepted,
    heat_delivered,
    heat_submitted,
    overdue_by_channel,
    pending,
    standing,
    time_by_tenant,
    time_to_delivered,
)
from grafana.delivery_moved import moved_codes, moved_countries, moved_senders
from grafana.panels import bars, curve, figure, marked, stacked
from grafana.parts import CHOSEN, FIRST_SAMPLE, NEWS, POSITIVE, messages, quantile, query, thresholds
from grafana.rules.asking import FINAL

RATIO_CAVEAT = (
    "Delivered, divided by delivered plus every negative state. It counts changes of state, not messages: a "
    "message that was undelivered and then delivered late, or delivered and then bounced (email), is in it "
    "with both. `read` is left out, or a message delivered and then read would count twice: one that was "
    "told as read and never as delivered is missing here. What has no final receipt yet is in neither, what was "
    "imported is left out, and a channel whose best receipt is `submitted` (Apple Messages) never shows."
)
ISSUED = "Only messages that we sent."
# Five failures in a hundred are the line of ReceiverDeliveryFailuresHigh.
GOOD_RATIO = (0.95, "green")
RATIO_COLORS = ("red", (0.9, "orange"), GOOD_RATIO)


def delivery() -> dashboard.Dashboard:
    """The dashboard, panels in reading order: figures, quality, who and where, cohorts, times, causes, what moved."""
    return (
        parts.frame(
            parts.OVERVIEW,
            "Receiver / Delivery",
            "How well messages are delivered, to whom not, why not, and what has changed.",
        )
        .with_variable(parts.label("tenant", "Tenant", "label_values(receiver_messages_total, tenant)"))
        .with_variable(
            parts.label("channel", "Channel", 'label_values(receiver_messages_total{tenant=~"$tenant"}, channel)')
        )
        .with_variable(parts.window())
        .with_panel(_delivered())
        .with_panel(_failed())
        .with_panel(_accepted())
        .with_panel(_slow())
        .with_panel(_overdue())
        .with_panel(_alerts())
        .with_panel(_delivered_by_channel())
        .with_panel(_failures_by_class())
        .with_panel(_delivered_by_tenant())
        .with_panel(_delivered_by_country())
        .with_panel(_delivered_by_sender())
        .with_row(dashboard.Row("Cohorts: what became of the messages that were born together"))
        .with_panel(by_hour())
        .with_panel(newest_mature())
        .with_panel(hours())
        .with_row(dashboard.Row("Times"))
        .with_panel(heat_accepted())
        .with_panel(heat_submitted())
        .with_panel(heat_delivered())
        .with_panel(time_to_delivered())
        .with_panel(time_by_tenant())
        .with_row(dashboard.Row("Causes"))
        .with_panel(failures_by_code())
        .with_panel(failures())
        .with_row(dashboard.Row("What moved: the window before the end of the time range, and the window before that"))
        .with_panel(moved_countries())
        .with_panel(moved_senders())
        .with_panel(moved_codes())
        .with_row(dashboard.Row("What is still to come"))
        .with_panel(pending())
        .with_panel(standing())
        .with_panel(completeness())
        .with_panel(overdue_by_channel())
    )


def _ratio(window: str, by: str = "") -> str:
    grouped = f"sum by ({by})" if by else "sum"
    final = f"({grouped} (increase({messages(FINAL)}[{window}])) > 0)"
    # Where nothing was delivered there may be no series of it: that is 0 %, not a gap.
    delivered = f"{grouped} (increase({messages(POSITIVE)}[{window}]))"
    return f"({delivered} or 0 * {final}) / {final}"


def _worst(metric: str, by: str) -> str:
    """The lowest shares of the time range, of what has ten ends at least: the share of three says nothing."""

    def ends(outcomes: str) -> str:
        return f'sum by ({by}) (increase({metric}{{{NEWS},outcome=~"{outcomes}"}}[$__range]))'

    final = f"({ends('delivered|failed')} >= 10)"
    return f"bottomk(12, ({ends('delivered')} or 0 * {final}) / {final})"


def _delivered() -> stat.Panel:
    return (
        figure(
            "How many in a hundred were delivered?",
            units.PercentUnit,
            f"Over the whole time range. {RATIO_CAVEAT} Empty: nothing became final. Below 95: see which channel, "
            "country or sender it is, then which code.",
            query(_ratio("$__range"), "delivered", instant=True),
        )
        .decimals(1)
        .thresholds(thresholds(*RATIO_COLORS))
    )


def _failed() -> stat.Panel:
    return (
        figure(
            "How many messages failed?",
            units.Short,
            "Changes into a negative state over the whole time range, without what was imported. Some are normal: "
            f"judge them by the share beside it. Its link finds the messages. {FIRST_SAMPLE}",
            query(f"sum(increase(receiver_failures_total{{{NEWS}}}[$__range])) or vector(0)", "failed", instant=True),
        )
        .decimals(0)
        .links([parts.way("Which messages?", parts.FIND)])
    )


def _accepted() -> stat.Panel:
    return (
        figure(
            "How many messages did the platform accept?",
            units.Short,
            "Changes into `accepted` over the whole time range: messages that we sent and the platform took. A "
            "message whose first receipt outran the platform's answer never passes through `accepted` and is "
            "not counted. Messages known by their receipts alone (stage listen) are not sent by us and are not "
            f"here. Nothing, while clients send: look at Sending. {FIRST_SAMPLE}",
            query(f"sum(increase({messages('accepted')}[$__range])) or vector(0)", "accepted", instant=True),
        )
        .decimals(0)
        .links([parts.way("How is the sending?", parts.SENDING)])
    )


def _slow() -> stat.Panel:
    return (
        figure(
            "Within what time were 95 in 100 delivered?",
            units.Seconds,
            "From accepted to delivered, of what was delivered in the time range, by the platform's clock. Channels "
            "differ: choose one. SMS takes seconds; minutes point at an operator or at the platform. What is not "
            "delivered yet is not in it. Estimated between the histogram's bounds. Empty: nothing was delivered.",
            query(quantile(0.95, "receiver_delivery_seconds", CHOSEN, window="$__range"), "p95", instant=True),
        )
        .decimals(1)
        .thresholds(thresholds("green", (60, "orange"), (300, "red")))
    )


def _overdue() -> stat.Panel:
    return (
        figure(
            "How many messages are overdue now?",
            units.Short,
            "Without a final word for longer than 99 in 100 of their channel and country took; 50,000 at most. A "
            "few are normal. If they grow, receipts do not come (look at Intake) or the platform is stuck. Empty: "
            "no process measures it, or nothing was ever overdue.",
            query(f"sum(max by (tenant, channel) (receiver_overdue_messages{{{CHOSEN}}}))", "overdue", instant=True),
        )
        .decimals(0)
        .thresholds(thresholds("green", (100, "orange"), (1000, "red")))
        .links([parts.way("Do receipts come in?", parts.INTAKE)])
    )


def _alerts() -> stat.Panel:
    return (
        figure(
            "How many alerts fire now?",
            units.Short,
            "Of the shipped rules, for all tenants, as Prometheus sees them. Each has a runbook: docs/runbooks.md. "
            "What is muted or silenced in Alertmanager counts here too. 0 also where the rules are not loaded.",
            query('count(ALERTS{alertname=~"Receiver.*",alertstate="firing"}) or vector(0)', "firing", instant=True),
        )
        .decimals(0)
        .thresholds(thresholds("green", (1, "red")))
    )


def _delivered_by_channel() -> timeseries.Panel:
    panel = curve(
        "Which channel delivers worse than usual?",
        units.PercentUnit,
        f"Each point looks back over the chosen window. {RATIO_CAVEAT} A gap: nothing became final. "
        "The line at 95 % is where ReceiverDeliveryFailuresHigh begins (window 30m, one tenant).",
        query(_ratio("$window", "channel"), "{{channel}}"),
    )
    return marked(panel.max(1), thresholds("red", GOOD_RATIO))


def _failures_by_class() -> timeseries.Panel:
    return stacked(
        curve(
            "Whose fault are the failures?",
            units.Short,
            "Changes into a negative state in the chosen window before each point, by class. recipient: the "
            "number or address; content: what we sent; policy: consent and blocks; configuration: our "
            "service on the platform; temporary: may pass; platform: theirs; unknown: the code says "
            "nothing. configuration or platform that rises from nothing is worth a call, recipient follows "
            "the quality of the list. Without what was imported.",
            query(f"sum by (class) (increase(receiver_failures_total{{{NEWS}}}[$window]))", "{{class}}"),
        )
    )


def _delivered_by_tenant() -> bargauge.Panel:
    panel = bars(
        "Which tenant is delivered worst?",
        units.PercentUnit,
        f"Over the whole time range, the lowest first. {RATIO_CAVEAT} A tenant is missing while nothing of it became "
        "final. One alone that is low: its content, its list or its service on the platform.",
        query(f"bottomk(12, {_ratio('$__range', 'tenant')})", "{{tenant}}", instant=True),
        wide=8,
    )
    lead = parts.lead("Only this tenant", parts.OVERVIEW, "var-tenant=${__field.labels.tenant}", "channel", "window")
    return panel.max(1).decimals(1).thresholds(thresholds(*RATIO_COLORS)).data_links([lead])


def _delivered_by_country() -> bargauge.Panel:
    return (
        bars(
            "Which country is delivered worst?",
            units.PercentUnit,
            "Delivered, divided by delivered and failed, over the whole time range, the lowest first, of countries "
            f"with ten ends at least. {ISSUED} none: no phone number; other: not one of the busiest 30. One country "
            "alone that is low is a route: tell the platform, with the hours and a few transids.",
            query(_worst("receiver_outcomes_total", "country"), "{{country}}", instant=True),
            wide=8,
        )
        .max(1)
        .decimals(1)
        .thresholds(thresholds(*RATIO_COLORS))
    )


def _delivered_by_sender() -> bargauge.Panel:
    return (
        bars(
            "Which sender is delivered worst?",
            units.PercentUnit,
            f"Delivered, divided by delivered and failed, over the whole time range, the lowest first, of senders with "
            f"ten ends at least. {ISSUED} none: no sender was given; other: not one of the busiest 30. "
            "One sender alone that is low may be blocked or not registered: look at its codes.",
            query(_worst("receiver_sender_outcomes_total", "sender"), "{{sender}}", instant=True),
            wide=8,
        )
        .max(1)
        .decimals(1)
        .thresholds(thresholds(*RATIO_COLORS))
    )
