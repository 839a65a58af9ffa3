"""Panels of the dashboard Sending: what is refused, in doubt or held up, how long it takes, and what we ask."""

from grafana_foundation_sdk.builders import bargauge, heatmap, timeseries
from grafana_foundation_sdk.models import units

from grafana import parts
from grafana.panels import bars, curve, heat, stacked
from grafana.parts import TENANT, query, thresholds

NEWS = f'{TENANT},feed!~"import|replay"'


def refusals() -> bargauge.Panel:
    """By code."""
    return (
        bars(
            "Why does the platform refuse messages?",
            units.Short,
            "Messages that its answer refused for good, by its code, over the whole time range, the fifteen most "
            "frequent. They were not sent. docs/codes.md tells who can mend each; a code of the class configuration "
            "is ours. none: nothing was refused.",
            query(
                f'topk(15, sum by (code) (increase(receiver_failures_total{{{TENANT},feed="answer"}}[$__range])) > 0)',
                "{{code}}",
                instant=True,
            ),
        )
        .decimals(0)
        .no_value("none")
        .thresholds(thresholds("blue"))
        .data_links([parts.lead("Which messages?", parts.FIND, "var-code=${__field.labels.code}", "tenant")])
    )


def in_doubt() -> timeseries.Panel:
    """Uncertain, and sent again."""
    return curve(
        "How many messages are in doubt, and how many were sent again?",
        units.Short,
        "In the chosen window. uncertain: the answer was lost, it may have been sent; sent again: as new messages, "
        "for tenants that want that. Normal: none. Many at once: a broken connection or a restart of the platform.",
        query(
            f'sum by (tenant) (increase(receiver_messages_total{{{NEWS},state="uncertain"}}[$window]))',
            "{{tenant}} uncertain",
        ),
        query(f"sum by (tenant) (increase(receiver_resends_total{{{TENANT}}}[$window]))", "{{tenant}} sent again"),
    )


def lanes() -> timeseries.Panel:
    """Credentials refused."""
    return curve(
        "Whose lane is stopped?",
        units.Number,
        "1: the platform refuses the credentials of that tenant, for Messaging or for Campaign, and its messages "
        "wait; 0: open. It opens by itself once the right key is in: one message of the lane tries now and then.",
        query(f"max by (tenant) (receiver_lane_stopped{{{TENANT}}})", "{{tenant}}"),
    ).max(1)


def throttling() -> timeseries.Panel:
    """Told to slow down."""
    return stacked(
        curve(
            "Who is told to slow down?",
            units.RequestsPerSecond,
            "Calls that the platform put off because we send too fast, by tenant. Single ones are normal at the "
            "edge of the rate: the lane pauses and goes on. A steady line: the tenant's rate is set too high.",
            query(f"sum by (tenant) (rate(receiver_throttled_total{{{TENANT}}}[$__rate_interval]))", "{{tenant}}"),
        )
    )


def heat_accepted() -> heatmap.Panel:
    """Hand-in to acceptance."""
    return heat(
        "How long from the hand-in until the platform accepts?",
        "The wait in the outbox and the call together. Normal: one band below a few seconds. A band that climbs: "
        "messages wait; compare it with the calls beside it. Both climb: the platform is slow; this alone: our rate "
        "or a lane.",
        "receiver_accepted_seconds",
        TENANT,
        wide=12,
    )


def heat_calls() -> heatmap.Panel:
    """Each call."""
    return heat(
        "How are the times of the calls spread?",
        "Each call to the platform by how long it took. One narrow band is normal. A second band at a round time is "
        "a timeout, on our side or on a proxy's.",
        "receiver_platform_call_seconds",
        TENANT,
        wide=12,
    )


def polls() -> timeseries.Panel:
    """Answers to questions."""
    return stacked(
        curve(
            "What does the platform answer when asked for a message?",
            units.RequestsPerSecond,
            "Calls to its transaction status, for messages whose last word did not come. answered; unknown: it "
            "knows no such transid; throttled; refused: our credentials; fault: no answer. Normal: few, answered. "
            "Many: receipts are missing. Empty: nothing is asked.",
            query(f"sum by (result) (rate(receiver_polls_total{{{TENANT}}}[$__rate_interval]))", "{{result}}"),
        )
    ).links([parts.way("Do receipts come in?", parts.INTAKE)])


def polls_paused() -> timeseries.Panel:
    """Who is not asked."""
    return curve(
        "For whom is the platform not asked now?",
        units.Number,
        "1: the asking pauses, as the platform throttled, refused our credentials or did not answer; 0: it goes on. "
        "Told by one process. Short pauses are normal; hours beside results `refused`: the tenant's key for the "
        "status is wrong.",
        query(f"max by (tenant) (receiver_poll_paused{{{TENANT}}})", "{{tenant}}"),
    ).max(1)
