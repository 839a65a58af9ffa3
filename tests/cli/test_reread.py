"""`receiver reread` as a command: what it prints and asks, its exit codes, being killed, and receipts that come in."""

import asyncio
import json
import os
import pty
import random
import signal
import subprocess
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from receiver.database.pool import BY_INDEX, connect, open_pool
from receiver.ids import TenantId, new_id
from receiver.messages.lattice import Fact
from receiver.messages.told import Feed, Told
from receiver.receipts.apply import apply
from tests.cli.forks import Fork, forked
from tests.cli.test_commands import Ran, one_sentence
from tests.receipts.tellings import assert_books_balance, belief, body, told_of, truth
from tests.receipts.test_apply_processes import DEADLOCKS
from tests.receipts.test_apply_properties import issue, life_of
from tests.support import Database, environment_of, eventually, now, receiver_command, run
from tests.upkeep.rereading import OlderTables, scope, tell, telling, would
from tests.upkeep.rereading import reread as rereading
from tests.upkeep.test_reread import merge

YESTERDAY = (now() - timedelta(days=1)).date().isoformat()
OLDER = OlderTables(facts={"Delivered": Fact.UNKNOWN, "Submitted": Fact.DELIVERED}, classes={"7207": 0})
STATES = "select state, count(*) as n from message_state group by 1 order by 1"


def reread(database: Database, *arguments: str, **variables: str) -> Ran:
    return Fork(["reread", "--since", YESTERDAY, *arguments], environment(database, **variables)).end()


def environment(database: Database, **variables: str) -> dict[str, str]:
    more = {f"RECEIVER_{name}": value for name, value in variables.items()}
    return environment_of(RECEIVER_DATABASE_URL=database.dsn, **more) | {"COLUMNS": "200", "TERM": "xterm"}


def started(database: Database, *arguments: str, **more: Any) -> "subprocess.Popen[bytes]":
    """The command as a process that goes on by itself."""
    words = [*receiver_command(), "reread", "--since", YESTERDAY, *arguments]
    return subprocess.Popen(words, env=environment(database), **more)


def reread_by_itself(database: Database, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    """The command beside others, as a process that was started anew: a loop with threads must not be forked."""
    with started(database, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        said, errors = process.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, said, errors)


def store(database: Database, told: Sequence[Told], size: int = 200) -> list[UUID]:
    """Stores receipts as the older version did; returns their messages."""

    async def work() -> list[UUID]:
        connection = await connect(database.dsn, "tests")
        ids: list[UUID] = []
        for start in range(0, len(told), size):
            ids += await tell(connection, *map(OLDER.read, told[start : start + size]))
        await connection.close()
        return ids

    return run(work())


@pytest.fixture
def tenant(database: Database) -> TenantId:
    return database.tenant()


def states(database: Database) -> dict[int, int]:
    return {row["state"]: row["n"] for row in database.fetch(STATES)}


def test_it_says_what_would_change_and_changes_it_only_when_told_to(database: Database, tenant: TenantId) -> None:
    store(database, [telling(tenant, f"t{n}", "Delivered") for n in range(3)] + [telling(tenant, "s", "Submitted")])
    assert states(database) == {0: 3, 60: 1}
    for arguments in ([], ["--dry-run", "--yes"]):  # nobody is there to be asked
        ran = reread(database, *arguments)
        assert ran.returncode == 3, ran.stderr
        assert "4 messages with 4 receipts: 4 messages would change (1 to a lower state)" in ran.stdout
        assert next(line.split() for line in ran.stdout.splitlines() if "queued" in line)[1:10:2] == [
            "state", "sms", "queued", "delivered", "3",
        ]  # fmt: skip
        assert "nothing was changed" in ran.stderr
        assert states(database) == {0: 3, 60: 1}
    done = reread(database, "--yes")
    assert done.returncode == 0, done.stderr
    assert "4 messages changed (1 to a lower state)" in done.stdout
    assert states(database) == {20: 1, 60: 3}
    again = reread(database)
    assert again.returncode == 0
    assert "nothing to change" in again.stdout


def test_a_script_reads_json(database: Database, tenant: TenantId) -> None:
    [identity] = store(database, [telling(tenant, "t", "Delivered")])
    dry = reread(database, "--json")
    assert dry.returncode == 3
    told = json.loads(dry.stdout)
    assert (told["done"], told["figures"]["changed"], told["figures"]["lowered"]) == (False, 1, 0)
    assert told["figures"]["lines"][0] == {
        "what": "receipt", "channel": "sms", "from": "unknown", "to": "delivered", "count": 1,
        "examples": [str(identity)],
    }  # fmt: skip
    done = json.loads(reread(database, "--json", "--yes").stdout)
    assert (done["done"], done["figures"]) == (True, told["figures"])
    assert json.loads(reread(database, "--json").stdout)["done"] is True


def at_a_terminal(database: Database, answer: bytes) -> tuple[int, str]:
    """Runs it at a terminal and answers its question; its exit code, and what stood there."""
    ours, its = pty.openpty()
    process = started(database, stdin=its, stdout=its, stderr=its)
    os.close(its)
    seen = b""
    while True:
        try:
            piece = os.read(ours, 65_536)
        except OSError:  # it has ended
            break
        seen += piece
        if b"Change it?" in seen and answer:
            os.write(ours, answer)
            answer = b""
    os.close(ours)
    return process.wait(30), seen.decode()


def test_at_a_terminal_it_asks(database: Database, tenant: TenantId) -> None:
    store(database, [telling(tenant, "t", "Delivered")])
    code, seen = at_a_terminal(database, b"n\n")
    assert (code, states(database)) == (3, {0: 1}), seen
    assert "looking" in seen
    code, seen = at_a_terminal(database, b"y\n")
    assert (code, states(database)) == (0, {60: 1}), seen
    code, seen = at_a_terminal(database, b"")
    assert code == 0
    assert "Change it?" not in seen


def test_what_it_can_not_understand_is_told_in_a_sentence(database: Database) -> None:
    for moment in ("soon", "0001-01-01T00:00+05:00"):
        one_sentence(reread(database, "--since", moment), "--since", "2026-01-31", code=2)
    one_sentence(reread(database, "--until", "1960-01-01"), "--until", "not after", code=2)
    assert reread(database, "--since", "1960-01-01").returncode == 0
    one_sentence(reread(database, "--tenant", "nobody"), "nobody", "default", code=2)


def test_a_second_one_at_the_same_time_is_refused(database: Database, tenant: TenantId) -> None:
    store(database, [telling(tenant, "t", "Delivered")])

    async def work() -> None:
        connection = await connect(database.dsn, "tests")
        await connection.execute("select pg_advisory_lock(hashtext('receiver.reread'))")
        refused = await asyncio.to_thread(reread_by_itself, database, "--yes")
        assert (refused.returncode, refused.stderr.count(b"\n")) == (1, 1)
        assert b"another `receiver reread` runs" in refused.stderr
        assert (await would(connection, scope(tenant))).figures.changed == 1, "looking is free"
        await connection.close()

    run(work())


def test_other_tenants_are_named_in_the_settings_or_left_alone(
    database: Database, tenant: TenantId, tmp_path: Path
) -> None:
    shop = database.tenant("shop")
    store(database, [telling(tenant, "t", "Delivered"), telling(shop, "t", "Delivered")])
    assert "1 messages were left alone" in reread(database).stderr
    config = tmp_path / "receiver.toml"
    config.write_text("[tenant.shop]\n")
    ran = reread(database, "--tenant", "shop", "--json", "--yes", CONFIG=str(config))
    assert json.loads(ran.stdout)["figures"]["changed"] == 1, ran.stderr
    assert states(database) == {0: 1, 60: 1}


CHANGED = "select count(*) from message_state where version > 1"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_cut_off_anywhere_the_same_command_goes_on_or_begins_anew_if_that_is_asked(
    database: Database, tenant: TenantId, how: signal.Signals
) -> None:
    count = 1800
    store(database, [telling(tenant, f"t{n}", "Delivered") for n in range(count)])
    with forked(["reread", "--since", YESTERDAY, "--yes"], environment(database)) as process:
        eventually(lambda: process.poll() is not None or database.value(CHANGED) >= 200, 60)
        process.send_signal(how)
        cut = process.end()
    assert cut.returncode == (-9 if how is signal.SIGKILL else 1)
    changed = database.value(CHANGED)
    assert 0 < changed < count, "it was in the middle"
    assert how is signal.SIGKILL or "goes on" in cut.stderr

    anew = ["--restart"] if how is signal.SIGINT else []
    done = reread(database, "--yes", "--json", *anew)
    assert done.returncode == 0, done.stderr
    assert ("goes on where it was interrupted" in done.stderr) == (not anew)
    figures, now_changed = json.loads(done.stdout)["figures"], count - changed if anew else count
    assert (figures["messages"], figures["changed"], figures["rewritten"]) == (count, now_changed, now_changed)
    assert database.value("select count(*) from message_state where version = 2 and state = 60") == count
    assert database.value("select count(*) from walk") == 0

    async def balance() -> None:
        connection = await connect(database.dsn, "tests")
        await assert_books_balance(connection)
        await connection.close()

    run(balance())


def test_while_receipts_and_answers_come_in_every_state_ends_as_the_plain_fold(
    database: Database, tenant: TenantId
) -> None:
    rnd = random.Random(20261121)
    lives = {f"t{n}": [told_of(body(i, f"t{n}"), tenant) for i in life_of(rnd)] for n in range(600)}
    first = {name: told[: len(told) // 2 + 1] for name, told in lives.items()}
    store(database, [receipt for told in first.values() for receipt in told])
    later = [receipt for told in lives.values() for receipt in told[len(told) // 2 :]]
    rnd.shuffle(later)

    async def race() -> None:
        pool = await open_pool(database.dsn, "tests", 4, writer=True)
        walking = await connect(database.dsn, "tests", **BY_INDEX)
        owners: dict[str, UUID] = {}
        for name in list(lives)[::5]:  # of these the answer comes late: they are ours
            async with pool.acquire() as connection:
                owners[name] = (await issue(connection, tenant))[0]

        async def ingest(groups: list[list[Told]]) -> None:
            for group in groups:
                async with pool.acquire() as connection:
                    await apply(connection, new_id(), now(), Feed.PUSH, group)

        async def answers() -> None:
            for name, ours in owners.items():
                async with pool.acquire() as connection:
                    await merge(connection, tenant, name, ours)

        async def rereads() -> None:
            done = False
            while not done:
                done = coming.done()  # the last one begins when all has come in
                await rereading(walking, scope(tenant))

        groups = [later[n : n + 5] for n in range(0, len(later), 5)]
        coming = asyncio.gather(ingest(groups[::2]), ingest(groups[1::2]), answers())
        await rereads()
        await coming
        assert (await asyncio.to_thread(reread_by_itself, database, "--dry-run")).returncode == 0
        async with pool.acquire() as connection:
            for name, told in lives.items():
                found = owners.get(name) or await connection.fetchval(
                    "select id from message_state where transid = $1 and merged_into is null", name
                )
                assert (await belief(connection, found))[:2] == truth(told)[:2], name
            await assert_books_balance(connection)
            assert await connection.fetchval(DEADLOCKS) == 0
        await walking.close()
        await pool.close()

    run(race())
