"""Panels of the dashboard Delivery: cohorts by the hour of their birth, and how much of them is settled."""

from grafana_foundation_sdk.builders import table, timeseries
from grafana_foundation_sdk.models import common, units

from grafana import postgres
from grafana.panels import curve, measured, merged, painted, stacked, tabled
from grafana.parts import CHOSEN, rows, thresholds

# What the figures are made of: docs/statistics.md. Of three channels no delivery is ever told.
DELIVERED = "state in ('delivered', 'read')"
FAILED = "state in ('refused', 'invalid', 'not_verified', 'undelivered', 'failed', 'bounced')"
OPEN = "state in ('accepted', 'submitted', 'ended')"
TOLD = "channel not in ('apple', 'event', 'campaign')"
_MATURE = "receiver_mature_messages"

OF_COHORTS = f"""
  from receiver_v1.delivery_hourly
 where $__timeFilter(hour) and tenant = any({postgres.TENANTS})
   and channel = any(array[${{channel:sqlstring}}]::text[])"""


def _sum(condition: str, name: str) -> str:
    return f'coalesce(sum(messages) filter (where {condition}), 0)::bigint as "{name}"'


BY_HOUR = f"""
select hour as time,
       {_sum(DELIVERED, "delivered")},
       {_sum(FAILED, "failed")},
       {_sum("state = 'no_receipt'", "no receipt")},
       {_sum(f"{OPEN} and final", "at the ceiling")},
       {_sum(f"({OPEN} and not final) or state in ('queued', 'uncertain')", "open")},
       {_sum("state in ('cancelled', 'expired')", "not sent")}{OF_COHORTS}
 group by hour
 order by hour
"""
HOURS = f"""
select hour, origin, messages, delivered, failed, no_receipt as "no receipt", open, not_sent as "not sent",
       told_delivered / nullif(told_delivered + told_failed, 0) as "delivered of ended",
       (delivered + failed - refused + at_ceiling)::float8 / nullif(accepted, 0) as coverage,
       settled::float8 / messages as settled
  from (
select hour, origin, sum(messages)::bigint as messages,
       {_sum(DELIVERED, "delivered")},
       {_sum(FAILED, "failed")},
       {_sum("state = 'refused'", "refused")},
       {_sum("state = 'no_receipt'", "no_receipt")},
       {_sum(f"{OPEN} and final", "at_ceiling")},
       {_sum(f"({OPEN} and not final) or state in ('queued', 'uncertain')", "open")},
       {_sum("state in ('cancelled', 'expired')", "not_sent")},
       {_sum("state not in ('queued', 'uncertain', 'cancelled', 'expired', 'refused')", "accepted")},
       {_sum("final or state = 'no_receipt'", "settled")},
       coalesce(sum(messages) filter (where {DELIVERED} and {TOLD}), 0)::float8 as told_delivered,
       coalesce(sum(messages) filter (where {FAILED} and {TOLD}), 0)::float8 as told_failed{OF_COHORTS}
 group by hour, origin) f
 order by hour desc, origin
 limit 500
"""


def by_hour() -> timeseries.Panel:
    """Stacked bars, one an hour."""
    panel = curve(
        "What became of the messages of each hour?",
        units.Short,
        "Each bar: the messages born in that hour, by the state that they have now, whoever sent them. Old bars "
        "should be nearly all delivered; open is what is still to come and belongs to the last bars alone. An older "
        "bar with much that is open: its receipts are missing. at the ceiling: the best that their channel can "
        "tell. From SQL; choose a range of hours. The last bar is not full yet.",
        postgres.Query(BY_HOUR, over_time=True),
    )
    panel.datasource(postgres.SOURCE).draw_style(common.GraphDrawStyle.BARS).interval("1h")
    colors = {"delivered": "green", "failed": "red", "no receipt": "purple", "open": "yellow", "not sent": "text"}
    return painted(stacked(panel), **colors).fill_opacity(80)


def hours() -> table.Panel:
    """The figures of each hour, with how much of it is settled."""
    panel = tabled(
        "How did each hour end, and how much of it is settled?",
        "Messages by the hour of their birth and by who sent them, in the state that they have now. delivered of "
        "ended: delivered, divided by delivered and failed, of channels that tell of deliveries. coverage: of the "
        "accepted, how many have a last word from the platform. settled is the cohort's maturity: the part with a "
        "last word, or given up. Do not compare hours of which less than 99 in 100 is settled with older ones. "
        "Messages can fail late: an hour's figures change for days. More, and percentiles: GET /v1/stats/delivery.",
        postgres.Query(HOURS),
        source=postgres.SOURCE,
    )
    good = thresholds("red", (0.9, "orange"), (0.95, "green"))
    ripe = thresholds("orange", (0.99, "green"))
    measured(panel, units.PercentUnit, "delivered of ended", "coverage", steps=good)
    return measured(panel, units.PercentUnit, "settled", steps=ripe)


def newest_mature() -> table.Panel:
    """The newest hour of which nearly all has been heard, from the gauges that the alert rules read."""

    def of(outcome: str) -> str:
        """The mature cohort: told by one process, and by none twice while another takes over."""
        return (
            f"sum by (tenant, channel) (max by (tenant, channel, country, outcome) ({_MATURE}{{{CHOSEN},{outcome}}}))"
        )

    ends, delivered = of('outcome=~"delivered|failed"'), of('outcome="delivered"')
    born = "(1000 * max by (channel) (receiver_mature_hour_timestamp_seconds))"
    panel = tabled(
        "How did the newest hour end that is mature?",
        "Messages that we sent, of the newest full hour whose usual time is over for their channel: 99 in 100 of it "
        "should have their last word. share: delivered, divided by delivered and failed; ReceiverConfirmedRateLow "
        "judges it. pending should be nearly nothing: else receipts are missing. Without what was imported, and "
        "without channels that tell of no delivery. Empty: nothing was sent in that hour.",
        rows(f"({ends} >= bool 0) * on (channel) group_left () {born}"),
        rows(delivered),
        rows(of('outcome="failed"')),
        rows(of('outcome="no_receipt"')),
        rows(of('outcome="pending"')),
        rows(f"({delivered} or 0 * ({ends} > 0)) / ({ends} > 0)"),
        wide=12,
        high=8,
    )
    names = {"Value #A": "hour", "Value #B": "delivered", "Value #C": "failed", "Value #D": "no receipt"}
    names |= {"Value #E": "pending", "Value #F": "share"}
    measured(panel, units.DatetimeISO, "hour")
    measured(panel, units.PercentUnit, "share", steps=thresholds("red", (0.9, "orange"), (0.95, "green")))
    return merged(panel, names, "share")
