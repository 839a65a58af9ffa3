"""`receiver forwards list|retry`: receipts that wait to go on to a client's address, or were given up."""

from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import asyncpg
import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from receiver.cli.of_tenant import Opened, for_tenant
from receiver.cli.tables import plain
from receiver.errors import SettingsError
from receiver.forwarding import queue
from receiver.forwarding.rhythm import PATIENCE
from receiver.ids import TenantId

T = TypeVar("T")

STATEMENT_MILLISECONDS = 30_000
WAITING, DEAD = "waiting", "dead"
STATES = (WAITING, DEAD)
RECEIPT, NOTICE = "receipt", "failure notice"

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
TenantName = Annotated[str, typer.Option("--tenant", help="The tenant whose receipts they are.")]

application = typer.Typer(
    help="Receipts that wait to go on to a client's address, or were given up.", no_args_is_help=True
)


def _with_database(tenant: str, work: "Callable[[asyncpg.Connection[asyncpg.Record], TenantId], Awaitable[T]]") -> T:
    async def opened(there: Opened) -> T:
        return await work(there.connection, there.tenant)

    return for_tenant(tenant, "forwards", opened, statement_milliseconds=STATEMENT_MILLISECONDS)


@application.command("list")
def list_(
    state: Annotated[str | None, typer.Option(help=f"Only these: {' or '.join(STATES)}.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many, the newest first.")] = 50,
    tenant: TenantName = "default",
    as_json: Json = False,
) -> None:
    """List what has not been taken yet, newest first. Of an address only its host is shown: the rest may be secret."""
    if state is not None and state not in STATES:
        raise SettingsError([f"--state: {state!r} is none of {', '.join(STATES)}"])
    is_dead = None if state is None else state == DEAD
    rows = _with_database(tenant, lambda connection, number: queue.page(connection, number, is_dead, limit + 1))
    forwards = [_forward(row, tenant) for row in rows[:limit]]
    if as_json:
        typer.echo(msgspec.json.encode(forwards).decode())
        return
    if forwards:
        Console().print(_table(forwards))
    typer.echo(_hint(forwards, len(rows) > limit), err=True)


@application.command("retry")
def retry(
    identities: Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Their ids; or --all-dead.")] = None,
    all_dead: Annotated[bool, typer.Option("--all-dead", help="All of the tenant that were given up.")] = False,
    tenant: TenantName = "default",
    as_json: Json = False,
) -> None:
    """Let receipts go on again now, and for 72 hours more. Harmless to repeat."""
    if bool(identities) == all_dead:
        raise SettingsError(
            ["give ids or --all-dead, not both" if all_dead else "give the ids of forwards, or --all-dead"]
        )
    if any(abs(identity) >= 1 << 63 for identity in identities or ()):
        raise SettingsError(["an id is a whole number as `receiver forwards list` tells it"])

    def work(connection: "asyncpg.Connection[asyncpg.Record]", number: TenantId) -> Awaitable[list[int]]:
        now = datetime.now(UTC)
        return queue.retry(connection, number, identities or None, now, now + PATIENCE)

    due = _with_database(tenant, work)
    left = sorted(set(identities or ()) - set(due))
    if as_json:
        typer.echo(msgspec.json.encode({"due_now": due, "untouched": left}).decode())
        return
    typer.echo(f"{len(due)} due now: a running receiver takes them at once")
    if left:
        typer.echo(f"untouched, for they are due or under way already, or gone: {', '.join(map(str, left))}", err=True)


def _forward(row: asyncpg.Record, tenant: str) -> dict[str, Any]:
    """What may be shown of one."""
    return {
        "id": row["id"],
        "tenant": tenant,
        "state": WAITING if row["due_at"] is not None else DEAD,
        "kind": NOTICE if row["is_notice"] else RECEIPT,
        "message_id": row["message_id"],
        "host": row["host"],
        "created_at": row["created_at"],
        "due_at": row["due_at"],
        "attempts": row["attempts"],
        "last_status": row["last_status"],
        "last_error": row["last_error"],
    }


def _table(forwards: Iterable[dict[str, Any]]) -> Table:
    """A row a forward; it fits into 80 columns."""
    table = Table()
    table.add_column("id", justify="right")
    table.add_column("since (UTC)", min_width=19)
    table.add_column("tries", justify="right")
    table.add_column("where to, of which message, and why not yet", overflow="fold")
    for forward in forwards:
        text = plain(forward["host"])
        if forward["state"] == DEAD:
            text.append("  given up", style="red")
        else:
            text.append(f"  due {forward['due_at']:%H:%M:%S}", style="dim")
        text.append(f"\n{forward['message_id']}")
        if forward["kind"] == NOTICE:
            text.append(f"  {NOTICE}", style="dim")
        answered = f"answered {forward['last_status']}" if forward["last_status"] is not None else ""
        if why := forward["last_error"] or answered:
            text.append("\n").append_text(Text(plain(why).plain, style="dim"))
        table.add_row(str(forward["id"]), f"{forward['created_at']:%Y-%m-%d %H:%M:%S}", str(forward["attempts"]), text)
    return table


def _hint(forwards: list[dict[str, Any]], more: bool) -> str:
    if not forwards:
        return "nothing waits to go on, and nothing was given up, that fits"
    dead = any(forward["state"] == DEAD for forward in forwards)
    hints = ["there are more: see --limit"] if more else []
    if dead:
        hints.append("try given-up ones again: receiver forwards retry ID, or --all-dead")
    return "; ".join(hints) or "they are tried again by themselves"
