"""Whatever befalls a spool, its drain and its process, in whatever order: all that was taken is in the books once."""

import asyncio
import itertools
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from receiver.access.tenants import Tenants
from receiver.database.pool import Pool, open_pool
from receiver.ids import new_id
from receiver.messages.told import Feed, Told
from receiver.receipts import spool_folder
from receiver.receipts.arrival import Arrival, Unit
from receiver.receipts.breaker import Breaker
from receiver.receipts.drain import Drain, can_commit
from receiver.receipts.group import AlreadyIn, store
from receiver.receipts.receipt import Source, read
from receiver.receipts.spool import Spool
from receiver.receipts.spool_held import Held
from receiver.tenant_settings import Tenant
from tests.receipts.spooling import INSTALLATION, MOST, arrival
from tests.receipts.tellings import assert_books_balance
from tests.support import Database

EXAMPLES = 100
DRAINS = ["drain", "drain: the answer is lost", "drain: the disk refuses", "drain: more comes in meanwhile"]
TRIES = ["tried: in", "tried: not in", "tried: in later"]
ENDS = ["die", "die with the machine", "stop"]
STEPS = ["spool", "spool", "spool", "spool", *TRIES, "what was tried lands", *DRAINS, *DRAINS, *ENDS]

_numbers = itertools.count(1)


class Lost(OSError):
    """Nobody heard how it ended."""


class Troubled(Spool):
    """A spool whose deletes go as they are told to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, MOST, [INSTALLATION])
        self.trouble = ""
        self.more: list[Arrival] = []
        self.unsynced: dict[UUID, dict[str, bytes]] = {}
        """Of each file whose deletes a crash of the machine would undo, what it was before them."""

    async def drained(self, held: Held, unit: Unit) -> None:
        trouble, self.trouble = self.trouble, ""
        if trouble == "the answer is lost":
            raise Lost
        if trouble == "more comes in meanwhile":
            await self.append(new_id(), self.more)
        self.unsynced.setdefault(held.identity, contents(self.folder, held.identity))
        if trouble == "the disk refuses":
            held.file.take_out = refuse  # type: ignore[method-assign]
        await super().drained(held, unit)
        vars(held.file).pop("take_out", None)

    async def append(self, key: UUID, arrivals: Sequence[Arrival], *, apart: bool = False) -> None:
        await super().append(key, arrivals, apart=apart)
        if self.identity is not None:
            self.unsynced.pop(self.identity, None)

    async def die(self, *, with_the_machine: bool) -> None:
        """As a kill leaves it: nothing is tidied, and its locks are gone."""
        for held in self._held():
            held.file.close()
            held.claim.give_back()
        if with_the_machine:
            for identity, files in self.unsynced.items():
                for suffix in spool_folder.BESIDE:
                    path_of(self.folder, identity, suffix).unlink(missing_ok=True)
                for suffix, content in files.items():
                    path_of(self.folder, identity, suffix).write_bytes(content)
        self._own, self._taken = None, []
        await self.close()


def refuse() -> None:
    raise sqlite3.OperationalError("database or disk is full")


def path_of(folder: Path, identity: UUID, suffix: str) -> Path:
    return folder / f"{identity}{spool_folder.SPOOL}{suffix}"


def contents(folder: Path, identity: UUID) -> dict[str, bytes]:
    """A file and its log, as they are on the disk."""
    paths = {suffix: path_of(folder, identity, suffix) for suffix in ("", "-wal")}
    return {suffix: path.read_bytes() for suffix, path in paths.items() if path.exists()}


class Life:
    """Process after process over one folder."""

    def __init__(self, pool: Pool, tenants: Tenants, folder: Path) -> None:
        self._pool, self._tenants, self._folder = pool, tenants, folder
        self._under_way: list[tuple[UUID, list[Told]]] = []
        self.taken = 0
        """Bodies that were answered 200."""
        self._spool = Troubled(folder)
        self._drain = self._new_drain()

    async def begin(self) -> None:
        self._spool = Troubled(self._folder)
        await self._spool.open()
        await self._spool.adopt()
        self._drain = self._new_drain()

    async def step(self, step: str, size: int) -> None:
        kind, _, more = step.partition(": ")
        if kind == "spool":
            await self._spool.append(new_id(), self._arrivals(size))
        elif kind == "tried":
            await self._tried(self._arrivals(size), more)
        elif kind == "what was tried lands":
            await self._land()
        elif kind == "drain":
            self._spool.trouble = more
            self._spool.more = self._arrivals(size) if more == "more comes in meanwhile" else []
            await self._drain_one()
        else:
            await (self._spool.close() if kind == "stop" else self._spool.die(with_the_machine=kind != "die"))
            await self.begin()

    async def end(self) -> None:
        """The last process drains all that there is."""
        await self._spool.die(with_the_machine=False)
        await self.begin()
        while await self._drain._one():
            pass
        await self._land()
        await self._spool.close()
        assert list(self._folder.iterdir()) == []

    def _new_drain(self) -> Drain:
        breaker = Breaker(lambda: can_commit(self._pool, self._spool))
        return Drain(self._pool, self._tenants, self._spool, breaker)

    async def _drain_one(self) -> None:
        try:
            await self._drain._one()
        except Lost:
            return
        if self._spool.trouble:  # nothing waited
            self._spool.trouble = ""
            self.taken -= len(self._spool.more)

    async def _tried(self, arrivals: list[Arrival], end: str) -> None:
        """What the intake does with a group whose commit ended in silence."""
        key = new_id()
        source = Source(self._tenants.id_of("default"), None, arrivals[0].received_at)
        told = [receipt for one in arrivals for receipt in read(one.body, source).receipts]
        if end != "not in":
            self._under_way.append((key, told))
        if end == "in":
            await self._land()
        await self._spool.append(key, arrivals, apart=True)

    async def _land(self) -> None:
        """Postgres does what it heard long ago, unless the drain was faster."""
        for key, told in self._under_way:
            async with self._pool.acquire() as connection:
                try:
                    await store(connection, key, Feed.PUSH, told, [])
                except AlreadyIn:
                    pass
        self._under_way = []

    def _arrivals(self, size: int) -> list[Arrival]:
        self.taken += size
        return [arrival(next(_numbers)) for _ in range(size)]


FIGURES = """
select (select count(*) from receipt), coalesce(sum(received), 0), coalesce(sum(duplicate), 0)
from intake where feed = 1
"""


async def _live(pool: Pool, tenants: Tenants, folder: Path, steps: list[tuple[str, int]]) -> None:
    async with pool.acquire() as connection:
        [before] = await connection.fetch(FIGURES)
    life = Life(pool, tenants, folder)
    await life.begin()
    for step, size in steps:
        await life.step(step, size)
    await life.end()
    async with pool.acquire() as connection:
        [after] = await connection.fetch(FIGURES)
    assert [now - then for then, now in zip(before, after, strict=True)] == [life.taken, life.taken, 0]


@given(steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(1, 3)), min_size=4, max_size=16))
@example(steps=[("spool", 1), ("drain: the answer is lost", 1), ("spool", 1), ("drain", 1)])
@example(steps=[("spool", 1), ("drain: the answer is lost", 1), ("spool", 1), ("die", 1), ("drain", 1)])
@example(steps=[("spool", 1), ("drain", 1), ("die with the machine", 1), ("spool", 1), ("drain", 1)])
@example(steps=[("spool", 1), ("drain: the disk refuses", 1), ("spool", 1), ("die", 1), ("drain", 1)])
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def _example(runner: asyncio.Runner, pool: Pool, tenants: Tenants, folder: Path, steps: list[tuple[str, int]]) -> None:
    runner.run(_live(pool, tenants, folder / str(next(_numbers)), steps))


def test_all_that_was_taken_is_in_the_books_once(database: Database, tmp_path: Path) -> None:
    database.tenant()
    tenants = Tenants([Tenant("default")])
    with asyncio.Runner() as runner:
        pool = runner.run(open_pool(database.dsn, "tests", 4, writer=True))

        async def load() -> None:
            async with pool.acquire() as connection:
                await tenants.load(connection)

        async def balance() -> None:
            async with pool.acquire() as connection:
                await assert_books_balance(connection)
            await pool.close()

        runner.run(load())
        _example(runner, pool, tenants, tmp_path)
        runner.run(balance())
