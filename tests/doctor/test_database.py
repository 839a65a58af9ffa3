"""What the doctor says of a database: content with a good one, and by name what was broken in it."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from receiver.database.partitions import week_of
from receiver.database.pool import Connection, Pool
from receiver.doctor.check import Check, Finding, Installation, Result, Verdict, ok
from receiver.doctor.examination import CHECKS, examine
from tests.database.past import LONG_AGO, add_week, with_pool
from tests.doctor.examining import (
    DATABASE_CHECKS,
    all_findings,
    assert_says,
    broken,
    installation,
    verdict,
    verdicts,
)
from tests.support import Database, free_port, now, run


def test_a_good_database_pleases_every_check(database: Database, tmp_path: Path) -> None:
    one = installation(database.dsn, tmp_path)
    found = {f.name: f.verdict for f in all_findings(one) if f.name in ("database", *DATABASE_CHECKS)}
    not_well = {name for name, said in found.items() if said.result is not Result.OK}
    assert not_well == {"background duties"}, "nobody serves"
    assert set(found) == {"database", *DATABASE_CHECKS}


def test_a_database_that_is_away_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    dsn = f"postgresql://somebody:the-password@127.0.0.1:{free_port()}/receiver"
    findings = all_findings(installation(dsn, tmp_path))
    found = {finding.name: finding.verdict for finding in findings}
    assert_says(found["database"], Result.FAILURE, "does not answer")
    assert {found[name].result for name in DATABASE_CHECKS} == {Result.SKIPPED}
    assert found["spool folder"].result is Result.OK
    assert "the-password" not in repr(findings)


def test_a_server_that_accepts_and_says_nothing_is_given_up(tmp_path: Path) -> None:
    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            pass
        writer.close()
        await writer.wait_closed()
        hung_up.set()

    hung_up = asyncio.Event()

    async def main() -> Verdict:
        async with await asyncio.start_server(listen, "127.0.0.1", 0) as silent:
            port = silent.sockets[0].getsockname()[1]
            one = installation(f"postgresql://somebody@127.0.0.1:{port}/receiver?sslmode=disable", tmp_path)
            [found] = [f async for f in examine(one, [c for c in CHECKS if c.name == "database"])]
            await asyncio.wait_for(hung_up.wait(), 5)
            return found.verdict

    assert_says(run(main()), Result.FAILURE, "did not answer within 4 s")


@pytest.mark.parametrize(
    ("statement", "result", "word"),
    [
        ("drop table alembic_version", Result.FAILURE, "empty"),
        ("update alembic_version set version_num = '0000'", Result.FAILURE, "the schema is 0000"),
        ("update alembic_version set version_num = '9999'", Result.WARNING, "newer"),
    ],
    ids=["none", "older", "newer"],
)
def test_another_schema(database: Database, tmp_path: Path, statement: str, result: Result, word: str) -> None:
    one = installation(database.dsn, tmp_path)
    broken(database, statement)
    assert_says(verdict(one, "schema"), result, word)


def test_a_schema_without_a_table_breaks_that_check_alone(database: Database, tmp_path: Path) -> None:
    one = installation(database.dsn, tmp_path)
    broken(database, "drop table ledger_check")
    assert_says(verdict(one, "receipts counted"), Result.SKIPPED, "the schema")
    assert verdict(one, "ledger").result is Result.OK


def says_of_itself(database: Database, *statements: str) -> None:
    """The server of all tests can't be started anew: this database sees one that says so of itself."""
    broken(database, "create schema itself")
    for statement in statements:
        broken(database, statement)
    broken(database, f"alter database {database.name} set search_path = itself, pg_catalog, public")


def test_answers_that_are_given_before_the_commit_is_on_the_disk(database: Database, tmp_path: Path) -> None:
    one = installation(database.dsn, tmp_path)
    broken(database, f"alter database {database.name} set synchronous_commit = off")
    assert_says(verdict(one, "postgres settings"), Result.FAILURE, "synchronous_commit is off")


def test_a_disk_that_is_never_waited_for(database: Database, tmp_path: Path) -> None:
    one = installation(database.dsn, tmp_path)
    says_of_itself(
        database,
        "create view itself.pg_settings as select name, case when name in ('fsync', 'autovacuum') then 'off'"
        " else setting end as setting from pg_catalog.pg_settings",
    )
    fsync, autovacuum = verdicts(one, "postgres settings")
    assert_says(fsync, Result.FAILURE, "fsync is off")
    assert_says(autovacuum, Result.WARNING, "autovacuum is off")


def test_a_database_that_takes_no_writes(database: Database, tmp_path: Path) -> None:
    broken(database, f"alter database {database.name} set default_transaction_read_only = on")
    one = installation(database.dsn, tmp_path)
    assert_says(verdict(one, "database"), Result.FAILURE, "read-only")


def test_a_small_lock_table(database: Database, tmp_path: Path) -> None:
    one = installation(database.dsn, tmp_path)
    says_of_itself(
        database,
        "create function itself.current_setting(name text) returns text language sql"
        " return case when name = 'max_locks_per_transaction' then '64' else pg_catalog.current_setting(name) end",
    )
    assert_says(verdict(one, "lock table"), Result.WARNING, "is 64")


@pytest.mark.parametrize(
    ("seconds", "result", "words"),
    [
        (600, Result.FAILURE, "10 minutes ahead of"),
        (-600, Result.FAILURE, "10 minutes behind"),
        (10, Result.WARNING, "10 s ahead of"),
        (0, Result.OK, "agrees"),
    ],
)
def test_a_clock_that_is_off(database: Database, tmp_path: Path, seconds: int, result: Result, words: str) -> None:
    one = installation(database.dsn, tmp_path)
    one.now = lambda: now() - timedelta(seconds=seconds)
    assert_says(verdict(one, "clock"), result, words)


def test_weeks_that_run_out(database: Database, tmp_path: Path) -> None:
    one = installation(database.dsn, tmp_path)
    this_week = week_of(now()).isoformat()
    broken(database, f"delete from week where starts_on > '{this_week}'")
    monday = now().weekday() == 0
    assert_says(verdict(one, "partitions"), Result.OK if monday else Result.WARNING, f"{7 - now().weekday()} days")
    broken(database, f"delete from week where starts_on >= '{this_week}'")
    assert_says(verdict(one, "partitions"), Result.FAILURE, "none for today")
    broken(database, "delete from week")
    assert_says(verdict(one, "partitions"), Result.FAILURE, "none at all")


def test_keys_without_a_place(database: Database, tmp_path: Path) -> None:
    one = installation(database.dsn, tmp_path)
    broken(database, "update key_generation set rotated_at = now() - interval '20 days'")
    assert_says(verdict(one, "key generations"), Result.WARNING, "20 days old")
    broken(database, "drop table message_key_g1")
    assert_says(verdict(one, "key generations"), Result.FAILURE, "generation 1 is gone")


def test_weeks_that_should_have_gone(database: Database, tmp_path: Path) -> None:
    one = installation(database.dsn, tmp_path)

    async def work(pool: Pool, connection: Connection) -> None:
        await add_week(connection, LONG_AGO)

    with_pool(database, work)
    assert_says(verdict(one, "retention"), Result.WARNING, "1 weeks are older than 90 days", str(LONG_AGO))
    broken(database, f"delete from week where starts_on = '{LONG_AGO}'")
    broken(database, f"insert into dropped_week (starts_on) values ('{LONG_AGO}')")
    assert_says(verdict(one, "retention"), Result.WARNING, "detached", str(LONG_AGO))


def test_a_check_that_hangs_or_breaks_says_so_and_the_next_goes_on(database: Database, tmp_path: Path) -> None:
    async def hang(one: Installation) -> list[Verdict]:
        async with one.connection() as connection:
            await connection.execute("select pg_sleep(60)")
        return [ok("never")]

    async def fail(one: Installation) -> list[Verdict]:
        raise ValueError("with a secret in it")

    async def well(one: Installation) -> list[Verdict]:
        return [ok("well")]

    async def main() -> list[Finding]:
        checks = [Check("hangs", hang, seconds=0.3), Check("breaks", fail), Check("is well", well)]
        return [finding async for finding in examine(installation(database.dsn, tmp_path), checks)]

    hangs, breaks, is_well = run(main())
    assert_says(hangs.verdict, Result.FAILURE, "did not end within")
    assert_says(breaks.verdict, Result.FAILURE, "broke (ValueError)")
    assert "secret" not in breaks.verdict.found
    assert is_well.verdict.result is Result.OK
