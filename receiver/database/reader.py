"""The role for reports: it reads the views in receiver_v1, and nothing else."""

import asyncpg

from receiver.database.pool import Connection
from receiver.errors import DatabaseError

SCHEMA = "receiver_v1"
SECONDS = 60  # of a statement of its: a report that takes longer wants a replica

# Postgres quotes the name: no name of ours takes part in SQL text.
QUOTED = "select quote_ident($1), current_database(), quote_ident(current_database())"
IS_THERE = "select exists (select from pg_roles where rolname = $1)"
# One that is more than a reader is left alone.
IS_MORE = """
select r.rolsuper or r.rolcreaterole or r.rolcreatedb or r.rolreplication or r.rolname = current_user
       or exists (select from pg_class c where c.relowner = r.oid)
  from pg_roles r where r.rolname = $1
"""
STATEMENTS = (
    "create role {role} login",
    "grant usage on schema {schema} to {role}",
    "grant select on all tables in schema {schema} to {role}",
    "alter role {role} in database {database} set default_transaction_read_only = on",
    "alter role {role} in database {database} set statement_timeout = '{seconds}s'",
    "alter role {role} in database {database} set search_path = {schema}",
    # the weeks of a message and of its state are joined one by one, and those that are not asked for are not read
    "alter role {role} in database {database} set enable_partitionwise_join = on",
)


async def make_reader(connection: Connection, name: str) -> bool:
    """Makes `name` a role that may read the views; returns whether it is new. May be called again for a present one.

    Raises DatabaseError where the role is more than a reader, and asyncpg.InsufficientPrivilegeError.
    """
    is_new = not await connection.fetchval(IS_THERE, name)
    if not is_new and await connection.fetchval(IS_MORE, name):
        raise DatabaseError(f"the role {name} is more than a reader: choose another name")
    async with connection.transaction():
        for statement in await statements_for(connection, name):
            if is_new or not statement.startswith("create role"):
                await connection.execute(statement)
    return is_new


async def statements_for(connection: Connection, name: str) -> list[str]:
    """What somebody with the right to make roles has to run, where we have it not."""
    row = await connection.fetchrow(QUOTED, name)
    assert row is not None
    return [one.format(role=row[0], database=row[2], schema=SCHEMA, seconds=SECONDS) for one in STATEMENTS]


REFUSED = asyncpg.InsufficientPrivilegeError
