"""Times as people type them: 24h ago, a day, a moment."""

import re
from datetime import UTC, datetime, timedelta

import typer

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
HELP = "24h, 7d, 30m ago; 2026-01-31; or 2026-01-31T18:00:00Z"
_AGO = re.compile(r"([0-9]{1,5})([smhdw])")


def moment(text: str, now: datetime | None = None) -> datetime:
    """A time in UTC. Raises typer.BadParameter for what is none, or has no zone."""
    if ago := _AGO.fullmatch(text):
        return (now or datetime.now(UTC)) - timedelta(**{UNITS[ago[2]]: int(ago[1])})
    if text == "now":
        return now or datetime.now(UTC)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time: say {HELP}") from None
    if when.tzinfo is None:
        if len(text) > len("2026-01-31"):
            raise typer.BadParameter(f"{text!r} has no zone: write {text}Z for UTC")
        when = when.replace(tzinfo=UTC)
    return when.astimezone(UTC)


def in_seconds(text: str | float) -> float:
    """A time to wait, such as 60, 90s, 10m or 2h; a default is a number already. Raises typer.BadParameter."""
    if isinstance(text, float):
        return text
    if found := re.fullmatch(r"([0-9]{1,7}(?:\.[0-9]{1,3})?)([smhd]?)", text):
        return timedelta(**{UNITS[found[2] or "s"]: float(found[1])}).total_seconds()
    raise typer.BadParameter(f"{text!r} is no time to wait: say 60, 90s, 10m or 2h")
