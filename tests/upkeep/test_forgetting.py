"""`receiver forget`: of one person nothing is left in any column of any table; what counts stays as it was."""

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from receiver.cli.forget import Spooled, spooled
from receiver.database.pool import Connection, connect
from receiver.ids import MessageId, new_id
from receiver.messages.lattice import Channel
from receiver.platform.apis import Api
from receiver.receipts.arrival import Arrival
from receiver.receipts.spool_file import SpoolFile
from receiver.receipts.spool_held import installation_of
from receiver.sending import outbox
from receiver.sending.request import Asked, Request
from receiver.upkeep import forgetter, forgetting
from receiver.upkeep.person import person_of
from tests.cli.test_commands import command
from tests.receipts.quarantining import put
from tests.receipts.tellings import assert_books_balance
from tests.support import SECRET, Database, now
from tests.upkeep.people import body, places, populate, send, tell

NUMBER, OTHER = "447700900001", "447700900002"
SPELLED = f"+44 7700 {NUMBER[6:]}"


def work_on(database: Database, work: Callable[[Connection], Awaitable[Any]]) -> Any:
    async def wrapped() -> Any:
        connection = await connect(database.dsn, "tests")
        try:
            return await work(connection)
        finally:
            await connection.close()

    return asyncio.run(wrapped())


def forget(database: Database, *arguments: str, destination: str = SPELLED, **env: str) -> dict[str, Any]:
    """What the command tells, with its exit code."""
    ran = forget_run(database, "--yes", "--json", *arguments, destination=destination, **env)
    assert ran.returncode in (0, 1), ran.stderr
    assert destination not in ran.stdout + ran.stderr
    return {**json.loads(ran.stdout), "code": ran.returncode}


def forget_run(database: Database, *arguments: str, destination: str = SPELLED, **env: str) -> Any:
    ran: subprocess.CompletedProcess[str] = command(
        "forget", "--destination", destination, *arguments, DATABASE_URL=database.dsn, **{"SPOOL": "off", **env}
    )
    return ran


COUNTED = """
select (select jsonb_agg(to_jsonb(s) - 'transid' order by id) from message_state s)::text as states,
       (select jsonb_agg(to_jsonb(c) order by seq) from change c)::text as changes,
       (select jsonb_agg(to_jsonb(i) order by id) from intake i)::text as ledger,
       (select jsonb_agg(jsonb_build_array(message_id, fingerprint, feed, fact, rank, reason_key, received_at, told_at,
                                           status, code, carrier, channel) order by message_id, fingerprint)
          from receipt)::text as receipts,
       (select jsonb_agg(jsonb_build_array(id, tenant, origin, channel, created_at, sender, destination_type)
               order by id) from message)::text as messages
"""
OF_OTHERS = "select jsonb_agg(to_jsonb(m) order by id)::text from message m where destination like '%' || $1"


def test_nothing_names_the_person_afterwards_and_what_counts_stays(database: Database) -> None:
    tenant = database.tenant()

    async def prepare(connection: Connection) -> tuple[Any, Any]:
        await populate(connection, tenant, NUMBER)
        await populate(connection, tenant, OTHER)
        assert len(await places(connection, NUMBER)) >= 18, "the search below can fail"
        counted = await connection.fetchrow(COUNTED)
        return counted, await connection.fetchval(OF_OTHERS, OTHER)

    counted, others = work_on(database, prepare)
    rows = database.counts()
    places_of_other = work_on(database, lambda connection: places(connection, OTHER))
    told = forget(database)
    assert (told["code"], told["complete"]) == (0, True)
    assert told["erased"]["messages"] == told["found"]["messages"] == 6
    assert (told["erased"]["receipts"], told["erased"]["quarantined"], told["erased"]["contents"]) == (8, 4, 1)

    async def look(connection: Connection) -> None:
        assert await places(connection, NUMBER) == []
        assert await places(connection, OTHER) == places_of_other, "of nobody else"
        assert await connection.fetchval(OF_OTHERS, OTHER) == others
        after = await connection.fetchrow(COUNTED)
        assert after is not None
        for name, value in counted.items():
            assert after[name] == value, name
        await assert_books_balance(connection)
        legs = await connection.fetchval("select count(distinct destination_key) from receipt where raw = ''")
        assert legs > 6, "legs stay apart"

    work_on(database, look)
    after = database.counts()
    assert after.pop("forward") < rows.pop("forward")
    assert after == rows
    again = forget(database)
    assert again["complete"] is True
    assert set(again["erased"].values()) == {0}, "harmless to repeat"


def test_a_receipt_told_again_stays_erased_and_a_new_one_is_erased_by_the_next_run(database: Database) -> None:
    tenant = database.tenant()
    tellings: list[bytes] = []

    async def prepare(connection: Connection) -> None:
        [ours], submission = await send(connection, tenant, NUMBER)
        tellings.extend([body(NUMBER, "t", "Submitted", str(ours)), body(NUMBER, "t2", "Read", str(ours))])
        await tell(connection, tenant, tellings[0], submission=submission)

    work_on(database, prepare)
    assert forget(database)["complete"] is True

    async def repeat(connection: Connection) -> None:
        assert await tell(connection, tenant, tellings[0]) == ["duplicate"]
        assert await places(connection, NUMBER) == []
        assert await tell(connection, tenant, tellings[1]) == ["applied"]
        assert "receipt.raw" in await places(connection, NUMBER)
        assert await connection.fetchval("select count(*) from message") == 1, "it found its message"

    work_on(database, repeat)
    told = forget(database)
    assert (told["erased"]["messages"], told["erased"]["receipts"]) == (1, 1)
    assert told["found"]["receipts_until"] > now().isoformat()
    work_on(database, lambda connection: _nowhere(connection))


async def _nowhere(connection: Connection) -> None:
    assert await places(connection, NUMBER) == []


def test_what_waits_to_be_sent_is_left_alone_and_told(database: Database) -> None:
    tenant = database.tenant()

    async def prepare(connection: Connection) -> MessageId:
        await send(connection, tenant, NUMBER)
        [waiting], _ = await send(connection, tenant, NUMBER, waits=True)
        return waiting

    waiting = work_on(database, prepare)
    told = forget(database)
    assert (told["code"], told["complete"], told["erased"]["waiting"], told["erased"]["messages"]) == (1, False, 1, 1)
    assert database.value("select destination from message where id = $1", waiting) == f"+{NUMBER}"
    database.fetch("delete from outbox")
    assert forget(database)["complete"] is True
    work_on(database, _nowhere)


def test_an_event_that_waits_to_be_sent_and_names_the_person_is_told(database: Database) -> None:
    tenant = database.tenant()

    async def prepare(connection: Connection) -> None:
        event = Request(Api.EVENTS, Channel.EVENT, f'{{"events": [{{"to": "{NUMBER}"}}]}}'.encode(),
                        (Asked("event", "e1", "0", None),), None, None, None, 2, None, None)  # fmt: skip
        await outbox.accept(connection, tenant, event, now())

    work_on(database, prepare)
    told = forget(database)
    assert (told["code"], told["complete"]) == (1, False)
    assert (told["erased"]["waiting"], told["erased"]["waiting_calls"], told["erased"]["contents"]) == (0, 1, 0)
    assert NUMBER in database.value("select convert_from(content, 'UTF8') from submission"), "it can still be sent"
    database.fetch("delete from outbox")
    told = forget(database)
    assert (told["complete"], told["erased"]["contents"]) == (True, 1)
    work_on(database, _nowhere)


def test_a_key_whose_message_was_dropped_forgets_the_person_too(database: Database) -> None:
    tenant = database.tenant()

    async def prepare(connection: Connection) -> None:
        await tell(connection, tenant, body(NUMBER, "t"))
        await connection.execute("delete from message")
        await connection.execute("delete from receipt")
        assert await places(connection, NUMBER) == ["message_key.leg_key"]

    work_on(database, prepare)
    assert forget(database)["erased"]["keys"] == 1
    work_on(database, _nowhere)


def test_a_run_that_was_cut_off_is_finished_by_the_next(database: Database) -> None:
    tenant = database.tenant()
    person = person_of(NUMBER)
    assert person is not None

    async def half(connection: Connection) -> None:
        for n in range(0, 250, 50):
            await tell(connection, tenant, *(body(NUMBER, f"t-{n + m}", subtid="node 7") for m in range(50)))
        ids = await forgetting.find(connection, person, None, UUID(int=0), 1000)
        await forgetting.erase_keys(connection, (await forgetting.find_keys(connection, person, None, ids))[:120])
        await forgetting.erase_messages(connection, person, ids[:100], now())

    work_on(database, half)
    told = forget(database)
    assert (told["complete"], told["erased"]["messages"]) == (True, 150)
    work_on(database, _nowhere)


def test_only_the_tenant_that_is_named_forgets(database: Database) -> None:
    one, two = database.tenant(), database.tenant("shop")

    async def prepare(connection: Connection) -> None:
        for tenant in (one, two):
            await tell(connection, tenant, body(NUMBER, "t"))
            await put(connection, tenant, f"<{NUMBER}>".encode())

    work_on(database, prepare)
    assert forget(database, "--tenant", "shop")["erased"]["messages"] == 1
    rows = database.fetch("select tenant from message where destination <> 'erased'")
    assert [row["tenant"] for row in rows] == [one]
    assert database.value("select tenant from quarantine where body <> ''") == one
    assert "shop" in forget_run(database, "--yes", "--tenant", "nobody").stderr


def test_receipts_that_come_in_meanwhile_are_neither_lost_nor_in_the_way(database: Database) -> None:
    tenant = database.tenant()
    person = person_of(NUMBER)
    assert person is not None

    async def work(connection: Connection) -> None:
        sends = [(await send(connection, tenant, NUMBER))[0][0] for _ in range(40)]
        results: list[str] = []

        async def tell_on(first: int) -> None:
            writer = await connect(database.dsn, "writer")
            for n in range(first, 160, 2):
                raw = body(NUMBER, f"t{n}", f"Clicked {n}", str(sends[n % 40])), body(NUMBER, f"o{n % 30}", f"Read {n}")
                results.extend(await tell(writer, tenant, *raw))
            await writer.close()

        writers = [asyncio.create_task(tell_on(n)) for n in range(2)]
        while not all(task.done() for task in writers):
            await forgetter.forget(connection, person, None)
        await asyncio.gather(*writers)
        assert set(results) == {"applied"}
        assert (await forgetter.forget(connection, person, None)).left == 0
        await _nowhere(connection)
        assert await connection.fetchval("select count(*) from receipt") == len(results)
        await assert_books_balance(connection)

    work_on(database, work)


def test_the_spool_keeps_it_from_being_called_complete(database: Database, tmp_path: Path) -> None:
    tenant = database.tenant()
    work_on(database, lambda connection: tell(connection, tenant, body(NUMBER, "t")))
    file = SpoolFile.create(tmp_path / f"{new_id()}.spool", b"this one")
    arrivals = [Arrival("default", None, now(), body(number, "s")) for number in (NUMBER, OTHER, f"%2B{NUMBER}")]
    for arrival in arrivals:
        file.append(new_id(), [arrival], apart=True)
    told = forget(database, SPOOL=str(tmp_path))  # while its process has it open
    assert (told["code"], told["complete"], told["spooled"]) == (1, False, {"bodies": 2, "unreadable": 0})
    assert told["erased"]["messages"] == 1
    for _ in arrivals:
        unit = file.next_unit()
        assert unit is not None
        file.done(unit)
    assert file.next_unit() is None
    assert forget(database, SPOOL=str(tmp_path))["complete"] is True
    file.close()


def test_what_a_dead_process_left_in_the_spool_is_brought_in_and_erased(database: Database, tmp_path: Path) -> None:
    """The state that it tells is kept, as of any receipt; the person is not."""
    database.tenant()
    with contextlib.closing(SpoolFile.create(tmp_path / f"{new_id()}.spool", installation_of(SECRET))) as file:
        for name in ("one", "two"):
            file.append(new_id(), [Arrival("default", None, now(), body(NUMBER, name))], apart=False)
    before = forget(database, "--dry-run", SPOOL=str(tmp_path), SECRET=SECRET)
    assert (before["spooled"], before["found"]["messages"]) == ({"bodies": 2, "unreadable": 0}, 0)
    told = forget(database, SPOOL=str(tmp_path), SECRET=SECRET)
    assert (told["code"], told["complete"], told["spooled"]["bodies"]) == (0, True, 0)
    assert told["erased"]["messages"] == 2
    assert database.value("select count(*) from receipt") == 2
    work_on(database, _nowhere)


def test_a_spool_that_can_not_be_looked_into_is_not_called_empty(tmp_path: Path) -> None:
    person = person_of(NUMBER)
    assert person is not None
    folder = tmp_path / "spool"
    folder.mkdir(mode=0)
    user = os.geteuid()
    try:
        if user == 0:  # nothing is closed to root
            os.seteuid(65534)
        assert spooled(folder, person) == Spooled(bodies=0, unreadable=1)
    finally:
        os.seteuid(user)
        folder.chmod(0o700)
    assert spooled(folder, person) == Spooled()


def test_it_asks_and_a_dry_run_changes_nothing(database: Database) -> None:
    tenant = database.tenant()
    work_on(database, lambda connection: tell(connection, tenant, body(NUMBER, "t")))
    dry = json.loads(forget_run(database, "--dry-run", "--json").stdout)
    assert (dry["complete"], dry["found"]["messages"], dry["found"]["receipts"]) == (False, 1, 1)
    asked = forget_run(database)  # nobody answers
    assert asked.returncode != 0
    assert "1 messages with 1 receipts" in asked.stderr
    assert "--yes" in forget_run(database, "--json").stderr
    for nobody in (" ", "\udcff123456789"):
        assert "names nobody" in forget_run(database, "--yes", destination=nobody).stderr
    assert database.value("select destination from message") == NUMBER


def test_a_key_that_is_still_good_stays_and_an_old_one_goes(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        person = person_of(NUMBER)
        assert person is not None
        ids, _ = await send(connection, tenant, NUMBER)
        await forgetting.erase_messages(connection, person, ids, now())
        row = await connection.fetchrow("select idempotency_key is null, request_digest is null, answer from batch")
        assert row is not None
        assert tuple(row) == (False, False, None)
        await forgetting.erase_messages(connection, person, ids, now() + timedelta(hours=25))
        row = await connection.fetchrow("select idempotency_key, request_digest from batch")
        assert row is not None
        assert tuple(row) == (None, None)

    work_on(database, work)
