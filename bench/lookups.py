"""How long the look-ups take in the database, and whether one of their plans reads a large partition whole."""

import json
import random
import statistics
import time
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple, cast
from uuid import UUID

from starlette.datastructures import QueryParams

from bench.issued import Issued
from receiver.database.pool import Connection, connect, open_pool
from receiver.ids import TenantId
from receiver.queries import one_message, search
from receiver.queries.cursors import Position
from receiver.queries.filters import Filters, read_filters
from receiver.queries.totals import COHORTS, total

SMALL = 1_000  # rows of a partition that may be read from end to end
BY = ("id", "transid", "correlationid", "callbackData", "destination")
PAGES = ("state=undelivered", "state=failed", "state=delivered", "state=submitted")
TURNS, TIMES, PAGES_EACH = 3, 400, 25
# Their plans are read too: what finds by another index, what judges by names beside it, and what walks.
ALSO: tuple[dict[str, str], ...] = (
    {},
    {"channel": "sms", "origin": "issued"},
    {"conflict": "true"},
    {"overdue": "true"},
    {"overdue": "true", "destination": "447700900001"},
    {"overdue": "false", "state": "submitted"},
    {"conflict": "false", "state": "read"},
    {"code": "7102"},
    {"code": "7102", "destination": "447700900001", "state": "failed"},
    {"batch_id": "01a1382b-4c80-77b9-8ba2-95165799aec7"},
    {"transid": "t", "correlationid": "c", "callbackData": "d", "destination": "447700900001"},
    {"destination_end": "0001"},
    {"destination_end": "447700900001"},
    {"destination_end": "900001", "state": "failed", "sender": "SHOP"},
    {"transid": "t", "destination_end": "0001", "class": "recipient"},
    {"class": "recipient"},
    {"country": "GB", "sender": "SHOP", "final": "true"},
    {"order": "changed"},
    {"order": "changed", "state": "failed", "code": "7102", "sender": "SHOP"},
    {"order": "changed", "destination": "447700900001", "overdue": "true"},
)

TOTAL = {"total": "true"}

SIZES = "select relname, reltuples::bigint as rows from pg_class where relkind = 'r'"
SCANS = """
select relname, seq_scan as scans from pg_stat_user_tables
 where greatest(n_live_tup, (select reltuples from pg_class c where c.oid = relid)) > $1
"""


class LookUps(NamedTuple):
    """Milliseconds: median and p99 of each look-up (medians of some turns); and plans that read too much.

    `page` is the slowest of each state when it is read for the first time, and when it is read again at once: the first
    time each of its messages comes from another place of a disk. Plans are made before.
    """

    by: dict[str, tuple[float, float]]
    page: dict[str, tuple[float, float]]
    scans: list[str]


def filters_of(parameters: dict[str, str], limit: int = 50) -> Filters:
    """As the door reads them from a query."""
    found = read_filters(QueryParams({**parameters, "limit": str(limit)}), lambda _cursor: None)
    assert isinstance(found, Filters), found
    return found


def asked(kind: str, m: Issued) -> Filters:
    """The search for a message by one of its names."""
    said = {"transid": m.transid, "correlationid": m.correlation, "callbackData": m.callback}
    return filters_of({kind: {**said, "destination": m.destination}[kind]})


async def look_up(
    dsn: str, tenant: TenantId, sample: list[Issued], begin: datetime, end: datetime, times: int = TIMES
) -> LookUps:
    """Looks all kinds up, each many times, for messages of all weeks."""
    choose = random.Random(7)
    pool = await open_pool(dsn, "bench", 1, writer=False)
    by: dict[str, tuple[float, float]] = {}
    page: dict[str, tuple[float, float]] = {}
    scans: list[str] = []
    async with pool.acquire() as connection:
        large = await large_tables(connection)
        turns: dict[str, list[tuple[float, float]]] = {kind: [] for kind in BY}
        for _ in range(TURNS):
            for kind, of_turns in turns.items():
                of_turns.append(await _times(connection, tenant, kind, choose.choices(sample, k=times)))
        for kind, of_turns in turns.items():
            by[kind] = statistics.median(half for half, _ in of_turns), statistics.median(most for _, most in of_turns)
            m = sample[0]
            scans += await too_much(connection, tenant, large, kind, m.id if kind == "id" else asked(kind, m))
        for state in PAGES:
            took, again = list[float](), list[float]()
            await search.many(connection, tenant, _page(state, end))  # nothing: a connection plans it once
            for _ in range(min(PAGES_EACH, times)):
                at = begin + (end - begin - timedelta(days=1)) * choose.random()
                filters = _page(state, at)
                for times_read in (took, again):
                    began = time.perf_counter()
                    await search.many(connection, tenant, filters)
                    times_read.append((time.perf_counter() - began) * 1000)
            page[state] = max(took), max(again)
            scans += await too_much(connection, tenant, large, state, filters)
        for parameters in ALSO:
            what = "&".join(f"{name}={value}" for name, value in parameters.items())
            scans += await too_much(connection, tenant, large, what or "all", filters_of(parameters))
            scans += await too_much(connection, tenant, large, f"total of {what}", filters_of(parameters | TOTAL))
    await pool.close()
    return LookUps(by, page, scans)


async def _times(connection: Connection, tenant: TenantId, kind: str, sample: list[Issued]) -> tuple[float, float]:
    """Median and p99, in milliseconds, of finding each of these by one of its names."""
    took = list[float]()
    for m in sample:
        began = time.perf_counter()
        if kind == "id":
            found = await one_message.one(connection, tenant, m.id)
            ids = [found["id"]] if found else []
        else:
            ids = [row["id"] for row in (await search.many(connection, tenant, asked(kind, m))).rows]
        took.append((time.perf_counter() - began) * 1000)
        assert m.id in ids, f"{kind} does not find its message"
    took.sort()
    return took[len(took) // 2], took[int(len(took) * 0.99)]


async def large_tables(connection: Connection, small: int = SMALL) -> dict[str, int]:
    """The tables and partitions with more rows than `small`, which must not be read from end to end."""
    return {row["relname"]: row["rows"] for row in await connection.fetch(SIZES) if row["rows"] > small}


def _page(state: str, at: datetime) -> Filters:
    name, _, value = state.partition("=")
    between = {"created_from": at.isoformat(), "created_to": (at + timedelta(days=1)).isoformat()}
    return filters_of({name: value, **between}, 100)


class _Listener:
    """In the place of a connection: finds nothing, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[object, ...]]] = []
        self.counts = False

    async def fetch(self, query: str, *values: object, timeout: float | None = None) -> list[Any]:
        self.asked.append((query, values))
        return []

    async def fetchrow(self, query: str, *values: object) -> Any:
        self.asked.append((query, values))
        return {"messages": 0, "cohorts": 0, "looked": 0} if self.counts else None

    fetchval = fetchrow


async def too_much(
    connection: Connection, tenant: TenantId, large: dict[str, int], what: str, wanted: Filters | UUID
) -> list[str]:
    """The large partitions that the plans of a look-up, as this connection makes them, read from end to end."""
    listener = _Listener()
    listening = cast(Connection, listener)
    if isinstance(wanted, Filters):
        found_none = await search.many(listening, tenant, wanted)
        if wanted.total:
            listener.counts = True
            await total(listening, tenant, wanted, replace(found_none, next=Position(seq=0)))
    else:
        listener.asked += [
            (one_message.ONE, (wanted, tenant)),
            (one_message.MARK, (wanted, tenant, 1)),
            (one_message.CHILDREN, (wanted, tenant)),
            *(
                (query, (wanted,))
                for query in (
                    one_message.TIMELINE,
                    one_message.ARRIVALS,
                    one_message.ATTEMPTS,
                    one_message.RESENT_AS,
                )
            ),
        ]
    found: set[str] = set()
    for query, values in listener.asked:
        if query is COHORTS:  # its parameters may be null, and its tables are small
            continue
        await connection.execute(f"prepare looked as {query}")
        plan = await connection.fetchval(f"explain (format json) execute looked ({', '.join(map(_literal, values))})")
        await connection.execute("deallocate looked")
        found |= scanned(json.loads(plan))
    assert listener.asked, "it asks nothing"
    return [f"{what}: {name} ({large[name]:,} rows)" for name in sorted(found & large.keys())]


def _literal(value: object) -> str:
    """As it is written in a statement: `explain execute` takes no parameters."""
    if isinstance(value, list):
        return f"array[{', '.join(map(_literal, value))}]" if value else "'{}'"
    if isinstance(value, bytes):
        return f"'\\x{value.hex()}'::bytea"
    if isinstance(value, datetime):
        return f"'{value.isoformat()}'::timestamptz"
    if isinstance(value, str):
        return f"'{value}'"
    return f"'{value}'::uuid" if isinstance(value, UUID) else str(value)


def scanned(plan: Any) -> set[str]:
    """The tables that a plan reads from end to end."""
    if isinstance(plan, list):
        return set().union(*(scanned(part) for part in plan))
    if not isinstance(plan, dict):
        return set()
    own = {str(plan["Relation Name"])} if "Seq Scan" in str(plan.get("Node Type", "")) else set()
    return own.union(*(scanned(part) for part in plan.values()))


async def scans(dsn: str) -> dict[str, int]:
    """How often each large table was read from end to end so far, by whomever and inside whatever function."""
    connection = await connect(dsn, "bench")
    try:
        return {row["relname"]: row["scans"] for row in await connection.fetch(SCANS, SMALL)}
    finally:
        await connection.close()
