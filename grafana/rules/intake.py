"""Rules about what comes in: whether receipts come, what the door answers, the spool, the quarantine, the way to us."""

from grafana.rules.asking import grown, grown_with_births, total
from grafana.rules.clock import Clock
from grafana.rules.shapes import OWN, PERCENT, PROCESS, TIME, VALUE, Alert, Group, label

# Those that are told within seconds that they were submitted.
PROMPT = "sms|voice|rt|push|whatsapp|rcs|mms|email"


def intake(clock: Clock) -> Group:
    """What would lose receipts, or keep them from being believed."""
    return Group(
        "receiver-intake",
        (
            _silent(clock),
            _unreachable(clock),
            *_certificate(clock),
            _refusing(clock),
            _lost(clock),
            *_spool(clock),
            *_quarantine(clock),
            _forged(clock),
        ),
    )


def _silent(clock: Clock) -> Alert:
    accepted = f'receiver_messages_total{{state="accepted",channel=~"{PROMPT}"}}'
    pushed = 'receiver_receipts_total{result=~"applied|duplicate",feed="push"}'
    return Alert(
        "ReceiverReceiptsSilent",
        "critical",
        ("tenant",),
        f"""
{total("tenant", grown_with_births(clock, accepted, "10m", ago="5m"))} >= 5
unless on (tenant)
{total("tenant", grown_with_births(clock, pushed, "10m"))} > 0
""",
        wait=clock.wait("6m", least=10),
        summary=f"No receipt for {OWN} while messages are sent",
        description=f"""
The platform accepted {VALUE} messages of {OWN} between {clock.words_between("10m", "5m")} ago, and has
pushed not one receipt in the last {clock.words("10m")}. Their delivery is unknown.
""",
        why="""
Messages that the platform accepted 5 to 15 minutes ago, and not one pushed receipt in the last 10 minutes. Asked of
channels that are told within seconds that they were submitted. `unless` and not `== 0`: a receipt counter that was
never touched has no series. After a burst whose receipts all came at once, the two windows disagree for up to 5
minutes, hence `for: 6m`. A series born inside its window counts here without a guard: after a pause of Prometheus
it speaks for both sides.
""",
    )


def _unreachable(clock: Clock) -> Alert:
    return Alert(
        "ReceiverUnreachable",
        "critical",
        (),
        "max(receiver_probe_up) == 0",
        wait=clock.wait("3m"),
        keep=clock.wait("10m"),
        summary="Our own receipts do not reach us by the public address",
        description=f"""
Every receipt that the receiver told itself by its public address in the last {clock.words("3m")} got lost on the way
(receiver_probe_up is {VALUE}). The platform comes the same way, and gives a receipt up after three more tries.
""",
        why="It goes on for ten minutes after the way is open again: until then it explains that receipts are silent.",
    )


def _certificate(clock: Clock) -> tuple[Alert, Alert]:
    left = "max(receiver_public_certificate_expiry_timestamp_seconds) - time()"
    return (
        Alert(
            "ReceiverCertificateExpiring",
            "warning",
            (),
            f"{left} < {clock.seconds('14d')}",
            wait=clock.wait("1h"),
            summary=f"The certificate of the public address ends in {TIME}",
            description=f"""
The certificate that the public address shows is valid for {TIME} more (less than {clock.words("14d")}). It should
have been renewed by now. When it ends the platform tells no receipt.
""",
        ),
        Alert(
            "ReceiverCertificateExpiring",
            "critical",
            (),
            f"{left} < {clock.seconds('3d')}",
            wait=clock.wait("10m"),
            summary=f"The certificate of the public address ends in {TIME}",
            description=f"""
The certificate that the public address shows is valid for {TIME} more (less than {clock.words("3d")}). When it ends the
platform tells no receipt, and every one is lost after three more tries.
""",
        ),
    )


def _refusing(clock: Clock) -> Alert:
    refused = 'receiver_notify_responses_total{code="503"}'
    return Alert(
        "ReceiverDoorRefusing",
        "critical",
        (),
        f"{total('', grown(clock, refused, '2m'))} > 0",
        wait=clock.wait("3m", least=10),
        summary="The receipts door answers 503",
        description=f"""
{VALUE} receipts were answered 503 in the last {clock.words("2m")}, and it does not end: they can be put
neither into Postgres nor into the spool. The platform tells each again three times, about a minute apart, and then
never.
""",
        why="""
The window is shorter than the time it must last: one burst of 503, at a restart or while the spool begins, wakes
nobody, for the platform tells again.
""",
    )


def _lost(clock: Clock) -> Alert:
    dropped = 'receiver_notify_responses_total{retried="no",code!="200"}'
    return Alert(
        "ReceiverReceiptsLost",
        "critical",
        ("code",),
        f"{total('code', grown_with_births(clock, dropped, '10m', witness='receiver_notify_responses_total'))} > 0",
        wait=clock.wait("1m"),
        summary=f"The receipts door answers {label('code')}: the platform drops these receipts for ever",
        description=f"""
{VALUE} receipts were answered {label("code")} in the last {clock.words("10m")}. The platform does not tell a receipt
again after that answer.
""",
        why="""
The door is built to give no such answer; a rule that watches what can't happen costs one query. One receipt is enough,
and a newborn series counts with its value, where Prometheus looked before: this code was never answered.
""",
    )


def _spool(clock: Clock) -> tuple[Alert, Alert]:
    return (
        Alert(
            "ReceiverSpoolFilling",
            "critical",
            ("instance",),
            f"max by (instance) (receiver_spool_oldest_seconds) > {clock.seconds('5m', least=20)}",
            wait=clock.wait("1m"),
            summary=f"Receipts wait in the spool of {PROCESS}",
            description=f"""
The oldest receipt in the spool of {PROCESS} has waited for {TIME}: Postgres does not take it. It is
acknowledged, and exists on that machine's disk alone.
""",
            why="Minutes, not seconds: a failover or a restart of Postgres is what the spool is for.",
        ),
        Alert(
            "ReceiverSpoolFilling",
            "critical",
            ("instance",),
            "max by (instance) (receiver_spool_bytes) / max by (instance) (receiver_spool_limit_bytes) > 0.8",
            wait=clock.wait("1m"),
            marks={"sign": "full"},
            summary=f"The spool of {PROCESS} is {PERCENT} full",
            description=f"""
The spool of {PROCESS} holds {PERCENT} of what it may (RECEIVER_SPOOL_MB). When it is full the door answers 503, and the
platform gives receipts up some minutes later.
""",
        ),
    )


def _quarantine(clock: Clock) -> tuple[Alert, Alert]:
    told = 'receiver_receipts_total{result="quarantined",feed="push"}'
    return (
        Alert(
            "ReceiverQuarantineGrowing",
            "warning",
            ("tenant",),
            f"{total('tenant', grown(clock, told, '30m'))} >= 10",
            wait=clock.wait("1m"),
            summary=f"What the platform tells for {OWN} is not understood",
            description=f"""
{VALUE} bodies that came in for {OWN} in the last {clock.words("30m")} could not be read, and wait in quarantine. The
messages that they speak of keep their old state.
""",
            why="The counter, not the gauge: it knows the tenant, and moves at once. Ten: an odd body can wait.",
        ),
        Alert(
            "ReceiverQuarantineGrowing",
            "warning",
            (),
            "sum(max by (reason) (receiver_quarantine_bytes)) / max(receiver_quarantine_limit_bytes) > 0.8",
            wait=clock.wait("5m"),
            marks={"sign": "full"},
            summary=f"The quarantine is {PERCENT} full",
            description=f"""
The quarantine holds {PERCENT} of what it may. At its bound the oldest bodies are removed, and what stood in them is
lost.
""",
        ),
    )


def _forged(clock: Clock) -> Alert:
    forged = 'receiver_receipts_total{result="forged"}'
    unsigned = 'receiver_notify_refusals_total{reason=~"header|signature_missing|signature_wrong"}'
    return Alert(
        "ReceiverReceiptsForged",
        "warning",
        ("tenant",),
        f"""
{total("tenant", grown(clock, forged, "15m"))} >= 1
or
{total("tenant", grown(clock, unsigned, "15m"))} >= 10
""",
        wait=clock.wait("1m"),
        summary=f"Receipts for {OWN} are not believed",
        description=f"""
{VALUE} receipts for {OWN} in the last {clock.words("15m")} had a good token and were not believed: they claim a
message of another submission, or their signature or header is not the tenant's. Somebody knows a notify URL, or a
secret differs.
""",
        why="""
Whoever has no good token is not counted: the world scans every address. One forged receipt can't be an accident of
ours; of refused ones ten, as the platform tells each of them up to four times.
""",
    )
