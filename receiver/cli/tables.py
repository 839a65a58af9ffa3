"""Messages for the eyes: tables and timelines."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

COLOURS = {
    "delivered": "green",
    "read": "green",
    "undelivered": "red",
    "failed": "red",
    "bounced": "red",
    "refused": "red",
    "invalid": "red",
    "expired": "red",
    "not_verified": "red",
    "uncertain": "yellow",
    "no_receipt": "yellow",
}


TELLERS = {
    "push": "platform",
    "import": "platform, imported",
    "poll": "platform, asked",
    "replay": "platform, replayed",
    "own": "receiver",
}


def state_text(state: str) -> Text:
    """A state in its colour."""
    return Text(state, style=COLOURS.get(state, "cyan"))


def plain(text: object) -> Text:
    """A text that others chose, as it is: no markup, and nothing that moves the cursor."""
    return Text("".join(c if c.isprintable() else "\ufffd" for c in str(text)))


def why(message: Mapping[str, Any]) -> str:
    """What to tell the person who asks: the reason in words, or what is still open."""
    if message["reason"]:
        reason = message["reason"]
        return f"{reason['text']} (code {reason['code']})" if reason["code"] else str(reason["text"])
    if message["final"]:
        return ""
    return {
        "queued": "waits to be sent",
        "uncertain": "the platform did not answer: it may have been sent",
        "accepted": "the platform has it; no receipt yet",
        "submitted": "the operator has it; no final receipt yet",
    }.get(message["state"], "nothing final is known yet")


def messages_table(messages: Iterable[Mapping[str, Any]], title: str | None = None) -> Table:
    """A row a message; it fits into 80 columns."""
    table = Table(title=title, title_justify="left")
    for name in ("to", "state"):
        table.add_column(name, overflow="fold", min_width=12)
    table.add_column("why, and its ids", overflow="fold")
    for m in messages:
        ids = "  ".join(part for part in (m["id"], m["correlationid"]) if part)
        known = Text(why(m) + "\n" if why(m) else "")
        table.add_row(m["destination"], state_text(m["state"]), known.append(ids, style="dim"))
    return table


def message_panel(message: Mapping[str, Any]) -> RenderableType:
    """One message and its timeline."""
    facts = Table(show_header=False, box=None, padding=(0, 1))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    state = state_text(message["state"])
    state.append(" (final)" if message["final"] else " (not final)", style="dim")
    facts.add_row("state", state)
    if reason := why(message):
        facts.add_row("why", plain(reason))
    if message["reason"] and message["reason"]["class"] != "unknown":
        facts.add_row("kind of failure", message["reason"]["class"])
    for name in ("destination", "channel", "origin", "correlationid", "callbackData", "transid", "sender", "batch_id"):
        if message[name]:
            facts.add_row(name, plain(message[name]))
    facts.add_row("id", message["id"])
    return Group(facts, timeline(message))


def timeline(message: Mapping[str, Any]) -> Table:
    """Everything that was done and told, in order of time."""
    table = Table(title="timeline", title_justify="left")
    for name in ("at (UTC)", "who", "what", "code", "says"):
        table.add_column(name, overflow="fold")
    lines = [
        (message["created_at"], "client", "handed in" if message["origin"] == "issued" else "first heard of", "", "")
    ]
    for a in message["attempts"]:
        lines.append(
            (a["at"], "receiver", f"call {a['number']}: {a['outcome']}", a["code"] or "", a["description"] or "")
        )
    for e in message["timeline"]:
        if e["feed"] != "answer":
            lines.append(
                (e["at"], TELLERS[e["feed"]], e["status"], e["code"] or "", e["text"] or e["description"] or "")
            )
    for at, *rest in sorted(lines, key=lambda line: datetime.fromisoformat(line[0])):
        table.add_row(datetime.fromisoformat(at).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3], *map(plain, rest))
    return table
