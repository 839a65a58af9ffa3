"""The quarantine for the eyes: lists, one body, what a replay did."""

from collections.abc import Iterable, Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from receiver.cli.tables import plain, state_text
from receiver.receipts.quarantine_views import Quarantined, ReplayedReceipt, ReplayResult

COLOURS = {"applied": "green", "duplicate": "green", "late": "green", "partly": "yellow"}
PREVIEW = 100  # characters of a body in a table


def quarantine_table(bodies: Iterable[Quarantined]) -> Table:
    """A row a body; it fits into 80 columns."""
    table = Table()
    table.add_column("last told (UTC)", min_width=19)
    table.add_column("told", justify="right")
    table.add_column("bytes", justify="right")
    table.add_column("why, its id, its beginning", overflow="fold")
    for body in bodies:
        why = Text(body.reason, style="bold")
        if body.replay_result != "never":
            why.append(f"  replayed: {body.replay_result}", style=COLOURS.get(body.replay_result, "red"))
        why.append("\n").append_text(plain(body.id)).append("\n")
        why.append_text(Text(plain(body.body[:PREVIEW]).plain, style="dim"))
        table.add_row(f"{body.last_at:%Y-%m-%d %H:%M:%S}", str(body.told), str(body.size), why)
    return table


def body_panel(body: Quarantined) -> RenderableType:
    """One body whole."""
    facts = Table(show_header=False, box=None, padding=(0, 1))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    rows = {
        "id": body.id,
        "reason": body.reason,
        "that is": body.text,
        "detail": body.detail,
        "first told": f"{body.first_at:%Y-%m-%d %H:%M:%S} UTC",
        "last told": f"{body.last_at:%Y-%m-%d %H:%M:%S} UTC",
        "told": f"{body.told} times" if body.told != 1 else "once",
        "size": f"{body.size} bytes",
        "submission": body.submission_id,
        "replayed": f"{body.replayed_at:%Y-%m-%d %H:%M:%S} UTC: {body.replay_result}" if body.replayed_at else None,
    }
    for name, value in rows.items():
        if value:
            facts.add_row(name, plain(value))
    for name, value in body.headers.items():
        facts.add_row("header", plain(f"{name}: {value}"))
    head = Text("\nbody, in base64" if body.body_encoding == "base64" else "\nbody", style="bold")
    return Group(facts, head, *(plain(line) for line in body.body.splitlines()))


def replay_table(replay: ReplayResult) -> RenderableType:
    """What a replay did to each receipt, or would do."""
    table = Table(title="would become" if replay.dry_run else "became", title_justify="left")
    for name in ("receipt", "result", "message"):
        table.add_column(name, overflow="fold")
    for receipt in replay.receipts:
        what = " ".join(part for part in (receipt.channel, receipt.status) if part) or "-"
        result = Text(receipt.result, style=COLOURS.get(receipt.result, "red"))
        table.add_row(plain(what), result, _message(receipt))
    word = Text(replay.result, style=COLOURS.get(replay.result, "red"))
    return Group(table, Text("the body as a whole: ").append_text(word))


def _message(receipt: ReplayedReceipt) -> Text:
    if not receipt.message_id:
        return plain(receipt.detail or "")
    text = Text(f"{receipt.message} {receipt.message_id}")
    if receipt.matched_by:
        text.append(f", found by its {receipt.matched_by}", style="dim")
    if receipt.state_after:
        text.append("\n")
        if receipt.state_before and receipt.state_before != receipt.state_after:
            text.append_text(state_text(receipt.state_before)).append(" → ")
        text.append_text(state_text(receipt.state_after))
    return text


def summary_table(bodies: Mapping[str, int], receipts: Mapping[str, int], *, dry_run: bool) -> RenderableType:
    """What the replay of many came to."""
    if not bodies:
        return Text("nothing is in quarantine that fits")
    table = Table(title="would become" if dry_run else "became", title_justify="left")
    for name in ("", "result", "number"):
        table.add_column(name)
    for kind, numbers in (("bodies", bodies), ("receipts", receipts)):
        for result, number in sorted(numbers.items()):
            table.add_row(kind, Text(result, style=COLOURS.get(result, "red")), str(number))
    return table
