"""Reading the change log in windows: what one snapshot sees and an earlier one did not, in the order of `seq`.

A number as cursor loses what is numbered before it and committed after; below the oldest transaction in flight nothing
is lost, but a later state may come first: docs/decisions/0020-stream-cursor.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from receiver.database.pool import Connection
from receiver.ids import TenantId
from receiver.queries.positions import Cut

SPAN = 20_000  # numbers that one statement looks at when it catches up
# Transactions that were in flight when a snapshot was taken, but had numbers above all that it knows: each connection
# has one, and each savepoint.
YOUNG = 5_000

# The snapshot of this very statement, and the sequence as it stood after it was taken. A checkpoint tells the timeline;
# from a promotion to the first one, the end of the recovery does.
LOOK = """
select pg_current_snapshot()::text as snapshot, now() as now,
       (select case when q.is_called then q.last_value else 0 end from change_seq q) as last,
       p.system_identifier as cluster, greatest(c.timeline_id, r.min_recovery_end_timeline) as timeline,
       f.floor_seq, f.cluster = p.system_identifier as is_settled
  from folded f, pg_control_system() p, pg_control_checkpoint() c, pg_control_recovery() r
"""

HEAD = """
with h as materialized (
  select s.s0, s.s1, now() as now, p.system_identifier as cluster,
         greatest(c.timeline_id, r.min_recovery_end_timeline) as timeline,
         f.floor_seq, f.cluster = p.system_identifier as is_settled,
         (select case when q.is_called then q.last_value else 0 end from change_seq q) as last
    from (select $1::text::pg_snapshot as s0, coalesce($2::text::pg_snapshot, pg_current_snapshot()) as s1) s,
         folded f, pg_control_system() p, pg_control_checkpoint() c, pg_control_recovery() r),
"""
NAMED = """
select h.s1::text as snapshot, h.now, h.last, h.cluster, h.timeline, h.floor_seq, h.is_settled,
       x.seq, x.message_id, x.version, x.at, x.tenant, x.origin, x.channel, x.country, x.old_state, x.new_state,
       x.new_class, x.new_conflict, m.batch_id, m.correlationid, m.callback_data, d.merged_into
  from h left join x on true
  left join lateral (select i.batch_id, i.correlationid, i.callback_data from message i
                      where i.id = x.message_id and x.tenant = any({tenants}) offset 0) m on true
  left join lateral (select i.merged_into from message_state i
                      where i.id = x.message_id and x.new_state is null and x.tenant = any({tenants}) offset 0) d
    on true
 order by x.seq
"""
IS_NEW = "i.seq > $3 and i.seq > (select h.floor_seq from h) and pg_visible_in_snapshot(i.xid, (select h.s1 from h))"
# What $1 did not see is above its numbers, or was in flight: two looks into the index by xid, whatever else is old and
# still runs. `offset 0`: else the planner may walk the whole log in the order of seq.
WINDOW = (
    HEAD
    + f"""x as materialized (
  select * from (
    (select i.* from change i
      where i.xid >= (select pg_snapshot_xmax(h.s0) from h) and i.xid < (select pg_snapshot_xmax(h.s1) from h)
        and {IS_NEW} offset 0)
    union all
    (select i.* from change i where i.xid = any(array(select pg_snapshot_xip(h.s0) from h)) and {IS_NEW} offset 0)) u
   order by u.seq limit $4)
"""
    + NAMED.format(tenants="$5::smallint[]")
)
# What follows of a window above all numbers that $1 saw, up to $6, above which it has none. By the two looks each page
# of a large window would cost as much as all of it.
REST = (
    HEAD
    + f"""x as materialized (
  select i.* from change i
   where i.seq <= $6 and {IS_NEW} order by i.seq limit $4)
"""
    + NAMED.format(tenants="$5::smallint[]")
)
# A part of a large window, by the numbers from $3 to $4.
PART = (
    HEAD
    + f"""x as materialized (
  select i.* from change i
   where i.seq <= $4 and i.tenant = $5 and {IS_NEW} and not pg_visible_in_snapshot(i.xid, (select h.s0 from h))
   order by i.seq limit $6)
"""
    + NAMED.format(tenants="array[$5::smallint]")
)
# The least number of those who were in flight when the snapshot $1 was taken. $2: below which number a transaction may
# have been.
LEAST_IN_FLIGHT = """
with h as materialized (select $1::text::pg_snapshot as s0)
select min(u.seq) from (
  (select i.seq from change i where i.xid = any(array(select pg_snapshot_xip(h.s0) from h)) offset 0)
  union all
  (select i.seq from change i
    where i.xid >= (select pg_snapshot_xmax(h.s0) from h) and i.xid < $2::text::xid8 offset 0)) u
"""


@dataclass(frozen=True, slots=True)
class Read:
    """What was read: changes in order, whether there may be more of the window, and where the log stood meanwhile."""

    cut: Cut
    cluster: int
    """Which Postgres, and which timeline of it: one that took over gives out numbers anew that others had before."""
    is_settled: bool
    """False after a restore into another cluster, until the statistics have been counted anew."""
    rows: Sequence[asyncpg.Record] = ()
    more: bool = False


async def look(connection: Connection, low: int | None = None) -> Read:
    """Where the log stands now. `low`: its sequence as it was seen earlier; without, it is looked at twice."""
    if low is None:
        low = (await connection.fetchrow(LOOK))["last"]  # type: ignore[index]
    row = await connection.fetchrow(LOOK)
    assert row is not None
    return _read(row, low)


async def window(
    connection: Connection, before: Cut, until: Cut | None, after: int, most: int, tenants: Sequence[TenantId]
) -> Read:
    """The first `most` changes that `until` (without: the present) sees and `before` does not, numbered above `after`.

    Those of `tenants` come with what their message is called.
    """
    if until is not None and after >= before.high:
        rows = await connection.fetch(REST, before.snapshot, until.snapshot, after, most, tenants, until.high)
    else:
        snapshot = None if until is None else until.snapshot
        rows = await connection.fetch(WINDOW, before.snapshot, snapshot, after, most, tenants)
    found = rows if rows[0]["seq"] is not None else []
    return _read(rows[0], before.high, found, len(found) == most, until)


async def part(
    connection: Connection, before: Cut, until: Cut, after: int, tenant: TenantId, most: int
) -> tuple[Read, int]:
    """At most `most` changes of a tenant of a large window, numbered above `after`; and up to where that is all."""
    to = min(after + SPAN, until.high)
    rows = await connection.fetch(PART, before.snapshot, until.snapshot, after, to, tenant, most)
    found = rows if rows[0]["seq"] is not None else []
    if len(found) == most:
        return _read(rows[0], 0, found, True, until), int(found[-1]["seq"])
    return _read(rows[0], 0, found, to < until.high, until), to


async def before_first(connection: Connection, cut: Cut) -> int:
    """A number below all changes that the cut does not see."""
    least = await connection.fetchval(LEAST_IN_FLIGHT, cut.snapshot, str(cut.xmax + YOUNG))
    return cut.low if least is None else min(cut.low, int(least) - 1)


def _read(
    row: asyncpg.Record, low: int, rows: Sequence[asyncpg.Record] = (), more: bool = False, until: Cut | None = None
) -> Read:
    cut = until or Cut.read(row["snapshot"], min(low, row["last"]), row["last"], row["now"])
    cluster = (row["cluster"] << 32) + row["timeline"]
    return Read(cut, cluster, bool(row["is_settled"]), rows, more)
