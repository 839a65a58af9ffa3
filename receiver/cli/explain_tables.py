"""An explanation for the eyes: each receipt, what it changed, or why it did not."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from receiver.cli.tables import plain, state_text


def explanation_panel(told: Mapping[str, Any]) -> RenderableType:
    """Why a message is in its state, and what is still expected."""
    facts = Table(show_header=False, box=None, padding=(0, 1))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    state = state_text(told["state"])
    state.append(" (final)" if told["final"] else " (not final)", style="dim")
    facts.add_row("state", state)
    facts.add_row("why", plain(told["text"]))
    facts.add_row("expected", plain(told["expected"]["text"]))
    for contradiction in told["contradictions"]:
        facts.add_row("conflict", plain(contradiction["text"]))
    facts.add_row("id", told["id"])
    return Group(facts, steps_table(told))


def steps_table(told: Mapping[str, Any]) -> Table:
    """A row a receipt, in the order of their arrival."""
    table = Table(title="in the order of arrival", title_justify="left")
    for name in ("received (UTC)", "said", "found by", "state", "why"):
        table.add_column(name, overflow="fold")
    for step in told["steps"]:
        at = datetime.fromisoformat(step["received_at"]).strftime("%m-%d %H:%M:%S")
        said = " ".join(part for part in (step["said"]["status"], step["said"]["code"]) if part)
        state = state_text(step["after"]) if step["changed"] else Text("no change", style="dim")
        table.add_row(at, plain(said), plain(step["joined"]["how"]), state, plain(step["text"]))
    if told["steps_cut"]:
        table.caption = "there are more"
    return table
