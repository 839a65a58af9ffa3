"""`receiver quarantine list|show|replay`: what could not be read or believed, and trying it again."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC
from typing import Annotated, Any, TypeVar

import asyncpg
import msgspec
import typer
from rich.console import Console
from rich.progress import Progress

from receiver.cli.of_tenant import Opened, for_tenant
from receiver.cli.quarantine_tables import body_panel, quarantine_table, replay_table, summary_table
from receiver.errors import ReceiverError, SettingsError
from receiver.receipts import quarantine
from receiver.receipts.quarantine import APPLIED, REPLAYED, Mark, Place, Wanted, parse_place, place_of
from receiver.receipts.quarantine_views import PREVIEW_BYTES, quarantined, replay_result
from receiver.receipts.replay import Replay, replay

T = TypeVar("T")

STATEMENT_MILLISECONDS = 10_000
AT_ONCE = 100  # rows of a page when all are replayed

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
TenantName = Annotated[str, typer.Option("--tenant", help="The tenant whose bodies they are.")]
Identity = Annotated[str, typer.Argument(metavar="ID", help="The body's id, as `receiver quarantine list` tells it.")]
Reasons = Annotated[list[str] | None, typer.Option("--reason", help="Only of this reason; may be given several times.")]

application = typer.Typer(help="Bodies in which no receipt could be read or believed.", no_args_is_help=True)


class _Opened(Opened):
    """The open database, and whose bodies are asked for."""

    async def row(self, place: Place) -> asyncpg.Record:
        """The row of that place. Raises ReceiverError if there is none."""
        row = await quarantine.one(self.connection, self.tenant, place)
        if row is None:
            raise ReceiverError(f"there is no body {place} in the quarantine: see `receiver quarantine list`")
        return row

    async def replay(self, row: asyncpg.Record, *, dry_run: bool, believe: bool) -> Replay:
        """Replays one row."""
        settings = self.tenants.settings_of(self.tenant)
        zone = settings.zone if settings else UTC
        return await replay(self.connection, row, zone, self.tenants.names, dry_run=dry_run, believe=believe)

    async def all(self, wanted: Wanted) -> AsyncIterator[asyncpg.Record]:
        """Every whole row, newest first; read a page at a time."""
        after: Mark | None = None
        while True:
            found = await quarantine.page(self.connection, self.tenant, wanted, AT_ONCE, 0, after)
            for row in found.rows:
                whole = await quarantine.one(self.connection, self.tenant, place_of(row))
                if whole is not None:  # trimmed meanwhile
                    yield whole
            after = found.next_after
            if after is None:
                return


def _with_database(tenant: str, work: Callable[[_Opened], Awaitable[T]]) -> T:
    async def opened(there: Opened) -> T:
        return await work(_Opened(there.connection, there.tenants, there.tenant))

    return for_tenant(tenant, "quarantine", opened, statement_milliseconds=STATEMENT_MILLISECONDS)


def _place(identity: str) -> Place:
    place = parse_place(identity)
    if place is None:
        raise SettingsError([f"{identity!r} is no id of the quarantine: see `receiver quarantine list`"])
    return place


def _print_json(value: Any) -> None:
    typer.echo(msgspec.json.encode(value).decode())


@application.command("list")
def list_(
    reason: Reasons = None,
    replayed: Annotated[
        list[str] | None, typer.Option(help=f"Only what its last replay came to: {', '.join(REPLAYED)}.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many, the newest first.")] = 50,
    tenant: TenantName = "default",
    as_json: Json = False,
) -> None:
    """List what is in quarantine, newest first."""
    if unknown := [word for word in replayed or () if word not in REPLAYED]:
        raise SettingsError([f"--replayed: {unknown[0]!r} is none of {', '.join(REPLAYED)}"])

    async def work(opened: _Opened) -> quarantine.Found:
        return await quarantine.page(opened.connection, opened.tenant, Wanted(reason, replayed), limit, PREVIEW_BYTES)

    found = _with_database(tenant, work)
    bodies = [quarantined(row) for row in found.rows]
    if as_json:
        _print_json(bodies)
        return
    if bodies:
        Console().print(quarantine_table(bodies))
    typer.echo(_hint(len(bodies), found.next_after is not None), err=True)


def _hint(number: int, more: bool) -> str:
    if not number:
        return "nothing is in quarantine that fits"
    return ("there are more: see --limit; " if more else "") + "see one whole: receiver quarantine show ID"


@application.command("show")
def show(identity: Identity, tenant: TenantName = "default", as_json: Json = False) -> None:
    """Show one body whole, with why it is there. It holds phone numbers."""
    place = _place(identity)
    body = quarantined(_with_database(tenant, lambda opened: opened.row(place)))
    if as_json:
        _print_json(body)
        return
    Console().print(body_panel(body))
    typer.echo(f"what a replay would do: receiver quarantine replay --dry-run {body.id}", err=True)


@application.command("replay")
def replay_(
    identity: Annotated[str | None, typer.Argument(metavar="[ID]", help="The body's id; or --all.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All bodies of which no replay has applied everything yet.")
    ] = False,
    reason: Reasons = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would happen, and write nothing.")] = False,
    believe: Annotated[
        bool, typer.Option("--believe", help="Believe a forged one: as if it had come in by the tenant's own URL.")
    ] = False,
    tenant: TenantName = "default",
    as_json: Json = False,
) -> None:
    """Read bodies anew with this version's reader and apply what is in them. Harmless to repeat."""
    if (identity is None) != everything:
        raise SettingsError(
            ["give the id of one body, or --all" if identity is None else "give an id or --all, not both"]
        )
    if reason and not everything:
        raise SettingsError(["--reason belongs to --all"])
    if believe and everything and reason != ["forged"]:
        raise SettingsError(["--believe with --all takes --reason forged: anything else is believed already"])
    if identity is not None:
        _replay_one(_place(identity), tenant, dry_run=dry_run, believe=believe, as_json=as_json)
    else:
        _replay_all(reason, tenant, dry_run=dry_run, believe=believe, as_json=as_json)


def _replay_one(place: Place, tenant: str, *, dry_run: bool, believe: bool, as_json: bool) -> None:
    async def work(opened: _Opened) -> Replay:
        return await opened.replay(await opened.row(place), dry_run=dry_run, believe=believe)

    done = replay_result(_with_database(tenant, work))
    if as_json:
        _print_json(done)
        return
    Console().print(replay_table(done))
    if dry_run:
        typer.echo(f"nothing was written; to do it: receiver quarantine replay {done.id}", err=True)
    elif done.result != APPLIED:
        typer.echo("it stays in quarantine: what each reason means and asks for is in docs/quarantine.md", err=True)


def _replay_all(reason: list[str] | None, tenant: str, *, dry_run: bool, believe: bool, as_json: bool) -> None:
    """Replays one after the other; one that fails with the database ends it, and it may be run again."""
    wanted = Wanted(reason, [word for word in REPLAYED if word != APPLIED])
    bodies: Counter[str] = Counter()
    receipts: Counter[str] = Counter()

    async def work(opened: _Opened) -> None:
        with _progress() as advance:
            async for row in opened.all(wanted):
                done = await opened.replay(row, dry_run=dry_run, believe=believe)
                bodies[done.result] += 1
                receipts.update(outcome.result for outcome in done.outcomes)
                advance()
                await asyncio.sleep(0)  # Ctrl-C is heard between two bodies

    _with_database(tenant, work)
    if as_json:
        typer.echo(json.dumps({"dry_run": dry_run, "bodies": dict(bodies), "receipts": dict(receipts)}))
        return
    Console().print(summary_table(bodies, receipts, dry_run=dry_run))
    if dry_run:
        typer.echo("nothing was written", err=True)
    elif sum(bodies.values()) > bodies[APPLIED]:
        typer.echo("what is left: receiver quarantine list --replayed not_applied --replayed partly", err=True)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[], None]]:
    """A bar at a terminal, nothing elsewhere; calling what it gives counts one."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda: None
        return
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("replaying", total=None)
        yield lambda: progress.advance(task)
