"""Panels of the dashboard Delivery: two windows compared, and which country, sender or code moved most between them."""

from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.models import units

from grafana import parts
from grafana.panels import linked, measured, merged, tabled
from grafana.parts import NEWS, messages, rows, thresholds
from grafana.rules.asking import FINAL

FEW = 10  # ends in each window: the share of fewer says nothing
EXPLAINED = (
    "now: the window before the end of the time range; before: the window before that; moved: their difference, so "
    "-5 % is five points of a hundred less. Choose the window above; a day against the day before is the fairest. "
)


def _moved(title: str, description: str, metric: str, by: str) -> table.Panel:
    """The share that was delivered, by a label, in two windows."""

    def ends(outcomes: str, back: str) -> str:
        return f'sum by ({by}) (increase({metric}{{{NEWS},outcome=~"{outcomes}"}}[$window]{back}))'

    def share(back: str) -> str:
        final = f"({ends('delivered|failed', back)} >= {FEW})"
        return f"(({ends('delivered', back)} or 0 * {final}) / {final})"

    now, before = share(""), share(" offset $window")
    panel = tabled(
        title,
        description,
        rows(f"{now} - {before}"),
        rows(now),
        rows(before),
        rows(ends("delivered|failed", "")),
        wide=8,
    )
    worse = thresholds("red", (-0.05, "orange"), (-0.01, "text"), (0.01, "green"))
    measured(measured(panel, units.PercentUnit, "now", "before"), units.PercentUnit, "moved", steps=worse)
    return merged(panel, {"Value #A": "moved", "Value #B": "now", "Value #C": "before", "Value #D": "ended"}, "moved")


def moved_countries() -> table.Panel:
    """By country."""
    return _moved(
        "Which country moved most?",
        f"The share of ended messages that was delivered, the worst move first. {EXPLAINED}Only messages that we "
        f"sent, and countries with {FEW} ends in both windows. One country alone that fell: its route. All of them: "
        "the platform, or us.",
        "receiver_outcomes_total",
        "country",
    )


def moved_senders() -> table.Panel:
    """By sender."""
    return _moved(
        "Which sender moved most?",
        f"The share of ended messages that was delivered, the worst move first. {EXPLAINED}Only messages that we "
        f"sent, and senders with {FEW} ends in both windows. One sender alone that fell: blocked, not registered, or "
        "another content.",
        "receiver_sender_outcomes_total",
        "sender",
    )


def moved_codes() -> table.Panel:
    """By the code of a failure: how many of a hundred ends bear it."""

    def share(back: str) -> str:
        failed = f"sum by (code) (increase(receiver_failures_total{{{NEWS}}}[$window]{back}))"
        return f"({failed} / on () group_left () (sum(increase({messages(FINAL)}[$window]{back})) >= {FEW}))"

    now, before = share(""), share(" offset $window")
    # A code that is new, or gone, has one of the two alone: the other is 0.
    moved = f"({now} or 0 * {before}) - ({before} or 0 * {now})"
    panel = tabled(
        "Which code moved most?",
        f"Of a hundred ended messages, how many failed with that code, the greatest rise first. {EXPLAINED}Below "
        f"{FEW} ends in a window there is nothing to compare. A code that rises from nothing names the cause: "
        "docs/codes.md says who can mend it, and its link finds the messages.",
        rows(moved),
        rows(now),
        rows(before),
        wide=8,
    )
    worse = thresholds("green", (-0.01, "text"), (0.01, "orange"), (0.05, "red"))
    measured(measured(panel, units.PercentUnit, "now", "before"), units.PercentUnit, "moved", steps=worse)
    linked(panel, "code", parts.lead("Which messages?", parts.FIND, "var-code=${__value.raw}", "tenant"))
    return merged(panel, {"Value #A": "moved", "Value #B": "now", "Value #C": "before"}, "moved", falling=True)
