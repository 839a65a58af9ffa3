"""Panels of the dashboard Delivery: how long it takes, why messages fail, and what is still to come."""

from grafana_foundation_sdk.builders import bargauge, heatmap, table, timeseries
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units

from grafana import parts
from grafana.panels import bars, curve, heat, linked, merged, tabled
from grafana.parts import CHOSEN, FIRST_SAMPLE, GIVEN_UP, NEWS, messages, quantile, query, rows, thresholds
from grafana.rules.asking import FINAL

ESTIMATED = "Values are estimated between the histogram's bounds."


def heat_accepted() -> heatmap.Panel:
    """Hand-in to acceptance."""
    return heat(
        "How long until the platform accepts?",
        "From the hand-in to the platform's acceptance: our outbox is in it. Normal: one narrow band below a few "
        "seconds. A band that climbs: the outbox grows, the platform throttles or is slow; look at Sending.",
        "receiver_accepted_seconds",
        CHOSEN,
    )


def heat_submitted() -> heatmap.Panel:
    """Acceptance to the operator."""
    return heat(
        "How long until it is handed to the operator?",
        "From the platform's acceptance until it was submitted, as the platform's push told. Normal: seconds. A "
        "band that climbs while acceptance stays quick: the platform itself is behind. Empty: no `submitted` was "
        "told.",
        "receiver_submitted_seconds",
        CHOSEN,
    )


def heat_delivered() -> heatmap.Panel:
    """Acceptance to delivery."""
    return heat(
        "How long until it arrives?",
        "From accepted to delivered, by the platform's clock, of what was delivered then. Two bands are normal where "
        "phones are off at night. A second band that is new: one operator or country is slow. What is not delivered "
        "yet is not in it.",
        "receiver_delivery_seconds",
        CHOSEN,
    ).links([parts.way("Do receipts come late?", parts.INTAKE)])


def _halves(labels: str, by: str) -> list[tuple[str, str]]:
    return [
        (quantile(share, "receiver_delivery_seconds", labels, by), name)
        for share, name in ((0.5, "p50"), (0.95, "p95"))
    ]


def time_to_delivered() -> timeseries.Panel:
    """Percentiles by channel."""
    return curve(
        "How long until a message is delivered?",
        units.Seconds,
        "From accepted or sent to delivered, by the platform's clock, of what was delivered in the window: half are "
        "quicker than p50, one in twenty is slower than p95. Messages not delivered yet are not in it, so while the "
        f"platform is stuck this stays fair and only later shows the wait. {ESTIMATED}",
        *(query(expr, f"{{{{channel}}}} {name}") for expr, name in _halves(CHOSEN, "channel")),
    )


def time_by_tenant() -> timeseries.Panel:
    """Percentiles by tenant."""
    return curve(
        "Which tenant waits longest?",
        units.Seconds,
        "The same by tenant, over the chosen channels. One tenant alone that is slow: its service, its countries or "
        f"its content; all of them: the platform. {ESTIMATED}",
        *(query(expr, f"{{{{tenant}}}} {name}") for expr, name in _halves(CHOSEN, "tenant")),
    )


def failures_by_code() -> bargauge.Panel:
    """The most frequent codes."""
    return (
        bars(
            "Which codes do the failures bear?",
            units.Short,
            "Changes into a negative state by the platform's code over the whole time range, the fifteen "
            "most frequent. `other` is a code that the receiver's table does not know: find such a message "
            f"and read its reason. docs/codes.md explains the rest. {FIRST_SAMPLE} none: no failure.",
            query(
                f"topk(15, sum by (code) (increase(receiver_failures_total{{{NEWS}}}[$__range])) > 0)",
                "{{code}}",
                instant=True,
            ),
        )
        .decimals(0)
        .no_value("none")
        .thresholds(thresholds("blue"))
        .data_links([parts.lead("Which messages?", parts.FIND, "var-code=${__field.labels.code}", "tenant")])
    )


def failures() -> table.Panel:
    """Class and code together."""
    panel = tabled(
        "Which class and code, on which channel, of which tenant?",
        "Changes into a negative state over the whole time range, the fifty most frequent. The class says who can "
        "mend it: recipient and content are the client's; configuration is our service on the platform; temporary "
        "and platform are to be told to the platform. A row's code leads to its messages.",
        rows(
            f"topk(50, sum by (class, code, channel, tenant) (increase(receiver_failures_total{{{NEWS}}}[$__range])) "
            "> 0)"
        ),
        wide=12,
        high=8,
    ).decimals(0)
    linked(panel, "code", parts.lead("Which messages?", parts.FIND, "var-code=${__value.raw}", "tenant"))
    return merged(panel, {"Value": "failures"}, "failures", falling=True)


def pending() -> timeseries.Panel:
    """What came less what ended."""
    born = f"sum by (channel) (increase({messages('queued')}[$window]))"
    ended = f"sum by (channel) (increase({messages(f'{FINAL}|{GIVEN_UP}')}[$window]))"
    return curve(
        "Does the pile of pending messages grow or shrink?",
        units.Short,
        "Messages handed in during the window minus those that became final, were cancelled or were given "
        "up (`no_receipt`) in it. Above zero the pile grows; around zero, as is normal, it keeps still. "
        "Leans low where messages known by their receipts alone end too, and where one message changes its "
        "end (undelivered, then delivered); leans high on channels that never tell a final state. Channels "
        "to which we issue nothing do not show.",
        query(f"{born} - ({ended} or 0 * {born})", "{{channel}}"),
        floor=None,
    )


def standing() -> table.Panel:
    """States by age."""
    panel = tabled(
        "Where do messages stand now, and how old are they?",
        "All messages that are kept, by their state now and by their birth: this hour or the last, the last day, "
        "the last week, older. `queued` or `accepted` beside day or week: they hang; look at Sending and at "
        "overdue. Counted from the roll-ups by one process every 20 seconds; empty for as long after a change of it.",
        rows(f"sum by (state, age) (max by (tenant, channel, state, age) (receiver_state_messages{{{CHOSEN}}}))"),
        wide=12,
        high=8,
    ).decimals(0)
    matrix = {"columnField": "age", "rowField": "state", "valueField": "Value", "emptyValue": "zero"}
    return panel.with_transformation(model.DataTransformerConfig("groupingToMatrix", options=matrix))


def completeness() -> timeseries.Panel:
    """How much is told by push."""
    return curve(
        "Does the platform tell by itself what becomes of messages?",
        units.PercentUnit,
        "Of the messages of the last 24 hours that have a final receipt and are past their usual time, the part "
        "that the platform pushed; the rest we had to ask for, or import. Normal: above 0.99. Lower: receipts get "
        "lost on the way to us. Look at Intake for refusals, and at the Notify URL on the platform. All tenants.",
        query('max by (channel) (receiver_push_completeness_ratio{channel=~"$channel"})', "{{channel}}"),
        floor=None,
    ).max(1)


def overdue_by_channel() -> timeseries.Panel:
    """What is overdue, over time."""
    return curve(
        "Where do messages become overdue?",
        units.Short,
        "Without a final word for longer than 99 in 100 of their channel and country took, by tenant and channel. "
        "About one in a hundred of the traffic is normal. A steep rise: the platform or our door has stopped; see "
        "ReceiverMessagesOverdue in docs/runbooks.md.",
        query(f"max by (tenant, channel) (receiver_overdue_messages{{{CHOSEN}}})", "{{tenant}} {{channel}}"),
    )
