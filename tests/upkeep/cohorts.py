"""What the statistics must hold at any moment, counted from the messages and the log themselves."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from receiver.database.pool import Connection, connect, open_pool
from receiver.messages.cells import counted
from receiver.messages.lattice import NEGATIVE_STATES, State
from receiver.upkeep.folder import Folder
from receiver.upkeep.folding import Step
from tests.support import Database

Key = tuple[Any, ...]

LOCATED = """
select floor(minted_v1(c.message_id) / 3600)::bigint as hour, c.*, m.sender, m.template
  from change c left join message m on m.id = c.message_id
 where c.seq > (select floor_seq from folded) and not pg_visible_in_snapshot(c.xid, (select snapshot from folded))
 order by c.seq
"""
MESSAGES = """
select floor(minted_v1(s.id) / 3600)::bigint as hour, s.*, m.sender, m.template
  from message_state s join message m on m.id = s.id where s.merged_into is null
"""
TOLD = """
select floor(minted_v1(c.message_id) / 3600)::bigint as hour, c.tenant, c.channel, c.country, c.origin, c.told_lag,
       c.new_carrier, m.sender, m.template
  from change c join message m on m.id = c.message_id where c.told_lag is not null
"""
COHORT = "select *, extract(epoch from at)::bigint / 3600 as hour from cohort where messages <> 0"
COHORT_LAG = "select *, extract(epoch from at)::bigint / 3600 as hour from cohort_lag"


def _add(counts: "Counter[Key]", row: Any, value: dict[int, str | None], key: Sequence[Any], n: int) -> None:
    """One message in each of its cells: by the hour and by the day, on each side on which it has a value."""
    for at, hours in ((row["hour"], 1), (row["hour"] // 24 * 24, 24)):
        for side in range(5):
            text = "" if side in (0, 4) else value[side]
            if text:
                counts[
                    at, hours, row["tenant"], side, text, row["channel"], row["country"] or "", row["origin"], *key
                ] += n
            elif side in (0, 4):
                country = "" if side == 4 else row["country"] or ""
                counts[at, hours, row["tenant"], side, "", row["channel"], country, row["origin"], *key] += n


def _values(row: Any, carrier: str | None) -> dict[int, str | None]:
    ours = row["origin"] != 2
    return {1: row["sender"] if ours else None, 2: (row["template"] or "")[:128] if ours else None, 3: carrier}


def _state(row: Any, which: str) -> Key:
    state = State(row[f"{which}state"])
    code_class = row["reason_class" if which == "" else f"{which}class"] or 0
    return state, code_class if state in NEGATIVE_STATES else 0, row[f"{which}conflict"] or False


def _lags(row: Any, lags: int | None) -> list[Key]:
    if row["origin"] == 2 or not lags:
        return []
    return [(kind, lags >> 8 * (kind - 1) & 255) for kind in (1, 2, 3) if lags >> 8 * (kind - 1) & 255]


async def kept(connection: Connection) -> "tuple[Counter[Key], Counter[Key]]":
    """The cells as they must be: a count over the messages that are kept, and over the log for how late was told."""
    states, lags = Counter[Key](), Counter[Key]()
    for row in await connection.fetch(MESSAGES):
        values = _values(row, row["carrier"])
        _add(states, row, values, _state(row, ""), 1)
        for key in _lags(row, row["lags"]):
            _add(lags, row, values, key, 1)
    for row in await connection.fetch(TOLD):
        _add(lags, row, _values(row, row["new_carrier"]), (4, row["told_lag"]), 1)
    return states, lags


async def rolled_up(connection: Connection) -> "tuple[Counter[Key], Counter[Key]]":
    """The cells as they are stored."""
    states, lags = Counter[Key](), Counter[Key]()
    for row in await connection.fetch(COHORT):
        states[_cell(row, row["state"], row["class"], row["conflict"])] = row["messages"]
    for row in await connection.fetch(COHORT_LAG):
        counts = counted(int(row["counts"]))
        lags.update({_cell(row, row["kind"], lag_class): n for lag_class, n in counts.items()})
    return states, lags


def _cell(row: Any, *key: Any) -> Key:
    return (
        row["hour"], row["hours"], row["tenant"], row["side"], row["value"], row["channel"], row["country"],
        row["origin"], *key,
    )  # fmt: skip


async def with_unfolded(connection: Connection) -> "tuple[Counter[Key], Counter[Key]]":
    """The cells as they are stored, and beside them what stands in the log and is not folded yet."""
    states, lags = await rolled_up(connection)
    for row in await connection.fetch(LOCATED):
        for which, n in (("old_", -1), ("new_", 1)):
            if row[f"{which}state"] is None:
                continue
            values = _values(row, row[f"{which}carrier"])
            _add(states, row, values, _state(row, which), n)
            for key in _lags(row, row[f"{which}lags"]):
                _add(lags, row, values, key, n)
        if row["told_lag"] is not None:
            _add(lags, row, _values(row, row["new_carrier"]), (4, row["told_lag"]), 1)
    return _without_zeros(states), _without_zeros(lags)


def _without_zeros(counts: "Counter[Key]") -> "Counter[Key]":
    return Counter({key: n for key, n in counts.items() if n})


async def assert_adds_up(connection: Connection) -> int:
    """In one snapshot: what is rolled up and what is not folded yet come to what is kept. Returns how many messages."""
    async with connection.transaction(isolation="repeatable_read"):
        found, wanted = await with_unfolded(connection), await kept(connection)
    for had, want in zip(found, wanted, strict=True):
        assert had == want, {key: (had[key], want[key]) for key in {*had, *want} if had[key] != want[key]}
    return sum(n for key, n in wanted[0].items() if key[1] == 1 and key[3] == 0)


async def assert_folded(connection: Connection) -> None:
    """All is folded, and comes to what is kept."""
    async with connection.transaction(isolation="repeatable_read"):
        assert await rolled_up(connection) == await kept(connection)


async def folded(database: Database) -> list[Step]:
    """Folds until there is no more."""
    pool = await open_pool(database.dsn, "statistics", 1, writer=True)
    steps: list[Step] = []
    while not steps or steps[-1].more:
        step = await Folder(pool).once()
        assert step is not None
        steps.append(step)
    await pool.close()
    return steps


async def looking(database: Database) -> "Connection":
    """A connection to look with."""
    return await connect(database.dsn, "tests")
