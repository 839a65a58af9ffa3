"""The operator's commands: they open the database themselves."""

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from receiver.access.tokens import NotifyTokens
from receiver.cli.opening import database, run, secret_of
from receiver.database.migrate import migrate as bring_up
from receiver.database.partitions import ensure_weeks
from receiver.database.pool import connect
from receiver.errors import ReceiverError, SettingsError
from receiver.settings import Settings, read_settings

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
TenantName = Annotated[str, typer.Option("--tenant", help="The tenant: `default`, or one of RECEIVER_CONFIG.")]


def migrate(as_json: Json = False) -> None:
    """Bring the database's schema up to this version. Safe to run again, and while an older version serves."""
    settings = read_settings(serving=False)

    async def work(dsn: str) -> tuple[str | None, str]:
        before, after = await bring_up(dsn)
        connection = await connect(dsn, "migrate")
        try:
            await ensure_weeks(connection, datetime.now(UTC))
        finally:
            await connection.close()
        return before, after

    with database(settings) as dsn:
        before, after = run(work(dsn))
    if as_json:
        typer.echo(json.dumps({"before": before, "after": after}))
    elif before == after:
        typer.echo(f"the schema is {after} already")
    else:
        typer.echo(f"the schema is {after} now ({'was empty' if before is None else f'was {before}'})")


def notify_url(tenant: TenantName = "default", as_json: Json = False) -> None:
    """Print the address to enter as Notify URL of the tenant's service on the platform."""
    settings = read_settings(serving=False)
    if not settings.public_url:
        raise SettingsError(["RECEIVER_PUBLIC_URL is missing: the https address under which the platform reaches us"])
    name = settings.tenant(tenant).name
    url = f"{settings.public_url}/notify/{NotifyTokens(_secret(settings)).sign(name)}"
    typer.echo(json.dumps({"url": url, "tenant": name}) if as_json else url)


def _secret(settings: Settings) -> str:
    """The secret; with a data folder that nobody ever served from there is none yet."""
    if settings.data_dir is not None and not settings.secret and not settings.data_dir.is_dir():
        raise ReceiverError(f"{settings.data_dir} is not there yet: run `receiver migrate` first")
    return secret_of(settings)
