"""What finds messages by name in SQL: it reads names as the service does, uses the indexes, and gives ids alone."""

import asyncio
import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from receiver.database.pool import connect
from receiver.database.reader import make_reader
from receiver.ids import digest, new_id, normalise_destination, parse_id, transid_root
from receiver.messages.lattice import NEGATIVE_STATES
from tests.queries.made import NUMBERS, Made, make
from tests.support import Database, cloned

NUMBER, SPAN = 300, timedelta(hours=20)
PIECES = [
    "+",
    "00",
    "44",
    "7700 900001",
    "(0)",
    "-",
    ".",
    " ",
    "\t",
    "\n",
    "tel:",
    "TEL: ",
    "sips:",
    "mailto:",
    "@",
    "x",
]
PIECES += ["Ann@Example.com", "_1", "_22", "urn:uuid:", "URN:UUID:", "0193-a", "A1", "'", "\\", "é", "0" * 70]


def texts() -> list[str]:
    """Spellings of all kinds, the same at every run."""
    chance = random.Random(7)
    made = ["".join(chance.choices(PIECES, k=chance.randrange(1, 6))) for _ in range(400)]
    return ["", " ", "00", "0", "1" * 64, "1" * 65, "_1", "a" * 513 + "_1", *made]


def ids() -> list[str]:
    one = str(new_id())
    made = [
        one,
        one.upper(),
        one.replace("-", ""),
        f" urn:uuid:{one} ",
        f"URN:UUID:{one}",
        one[:-1],
        f"{one}0",
        "",
        "x",
    ]
    return [*made, one.replace("-", "", 1), str(UUID(int=0)), f"{one}'"]


def test_a_digest_is_that_of_the_service(database: Database) -> None:
    chance = random.Random(3)
    sizes = (0, 1, 55, 127, 128, 129, 255, 256, 257, 2000)  # about the ends of its blocks of 128
    names = ["".join(chr(chance.randrange(1, 0x80)) for _ in range(size)) for size in sizes]
    names += ["447700900001", "é" * 64, "日本" * 100]
    told = database.fetch("select t, digest_v1(convert_to(t, 'UTF8')) as digest from unnest($1::text[]) t", names)
    assert [(row["t"], row["digest"]) for row in told] == [(name, digest(name)) for name in names]


@pytest.mark.parametrize(
    ("function", "ours"),
    [("normalise_destination_v1", normalise_destination), ("transid_root_v1", transid_root)],
    ids=["destination", "transid"],
)
def test_a_name_is_spelled_as_the_service_spells_it(
    database: Database, function: str, ours: Callable[[str], str]
) -> None:
    told = database.fetch(f"select t, {function}(t) as spelled from unnest($1::text[]) t", texts())
    for row in told:
        assert row["spelled"] == ours(row["t"]), repr(row["t"])


def test_an_id_is_read_as_the_service_reads_it(database: Database) -> None:
    for row in database.fetch("select t, receiver_v1.parse_id(t) as id from unnest($1::text[]) t", ids()):
        assert row["id"] == parse_id(row["t"]), repr(row["t"])


@pytest.fixture(scope="module")
def world(postgres: str, template: str) -> Iterator[tuple[Database, list[Made]]]:
    with cloned(postgres, template, "sql_find") as database:
        yield database, make(database, NUMBER, SPAN)


def found(database: Database, **names: object) -> list[UUID]:
    """The ids that the function gives, in its order."""
    arguments = ", ".join(f"p_{name} => ${n}" for n, name in enumerate(names, 1))
    return [row["id"] for row in database.fetch(f"select id from receiver_v1.find({arguments})", *names.values())]


JUDGES: dict[str, Callable[[Made, str], bool]] = {
    "destination": lambda one, text: text in (one.destination, one.elsewhere),
    "correlationid": lambda one, text: text in (one.correlationid, str(one.id)),
    "transid": lambda one, text: transid_root(text) == transid_root(one.transid),
    "callback_data": lambda one, text: text == one.callback,
}


def name_of(one: Made, kind: str) -> str:
    return {"correlationid": one.correlationid, "transid": one.transid, "callback_data": one.callback}.get(
        kind, one.elsewhere or one.destination
    )


@pytest.mark.parametrize("kind", sorted(JUDGES))
def test_a_name_finds_all_that_bear_it_the_latest_first(world: tuple[Database, list[Made]], kind: str) -> None:
    database, made = world
    for one in random.Random(5).sample(made, 12):
        text = name_of(one, kind)
        fit = [other.id for other in made if JUDGES[kind](other, text)]
        assert fit
        assert found(database, **{kind: text}, most=NUMBER) == sorted(fit, reverse=True), text
        assert found(database, **{kind: text}, most=2) == sorted(fit, reverse=True)[:2]


def test_several_names_must_all_fit(world: tuple[Database, list[Made]]) -> None:
    database, made = world
    chance = random.Random(6)
    for _ in range(40):
        names = {kind: name_of(chance.choice(made), kind) for kind in chance.sample(sorted(JUDGES), 2)}
        fit = [one.id for one in made if all(JUDGES[kind](one, text) for kind, text in names.items())]
        assert found(database, **names, most=NUMBER) == sorted(fit, reverse=True), names
    for one in made[:20]:
        names = {kind: name_of(one, kind) for kind in JUDGES}
        assert one.id in found(database, **names, most=NUMBER)


def test_time_and_tenants_bound_what_is_found(world: tuple[Database, list[Made]]) -> None:
    database, made = world
    number = NUMBERS[0]
    begin, end = made[60].created_at, made[200].created_at
    tenants = {row["id"]: row["name"] for row in database.fetch("select id, name from tenant")}
    for tenant in ("default", "other"):
        fit = [
            one.id
            for one in made
            if JUDGES["destination"](one, number) and begin <= one.created_at < end and tenants[one.tenant] == tenant
        ]
        told = found(database, destination=f"+{number}", **{"from": begin}, to=end, tenants=[tenant], most=NUMBER)
        assert told == sorted(fit, reverse=True)
        assert fit
    assert found(database, destination=number, tenants=["nobody"]) == []


def test_a_message_is_found_by_our_id_as_the_platform_shows_it(world: tuple[Database, list[Made]]) -> None:
    database, made = world
    for text in (str(made[7].id), str(made[7].id).upper(), made[7].id.hex):
        assert found(database, correlationid=text) == [made[7].id]


def test_nothing_is_found_without_a_name(world: tuple[Database, list[Made]]) -> None:
    database, _ = world
    assert found(database) == []
    assert found(database, destination=None, tenants=["default"]) == []


def test_failures_are_found_the_latest_first_by_code_time_and_tenant(world: tuple[Database, list[Made]]) -> None:
    database, made = world
    failed = [one for one in made if one.state in NEGATIVE_STATES and not one.merged]
    assert failed

    def told(**asked: object) -> list[UUID]:
        arguments = ", ".join(f"p_{name} => ${n}" for n, name in enumerate(asked, 1))
        return [row["id"] for row in database.fetch(f"select id from receiver_v1.failed({arguments})", *asked.values())]

    latest = sorted((one.id for one in failed), reverse=True)
    assert told(most=NUMBER) == latest
    assert told(most=3) == latest[:3]
    by_code = sorted((one.id for one in failed if one.code == "7208"), reverse=True)
    assert told(code="7208", most=NUMBER) == by_code
    assert told(code="nothing of the kind") == []
    begin, end = made[60].created_at, made[200].created_at
    inside = sorted((one.id for one in failed if begin <= one.created_at < end), reverse=True)
    assert told(**{"from": begin}, to=end, most=NUMBER) == inside
    both = {tenant: told(tenants=[tenant], most=NUMBER) for tenant in ("default", "other")}
    assert all(both.values())
    assert sorted([*both["default"], *both["other"]], reverse=True) == latest


def test_the_role_for_reports_may_find_and_what_it_does_to_its_search_path_changes_nothing(database: Database) -> None:
    make(database, 10, timedelta(hours=1))
    number = database.value("select destination from message order by id limit 1")

    async def work() -> None:
        connection = await connect(database.dsn, "tests")
        role = f"finder {database.name}"
        await make_reader(connection, role)
        try:
            await connection.execute(f'set session authorization "{role}"')
            query = (
                "select count(*) from receiver_v1.find(p_destination => $1) f join receiver_v1.messages m using (id)"
            )
            there = await connection.fetchval(query, number)
            assert there
            # what it puts in the way is not what the owner of the function reads
            await connection.execute("set default_transaction_read_only = off")
            await connection.execute("create temp table message (id uuid, tenant smallint, destination_key bytea)")
            await connection.execute("set search_path = pg_temp, receiver_v1, public")
            assert await connection.fetchval(query, number) == there
            for table in ("public.message", "public.message_key", "public.tenant"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.fetch(f"select * from {table}")
        finally:
            await connection.execute("reset session authorization")
            await connection.execute(f'drop owned by "{role}"')
            await connection.execute(f'drop role "{role}"')
            await connection.close()

    asyncio.run(work())


# Rows of messages, receipts and keys that were read without an index, by this server since it began.
READ = """
select coalesce(sum(seq_tup_read), 0)::bigint from pg_stat_user_tables
 where relname ~ '^(message|receipt|message_key)_[0-9g]'
"""


@pytest.mark.parametrize("kind", sorted(JUDGES))
def test_names_can_be_looked_up_in_their_indexes(world: tuple[Database, list[Made]], kind: str) -> None:
    database, made = world

    async def work() -> tuple[int, int]:
        connection = await connect(database.dsn, "tests")
        try:
            await connection.execute("set enable_seqscan = off")  # these tables are too small to need their indexes
            before = await connection.fetchval(READ)
            assert await connection.fetch(f"select * from receiver_v1.find(p_{kind} => $1)", name_of(made[3], kind))
            await connection.execute("select pg_stat_force_next_flush()")
            return before, await connection.fetchval(READ)
        finally:
            await connection.close()

    before, after = asyncio.run(work())
    assert after == before
