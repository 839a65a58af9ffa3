"""The dashboard Sending: do messages leave, what does the platform answer, and what waits?"""

from grafana_foundation_sdk.builders import dashboard, stat, timeseries
from grafana_foundation_sdk.models import units

from grafana import parts
from grafana.panels import curve, figure, marked, stacked
from grafana.parts import FIRST_SAMPLE, TENANT, quantile, query, thresholds
from grafana.sending_detail import (
    NEWS,
    heat_accepted,
    heat_calls,
    in_doubt,
    lanes,
    polls,
    polls_paused,
    refusals,
    throttling,
)
from grafana.sending_on import forward_time, forwarded, forwards_oldest, forwards_waiting, notices

CALLS = f"receiver_submissions_total{{{TENANT}}}"


def sending() -> dashboard.Dashboard:
    """The dashboard: figures, the outbox and the platform's answers, trouble, times, questions, forwards."""
    return (
        parts.frame_of_service(
            parts.SENDING,
            "Receiver / Sending",
            "Whether messages leave the outbox, what the platform answers, and whether receipts go on to clients.",
        )
        .with_panel(_waiting())
        .with_panel(_oldest())
        .with_panel(_taken())
        .with_panel(_stopped())
        .with_panel(_uncertain())
        .with_panel(_throttled())
        .with_panel(_leaving())
        .with_panel(_answers())
        .with_panel(_depth())
        .with_panel(_age())
        .with_panel(_calls())
        .with_row(dashboard.Row("Refused, uncertain, held up"))
        .with_panel(refusals())
        .with_panel(in_doubt())
        .with_panel(lanes())
        .with_panel(throttling())
        .with_row(dashboard.Row("Times"))
        .with_panel(heat_accepted())
        .with_panel(heat_calls())
        .with_row(dashboard.Row("Asking the platform what it has not told"))
        .with_panel(polls())
        .with_panel(polls_paused())
        .with_row(dashboard.Row("What goes on to clients"))
        .with_panel(forwarded())
        .with_panel(forwards_waiting())
        .with_panel(forwards_oldest())
        .with_panel(forward_time())
        .with_panel(notices())
    )


def _waiting() -> stat.Panel:
    return (
        figure(
            "How many messages wait in the outbox now?",
            units.Short,
            "Messages committed here and not yet handed to the platform. It should come back to nearly nothing "
            "within minutes. If it only grows, the platform refuses or throttles us, or no process has the role "
            "dispatch. Empty: no receiver is scraped.",
            # Every process exposes the figure of the whole database: the largest, not the sum.
            query(f"sum(max by (tenant) (receiver_outbox_messages{{{TENANT}}}))", "waiting", instant=True),
        )
        .decimals(0)
        .thresholds(thresholds("green", (1000, "orange"), (10000, "red")))
    )


def _oldest() -> stat.Panel:
    return (
        figure(
            "How long has the oldest of them waited?",
            units.Seconds,
            "Since it was handed in; 0: nothing waits. Normal: seconds. Minutes with an outbox that shrinks: a "
            "large batch. Minutes with one that does not: see lanes, throttling and answers below.",
            query(f"max(receiver_outbox_oldest_seconds{{{TENANT}}})", "oldest", instant=True),
        )
        .decimals(0)
        .thresholds(thresholds("green", (120, "orange"), (900, "red")))
    )


def _taken() -> stat.Panel:
    every = f"(sum(increase({CALLS}[$__range])) > 0)"
    taken = f'sum(increase(receiver_submissions_total{{{TENANT},outcome="accepted"}}[$__range]))'
    return (
        figure(
            "How many in a hundred calls does the platform accept?",
            units.PercentUnit,
            "Calls that it took, divided by all calls, over the whole time range; a call that is tried again counts "
            "each time. Normal: above 99. Lower: the answers below say whether it refuses, puts off or does not "
            "answer. Empty: no call.",
            query(f"({taken} or 0 * {every}) / {every}", "accepted", instant=True),
        )
        .decimals(1)
        .thresholds(thresholds("red", (0.95, "orange"), (0.99, "green")))
    )


def _stopped() -> stat.Panel:
    return (
        figure(
            "How many tenants can't send for their credentials?",
            units.Short,
            "Tenants whose messages wait because the platform refuses their key or token. Normal: 0. Else: put the "
            "right key in; one message tries again by itself, and then all go. ReceiverCredentialsRefused in "
            "docs/runbooks.md.",
            query(f"sum(max by (tenant) (receiver_lane_stopped{{{TENANT}}}))", "stopped", instant=True),
        )
        .decimals(0)
        .thresholds(thresholds("green", (1, "red")))
    )


def _uncertain() -> stat.Panel:
    return (
        figure(
            "Of how many messages was the answer lost?",
            units.Short,
            "Changes into `uncertain` over the whole time range: the call was made and no answer came. Their "
            "receipts usually tell later. Normal: none, or a few at a restart of the platform. Many: the way to the "
            f"platform is broken. {FIRST_SAMPLE}",
            query(
                f'sum(increase(receiver_messages_total{{{NEWS},state="uncertain"}}[$__range])) or vector(0)',
                "uncertain",
                instant=True,
            ),
        )
        .decimals(0)
        .thresholds(thresholds("green", (1, "orange"), (100, "red")))
        .links([parts.way("What became of them?", parts.OVERVIEW)])
    )


def _throttled() -> stat.Panel:
    return (
        figure(
            "How often were we told to slow down?",
            units.Short,
            "Calls over the whole time range that the platform put off because we send too fast (7020, 429). They "
            "are sent again by themselves, later. Normal: none. Many: lower the tenant's rate, or ask the platform "
            "for a higher one.",
            query(
                f"sum(increase(receiver_throttled_total{{{TENANT}}}[$__range])) or vector(0)", "put off", instant=True
            ),
        )
        .decimals(0)
        .thresholds(thresholds("green", (1, "orange"), (1000, "red")))
    )


def _leaving() -> timeseries.Panel:
    def rate(state: str) -> str:
        return f'sum(rate(receiver_messages_total{{{NEWS},state="{state}"}}[$__rate_interval])) or vector(0)'

    return curve(
        "Do messages leave as fast as they are handed in?",
        units.MessagesPerSecond,
        "handed in: messages born in our outbox; accepted: taken by the platform; refused: answered with a "
        "last no; uncertain: sent, and the answer was lost. handed in above accepted for long fills the "
        "outbox. Nothing handed in at a time of day with traffic: the clients, or our doors.",
        query(rate("queued"), "handed in"),
        query(rate("accepted"), "accepted"),
        query(rate("refused"), "refused"),
        query(rate("uncertain"), "uncertain"),
    )


def _answers() -> timeseries.Panel:
    return stacked(
        curve(
            "What does the platform answer to our calls?",
            units.RequestsPerSecond,
            "accepted: taken; refused: a last no; later: to be tried again (throttled, busy, credentials); "
            "not_sent: no connection, so it is tried again; uncertain: sent, and no answer came. Normal: accepted "
            "alone. later that stays fills the outbox.",
            query(f"sum by (outcome) (rate({CALLS}[$__rate_interval]))", "{{outcome}}"),
        )
    )


def _depth() -> timeseries.Panel:
    return stacked(
        curve(
            "Whose messages wait?",
            units.Short,
            "Messages in the outbox by tenant. A saw that falls back to 0 is a batch that goes out at the tenant's "
            "rate. A line that stays or climbs: see that tenant's lane, throttling and answers.",
            query(f"max by (tenant) (receiver_outbox_messages{{{TENANT}}})", "{{tenant}}"),
            wide=8,
        )
    )


def _age() -> timeseries.Panel:
    panel = curve(
        "How long do they wait?",
        units.Seconds,
        "The oldest message in the outbox of each tenant. A line that climbs second by second: nothing of it is "
        "sent. Seconds under load are normal; at the line of a quarter of an hour ReceiverOutboxOld begins.",
        query(f"max by (tenant) (receiver_outbox_oldest_seconds{{{TENANT}}})", "{{tenant}}"),
        wide=8,
    )
    return marked(panel, thresholds("green", (900, "red")))


def _calls() -> timeseries.Panel:
    return curve(
        "How long does a call to the platform take?",
        units.Seconds,
        "Over the chosen window, whatever it answered: half are quicker than p50, one in a hundred is slower than "
        "p99. Normal: below a second. Towards the timeout calls become uncertain: the platform or the way to it is "
        "slow. Estimated between the histogram's bounds.",
        *(
            query(quantile(share, "receiver_platform_call_seconds", TENANT), name)
            for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
        ),
        wide=8,
    )
