"""`receiver sql-role`: who may read the views for reports."""

import json
from typing import Annotated

import typer

from receiver.cli.opening import database, run
from receiver.database.migrate import require_schema
from receiver.database.pool import connect
from receiver.database.reader import REFUSED, SCHEMA, make_reader, statements_for
from receiver.errors import DatabaseError, SettingsError
from receiver.settings import read_settings

LONGEST_NAME = 63  # bytes, of a name in Postgres


def sql_role(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The role, such as `metabase`.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Make a role in Postgres that reads the views for reports (docs/sql.md), and nothing else. Safe to run again."""
    if not name or "\0" in name or len(name.encode()) > LONGEST_NAME:
        raise SettingsError([f"NAME has 1 to {LONGEST_NAME} bytes and no NUL"])
    settings = read_settings(serving=False)

    async def work(dsn: str) -> bool:
        connection = await connect(dsn, "sql-role")
        try:
            await require_schema(connection)
            try:
                return await make_reader(connection, name)
            except REFUSED:
                lines = "\n".join(f"  {statement};" for statement in await statements_for(connection, name))
                raise DatabaseError(f"the database forbids it: have an administrator run\n{lines}") from None
        finally:
            await connection.close()

    with database(settings) as dsn:
        is_new = run(work(dsn))
    if as_json:
        typer.echo(json.dumps({"role": name, "new": is_new, "schema": SCHEMA}))
        return
    typer.echo(f"{name} reads the views in {SCHEMA}" + ("" if is_new else ", as before"))
    if is_new:
        typer.echo("It has no password yet: give it one in psql with \\password.", err=True)
