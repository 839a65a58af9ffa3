"""Rules about the service itself: processes, the database, background duties, the books."""

from grafana.rules.asking import SCRAPED
from grafana.rules.clock import Clock
from grafana.rules.shapes import PROCESS, TIME, VALUE, Alert, Group, label


def keeping(clock: Clock) -> Group:
    """What everything else rests on."""
    return Group(
        "receiver-keeping",
        (
            *_down(clock),
            *_database_away(clock),
            _duty_not_held(clock),
            _statistics_behind(clock),
            *_partitions(clock),
            _ledger(clock),
        ),
    )


def _down(clock: Clock) -> tuple[Alert, Alert]:
    wait = clock.wait("1m", least=10)
    within = f"last_over_time({SCRAPED}[{clock.range('1d')}])"
    return (
        Alert(
            "ReceiverDown",
            "critical",
            ("job", "instance"),
            f"""
up == 0
  and on (job, instance)
(up{{job=~"receiver.*"}} or {within})
""",
            wait=wait,
            summary=f"The receiver at {PROCESS} does not answer",
            description=f"""
Prometheus has had no answer from {PROCESS} for {clock.words("1m")} (up is {VALUE}). If no other process takes
receipts, the platform gives them up about three minutes after it first told them.
""",
            why="""
A target of a job that is named receiver, or any that was one within the day. It is silent about what is no target any
more.
""",
        ),
        Alert(
            "ReceiverDown",
            "critical",
            (),
            f"""
count(count by (job, instance) ({within}))
  unless on ()
{SCRAPED}
""",
            wait=wait,
            marks={"sign": "all"},
            summary="No receiver answers",
            description=f"""
Prometheus has had no answer from any receiver for {clock.words("1m")}; within {clock.words("1d")} {VALUE} answered.
Nothing is taken: the platform gives receipts up about three minutes after it first told them.
""",
            why="""
That one of several is down explains nothing of what the others tell; that all are, everything. It also sees targets
that are no more: a service discovery forgets a process that has died.
""",
        ),
    )


def _database_away(clock: Clock) -> tuple[Alert, Alert]:
    wait, keep = clock.wait("1m", least=7), clock.wait("3m", least=15)
    follows = "Receipts go to the spool; nothing can be asked or handed in, and nothing is sent."
    return (
        Alert(
            "ReceiverDatabaseAway",
            "critical",
            ("instance",),
            "min by (instance) (receiver_database_up) == 0",
            wait=wait,
            keep=keep,
            summary=f"Postgres does not answer {PROCESS}",
            description=f"""
The receiver at {PROCESS} has not reached Postgres for {clock.words("1m")} (receiver_database_up is {VALUE}). {follows}
""",
            why="""
A failover of some seconds is nobody's trouble. It goes on for three minutes after Postgres is back: until the spool is
drained and the duties are held again.
""",
        ),
        Alert(
            "ReceiverDatabaseAway",
            "critical",
            (),
            "max(receiver_database_up) == 0",
            wait=wait,
            keep=keep,
            marks={"sign": "all"},
            summary="Postgres answers no receiver",
            description=f"""
No receiver has reached Postgres for {clock.words("1m")} (receiver_database_up is {VALUE}). {follows}
""",
            why="The cause of what follows for everybody. One process that has lost its way to Postgres is none.",
        ),
    )


def _duty_not_held(clock: Clock) -> Alert:
    return Alert(
        "ReceiverDutyNotHeld",
        "warning",
        ("duty",),
        f"""
sum by (duty) (receiver_duty_held) == 0
or
(
  sum({SCRAPED}) * 0
    unless on ()
  receiver_duty_held
)
""",
        wait=clock.wait("5m", least=30),
        summary=f"No process does the background duty {label('duty')}",
        description=f"""
For {clock.words("5m")} the number of processes that do the background duty "{label("duty")}" has been {VALUE}.
Without a name: no process has the role upkeep. What the duty measures is unknown meanwhile, and so are the alerts
that rest on it.
""",
        why="""
Figures of the whole database come from whoever holds the duty, and rules that ask for them are silent when nobody does.
A lease goes to another process within ten seconds, whatever the scale.
""",
    )


def _statistics_behind(clock: Clock) -> Alert:
    return Alert(
        "ReceiverStatisticsBehind",
        "warning",
        (),
        f"max(receiver_statistics_behind_seconds) > {clock.seconds('5m', least=30)}",
        wait=clock.wait("5m"),
        summary=f"The statistics are {TIME} behind",
        description=f"""
What the statistics, the outcomes by country and the alerts that rest on them say is {TIME} old (more than
{clock.words("5m")}): changes are not added up as fast as they happen, or something holds the change log up.
""",
        why="NaN (another process does it) is above nothing.",
    )


def _partitions(clock: Clock) -> tuple[Alert, Alert]:
    text = f"""
There are partitions for {VALUE} days more; three weeks are made ahead. On the day for which there is none, nothing
can be stored.
"""
    return (
        Alert(
            "ReceiverPartitionsRunningOut",
            "warning",
            (),
            "max(receiver_partition_days_ahead) < 7",
            wait=clock.wait("30m"),
            summary=f"Partitions for {VALUE} days only",
            description=text,
            why="A figure of the whole database: one process tells it, the others NaN, which is below nothing.",
        ),
        Alert(
            "ReceiverPartitionsRunningOut",
            "critical",
            (),
            "max(receiver_partition_days_ahead) < 2",
            wait=clock.wait("10m"),
            summary=f"Partitions for {VALUE} days only",
            description=text,
        ),
    )


def _ledger(clock: Clock) -> Alert:
    return Alert(
        "ReceiverLedgerDiffers",
        "critical",
        (),
        "max(abs(receiver_ledger_difference)) > 0",
        wait=clock.wait("1m"),
        summary="The receipts that are kept are not those that were counted",
        description=f"""
A count of all receipts differs from the ledger by {VALUE}: some were lost, or came in past the books.
""",
        why="NaN (nobody counted yet, or another process does) is above nothing.",
    )
