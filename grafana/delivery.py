"""The dashboard Delivery: how well are we delivering, why not, and is anything still moving?"""

from grafana_foundation_sdk.builders import bargauge, dashboard, stat, timeseries
from grafana_foundation_sdk.models import common, units
from grafana_foundation_sdk.models import dashboard as model

from grafana import parts
from grafana.parts import CHOSEN, FINAL, GIVEN_UP, POSITIVE, messages, query

RATIO_CAVEAT = (
    "Delivered, divided by delivered plus every negative state. It counts changes of state, not messages: a "
    "message that was undelivered and then delivered late, or delivered and then bounced (email), is in it "
    "with both. `read` is left out, or a message delivered and then read would count twice: one that was "
    "told as read and never as delivered is missing here. What has no final receipt yet is in neither, and "
    "a channel whose best receipt is `submitted` (Apple Messages) never shows."
)
FIRST_SAMPLE = (
    "What was counted between a process's start and its first scrape, and the first failure of a kind that a "
    "process had not exposed before, may be missing."
)
# Five failures in a hundred are the line of ReceiverDeliveryFailuresHigh.
GOOD_RATIO = (0.95, "green")


def delivery() -> dashboard.Dashboard:
    """The dashboard, panels in reading order: figures, quality, causes, movement, doors."""
    return (
        parts.frame(
            "receiver-delivery",
            "Receiver / Delivery",
            "How well messages are delivered, why not, and whether receipts keep coming.",
        )
        .with_variable(parts.window())
        .with_panel(_delivered())
        .with_panel(_accepted())
        .with_panel(_outbox())
        .with_panel(_delivered_by_channel())
        .with_panel(_time_to_delivered())
        .with_panel(_failures_by_code())
        .with_panel(_failures_by_class())
        .with_panel(_sent())
        .with_panel(_pending())
        .with_panel(_receipts())
        .with_panel(_door())
        .with_panel(_refusals())
    )


def _ratio(window: str, by: str = "") -> str:
    grouped = f"sum {by} " if by else "sum"
    final = f"{grouped}(increase({messages(FINAL)}[{window}]))"
    # Where nothing was delivered there may be no series of it: that is 0 %, not a gap.
    delivered = f"{grouped}(increase({messages(POSITIVE)}[{window}]))"
    return f"({delivered} or 0 * {final}) / {final}"


def _delivered() -> stat.Panel:
    return (
        parts.figure(
            "How many in a hundred were delivered?",
            units.PercentUnit,
            f"Over the whole time range. {RATIO_CAVEAT} Empty: nothing became final.",
            query(_ratio("$__range"), "delivered", instant=True),
        )
        .decimals(1)
        .thresholds(parts.thresholds("red", (0.9, "orange"), GOOD_RATIO))
    )


def _accepted() -> stat.Panel:
    return parts.figure(
        "How many messages did the platform accept?",
        units.Short,
        "Changes into `accepted` over the whole time range: messages that we sent and the platform took. A "
        "message whose first receipt outran the platform's answer never passes through `accepted` and is "
        "not counted. Messages known by their receipts alone (stage listen) are not sent by us and are not "
        "here. "
        f"{FIRST_SAMPLE}",
        query(f"sum(increase({messages('accepted')}[$__range])) or vector(0)", "accepted", instant=True),
    ).decimals(0)


def _outbox() -> stat.Panel:
    return (
        parts.figure(
            "How many messages wait in the outbox now?",
            units.Short,
            "Messages committed here and not yet handed to the platform, for the chosen tenants (the gauge "
            "knows no channel). It should come back to nearly nothing within minutes. If it only grows, the "
            "platform refuses or throttles us, or the dispatcher stands still. Empty: no "
            "receiver is scraped.",
            # Every process exposes the figure of the whole database: the largest, not the sum.
            query('sum(max by (tenant) (receiver_outbox_messages{tenant=~"$tenant"}))', "waiting"),
        )
        .decimals(0)
        .graph_mode(common.BigValueGraphMode.AREA)
        .thresholds(parts.thresholds("green", (1000, "orange"), (10000, "red")))
    )


def _delivered_by_channel() -> timeseries.Panel:
    panel = parts.curve(
        "Which channel delivers worse than usual?",
        units.PercentUnit,
        f"Each point looks back over the chosen window. {RATIO_CAVEAT} A gap: nothing became final. "
        "The line at 95 % is where ReceiverDeliveryFailuresHigh begins (window 30m, one tenant).",
        query(_ratio("$window", "by (channel)"), "{{channel}}"),
    )
    return parts.marked(panel.max(1), parts.thresholds("red", GOOD_RATIO))


def _time_to_delivered() -> timeseries.Panel:
    def quantile(share: float) -> str:
        buckets = 'sum by (le, channel) (increase(receiver_delivery_seconds_bucket{channel=~"$channel"}[$window]))'
        return f"histogram_quantile({share}, {buckets})"

    return parts.curve(
        "How long until a message is delivered?",
        units.Seconds,
        "From accepted or sent to delivered, by the platform's clock, of what was delivered in the window: "
        "half are quicker than p50, one in twenty is slower than p95. All tenants: the histogram knows "
        "none. Messages not delivered yet are not in it, so while the platform is stuck this stays fair and "
        "only later shows the wait. Values are estimated between bucket bounds.",
        query(quantile(0.5), "{{channel}} p50"),
        query(quantile(0.95), "{{channel}} p95"),
    )


def _failures_by_code() -> bargauge.Panel:
    return (
        parts.bars(
            "Which codes do the failures bear?",
            units.Short,
            "Changes into a negative state by the platform's code over the whole time range, the fifteen "
            "most frequent. `other` is a code that the receiver's table does not know: find such a message "
            "and read its reason. "
            f"{FIRST_SAMPLE} Empty: no failure.",
            query(
                f"topk(15, sum by (code) (increase(receiver_failures_total{{{CHOSEN}}}[$__range])) > 0)",
                "{{code}}",
                instant=True,
            ),
        )
        .decimals(0)
        .no_value("none")
        .thresholds(parts.thresholds("blue"))
    )


def _failures_by_class() -> timeseries.Panel:
    return parts.stacked(
        parts.curve(
            "Whose fault are the failures?",
            units.Short,
            "Changes into a negative state in the chosen window before each point, by class. recipient: the "
            "number or address; content: what we sent; policy: consent and blocks; configuration: our "
            "service on the platform; temporary: may pass; platform: theirs; unknown: the code says "
            "nothing. configuration or platform that rises from nothing is worth a call, recipient follows "
            "the quality of the list.",
            query(
                f"sum by (class) (increase(receiver_failures_total{{{CHOSEN}}}[$window]))",
                "{{class}}",
            ),
        )
    )


def _sent() -> timeseries.Panel:
    def rate(states: str) -> str:
        return f"sum(rate({messages(states)}[$__rate_interval])) or vector(0)"

    return parts.curve(
        "Do messages leave as fast as they are handed in?",
        units.MessagesPerSecond,
        "handed in: messages born in our outbox; accepted: taken by the platform; refused: answered with a "
        "last no; uncertain: sent, and the answer was lost. handed in above accepted for long fills the "
        "outbox.",
        query(rate("queued"), "handed in"),
        query(rate("accepted"), "accepted"),
        query(rate("refused"), "refused"),
        query(rate("uncertain"), "uncertain"),
    )


def _pending() -> timeseries.Panel:
    born = f"sum by (channel) (increase({messages('queued')}[$window]))"
    ended = f"sum by (channel) (increase({messages(f'{FINAL}|{GIVEN_UP}')}[$window]))"
    return parts.curve(
        "Does the pile of pending messages grow or shrink?",
        units.Short,
        "Messages handed in during the window minus those that became final, were cancelled or were given "
        "up (`no_receipt`) in it. A change, not a stock: counters begin at zero with each process, so how "
        "many are pending can't be read from them. Above zero the pile grows; around zero it keeps still. "
        "Leans low where messages known by their receipts alone end too, and where one message changes its "
        "end (undelivered, then delivered); leans high on channels that never tell a final state. Channels "
        "to which we issue nothing do not show.",
        query(f"{born} - ({ended} or 0 * {born})", "{{channel}}"),
        floor=None,
    )


def _receipts() -> timeseries.Panel:
    return parts.stacked(
        parts.curve(
            "What becomes of the receipts?",
            units.CountsPerSecond,
            "applied: new facts; duplicate: told again; late: the message's partition is gone; quarantined: "
            "no receipt could be read; forged: not believed. All feeds: pushed, polled, imported, "
            "replayed. Many duplicates mean that the platform did not get our answers in time. Nothing at "
            "all while messages are accepted is ReceiverReceiptsSilent.",
            query(
                f"sum by (result) (rate(receiver_receipts_total{{{CHOSEN}}}[$__rate_interval]))",
                "{{result}}",
            ),
        )
    )


def _door() -> timeseries.Panel:
    panel = parts.stacked(
        parts.curve(
            "What does the receipts door answer?",
            units.RequestsPerSecond,
            "Answers at `/notify` by HTTP code, all tenants and channels: the door counts before it knows "
            "them. 200: stored; 401: unknown token, or a missing or wrong signature or header (see the next "
            "panel); 413: body over the limit; 503: could not be made durable, Postgres does not answer. The "
            "platform tells again after all but 200, for about three minutes: what is refused for longer is "
            "lost. Another code than 200 that is not told again is ReceiverReceiptsLost.",
            query(
                "sum by (code, retried) (rate(receiver_notify_responses_total[$__rate_interval]))",
                "{{code}} (told again: {{retried}})",
            ),
        )
    )
    for codes, color in (("/^2/", "green"), ("/^4/", "orange"), ("/^5/", "red")):
        panel.override_by_regexp(codes, [model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})])
    return panel


def _refusals() -> timeseries.Panel:
    return parts.stacked(
        parts.curve(
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
        )
    )
