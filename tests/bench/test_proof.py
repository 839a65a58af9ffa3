"""A measurement must not pass over a database that does not hold what was answered."""

import os
import subprocess
import sys
from array import array
from datetime import UTC, datetime
from pathlib import Path

from bench import bodies, proof
from bench.issued import issue
from bench.open_loop import Outcome, Plan, launch, outcome
from bench.stalls import stalls_of
from bench.wrk import Load, write_requests
from receiver.database.pool import connect
from receiver.ids import TenantId, new_id
from receiver.messages.told import Feed
from receiver.receipts.apply import apply
from receiver.receipts.receipt import Source, read
from tests.support import Database, receiver_process, run

NUMBER = 6

LAST = "(select id from message order by id desc limit 1)"
SABOTAGE = {
    "a receipt is gone": f"delete from receipt where feed = 1 and rank = 60 and message_id = {LAST}",
    "a group's receipts are gone": "delete from receipt where feed = 1 and rank = 20",
    "a state is behind": f"update message_state set state = 20 where id = {LAST}",
    "a fact is missing": f"update message_state set facts = 2048 where id = {LAST}",
    "a state is gone": f"delete from message_state where id = {LAST}",
    "a change is gone": f"delete from change where version = 1 and message_id = {LAST}",
    "the last changes are gone": "delete from change where new_state = 60",
    "a change says something else": "update change set old_state = 0 where new_state = 60",
    "the ledger has lost a group": "delete from intake where id = (select id from intake order by id limit 1)",
}


async def told(dsn: str, tenant: TenantId) -> Load:
    """Six messages, each with two receipts, in two groups."""
    issued = await issue(dsn, tenant, NUMBER)
    requests = [request.partition(b"\r\n\r\n")[2] for request in bodies.of_issued(issued)]
    connection = await connect(dsn, "tests")
    for half in (requests[:NUMBER], requests[NUMBER:]):
        readings = [read(body, Source(tenant, None, datetime.now(UTC))) for body in half]
        group = [receipt for reading in readings for receipt in reading.receipts]
        await apply(connection, new_id(), datetime.now(UTC), Feed.PUSH, group)
    await connection.close()
    return Load(2 * NUMBER, 2 * NUMBER, 2 * NUMBER, 1.0, 0.0, 0.0)


def test_a_run_is_proven_and_not_when_anything_was_changed_behind_it(database: Database) -> None:
    first = new_id()
    load = run(told(database.dsn, database.tenant()))

    async def proven_after(statement: str) -> bool:
        connection = await connect(database.dsn, "tests")
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute(statement)
            await proof.prove_on(connection, load, first, patience=0)
        except proof.NotTrue:
            return False
        finally:
            await transaction.rollback()
            await connection.close()
        return True

    assert [what for what, statement in SABOTAGE.items() if run(proven_after(statement))] == []
    assert run(proven_after("select 1"))
    load = load._replace(good=load.good + 1, sent=load.sent + 1)
    assert not run(proven_after("select 1")), "an answer is nowhere"


def test_the_open_loop_counts_every_request_from_the_time_at_which_it_was_due(
    database: Database, tmp_path: Path
) -> None:
    first = new_id()
    write_requests(tmp_path, bodies.of_issued(run(issue(database.dsn, database.tenant(), 50))), threads=1)
    with receiver_process(database, tmp_path) as receiver:
        port = int(receiver.url.rpartition(":")[2])
        plan = Plan(port, 500.0, 100, 4, str(tmp_path / "requests.0"), each=True)
        found = outcome(launch(plan, tmp_path), tmp_path)
    assert found.statuses() == {200: 100}
    assert all(millis >= door > 0 for millis, door in zip(found.millis, found.door, strict=True))
    assert list(found.due) == sorted(found.due)
    run(proof.prove(database.dsn, Load(100, 100, 100, 1.0, 0.0, 0.0), first))


def test_late_answers_that_overlap_are_one_stall() -> None:
    due = array("d", [0.0, 0.01, 1.0, 2.0])
    millis = array("d", [30.0, 40.0, 5.0, 25.0])
    found = stalls_of(Outcome(due, millis, millis, array("H", [200] * 4)), 20.0)
    assert [(stall.begin, round(stall.end, 3), stall.answers) for stall in found] == [(0.0, 0.05, 2), (2.0, 2.025, 1)]


def test_without_wrk_one_line_says_how_to_get_it(tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(
        [sys.executable, "-m", "bench"], env=environment, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (2, "wrk is missing: `make tools` installs it\n")
