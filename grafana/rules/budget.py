"""The delivery objective, and the rules that tell how fast its budget of failures burns."""

from grafana.rules.asking import grown, total
from grafana.rules.clock import Clock
from grafana.rules.delivery import LINE
from grafana.rules.shapes import CHANNEL, OWN, PERCENT, Alert, Group, Record, figure

# Of what becomes final 95 in 100 are delivered, for each channel of each tenant. Numbers that do not exist fail too.
OBJECTIVE = 0.95
# At 14.4 times the even pace a month's budget is gone in two days, at 6 times in five.
FAST, SLOW = 14.4, 6
WINDOWS = ("5m", "30m", "1h", "6h")


def budget(clock: Clock) -> Group:
    """Burn rates over two windows: the long one says that it matters, the short one that it still goes on."""
    figures = [
        Record(_series(what, window), LINE, total("tenant, channel", grown(clock, _outcomes(outcomes), window)))
        for window in WINDOWS
        for what, outcomes in (("failed", "failed"), ("final", "delivered|failed"))
    ]
    return Group("receiver-budget", (*figures, _fast(clock), _slow(clock)))


def _series(what: str, window: str) -> str:
    return f"tenant_channel:receiver_{what}:last_{window}"


def _outcomes(outcomes: str) -> str:
    return f'receiver_outcomes_total{{feed!~"import|replay",outcome=~"{outcomes}"}}'


def _burning(pace: float, short: str, long: str, fewest: int) -> str:
    most = f"{pace * (1 - OBJECTIVE):g}"
    return f"""
{_series("failed", long)} / {_series("final", long)} > {most}
  and
{_series("failed", short)} / {_series("final", short)} > {most}
  and
{_series("failed", long)} >= {fewest}
"""


def _texts(clock: Clock, pace: float, long: str) -> tuple[str, str]:
    failed, final = (figure(_series(what, long), "tenant", "channel") for what in ("failed", "final"))
    return (
        f"The failures of {CHANNEL} messages of {OWN} burn the delivery budget {pace:g} times too fast",
        f"""
{failed} of the {final} {CHANNEL} messages of {OWN} that became final in the last {clock.words(long)} failed:
{PERCENT}. The objective is {OBJECTIVE * 100:g} % delivered; at {pace:g} times that pace a month's failures are used
up in {30 / pace:.0f} days.
""",
    )


def _fast(clock: Clock) -> Alert:
    summary, description = _texts(clock, FAST, "1h")
    return Alert(
        "ReceiverDeliveryBudgetBurning",
        "critical",
        ("tenant", "channel"),
        _burning(FAST, "5m", "1h", 20),
        wait=clock.wait("5m"),
        keep=clock.wait("30m"),
        summary=summary,
        description=description,
        marks={"pace": "fast"},
        why="""
Twenty failures at least. It waits longer than ReceiverRouteFailing, which names the country and mutes this, and goes on
until the half hour of ReceiverDeliveryFailuresHigh has forgotten the same failures.
""",
    )


def _slow(clock: Clock) -> Alert:
    summary, description = _texts(clock, SLOW, "6h")
    return Alert(
        "ReceiverDeliveryBudgetBurning",
        "warning",
        ("tenant", "channel"),
        _burning(SLOW, "30m", "6h", 20),
        wait=clock.wait("15m"),
        summary=summary,
        description=description,
        marks={"pace": "slow"},
    )
