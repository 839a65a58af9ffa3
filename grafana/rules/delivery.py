"""Rules about what becomes of messages: failures, routes, confirmed rates, and how long it takes."""

from grafana.rules.asking import FINAL, NEGATIVE, at_least, at_most, grown, grown_with_births, total
from grafana.rules.clock import Clock
from grafana.rules.shapes import CHANNEL, OWN, PERCENT, VALUE, Alert, Group, Record, figure, label

LINE = frozenset({"tenant", "channel"})
ROUTE = LINE | {"country"}

ROUTE_FAILED = "tenant_channel_country:receiver_failed:recent"
ROUTE_FINAL = "tenant_channel_country:receiver_final:recent"
MATURE = "tenant_channel:receiver_mature:messages"
CONFIRMED = "tenant_channel:receiver_mature:delivered"
OVERDUE = "tenant_channel:receiver_overdue:messages"

SLOW = "5m"  # later than this is late for an SMS


def delivery(clock: Clock) -> Group:
    """What the people who wait for messages notice."""
    return Group(
        "receiver-delivery",
        (
            *_route_figures(clock),
            _route_failing(clock),
            _failures_high(clock),
            *_mature_figures(),
            _confirmed_rate_low(clock),
            _slow(clock),
            _overdue_figure(),
            _overdue(clock),
        ),
    )


def _outcomes(outcomes: str) -> str:
    return f'receiver_outcomes_total{{feed!~"import|replay",outcome=~"{outcomes}"}}'


def _route_figures(clock: Clock) -> tuple[Record, Record]:
    return (
        Record(ROUTE_FAILED, ROUTE, total("tenant, channel, country", grown(clock, _outcomes("failed"), "15m"))),
        Record(
            ROUTE_FINAL, ROUTE, total("tenant, channel, country", grown(clock, _outcomes("delivered|failed"), "15m"))
        ),
    )


def _route_failing(clock: Clock) -> Alert:
    return Alert(
        "ReceiverRouteFailing",
        "critical",
        ("tenant", "channel", "country"),
        f"""
{ROUTE_FAILED} / {ROUTE_FINAL}
  and
{at_least(ROUTE_FAILED, ROUTE_FINAL)} > 0.25
  and
{ROUTE_FAILED} >= 10
""",
        wait=clock.wait("3m"),
        keep=clock.wait("30m"),
        summary=f"{PERCENT} of {CHANNEL} messages of {OWN} to {label('country')} fail",
        description=f"""
Of the {figure(ROUTE_FINAL, "tenant", "channel", "country")} {CHANNEL} messages of {OWN} to {label("country")} that
became final in the last {clock.words("15m")}, {figure(ROUTE_FAILED, "tenant", "channel", "country")} failed:
{PERCENT}. More than a quarter fail for certain, whatever small numbers do. The dashboard Receiver / Delivery tells
the codes.
""",
        why="""
The share that fails for certain (Wilson's bound) must be over a quarter, and ten must have failed: two of three are no
route that fails. It goes on until the half hour of ReceiverDeliveryFailuresHigh has forgotten the same failures, which
it mutes.
""",
    )


def _failures_high(clock: Clock) -> Alert:
    def messages(states: str) -> str:
        selector = f'receiver_messages_total{{feed!~"import|replay",state=~"{states}"}}'
        return total("tenant, channel", grown_with_births(clock, selector, "30m", witness="receiver_messages_total"))

    return Alert(
        "ReceiverDeliveryFailuresHigh",
        "warning",
        ("tenant", "channel"),
        f"""
(
{messages(NEGATIVE)} >= 10
)
/
{messages(FINAL)}
> 0.05
""",
        wait=clock.wait("10m"),
        summary=f"{PERCENT} of {CHANNEL} messages of {OWN} fail",
        description=f"""
Of what became final on {CHANNEL} for {OWN} in the last {clock.words("30m")}, {PERCENT} failed (more than 5 % for
{clock.words("10m")}, at least 10 failures). The dashboard Receiver / Delivery tells the codes and the class.
""",
        why="""
The window is half an hour so that a burst is still in it when it has lasted its ten minutes; ten failures at least, or
two of twenty would wake someone. When Prometheus itself was away, nothing was exposed at the window's start, every
series looks newborn and would count with its whole life: the `and on ()` forbids it. What came in by an import is left
out: an old export is no news.
""",
    )


def _mature_figures() -> tuple[Record, Record]:
    def mature(outcomes: str) -> str:
        told = f'receiver_mature_messages{{outcome=~"{outcomes}"}}'
        return f"sum by (tenant, channel) (max by (tenant, channel, country, outcome) ({told}))"

    return (
        Record(MATURE, LINE, mature("delivered|failed|no_receipt|pending")),
        Record(CONFIRMED, LINE, f"{mature('delivered')} or {MATURE} * 0"),
    )


def _confirmed_rate_low(clock: Clock) -> Alert:
    return Alert(
        "ReceiverConfirmedRateLow",
        "warning",
        ("tenant", "channel"),
        f"""
{CONFIRMED} / {MATURE}
  and
{at_most(CONFIRMED, MATURE)} < 0.8
  and
{MATURE} >= 50
""",
        wait=clock.wait("10m"),
        summary=f"Only {PERCENT} of {CHANNEL} messages of {OWN} are confirmed",
        description=f"""
Of the {figure(MATURE, "tenant", "channel")} {CHANNEL} messages of {OWN} that were sent in the newest hour whose
usual time is over, {figure(CONFIRMED, "tenant", "channel")} were delivered: {PERCENT}. Of the others a part failed,
and of the rest nobody told. Less than 80 % for certain.
""",
        why="""
One cohort: messages of one hour, asked once they have had their usual time. So it is not lowered by what is still under
way, and it sees what no counter of failures does: messages of which nothing is told. Every process may tell the same
figure: the largest counts, not the sum.
""",
    )


def _slow(clock: Clock) -> Alert:
    def told(selector: str) -> str:
        return total("tenant", grown(clock, selector, "15m"))

    every = told('receiver_delivery_seconds_count{channel="sms"}')
    quick = told(f'receiver_delivery_seconds_bucket{{channel="sms",le="{clock.bucket(SLOW)}"}}')
    return Alert(
        "ReceiverDeliverySlow",
        "warning",
        ("tenant",),
        f"""
(
  (
{every}
    -
{quick}
  ) >= 10
)
/
{every}
> 0.1
""",
        wait=clock.wait("10m"),
        summary=f"{PERCENT} of the SMS of {OWN} take over {clock.bucket_words(SLOW)}",
        description=f"""
Of the SMS of {OWN} that were delivered in the last {clock.words("15m")}, {PERCENT} came more than
{clock.bucket_words(SLOW)} after the platform had taken them (more than 10 % for {clock.words("10m")}, at least 10
of them), by the platform's own clock.
""",
        why="Ten slow ones at least: a phone that was off is no slow route.",
    )


def _overdue_figure() -> Record:
    return Record(OVERDUE, LINE, "max by (tenant, channel) (receiver_overdue_messages)")


def _overdue(clock: Clock) -> Alert:
    more = f"({OVERDUE} - min_over_time({OVERDUE}[{clock.range('6h')}]))"

    def sent(state: str) -> str:
        selector = f'receiver_messages_total{{feed!~"import|replay",state="{state}"}}'
        return total("tenant, channel", grown(clock, selector, "6h"))

    return Alert(
        "ReceiverMessagesOverdue",
        "warning",
        ("tenant", "channel"),
        f"""
{more}
  and
{more} >= 50
  and
{more}
  >
0.1 *
(
{sent("accepted")}
  or
{sent("submitted")}
)
""",
        wait=clock.wait("15m"),
        summary=f"{VALUE} more {CHANNEL} messages of {OWN} are overdue",
        description=f"""
In the last {clock.words("6h")} the {CHANNEL} messages of {OWN} whose final word is later than that of nearly all others
have become {VALUE} more, to {figure(OVERDUE, "tenant", "channel")}: more than a tenth of what was sent in that time.
""",
        why="""
The growth, not the number: where a network gives no receipts the overdue stand at a level for as long as the patience
lasts, and that is nobody's trouble tonight.
""",
    )
