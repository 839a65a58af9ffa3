"""Rules about what goes out: credentials, lanes, the outbox, and receipts that go on to clients."""

from grafana.rules.asking import grown, total
from grafana.rules.clock import Clock
from grafana.rules.shapes import OWN, TIME, VALUE, Alert, Group, figure


def sending(clock: Clock) -> Group:
    """What keeps messages and forwarded receipts from going out."""
    return Group(
        "receiver-sending",
        (*_credentials(clock), _lane_stopped(clock), _lane_unanswered(clock), _outbox_old(clock), *_forwards(clock)),
    )


def _credentials(clock: Clock) -> tuple[Alert, Alert]:
    def polls(results: str) -> str:
        return total("tenant", grown(clock, f'receiver_polls_total{{result=~"{results}"}}', "15m"))

    return (
        Alert(
            "ReceiverCredentialsRefused",
            "critical",
            ("tenant",),
            "max by (tenant) (receiver_lane_stopped) > 0",
            wait=clock.wait("2m"),
            keep=clock.wait("5m", least=15),
            summary=f"The platform refuses the credentials of {OWN}",
            description=f"""
The platform refuses the key or the service of {OWN} for sending. {figure("receiver_outbox_messages", "tenant")}
messages wait. They go out by themselves when the credentials are good again.
""",
            why="""
The gauge is the whole database's: the largest counts. Five minutes more for what waited meanwhile and is old.
""",
        ),
        Alert(
            "ReceiverCredentialsRefused",
            "warning",
            ("tenant",),
            f"""
{polls("refused")} > 0
unless on (tenant)
{polls("answered|unknown")} > 0
""",
            wait=clock.wait("5m"),
            marks={"sign": "asking"},
            summary=f"The platform refuses the credentials of {OWN} when it is asked",
            description=f"""
{VALUE} calls for the status of messages of {OWN} were refused in the last {clock.words("15m")}, and none was answered.
Receipts come and messages go out all the same; what the platform never told stays unknown.
""",
            why="""
Nobody is woken for it, and it explains nothing else: sending may be well. A tenant that only listens has no lane, and
this alone.
""",
        ),
    )


def _lane_stopped(clock: Clock) -> Alert:
    taken = 'receiver_submissions_total{outcome=~"accepted|refused|uncertain"}'
    return Alert(
        "ReceiverLaneStopped",
        "critical",
        ("tenant",),
        f"""
max by (tenant) (receiver_outbox_messages) > 0
unless on (tenant)
{total("tenant", grown(clock, taken, "5m"))} > 0
""",
        wait=clock.wait("5m", least=30),
        summary=f"No message of {OWN} goes out",
        description=f"""
{VALUE} messages of {OWN} wait to be sent, and the platform has taken none for {clock.words("5m")}: it does not
answer, puts us off, or no process sends.
""",
        why="Counters, over all processes: one that stands still is no trouble while another sends.",
    )


def _lane_unanswered(clock: Clock) -> Alert:
    def calls(outcomes: str) -> str:
        return total("tenant", grown(clock, f'receiver_submissions_total{{outcome=~"{outcomes}"}}', "15m"))

    return Alert(
        "ReceiverLaneStopped",
        "critical",
        ("tenant",),
        f"""
{calls("uncertain")} >= 5
  and
{calls("uncertain")}
  > 0.5 *
{calls("accepted|refused|uncertain")}
""",
        wait=clock.wait("5m"),
        marks={"sign": "unanswered"},
        summary=f"The platform takes calls of {OWN} and does not answer them",
        description=f"""
{VALUE} calls of {OWN} in the last {clock.words("15m")}, more than half of all, had no answer or a fault of the
platform's own. Whether their messages went out nobody knows, and by default nothing sends them again.
""",
        why="""
Such messages are uncertain: they wait no more, they were not accepted, and they did not fail. So no other rule sees
them.
""",
    )


def _outbox_old(clock: Clock) -> Alert:
    return Alert(
        "ReceiverOutboxOld",
        "warning",
        ("tenant",),
        f"max by (tenant) (receiver_outbox_oldest_seconds) > {clock.seconds('15m')}",
        wait=clock.wait("5m"),
        summary=f"A message of {OWN} has waited {TIME} to be sent",
        description=f"""
The oldest of the {figure("receiver_outbox_messages", "tenant")} messages of {OWN} that wait to be sent has waited
{TIME} (more than {clock.words("15m")}). More is handed in than the tenant's rate lets out, or the platform is slow.
""",
    )


def _forwards(clock: Clock) -> tuple[Alert, Alert]:
    lost = 'receiver_forwards_total{result=~"given_up|refused|dropped"}'
    oldest = f"max by (tenant) (receiver_forward_oldest_seconds) > {clock.seconds('15m')}"
    return (
        Alert(
            "ReceiverForwardsFailing",
            "warning",
            ("tenant",),
            f"""
{oldest}
  and on (tenant)
max by (tenant) (receiver_forward_queue) >= 10
""",
            wait=clock.wait("5m"),
            marks={"sign": "late"},
            summary=f"Receipts of {OWN} do not go on to a client",
            description=f"""
{figure("receiver_forward_queue", "tenant")} receipts of {OWN} wait to go on to a client's address, the oldest for
{TIME}. They are tried for 72 hours.
""",
            why="Ten at least: one client's address that is gone for good is tried for three days, and is no news.",
        ),
        Alert(
            "ReceiverForwardsFailing",
            "warning",
            ("tenant",),
            f"{total('tenant', grown(clock, lost, '1h'))} >= 10",
            wait=clock.wait("1m"),
            marks={"sign": "lost"},
            summary=f"Receipts of {OWN} are given up on the way to a client",
            description=f"""
{VALUE} receipts of {OWN} were given up in the last {clock.words("1h")}: the client's address answers what nobody
tells again after, may not be spoken to, or the queue is full. They are in the books, and the client does not know
of them.
""",
        ),
    )
