"""The views for reports: as documented column by column, in the words of the product, and read by their role alone."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from receiver.database.pool import connect
from receiver.database.reader import SCHEMA
from receiver.ids import new_id
from receiver.messages.lattice import Channel, State
from receiver.messages.told import Feed
from receiver.platform.codes import Class
from receiver.queries.views import ORIGINS
from receiver.receipts.apply import apply
from tests.receipts.tellings import body, told_of
from tests.support import Database, environment_of, now, receiver_command, run

PAGE = (Path(__file__).parents[2] / "docs" / "sql.md").read_text()
COLUMNS = """
select a.attname as column, format_type(a.atttypid, null) as type
  from pg_attribute a where a.attrelid = to_regclass($1) and a.attnum > 0 order by a.attnum
"""
VIEWS = "select viewname from pg_views where schemaname = 'receiver_v1' order by 1"
ROLE = f"reader {os.getpid()}"  # a name that must be quoted


def documented() -> dict[str, list[tuple[str, str]]]:
    """The views of the page, each with its columns and their types."""
    found = {}
    for section in PAGE.split("\n## ")[1:]:
        rows = re.findall(r"^\| `(\w+)` \| ([a-z ]+) \|", section, re.MULTILINE)
        found[section.partition("\n")[0]] = rows
    return found


def test_the_page_names_every_view_column_by_column_in_its_order(database: Database) -> None:
    assert sorted(documented()) == [row["viewname"] for row in database.fetch(VIEWS)]
    for view, columns in documented().items():
        there = [(row["column"], row["type"]) for row in database.fetch(COLUMNS, f"{SCHEMA}.{view}")]
        assert there == columns, view


def test_the_views_speak_the_words_of_the_product(database: Database) -> None:
    for function, words in {
        "state_word": {int(one): one.word for one in State},
        "channel_word": {int(one): one.word for one in Channel},
        "feed_word": {int(one): one.word for one in Feed},
        "class_word": {int(one): one.word for one in Class},
        "origin_word": ORIGINS,
    }.items():
        said = database.fetch(
            f"select n, {SCHEMA}.{function}(n::smallint) as word from generate_series(-1, 100) n order by n"
        )
        assert {row["n"]: row["word"] for row in said if row["word"]} == words, function


def make_reader(database: Database, *options: str, role: str = ROLE) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*receiver_command(), "sql-role", role, *options],
        env=environment_of(RECEIVER_DATABASE_URL=database.dsn),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def reader(database: Database) -> Iterator[Database]:
    """The database as the role sees it that the command makes; a failed message is in it."""
    made = make_reader(database)
    assert made.returncode == 0, made.stderr
    assert "password" in made.stderr
    database.fetch(f"alter role \"{ROLE}\" password 'for tests only'")
    try:
        url = urlsplit(database.server)
        place = url.netloc.rpartition("@")[2]
        netloc = f"{ROLE.replace(' ', '%20')}:for%20tests%20only@{place}"
        yield replace(database, server=urlunsplit(url._replace(netloc=netloc)))
    finally:
        database.fetch(f'drop owned by "{ROLE}"')
        database.fetch(f'drop role "{ROLE}"')


def test_its_role_reads_the_views_by_their_short_names_and_nothing_else(database: Database, reader: Database) -> None:
    tenant = database.tenant()

    async def tell() -> None:
        connection = await connect(database.dsn, "tests")
        info = {
            "deliveryChannel": "SMS",
            "deliveryStatus": "Undelivered",
            "destination": "447700900123",
            "code": "7101",
        }
        await apply(connection, new_id(), now(), Feed.PUSH, [told_of(body(info, "t-1", "order 7"), tenant)])
        await connection.close()

    run(tell())
    [message] = reader.fetch(
        "select * from messages where id >= receiver_v1.first_id(now() - interval '1 hour')"
        " and id < receiver_v1.first_id(now() + interval '1 hour')"
    )
    told = (message["tenant"], message["origin"], message["channel"], message["state"], message["final"])
    assert told == ("default", "observed", "sms", "undelivered", True)
    assert (message["country"], message["correlationid"], message["reason_code"]) == ("GB", "order 7", "7101")
    [receipt] = reader.fetch("select * from receipts where message_id = $1", message["id"])
    assert (receipt["feed"], receipt["state"], receipt["code"]) == ("push", "undelivered", "7101")
    assert reader.fetch("select * from delivery_hourly where hour > now()") == []

    for table in ("message", "receipt", "api_key", "quarantine"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            reader.fetch(f"select * from public.{table}")
    for query in ("create table mine (n int)", "delete from public.message", "select pg_sleep(0) from public.tenant"):
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError)):
            reader.fetch(query)
    assert reader.value("show statement_timeout") == "1min"


def test_a_span_of_time_reads_only_its_weeks(database: Database, reader: Database) -> None:
    plan = "\n".join(
        row[0]
        for row in reader.fetch(
            "explain select count(*) from messages where id >= receiver_v1.first_id("
            f"'{now() - timedelta(hours=1)}') and id < receiver_v1.first_id('{now()}')"
        )
    )
    weeks = database.fetch("select to_char(starts_on, 'YYYYMMDD') as week from week order by 1")
    assert len(weeks) > 3
    read = {row["week"] for row in weeks if f"message_{row['week']}" in plan}
    assert 1 <= len(read) <= 2, plan
    assert {row["week"] for row in weeks if f"message_state_{row['week']}" in plan} == read, plan


def test_the_command_may_run_again_and_leaves_other_roles_alone(database: Database, reader: Database) -> None:
    again = make_reader(database, "--json")
    assert again.stdout.strip() == f'{{"role": "{ROLE}", "new": false, "schema": "receiver_v1"}}', again.stderr
    database.fetch(f'alter role "{ROLE}" createdb')
    refused = make_reader(database)
    assert refused.returncode == 1
    assert "more than a reader" in refused.stderr


def test_who_may_not_make_roles_is_told_what_to_run(database: Database, reader: Database) -> None:
    database.fetch(f'grant select on all tables in schema public to "{ROLE}"')
    database.fetch(f'alter role "{ROLE}" in database {database.name} reset all')
    refused = make_reader(reader, role="another one")
    assert refused.returncode == 1
    assert 'create role "another one" login;' in refused.stderr
