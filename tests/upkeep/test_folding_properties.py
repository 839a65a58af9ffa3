"""Folding against a count of the messages: whatever they become, in transactions that overlap, by steps of any size."""

import asyncio
from datetime import timedelta
from typing import Any, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver.database.pool import Connection, connect
from receiver.ids import first_id_at
from receiver.messages.cells import CLASSES
from receiver.messages.lattice import State
from receiver.upkeep.folding import MOST, fold, recount
from tests.support import Database, now
from tests.upkeep.cohorts import assert_adds_up, assert_folded, rolled_up

EXAMPLES = 30
EMPTIED = ("change", "message", "message_state", "cohort_state", "cohort_lag")
START = "update folded set snapshot = pg_current_snapshot()"
BORN = """
insert into message (id, tenant, origin, channel, created_at, submission_id, destination, destination_type,
                     destination_key, sender, template)
values ($1, $2, $3, 1, now(), $1, '447700900001', 'msisdn', decode(md5('x'), 'hex'), $4, $5)
"""
STATE = """
insert into message_state (id, tenant, origin, channel, state, reason_class, conflict, lags, carrier, country,
                           changed_at)
values ($1, $2, $3, 1, $4, $5, $6, $7, $8, $9, now())
"""
BECOME = """
update message_state set state = $2, reason_class = $3, conflict = $4, lags = $5, carrier = $6 where id = $1
"""
MERGED = "update message_state set merged_into = id where id = $1"
CHANGE = """
insert into change (at, message_id, version, tenant, origin, channel, feed, country, told_lag, old_state, old_class,
                    old_conflict, old_lags, old_carrier, new_state, new_class, new_conflict, new_lags, new_carrier)
values (now(), $1, 1, $2, $3, 1, 1, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
"""


class Being(NamedTuple):
    """What a message is: the columns of the log, old or new."""

    state: State | None
    code_class: int | None
    conflict: bool | None
    lags: int | None
    carrier: str | None


NOTHING = Being(None, None, None, None, None)
LAG = st.sampled_from((0, 1, 2, 40, 41, 254, 255))
BEINGS = st.builds(
    Being,
    st.sampled_from(list(State)),
    st.sampled_from([None, *CLASSES]),
    st.booleans(),
    st.builds(lambda *of: of[0] | of[1] << 8 | of[2] << 16, LAG, LAG, LAG),
    st.sampled_from([None, "EE", "Three"]),
)
# Who writes of which message: what it becomes, or nothing (merged away), and how late that was told.
WRITING = st.tuples(
    st.just("write"), st.integers(0, 2), st.integers(0, 3), st.one_of(BEINGS, BEINGS, st.just(NOTHING)),
    st.one_of(st.none(), st.integers(1, 255)),
)  # fmt: skip
STEPS = st.lists(
    st.one_of(
        WRITING, WRITING, WRITING,
        st.tuples(st.just("commit"), st.integers(0, 2)),
        st.tuples(st.just("fold"), st.sampled_from((1, 2, MOST))),
    ),
    min_size=5, max_size=40,
)  # fmt: skip
# Origin, country, sender, template, and how long ago it was born.
KINDS = st.tuples(
    st.sampled_from((1, 2)),
    st.sampled_from((None, "GB", "FR")),
    st.sampled_from((None, "PARCEL", "SHOP")),
    st.sampled_from((None, "t-1", "x" * 300)),
    st.sampled_from((timedelta(), timedelta(hours=1), timedelta(days=2))),
)


class Writers:
    """Three connections that write of messages, each in a transaction of its own until it is told to commit."""

    def __init__(self, connections: list[Connection], tenant: int, kinds: list[tuple[Any, ...]]) -> None:
        self._connections, self._tenant, self._kinds = connections, tenant, kinds
        self._open: dict[int, Any] = {}
        self._busy: dict[int, int] = {}
        self._beings: dict[int, Being] = {}
        at = now() - timedelta(seconds=1)
        self._ids = [type(first_id_at(at))(int=first_id_at(at - kind[4]).int + n) for n, kind in enumerate(kinds)]

    async def write(self, writer: int, one: int, new: Being, told_lag: int | None) -> None:
        """Nothing, where another writes of that message or it is no more: he would wait for it."""
        old = self._beings.get(one)
        if self._busy.get(one, writer) != writer or old is NOTHING or (old is None and new is NOTHING):
            return
        connection, (origin, country, sender, template, _) = self._connections[writer], self._kinds[one]
        if writer not in self._open:
            self._open[writer] = connection.transaction()
            await self._open[writer].start()
        identity = self._ids[one]
        if old is None:
            await connection.execute(BORN, identity, self._tenant, origin, sender, template)
            await connection.execute(STATE, identity, self._tenant, origin, *new, country)
        else:
            await (
                connection.execute(MERGED, identity) if new is NOTHING else connection.execute(BECOME, identity, *new)
            )
        told = None if new is NOTHING else told_lag
        await connection.execute(CHANGE, identity, self._tenant, origin, country, told, *(old or NOTHING), *new)
        self._beings[one], self._busy[one] = new, writer

    async def commit(self, writer: int) -> None:
        if writer in self._open:
            await self._open.pop(writer).commit()
            self._busy = {one: by for one, by in self._busy.items() if by != writer}


@given(kinds=st.lists(KINDS, min_size=4, max_size=4), steps=STEPS)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def _example(
    runner: asyncio.Runner, connections: list[Connection], tenant: int, kinds: list[Any], steps: list[Any]
) -> None:
    looker = connections[3]

    async def work() -> None:
        for table in EMPTIED:
            await looker.execute(f"delete from {table}")
        await looker.execute(START)
        writers = Writers(connections, tenant, kinds)
        for name, *values in steps:
            if name == "fold":
                assert await fold(looker, *values) is not None
                await assert_adds_up(looker)
            else:
                await getattr(writers, name)(*values)
        for writer in range(3):
            await writers.commit(writer)
        await assert_adds_up(looker)
        while True:
            step = await fold(looker, 3)
            assert step is not None
            if not step.more:
                break
        await assert_folded(looker)
        by_steps = await rolled_up(looker)
        await recount(looker)
        assert await rolled_up(looker) == by_steps

    runner.run(work())


def test_whatever_messages_become_the_cells_are_a_count_of_them(database: Database) -> None:
    """Every state, class, contradiction, carrier and class of time; births, merges, and what goes back."""
    tenant = database.tenant()

    async def opened() -> list[Connection]:
        return [await connect(database.dsn, "tests", timezone="UTC") for _ in range(4)]

    async def close(connections: list[Connection]) -> None:
        for connection in connections:
            connection.terminate()

    with asyncio.Runner() as runner:
        connections = runner.run(opened())
        try:
            _example(runner, connections, tenant)
        finally:
            runner.run(close(connections))
