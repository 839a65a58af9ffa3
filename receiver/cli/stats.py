"""The command that shows statistics."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from receiver.cli.tables import plain
from receiver.cli.times import HELP, moment
from receiver.client import Client, Deliveries

COUNTS = ("messages", "failed")
RATES = {
    "confirmed": ("confirmed_rate", "delivered of those with a verdict"),
    "delivered": ("delivered_of_accepted", "delivered of what the platform accepted"),
    "coverage": ("coverage", "accepted with a final word"),
}
YOUNG = "~"

Values = list[str] | None


def stats(
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="Groups: hour or day, channel, country, tenant, origin, and one of sender, template, carrier, "
            "code_class. Several with commas."
        ),
    ] = None,
    begin: Annotated[
        datetime | None,
        typer.Option("--from", parser=moment, metavar="TIME", help=f"Messages born since: {HELP}. 7d by default."),
    ] = None,
    end: Annotated[
        datetime | None, typer.Option("--to", parser=moment, metavar="TIME", help="Messages born before.")
    ] = None,
    channel: Annotated[Values, typer.Option(help="Only these channels.")] = None,
    country: Annotated[Values, typer.Option(help="Only recipients of these countries: GB.")] = None,
    origin: Annotated[Values, typer.Option(help="Only issued, observed or recorded ones.")] = None,
    sender: Annotated[Values, typer.Option(help="Only those from these senders.")] = None,
    template: Annotated[Values, typer.Option(help="Only those of these templates.")] = None,
    carrier: Annotated[Values, typer.Option(help="Only those of these carriers.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Show how well messages are delivered: counts, rates and times, by group.

    `receiver stats --by day,channel --from 7d`, `receiver stats --by country --origin issued`
    """
    asked = {"by": ",".join(by) if by else None, "from": begin, "to": end, "channel": channel, "country": country}
    asked |= {"origin": origin, "sender": sender, "template": template, "carrier": carrier}
    with Client.from_environment() as client:
        told = client.stats(asked)
    if as_json:
        typer.echo(json.dumps(told))
    elif not told["groups"]:
        typer.echo("no message was born in that time", err=True)
    else:
        Console().print(statistics_table(told))


def statistics_table(told: Deliveries) -> Table:
    """A row a group. A rate that can still change is marked. It fits into 80 columns."""
    keys = ["at" if name in ("hour", "day") else name for name in told["by"]]
    words = "; ".join(f"{name}: {meaning}" for name, (_, meaning) in RATES.items())
    caption = f"silent: no receipt ever came; {words}; took: half of the delivered, 95 in 100. "
    caption += f"{YOUNG} receipts are still to come. As of {_minute(told['as_of'])} UTC."
    title = f"{_minute(told['from'])} to {_minute(told['to'])} UTC"
    look = {
        "box": SIMPLE_HEAD,
        "padding": (0, 1, 0, 0),
        "show_edge": False,
        "title_justify": "left",
        "caption_justify": "left",
    }
    table = Table(title=title, caption=caption, **look)  # type: ignore[arg-type]
    heads = ("since" if name == "at" else name for name in keys)
    table.add_column("\n".join(heads), overflow="fold", min_width=10)
    for name in (*COUNTS, "pending\nsilent", *RATES, "took"):
        table.add_column(name, justify="right", overflow="fold")
    for group in told["groups"]:
        table.add_row(*_cells(group, keys, told["by"]))
    return table


def _cells(group: Mapping[str, Any], keys: Sequence[str], by: Sequence[str]) -> list[Text]:
    mark = "" if group["maturity"]["mature"] else f" {YOUNG}"
    names = []
    for name in keys:
        value = group[name]
        if name == "at":
            value = _minute(value) if "hour" in by else value[:10]
        names.append(plain("none" if value is None else value))
    counts = [Text(f"{group[name]:,}".replace(",", " ")) for name in COUNTS]
    counts.append(Text(f"{group['pending']}\n{group['no_receipt']}"))
    rates = [Text(percentage(group[name], mark)) for name, _ in RATES.values()]
    return [Text("\n").join(names), *counts, *rates, Text(_times((group.get("latency") or {}).get("delivered")))]


def percentage(rate: Mapping[str, Any], mark: str = "") -> str:
    """A rate, and below it its counts: 97.3 %, 973/1000. What is not all is never shown as 100."""
    part, whole = rate["numerator"], rate["denominator"]
    if not whole:
        return "-"
    tenths = part * 1000 // whole
    value = "<0.1" if part and not tenths else f"{tenths // 10}.{tenths % 10}"
    return f"{value} %{mark}\n{part}/{whole}"


def _times(latency: Mapping[str, Any] | None) -> str:
    return f"{_seconds(latency['p50'])}\n{_seconds(latency['p95'])}" if latency else "-"


def _seconds(seconds: float) -> str:
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("m", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.3g} s"


def _minute(time: str) -> str:
    return datetime.fromisoformat(time).strftime("%Y-%m-%d %H:%M")
