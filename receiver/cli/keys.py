"""`receiver keys create|list|revoke|rotate`: API keys, each shown once."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeVar

import asyncpg
import msgspec
import typer
from rich.console import Console

from receiver.access import key_book
from receiver.access.key_book import ACTIVE, STATES, KeyRow, NotActive
from receiver.access.keys import SCOPES, create_key, prefix_of, scopes_of
from receiver.access.tenants import Tenants
from receiver.cli.key_tables import figures, keys_table, moment
from receiver.cli.opening import database, run
from receiver.database.migrate import require_schema
from receiver.database.pool import connect
from receiver.errors import ReceiverError, SettingsError
from receiver.settings import Settings, read_settings
from receiver.waits import read_duration

T = TypeVar("T")

STATEMENT_MILLISECONDS = "30000"
MOST_RATE = 10_000_000
LONGEST_NAME = 100
KEEP_IT = "Keep it now: only its hash is stored, and it can't be shown again."

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Expires = Annotated[
    str | None, typer.Option(help="When it ends by itself: 90d, 12h, or a time such as 2027-01-31T00:00:00Z.")
]
Which = Annotated[
    str | None, typer.Argument(metavar="[PREFIX]", help="What the key begins with, such as rk_1a49f946561f.")
]
Named = Annotated[str | None, typer.Option(help="In place of a prefix: the name it was made with.")]
Whose = Annotated[str, typer.Option("--tenant", help="The tenant of --name.")]

application = typer.Typer(help="API keys: who may send and ask.", no_args_is_help=True)


@application.command("create")
def create(
    tenant: Annotated[
        str, typer.Option("--tenant", help="The tenant: `default`, or one of RECEIVER_CONFIG.")
    ] = "default",
    scopes: Annotated[str, typer.Option(help=f"What it may do, with commas: {','.join(SCOPES)}.")] = "send,read",
    name: Annotated[str, typer.Option(help="Whose it is, for the day on which it must go.")] = "",
    expires: Expires = None,
    rate: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_RATE, help="Calls a minute, in place of RECEIVER_RATE_LIMIT."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make an API key and show it: the only time that it can be seen."""
    problems = []
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        why = "is missing" if not name.strip() else f"takes {LONGEST_NAME} printable characters at most"
        problems.append(f"--name {why}: say whose key it is, for the day on which it must be revoked")
    unknown = [scope for scope in scopes_of(scopes) if scope not in SCOPES]
    if unknown or not scopes_of(scopes):
        problems.append(f"--scopes: {', '.join(unknown) or 'none'} is not known: it takes {', '.join(SCOPES)}")
    end = _end(expires, datetime.now(UTC), problems)
    if problems:
        raise SettingsError(problems)
    settings = read_settings(serving=False)
    known = settings.tenant(tenant).name

    async def work(connection: "asyncpg.Connection[asyncpg.Record]", tenants: Tenants) -> tuple[str, KeyRow]:
        key = await create_key(connection, tenants.id_of(known), name.strip(), scopes_of(scopes), end, rate)
        [made] = await key_book.find(connection, prefix=prefix_of(key))
        return key, made

    key, made = _with_database(settings, work)
    if as_json:
        typer.echo(msgspec.json.encode({"key": key, **figures(made, datetime.now(UTC))}).decode())
        return
    typer.echo(key)
    typer.echo(KEEP_IT if made.expires_at is None else f"{KEEP_IT} It ends {moment(made.expires_at)}.", err=True)


@application.command("list")
def list_(
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only those of this tenant.")] = None,
    state: Annotated[str | None, typer.Option(help=f"Only these: {', '.join(STATES)}.")] = None,
    as_json: Json = False,
) -> None:
    """List the keys, the oldest first: what each may do, when it was used last, whether it is good still."""
    if state is not None and state not in STATES:
        raise SettingsError([f"--state: {state!r} is none of {', '.join(STATES)}"])

    async def work(connection: "asyncpg.Connection[asyncpg.Record]", tenants: Tenants) -> list[KeyRow]:
        return await key_book.find(connection, tenant=None if tenant is None else _known(tenants, tenant))

    now = datetime.now(UTC)
    found = _with_database(read_settings(serving=False), work)
    keys = [key for key in found if state is None or key.state(now) == state]
    if as_json:
        typer.echo(msgspec.json.encode([figures(key, now) for key in keys]).decode())
    elif keys:
        Console().print(keys_table(keys, now))
    else:
        typer.echo("there is no such key: make one with `receiver keys create`", err=True)


@application.command("revoke")
def revoke(which: Which = None, name: Named = None, tenant: Whose = "default", as_json: Json = False) -> None:
    """End a key for good, within 5 seconds in every process. Harmless to repeat."""

    async def work(connection: "asyncpg.Connection[asyncpg.Record]", tenants: Tenants) -> tuple[KeyRow, datetime]:
        key = await _one(connection, tenants, which, name, tenant)
        return key, await key_book.revoke(connection, key, datetime.now(UTC))

    _one_way(which, name)
    key, since = _with_database(read_settings(serving=False), work)
    before = key.revoked_at is not None
    if as_json:
        told = {"prefix": key.prefix, "tenant": key.tenant, "name": key.name, "revoked_at": since, "before": before}
        typer.echo(msgspec.json.encode(told).decode())
    elif before:
        typer.echo(f"{key.prefix} ({key.name}) was revoked already, {moment(since)}")
    else:
        typer.echo(f"{key.prefix} ({key.name}) is revoked: it ends within 5 seconds in every process")


@application.command("rotate")
def rotate(
    which: Which = None,
    name: Named = None,
    tenant: Whose = "default",
    overlap: Annotated[str, typer.Option(help="How long the old key goes on: 24h, 30m, 7d; 0: not at all.")] = "24h",
    expires: Expires = None,
    as_json: Json = False,
) -> None:
    """Make a successor of the same name, tenant, scopes and rate; the old key goes on for a while.

    Without --expires the new key lasts as long as the old one was made to last.
    """
    problems: list[str] = []
    goes_on = timedelta(0) if overlap == "0" else read_duration(overlap)
    if goes_on is None:
        problems.append(f"--overlap: {overlap!r} is no time: it takes 24h, 30m, 7d, or 0")
    end = _end(expires, datetime.now(UTC), problems)
    if problems or goes_on is None:
        raise SettingsError(problems)
    _one_way(which, name)

    async def work(
        connection: "asyncpg.Connection[asyncpg.Record]", tenants: Tenants
    ) -> tuple[str, KeyRow, KeyRow, datetime]:
        old, now = await _one(connection, tenants, which, name, tenant), datetime.now(UTC)
        ends = end or (now + (old.expires_at - old.created_at) if old.expires_at else None)
        try:
            key, old_ends = await key_book.rotate(connection, old, now, goes_on, ends)
        except NotActive:
            again = f"receiver keys create --tenant {old.tenant} --name …"
            raise ReceiverError(f"{old.prefix} is {old.state(now)}: make a new one with `{again}`") from None
        [made] = await key_book.find(connection, prefix=prefix_of(key))
        return key, made, old, old_ends

    key, made, old, old_ends = _with_database(read_settings(serving=False), work)
    if as_json:
        told = {"key": key, **figures(made, datetime.now(UTC)), "old": {"prefix": old.prefix, "expires_at": old_ends}}
        typer.echo(msgspec.json.encode(told).decode())
        return
    typer.echo(key)
    ends_too = "" if made.expires_at is None else f" It ends {moment(made.expires_at)}."
    typer.echo(f"{KEEP_IT}{ends_too} The old one, {old.prefix}, ends {moment(old_ends)}.", err=True)


def _with_database(
    settings: Settings, work: "Callable[[asyncpg.Connection[asyncpg.Record], Tenants], Awaitable[T]]"
) -> T:
    async def wrapped(dsn: str) -> T:
        connection = await connect(dsn, "keys", statement_timeout=STATEMENT_MILLISECONDS)
        try:
            await require_schema(connection)
            tenants = Tenants(settings.tenants)
            await tenants.load(connection)
            return await work(connection, tenants)
        finally:
            await connection.close()

    with database(settings) as dsn:
        return run(wrapped(dsn))


def _known(tenants: Tenants, name: str) -> str:
    """A tenant that has ever been: a key may outlive its tenant's settings."""
    if not tenants.is_known(name):
        raise SettingsError([f"there is no tenant {name!r}: there are {', '.join(tenants.names.values())}"])
    return name


def _end(text: str | None, now: datetime, problems: list[str]) -> datetime | None:
    """When a key ends, of a duration or of a time of RFC 3339."""
    if text is None:
        return None
    duration = read_duration(text)
    if duration is not None:
        return now + duration
    try:
        end = datetime.fromisoformat(text)
        if end.tzinfo is not None and end > now:
            return end.astimezone(UTC)
        why = "is over" if end.tzinfo is not None else "names no zone"
    except (ValueError, OverflowError):
        why = "is no time"
    problems.append(f"--expires: {text!r} {why}: it takes 90d, 12h, or a time to come such as 2099-01-31T00:00:00Z")
    return None


def _one_way(which: str | None, name: str | None) -> None:
    if (which is None) == (name is None):
        raise SettingsError(["give a key's prefix, or --name: `receiver keys list` shows both"])


async def _one(
    connection: "asyncpg.Connection[asyncpg.Record]", tenants: Tenants, which: str | None, name: str | None, tenant: str
) -> KeyRow:
    """The key that is meant: of a prefix, or the one of a name that is active, or else the one that there is."""
    if which is not None:
        found = await key_book.find(connection, prefix=prefix_of(which) or which)
        what = "begins so" if prefix_of(which) else "has that prefix"
    else:
        found = await key_book.find(connection, tenant=_known(tenants, tenant), name=name)
        what = f"of tenant {tenant} has the name {name!r}"
        now = datetime.now(UTC)
        found = [key for key in found if key.state(now) == ACTIVE] or found[-1:]
    if not found:
        raise ReceiverError(f"no key {what}: `receiver keys list` shows those that there are")
    if len(found) > 1:
        prefixes = ", ".join(key.prefix for key in found)
        raise ReceiverError(
            f"{len(found)} active keys of tenant {tenant} have the name {name!r}: name one of {prefixes}"
        )
    return found[0]
