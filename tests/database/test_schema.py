"""The schema: what every column that others fill must hold, and names that people meet in errors."""

import asyncio
import json

import pytest

from receiver.database.migrate import latest_revision, migrate, require_schema
from receiver.database.pool import connect
from receiver.errors import DatabaseError
from receiver.ids import new_id
from receiver.messages.lattice import NEGATIVE, POSITIVE, Channel, Fact, State, is_final
from receiver.messages.told import Feed, Told
from receiver.platform.apis import Api
from receiver.platform.codes import squeeze
from receiver.receipts.apply import apply
from receiver.sending import outbox
from receiver.sending.request import Asked, Request
from tests.receipts.tellings import told_of
from tests.support import Database, now

WIDE = "\U0001f600" * 2_000  # 2,000 characters of four bytes
LONG = "x" * 1_048_576


@pytest.mark.parametrize("text", [WIDE, LONG], ids=["2,000 four-byte characters", "1 MB"])
def test_every_text_that_a_receipt_may_bring_can_be_stored_and_found(database: Database, text: str) -> None:
    tenant = database.tenant()
    inner = (
        "deliveryChannel", "deliveryStatus", "destination", "code", "Description", "additionalInfo", "destinationType",
        "deviceid", "pushId", "timeStamp", "messageCount",
    )  # fmt: skip
    outer = ("carrier", "subtid", "callbackData", "transid", "correlationid")
    group = []
    for number, field in enumerate((*inner, *outer)):
        info = {"deliveryStatus": "Failed", "destination": f"d{number}", "code": "7101"}
        ids = {"transid": f"t{number}"}
        (info if field in inner else ids)[field] = text
        raw = json.dumps({"deliveryInfoNotification": {"deliveryInfo": info, **ids}}).encode()
        group.append(told_of(raw, tenant))

    async def work() -> list[str]:
        connection = await connect(database.dsn, "tests")
        results = (await apply(connection, new_id(), now(), Feed.PUSH, group)).results
        await connection.close()
        return results

    assert set(asyncio.run(work())) == {"applied"}
    assert database.value("select max(length(coalesce(destination, ''))) from receipt") == len(text)


@pytest.mark.parametrize("text", [WIDE, LONG], ids=["2,000 four-byte characters", "1 MB"])
def test_every_text_that_a_client_may_bring_can_be_stored(database: Database, text: str) -> None:
    tenant = database.tenant()
    asked = (Asked("customerid", text, text, text),)
    request = Request(Api.MESSAGING, Channel.SMS, text.encode(), asked, text, text, text, 2, None, None)

    async def work() -> None:
        connection = await connect(database.dsn, "tests")
        await outbox.accept(connection, tenant, request, now())
        await connection.close()

    asyncio.run(work())
    assert database.value("select length(callback_data) from message") == len(text)


def test_every_constraint_and_index_has_a_name_that_we_chose(database: Database) -> None:
    # Postgres numbers the ones that nobody named: message_check, message_check1. Not-nulls have no name before 18.
    rows = database.fetch(
        "select conname, conrelid::regclass::text as of from pg_constraint c join pg_class t on t.oid = c.conrelid"
        " where t.relnamespace = 'public'::regnamespace and not t.relispartition and contype not in ('n')"
        " and t.relname <> 'alembic_version'"
    )
    assert rows
    for row in rows:
        assert not row["conname"].endswith(("_check", "_pkey", "_key", "_fkey")), row


def test_the_bits_in_the_sql_are_the_bits_of_the_lattice(database: Database) -> None:
    source = database.value("select prosrc from pg_proc where proname = 'fold_v1'")
    for mask in (
        NEGATIVE,
        POSITIVE,
        Fact.CLICKED,
        Fact.COMPLAINED,
        Fact.ACCEPTED,
        Fact.SUBMITTED,
        Fact.DELIVERED,
        Fact.READ,
    ):
        assert f"& {int(mask)} <> 0" in source, mask


def test_the_sql_knows_the_same_states_as_final_as_the_lattice(database: Database) -> None:
    rows = database.fetch(
        "select state, channel, is_final_v1(state::smallint, channel::smallint) as final"
        " from generate_series(0, 80) as state, generate_series(0, 15) as channel"
    )
    known = [row for row in rows if row["state"] in set(State)]
    assert len(known) == len(State) * len(Channel)
    for row in known:
        assert row["final"] is is_final(State(row["state"]), Channel(row["channel"])), dict(row)


def test_the_sql_type_of_a_receipt_has_the_fields_of_the_struct_in_its_order(database: Database) -> None:
    rows = database.fetch(
        "select attname from pg_attribute where attrelid = 'told_v1'::regclass and attnum > 0 order by attnum"
    )
    assert tuple(row["attname"] for row in rows) == Told._fields


def test_there_is_no_default_partition_and_three_weeks_are_made_ahead(database: Database) -> None:
    assert database.value("select count(*) from pg_partitioned_table where partdefid <> 0") == 0
    assert database.value("select count(*) from week where starts_on > (now() at time zone 'UTC')::date") == 3


def test_migrating_again_changes_nothing(database: Database) -> None:
    assert asyncio.run(migrate(database.dsn)) == (latest_revision(), latest_revision())


def test_an_empty_database_is_refused_and_migrate_is_named(postgres: str) -> None:
    async def work() -> None:
        connection = await connect(postgres, "tests")
        try:
            await require_schema(connection)
        finally:
            await connection.close()

    with pytest.raises(DatabaseError, match="receiver migrate"):
        asyncio.run(work())


def test_a_word_of_a_megabyte_is_squeezed_to_a_short_one() -> None:
    assert len(squeeze(LONG)) == 64
