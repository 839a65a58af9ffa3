"""The receiver's own probe at the receipts door: durable before its 200, beside receipts, and in no book."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import UUID

import asyncpg
import httpx2
import pytest

from receiver import metrics
from receiver.access.tokens import PROBE, NotifyTokens
from receiver.database.pool import lazy_pool
from receiver.ids import new_id
from receiver.receipts.arrival import Arrival
from receiver.receipts.intake import Intake
from receiver.receipts.probed import body_of
from receiver.receipts.receipt import Reading
from receiver.receipts.waiting import Full
from tests.receipts.spooling import Running, Way, running
from tests.support import SECRET, Database, Receiver, cloned, now, receiver_process

BOOKS = ("tenant", "intake", "receipt", "message", "change", "quarantine", "forward")


def posted(database: Database) -> UUID:
    """The row of a probe that is on its way."""
    identity = new_id()
    database.fetch("insert into probe (id, posted_at) values ($1, now())", identity)
    return identity


def has_arrived(database: Database, identity: UUID) -> bool:
    return bool(database.value("select arrived_at is not null from probe where id = $1", identity))


def books(database: Database) -> dict[str, int]:
    counts = database.counts()
    return {table: counts[table] for table in BOOKS}


def receipts_told() -> float:
    """What the metrics say, of all kinds."""
    samples = [sample for family in metrics.RECEIPTS.collect() for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name.endswith("_total"))


async def take(house: Running, identity: UUID) -> None:
    """What the door does with a probe."""
    arrival = Arrival(PROBE, None, now(), body_of(identity))
    await house.intake.take(arrival, None if house.intake.is_spooling else Reading())


def test_a_probe_is_committed_with_the_receipts_beside_it_and_is_in_no_book(database: Database, tmp_path: Path) -> None:
    database.tenant()
    alone, beside = posted(database), posted(database)
    before, told = books(database), receipts_told()

    async def main() -> None:
        async with running(database.dsn, tmp_path) as house:
            await take(house, alone)
            await asyncio.gather(
                *(house.take(number) for number in range(50)), take(house, beside), take(house, beside)
            )

    asyncio.run(main())
    assert has_arrived(database, alone)
    assert has_arrived(database, beside)
    assert receipts_told() - told == 50
    after = books(database)
    assert after["receipt"] - before["receipt"] == 50
    assert database.value("select sum(received) from intake") == 50
    assert database.value("select count(*) from intake where received = 0") == 0
    assert (after["tenant"], after["quarantine"]) == (before["tenant"], before["quarantine"])


def test_a_probe_that_comes_while_postgres_is_away_is_spooled_and_marked_when_it_drains(
    database: Database, tmp_path: Path
) -> None:
    database.tenant()
    identities = [posted(database) for _ in range(3)]
    before = books(database)

    async def main() -> None:
        async with Way(database).standing() as way, running(way.dsn, tmp_path) as house:
            way.cut()
            await take(house, identities[0])
            await asyncio.gather(take(house, identities[1]), house.take(1), house.take(2), take(house, identities[2]))
            assert house.spool.bodies == 5
            way.mend()
            await house.until_empty()

    asyncio.run(main())
    assert all(has_arrived(database, identity) for identity in identities)
    after = books(database)
    assert after["receipt"] - before["receipt"] == 2
    assert (after["tenant"], after["quarantine"]) == (before["tenant"], before["quarantine"])
    assert database.value("select sum(received) from intake") == 2


def test_a_probe_that_nobody_made_leaves_nothing(database: Database, tmp_path: Path) -> None:
    before = database.counts()

    async def main() -> None:
        async with running(database.dsn, tmp_path) as house:
            await take(house, new_id())

    asyncio.run(main())
    assert {**database.counts(), "tenant": 0} == {**before, "tenant": 0}


@contextlib.asynccontextmanager
async def holding(database: Database, statement: str) -> AsyncIterator[None]:
    """A transaction that has done this, and goes on and on."""
    connection = await asyncpg.connect(database.dsn)
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(statement)
        yield
    finally:
        await transaction.rollback()
        await connection.close()


def test_receipts_do_not_wait_for_a_probe_whose_table_is_locked(database: Database, tmp_path: Path) -> None:
    database.tenant()
    identity = posted(database)

    async def main() -> None:
        locked = holding(database, "lock table probe in access exclusive mode")
        async with running(database.dsn, tmp_path) as house, locked:
            spooled = metrics.SPOOLED._value.get()
            await asyncio.gather(take(house, identity), *(house.take(number) for number in range(20)))
            assert not house.breaker.is_open
            assert metrics.SPOOLED._value.get() == spooled + 1, "the probe alone"
            await house.until_empty()  # which holds up nothing there either

    asyncio.run(main())
    assert not has_arrived(database, identity)
    assert database.value("select sum(received) from intake") == 20


def test_a_probe_that_somebody_marks_already_is_passed_by(database: Database, tmp_path: Path) -> None:
    identity = posted(database)

    async def main() -> None:
        marking = holding(database, f"update probe set arrived_at = now() where id = '{identity}'")
        async with running(database.dsn, tmp_path) as house, marking:
            spooled = metrics.SPOOLED._value.get()
            await take(house, identity)
            assert metrics.SPOOLED._value.get() == spooled

    asyncio.run(main())


@pytest.mark.parametrize("trouble", ["drop table probe", "alter table probe rename id to other"])
def test_a_probe_that_can_not_be_marked_costs_its_neighbours_nothing(
    fresh_database: Callable[[], Database], tmp_path: Path, trouble: str
) -> None:
    database = fresh_database()
    database.tenant()
    database.fetch(trouble)

    async def main() -> None:
        async with running(database.dsn, tmp_path) as house:
            await asyncio.gather(take(house, new_id()), *(house.take(number) for number in range(20)))
            assert not house.breaker.is_open
            await house.until_empty()

    asyncio.run(main())
    assert database.value("select sum(received) from intake") == 20


def test_probes_wait_within_the_bounds_of_receipts(database: Database) -> None:
    async def main() -> None:
        pool = await lazy_pool(database.dsn, "tests", 1, writer=True)
        intake = Intake(pool, {}, capacity=1)
        arrival = Arrival(PROBE, None, now(), body_of(new_id()))
        waits = asyncio.create_task(intake.take(arrival, Reading()))
        await asyncio.sleep(0)
        with pytest.raises(Full):
            await intake.take(arrival, Reading())
        waits.cancel()
        pool.terminate()

    asyncio.run(main())


@pytest.fixture(scope="module")
def receiver(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    folder = tmp_path_factory.mktemp("receiver")
    header = {"RECEIVER_NOTIFY_HEADER": "x-known", "RECEIVER_NOTIFY_HEADER_VALUE": "a value of sixteen or more"}
    with (
        cloned(postgres, template, "probe_door") as database,
        receiver_process(database, folder, **header) as made,
    ):
        yield made


def test_the_door_takes_a_probe_without_header_or_signature_and_counts_no_answer(receiver: Receiver) -> None:
    url = f"{receiver.url}/notify/{NotifyTokens(SECRET).sign(PROBE)}"
    identity = posted(receiver.database)
    before = httpx2.get(f"{receiver.url}/metrics", trust_env=False).text
    assert httpx2.head(url, trust_env=False).status_code == 200
    assert httpx2.post(url, content=body_of(identity), trust_env=False).status_code == 200
    assert has_arrived(receiver.database, identity)
    after = httpx2.get(f"{receiver.url}/metrics", trust_env=False).text
    for family in ("receiver_notify_", "receiver_receipts_total", "receiver_messages_total", "receiver_intake_group"):
        assert [line for line in before.splitlines() if line.startswith(family)] == [
            line for line in after.splitlines() if line.startswith(family)
        ]


PADDED = body_of(UUID(int=1)) + b" " * 100_000  # a token that got out must not fill memory or spool
JUNK = [b"", b"{}", b'{"probe":1}', b"\xff", b'{"probe":"x"}', b"[" * 5000, b"[" * len(body_of(UUID(int=1))), PADDED]


@pytest.mark.parametrize("junk", JUNK, ids=range(len(JUNK)))
def test_what_is_no_probe_is_refused_under_its_token(receiver: Receiver, junk: bytes) -> None:
    before = receiver.database.counts()
    url = f"{receiver.url}/notify/{NotifyTokens(SECRET).sign(PROBE)}"
    assert httpx2.post(url, content=junk, trust_env=False).status_code == 401
    assert receiver.database.counts() == before


def test_a_probe_of_another_secret_is_refused(receiver: Receiver) -> None:
    identity = posted(receiver.database)
    url = f"{receiver.url}/notify/{NotifyTokens('another secret of sixteen').sign(PROBE)}"
    assert httpx2.post(url, content=body_of(identity), trust_env=False).status_code == 401
    assert not has_arrived(receiver.database, identity)
