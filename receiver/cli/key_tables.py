"""API keys as the command line shows them: never the key itself."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from receiver.access.key_book import ACTIVE, EXPIRED, REVOKED, KeyRow
from receiver.cli.tables import plain

STYLES = {ACTIVE: "green", EXPIRED: "yellow", REVOKED: "red"}


def moment(at: datetime) -> str:
    """A time to the minute, with its zone."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def figures(key: KeyRow, now: datetime) -> dict[str, Any]:
    """All that may be shown of a key."""
    return {
        "prefix": key.prefix,
        "name": key.name,
        "tenant": key.tenant,
        "scopes": key.scopes,
        "rate": key.rate,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "last_used_at": key.last_used_at,
        "revoked_at": key.revoked_at,
        "state": key.state(now),
    }


def keys_table(keys: Iterable[KeyRow], now: datetime) -> Table:
    """A row a key; it fits into 80 columns."""
    table = Table()
    table.add_column("prefix, name", min_width=15, overflow="fold")
    table.add_column("tenant", overflow="fold")
    table.add_column("scopes, rate", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("times (UTC)", no_wrap=True)
    for key in keys:
        state = key.state(now)
        may = "\n".join(key.scopes) + (f"\n{key.rate} a minute" if key.rate is not None else "")
        table.add_row(
            Text(f"{key.prefix}\n").append_text(plain(key.name)),
            plain(key.tenant),
            may,
            Text(state, style=STYLES[state]),
            _times(key),
            end_section=True,
        )
    return table


def _times(key: KeyRow) -> str:
    """A line a time. What has not happened is said where one would look for it."""
    ends = "never" if key.expires_at is None else f"{key.expires_at:%Y-%m-%d %H:%M}"
    used = "never" if key.last_used_at is None else f"{key.last_used_at:%Y-%m-%d %H:%M}"
    lines = [f"created {key.created_at:%Y-%m-%d %H:%M}", f"used    {used}", f"expires {ends}"]
    if key.revoked_at is not None:
        lines.append(f"revoked {key.revoked_at:%Y-%m-%d %H:%M}")
    return "\n".join(lines)
