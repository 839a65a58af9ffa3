"""Rules that compare failures with the same hour of other days."""

from grafana.rules.asking import FINAL, at_least, grown, total
from grafana.rules.clock import Clock
from grafana.rules.delivery import LINE
from grafana.rules.shapes import CHANNEL, OWN, PERCENT, Alert, Group, Record, figure, label

KIND = LINE | {"class"}
FAILED = "tenant_channel_class:receiver_failures:hour"
ENDED = "tenant_channel:receiver_final:hour"
SHARE = "tenant_channel_class:receiver_failures:share"
USUAL = "tenant_channel_class:receiver_failures:usual_share"
DAYS = "tenant_channel_class:receiver_failures:days_known"

# The days to compare with: three of the week, and the same weekday.
OTHER_DAYS = ("1d", "2d", "3d", "7d")


def rising(clock: Clock) -> Group:
    """Failures of a class that are more than they use to be at this time of the day."""
    return Group("receiver-rising", (*_figures(clock), _failures_rising(clock)))


def _figures(clock: Clock) -> tuple[Record, ...]:
    failures = grown(clock, 'receiver_failures_total{feed!~"import|replay"}', "1h")
    ended = grown(clock, f'receiver_messages_total{{feed!~"import|replay",state=~"{FINAL}"}}', "1h")
    days = "\n  or\n".join(_day(clock, day) for day in OTHER_DAYS)
    return (
        Record(FAILED, KIND, total("tenant, channel, class", failures)),
        Record(ENDED, LINE, total("tenant, channel", ended)),
        Record(SHARE, KIND, f"{FAILED} / on (tenant, channel) group_left () {ENDED}"),
        Record(USUAL, KIND, f"quantile by (tenant, channel, class) (0.5,\n{days}\n)"),
        Record(DAYS, KIND, f"count by (tenant, channel, class) (\n{days}\n)"),
    )


def _day(clock: Clock, day: str) -> str:
    """The share of another day, or 0 where enough became final in that hour and nothing failed so; else nothing."""
    ago = clock.range(day)
    return f"""\
  label_replace(
    ({SHARE} offset {ago} or {SHARE} * 0)
      and on (tenant, channel) {ENDED} offset {ago} >= 20,
    "day", "{day}", "", ""
  )"""


def _failures_rising(clock: Clock) -> Alert:
    # The total with the label `class`, so that it can be set against the part.
    ended = f"({FAILED} * 0 + on (tenant, channel) group_left () {ENDED})"
    return Alert(
        "ReceiverFailuresRising",
        "warning",
        ("tenant", "channel", "class"),
        f"""
{SHARE}
  and
{at_least(FAILED, ended)}
  >
2 * {USUAL} + 0.01
  and
{FAILED} >= 20
  and
{DAYS} >= 2
""",
        wait=clock.wait("15m"),
        summary=f"More {CHANNEL} messages of {OWN} than usual fail, class {label('class')}",
        description=f"""
{PERCENT} of the {CHANNEL} messages of {OWN} that became final in the last {clock.words("1h")} failed with the class
{label("class")}: {figure(FAILED, "tenant", "channel", "class")} of {figure(ENDED, "tenant", "channel")}. That is
more than twice the share of the same hour of other days.
""",
        why="""
Shares, not numbers: a campaign has more failures and is no trouble. The usual share is the median of the same hour
1, 2, 3 and 7 days ago, so one bad day hides nothing and raises nothing; of a day on which less than 20 became final
in that hour nothing is known. Known must be two. What fails for certain (Wilson's bound) must be more than twice
that and 1 %.
""",
    )
